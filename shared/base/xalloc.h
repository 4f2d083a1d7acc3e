/* Allocation that never returns NULL: out of memory is logged and ends the process; the master
 * starts a new one. Use instead of malloc wherever the size is not chosen by a stranger beyond a
 * limit that was checked before. */
#pragma once

#include <stddef.h>

void *xmalloc(size_t size) __attribute__((malloc, warn_unused_result));
void *xcalloc(size_t count, size_t size) __attribute__((malloc, warn_unused_result));
void *xrealloc(void *old, size_t size) __attribute__((warn_unused_result));
char *xstrdup(const char *text) __attribute__((malloc, warn_unused_result));
