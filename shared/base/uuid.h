/* UUIDs (RFC 9562). Request ids are version 7: 48 bits of Unix milliseconds, then a counter and
 * random bits, so they sort by time, and strictly within one process. */
#pragma once

#include "shared/base/str.h"

#include <stdint.h>

enum { UUID_TEXT_LEN = 36 };

struct uuid {
    uint8_t bytes[16];
};

/* A new version 7 id for `wall_ms`. Not to be shared across fork without new calls: every call
 * reads fresh random bits. */
struct uuid uuid_v7(int64_t wall_ms);
/* The least version 7 id of `wall_ms`: all that were made before sort before it. */
struct uuid uuid_first(int64_t wall_ms);
/* Lower-case text with NUL. Returns `text`. */
char *uuid_format(const struct uuid *id, char text[UUID_TEXT_LEN + 1]);
/* 8-4-4-4-12 hexadecimal digits of either case, any version; false for everything else. */
bool uuid_parse(struct str text, struct uuid *id) __attribute__((warn_unused_result));
int uuid_compare(const struct uuid *a, const struct uuid *b);
/* All zero: nobody's id. */
bool uuid_is_nil(const struct uuid *id);
/* The Unix time in milliseconds that a version 7 id begins with. */
int64_t uuid_wall_ms(const struct uuid *id);
