#include "test/steps/abandoned.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int abandoned_owner = -1;

enum { BLOCKS_MAX = 1 << 14 };

/* Open addressing; a freed place keeps a tombstone until the schedule ends. */
static struct block {
    void *memory; /* NULL = never used in this schedule */
    int owner;    /* -1 = freed */
} blocks[BLOCKS_MAX];
static unsigned used[BLOCKS_MAX], used_count;
static int first_descriptor;

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
void __wrap_free(void *memory);

static struct block *place_of(const void *memory)
{
    size_t at = (size_t)(((uintptr_t)memory >> 4) * 0x9e3779b97f4a7c15U >> 50);
    while (blocks[at].memory && blocks[at].memory != memory)
        at = (at + 1) % BLOCKS_MAX;
    return &blocks[at];
}

static void *take(void *memory, int owner)
{
    if (!memory || owner < 0)
        return memory;
    struct block *block = place_of(memory);
    if (!block->memory) {
        if (used_count == BLOCKS_MAX / 2)
            abort();
        used[used_count++] = (unsigned)(block - blocks);
    }
    *block = (struct block){memory, owner};
    return memory;
}

/* Whose it was. */
static int drop(const void *memory)
{
    struct block *block = memory ? place_of(memory) : NULL;
    if (!block || !block->memory)
        return -1;
    int owner = block->owner;
    block->owner = -1;
    return owner;
}

void *__wrap_malloc(size_t size)
{
    return take(__real_malloc(size), abandoned_owner);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return take(__real_calloc(count, size), abandoned_owner);
}

void *__wrap_realloc(void *old, size_t size)
{
    drop(old);
    return take(__real_realloc(old, size), abandoned_owner);
}

void __wrap_free(void *memory)
{
    drop(memory);
    __real_free(memory);
}

void abandoned_begin(void)
{
    first_descriptor = fcntl(0, F_DUPFD_CLOEXEC, 0);
    if (first_descriptor < 0)
        abort();
    close(first_descriptor);
}

void abandoned_free(int owner)
{
    for (unsigned i = 0; i < used_count; i++) {
        struct block *block = &blocks[used[i]];
        if (block->owner != owner)
            continue;
        block->owner = -1;
        __real_free(block->memory);
    }
}

void abandoned_end(bool opened)
{
    if (opened)
        close_range((unsigned)first_descriptor, ~0U, 0);
    for (unsigned i = 0; i < used_count; i++)
        blocks[used[i]].memory = NULL;
    used_count = 0;
}
