/* A growing byte buffer. All zero is empty and ready; `buf_free` gives the memory back and leaves
 * it ready again. `data` is not NUL-terminated unless `buf_cstr` was called last. */
#pragma once

#include "shared/base/str.h"

#include <stdint.h>

struct buf {
    char *data;
    size_t len;
    size_t cap;
};

void buf_free(struct buf *b);
void buf_clear(struct buf *b);
/* Room for `more` bytes behind `len`; returns where they go. Add to `len` what was used. */
char *buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *bytes, size_t len);
void buf_str(struct buf *b, struct str s);
void buf_puts(struct buf *b, const char *text);
void buf_putc(struct buf *b, char c);
void buf_u64(struct buf *b, uint64_t value);
void buf_i64(struct buf *b, int64_t value);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Takes `count` bytes off the front. */
void buf_consume(struct buf *b, size_t count);
/* NUL-terminates (not counted in `len`) and returns the text. */
const char *buf_cstr(struct buf *b);

static inline struct str buf_view(const struct buf *b)
{
    return (struct str){b->data ? b->data : "", b->len};
}
