/* PostgreSQL's manual, "COPY", Binary Format: numbers big-endian, each value behind its length. */
#include "master/store/postgres_private.h"

#include <endian.h>

/* 2000-01-01T00:00:00Z, where timestamptz begins, in Unix milliseconds. */
static const int64_t epoch_ms = 946684800000;

static void put_16(struct buf *out, uint16_t value)
{
    uint16_t bytes = htobe16(value);
    buf_append(out, &bytes, sizeof bytes);
}

static void put_32(struct buf *out, uint32_t value)
{
    uint32_t bytes = htobe32(value);
    buf_append(out, &bytes, sizeof bytes);
}

static void put_64(struct buf *out, int64_t value)
{
    uint64_t bytes = htobe64((uint64_t)value);
    put_32(out, sizeof bytes);
    buf_append(out, &bytes, sizeof bytes);
}

static void put_null(struct buf *out)
{
    put_32(out, UINT32_MAX);
}

/* A time that has no microseconds becomes one that the server refuses, and not its "infinity". */
static void put_time(struct buf *out, int64_t wall_ms)
{
    int64_t us;
    if (__builtin_sub_overflow(wall_ms, epoch_ms, &us) || __builtin_mul_overflow(us, 1000, &us))
        us = INT64_MAX - 1;
    put_64(out, us);
}

static void put_text(struct buf *out, struct str text)
{
    if (!text.at) {
        put_null(out);
        return;
    }
    put_32(out, (uint32_t)text.len);
    buf_str(out, text);
}

static void put_number(struct buf *out, enum record_kind kind, int64_t value)
{
    if (value == RECORD_NULL) {
        put_null(out);
    } else if (kind == RECORD_KIND_BOOL) {
        put_32(out, 1);
        buf_putc(out, value != 0);
    } else if (kind == RECORD_KIND_TIME) {
        put_time(out, value);
    } else {
        put_64(out, value);
    }
}

void postgres_copy_begin(struct buf *out)
{
    buf_append(out, "PGCOPY\n\377\r\n\0", 11);
    put_32(out, 0); /* flags */
    put_32(out, 0); /* no more of a header */
}

void postgres_copy_row(const struct record *row, size_t place, struct buf *out)
{
    put_16(out, (uint16_t)(record_columns_count + 1));
    put_32(out, sizeof(uint32_t));
    put_32(out, (uint32_t)place);
    for (size_t i = 0; i < record_columns_count; i++) {
        const struct record_column *column = &record_columns[i];
        const char *field = (const char *)row + column->offset;
        if (column->kind == RECORD_KIND_UUID) {
            put_32(out, sizeof(struct uuid));
            buf_append(out, field, sizeof(struct uuid));
        } else if (column->kind == RECORD_KIND_TEXT) {
            put_text(out, *(const struct str *)field);
        } else {
            put_number(out, column->kind, *(const int64_t *)field);
        }
    }
}

void postgres_copy_end(struct buf *out)
{
    put_16(out, UINT16_MAX);
}
