#include "shared/record/record.h"

#include "shared/record/fields.h"

#include <stddef.h>

const struct record_column record_columns[] = {
#define COLUMN(name, kind) {#name, RECORD_KIND_##kind, offsetof(struct record, name)},
#include "shared/record/columns.def"
#undef COLUMN
};
const size_t record_columns_count = sizeof record_columns / sizeof *record_columns;

_Static_assert(sizeof record_columns / sizeof *record_columns <= 255,
               "a field number is one byte, and one of them marks what is no row (refused.c)");

void record_init(struct record *record)
{
    fields_init(record_columns, record_columns_count, record);
}

void record_encode(const struct record *record, struct buf *out)
{
    fields_encode(record_columns, record_columns_count, record, out);
}

bool record_decode(struct str bytes, struct record *record, struct error *error)
{
    return fields_decode(record_columns, record_columns_count, bytes, record, error);
}
