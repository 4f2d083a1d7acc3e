/* Rows of gateway_logs added up for gateway_usage_hourly: one batch's new rows, by key, in memory.
 * A driver adds each row that it has really inserted, then adds each of the sums to its table's row
 * of the same key, in the same transaction. */
#pragma once

#include "shared/base/months.h"
#include "shared/record/record.h"

enum { USAGE_BUCKETS = 24 };

struct usage {
#define USAGE_HOUR int64_t
#define USAGE_TEXT struct str
#define USAGE_BOOL int64_t
#define USAGE_KEY(name, kind) USAGE_##kind name;
#define USAGE_SUM(name, value) int64_t name;
#define USAGE_HISTOGRAM(name) int64_t name##_buckets[USAGE_BUCKETS];
#include "master/store/usage.def"
#undef USAGE_KEY
#undef USAGE_SUM
#undef USAGE_HISTOGRAM
    char month_text[MONTH_SIZE];
    uint64_t hash;
};

enum usage_kind {
    USAGE_KIND_HOUR, /* Unix milliseconds */
    USAGE_KIND_TEXT,
    USAGE_KIND_BOOL,
    USAGE_KIND_NUMBER /* to be added up; all before it are the key */
};

struct usage_column {
    const char *name;
    enum usage_kind kind;
    size_t offset; /* in struct usage; an int64_t but for TEXT */
};

/* In the order of usage.def, a column for each bucket; the first `usage_keys_count` are the key. */
extern const struct usage_column usage_columns[];
extern const size_t usage_columns_count, usage_keys_count;

/* The bucket that `value` is counted in. */
unsigned usage_bucket(int64_t value);

/* All zero is empty and ready. */
struct usage_table {
    struct usage *sums; /* in no order */
    size_t count, room;
    uint32_t *places; /* a hash: place in `sums` + 1, 0 = free */
    size_t places_count;
};

/* Adds a row, which must stay while the table holds its texts. */
void usage_add(struct usage_table *table, const struct months *months, const struct record *row);
/* Empty again; the memory is kept. */
void usage_clear(struct usage_table *table);
void usage_free(struct usage_table *table);
