/* A strict reader for JSON from strangers (RFC 8259): one pass over the bytes that checks the
 * grammar, UTF-8, depth, duplicate keys (after unescaping), NUL and lone surrogates in keys, and
 * optionally tells a visitor what it saw. Time and memory grow with the length of the text alone.
 * Source: json-c's own tokener, even in strict mode, lets several of these through. */
#pragma once

#include "shared/base/error.h"
#include "shared/base/str.h"

enum { JSON_MAX_DEPTH = 64 };
/* Values in one text, members' and items' included. Each costs up to 200 bytes once it is an
 * object: a body of ten megabytes of `[],` would cost half a gigabyte and a worker's second. */
enum { JSON_MAX_VALUES = 1 << 20 };

/* Called in document order. Text is unescaped UTF-8 and valid during the call alone; `raw` is the
 * token as it stands in the source (with its quotes). `lossy` marks what a plain value can't hold:
 * a string with a lone surrogate escape (U+FFFD stands in `text` for it). Members may be NULL. */
struct json_visitor {
    void (*object_begin)(void *context);
    void (*object_end)(void *context);
    void (*array_begin)(void *context);
    void (*array_end)(void *context);
    void (*key)(void *context, struct str text);
    void (*string)(void *context, struct str text, struct str raw, bool lossy);
    void (*number)(void *context, struct str raw);
    void (*literal)(void *context, char which); /* 't' 'f' 'n' */
};

/* True when `text` is exactly one JSON value, white space around it allowed. On failure the error
 * says what is wrong and at which byte (from 0), line and column (both from 1, in characters); the
 * visitor may have been called before.
 * `visitor` may be NULL. */
bool json_check(struct str text, const struct json_visitor *visitor, void *context,
                struct error *error) __attribute__((warn_unused_result));
