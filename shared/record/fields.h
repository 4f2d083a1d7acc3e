/* The encoding of a struct whose fields are described by a list of columns: a run of fields in the
 * list's order, absent ones left out.
 *
 *   1 byte   field number, the column's position from 0
 *   1 byte   type: 'u' UUID, 'i' integer (INT, TIME, BOOL), 't' text
 *   1-5      length of the value, LEB128
 *   length   the value; integers are little-endian two's complement, as short as they go
 *
 * A list only grows at its end, so that older and newer programs read each other's. */
#pragma once

#include "shared/record/record.h"

/* Everything absent. */
void fields_init(const struct record_column *columns, size_t count, void *values);
/* Appends. Text is made valid UTF-8 without NUL on the way. */
void fields_encode(const struct record_column *columns, size_t count, const void *values,
                   struct buf *out);
/* Reads what fields_encode wrote; texts point into `bytes`. Unknown field numbers are passed over
 * (a newer writer). False for bytes that no encoder wrote, or that lack the first column. */
bool fields_decode(const struct record_column *columns, size_t count, struct str bytes,
                   void *values, struct error *error) __attribute__((warn_unused_result));
