/* Pieces of JSON as text, for who writes it by hand; needs no JSON library. */
#pragma once

#include "shared/base/buf.h"

/* A JSON string with its quotes. Bytes that are not UTF-8 become U+FFFD, so the result is always
 * valid JSON. */
void json_write_string(struct buf *out, struct str text);
/* `text`, or null when absent. */
void json_write_string_or_null(struct buf *out, struct str text);
/* The shortest decimal that reads back as the same double; null for what JSON can't say. */
void json_write_double(struct buf *out, double value);
