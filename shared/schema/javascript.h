/* Regular expressions as JavaScript has them (ECMA-262 22.2, with the flag u), for PCRE2. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"

/* Appends the same expression as PCRE2 writes it. False for an escape that there is not:
 * `*offset` is its byte. */
bool javascript_translate(struct str source, struct buf *out, size_t *offset, struct error *error)
    __attribute__((warn_unused_result));
