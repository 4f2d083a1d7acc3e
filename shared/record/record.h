/* One gateway_logs row on its way from a worker to the store: the row as a struct, its encoding,
 * and the frames that carry it through a pipe. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"
#include "shared/base/uuid.h"

#include <limits.h>
#include <stdint.h>

/* "No value" of an INT, TIME or BOOL column; a TEXT has an absent slice. */
#define RECORD_NULL INT64_MIN

struct record {
#define RECORD_UUID struct uuid
#define RECORD_TIME int64_t
#define RECORD_TEXT struct str
#define RECORD_INT int64_t
#define RECORD_BOOL int64_t
#define COLUMN(name, kind) RECORD_##kind name;
#include "shared/record/columns.def"
#undef COLUMN
};

enum record_kind {
    RECORD_KIND_UUID,
    RECORD_KIND_TIME,
    RECORD_KIND_TEXT,
    RECORD_KIND_INT,
    RECORD_KIND_BOOL
};

struct record_column {
    const char *name;
    enum record_kind kind;
    size_t offset; /* in struct record */
};

extern const struct record_column record_columns[];
extern const size_t record_columns_count;

/* Everything absent. */
void record_init(struct record *record);
/* Appends the encoded record. Text is made valid UTF-8 without NUL on the way. */
void record_encode(const struct record *record, struct buf *out);
/* Reads what record_encode wrote; texts point into `bytes`. Unknown field numbers are passed over
 * (a newer writer). False for bytes that no encoder wrote. */
bool record_decode(struct str bytes, struct record *record, struct error *error)
    __attribute__((warn_unused_result));
