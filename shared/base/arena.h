/* Memory that is given back all at once: one arena per request, one per loaded configuration.
 * All zero is empty and ready. Pointers stay valid until `arena_reset` or `arena_free`. */
#pragma once

#include "shared/base/str.h"

struct arena_chunk;

struct arena {
    struct arena_chunk *chunks;
};

/* Zeroed, aligned for any type. */
void *arena_alloc(struct arena *a, size_t size) __attribute__((malloc, warn_unused_result));
/* Copies of text, NUL-terminated behind `len`. */
struct str arena_copy(struct arena *a, struct str s);
char *arena_strdup(struct arena *a, const char *text);
char *arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Forgets everything, keeps the first chunk for the next user. */
void arena_reset(struct arena *a);
void arena_free(struct arena *a);
