/* The reason of a failure, as one sentence for a person. A function that fails returns false (or a
 * code its header names) and fills the caller's `struct error`. */
#pragma once

#include <stdbool.h>

struct error {
    char message[512];
};

/* Writes the sentence (cut at the end when too long) and returns false, for `return error_set(…)`.
 */
bool error_set(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same, with ": " and the text of `errno_value` behind it. */
bool error_errno(struct error *e, int errno_value, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
