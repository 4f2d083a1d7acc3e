#include "shared/base/arena.h"

#include "shared/base/xalloc.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 8192 - 64 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t used, size;
    _Alignas(max_align_t) char bytes[];
};

static struct arena_chunk *chunk_new(struct arena *a, size_t size)
{
    struct arena_chunk *chunk = xmalloc(sizeof *chunk + size);
    chunk->used = 0;
    chunk->size = size;
    chunk->next = a->chunks;
    a->chunks = chunk;
    return chunk;
}

void *arena_alloc(struct arena *a, size_t size)
{
    size_t align = _Alignof(max_align_t);
    size_t need = (size + align - 1) / align * align;
    struct arena_chunk *chunk = a->chunks;
    if (!chunk || chunk->size - chunk->used < need)
        chunk = chunk_new(a, need > CHUNK_BYTES ? need : CHUNK_BYTES);
    void *memory = chunk->bytes + chunk->used;
    chunk->used += need;
    return memset(memory, 0, size);
}

struct str arena_copy(struct arena *a, struct str s)
{
    if (!s.at)
        return STR_ABSENT;
    char *copy = arena_alloc(a, s.len + 1);
    if (s.len)
        memcpy(copy, s.at, s.len);
    return (struct str){copy, s.len};
}

char *arena_strdup(struct arena *a, const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(arena_alloc(a, size), text, size);
}

char *arena_printf(struct arena *a, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    size_t size = need > 0 ? (size_t)need + 1 : 1;
    char *text = arena_alloc(a, size);
    vsnprintf(text, size, format, again);
    va_end(again);
    return text;
}

static void free_chunks(struct arena_chunk *chunk)
{
    while (chunk) {
        struct arena_chunk *next = chunk->next;
        free(chunk);
        chunk = next;
    }
}

void arena_reset(struct arena *a)
{
    struct arena_chunk *first = a->chunks;
    if (!first)
        return;
    while (first->next) {
        struct arena_chunk *later = first;
        first = first->next;
        free(later);
    }
    first->used = 0;
    a->chunks = first;
    if (first->size > CHUNK_BYTES)
        arena_free(a);
}

void arena_free(struct arena *a)
{
    free_chunks(a->chunks);
    a->chunks = NULL;
}
