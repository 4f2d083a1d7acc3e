#include "shared/base/secret_memory.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <sodium.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* The whole region is reserved without access, so that it grows in place; pages become usable as
 * they are needed. */
struct secret_memory {
    struct secret_memory *next;
    unsigned roles;
    bool hidden; /* from the child that is being forked */
    char *at;
    size_t used, usable;
};

static struct secret_memory *regions;
static bool lock_failure_told;

static size_t whole_pages(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) / page * page;
}

struct secret_memory *secret_memory_new(unsigned roles)
{
    struct secret_memory *memory = xcalloc(1, sizeof *memory);
    memory->at = mmap(NULL, SECRET_MEMORY_MAX_BYTES, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory->at == MAP_FAILED || madvise(memory->at, SECRET_MEMORY_MAX_BYTES, MADV_DONTDUMP)) {
        log_error("no memory for secrets: %s", strerror(errno));
        _exit(1);
    }
    memory->roles = roles;
    memory->next = regions;
    regions = memory;
    return memory;
}

static void unlink_region(const struct secret_memory *memory)
{
    struct secret_memory **place = &regions;
    while (*place != memory)
        place = &(*place)->next;
    *place = memory->next;
}

void secret_memory_free(struct secret_memory **memory)
{
    if (!*memory)
        return;
    unlink_region(*memory);
    sodium_memzero((*memory)->at, (*memory)->usable);
    munmap((*memory)->at, SECRET_MEMORY_MAX_BYTES);
    free(*memory);
    *memory = NULL;
}

char *secret_memory_take(struct secret_memory *memory, size_t size)
{
    if (size > SECRET_MEMORY_MAX_BYTES - memory->used)
        return NULL;
    size_t usable = whole_pages(memory->used + size);
    if (usable > memory->usable) {
        if (mprotect(memory->at, usable, PROT_READ | PROT_WRITE) != 0)
            return NULL;
        memory->usable = usable;
    }
    char *taken = memory->at + memory->used;
    memory->used += size;
    return taken;
}

void secret_memory_shrink(struct secret_memory *memory, char *last, size_t kept)
{
    size_t end = (size_t)(last - memory->at) + kept;
    sodium_memzero(memory->at + end, memory->used - end);
    memory->used = end;
}

bool secret_memory_holds(const struct secret_memory *memory, const void *at)
{
    return (uintptr_t)at - (uintptr_t)memory->at < memory->used;
}

void secret_memory_lock(struct secret_memory *memory)
{
    if (memory->usable == 0 || mlock(memory->at, memory->usable) == 0 || lock_failure_told)
        return;
    lock_failure_told = true;
    log_warning("secrets may be swapped out: cannot lock %zu KiB of memory: %s",
                memory->usable >> 10, strerror(errno));
}

/* --- forks --- */

static bool may_see(const struct secret_memory *memory, enum secrets_role role,
                    const struct secret_memory *own)
{
    if (!(memory->roles & role))
        return false;
    return role != SECRETS_WORKER || memory == own;
}

void secrets_before_fork(enum secrets_role role, const struct secret_memory *own)
{
    for (struct secret_memory *memory = regions; memory; memory = memory->next) {
        memory->hidden = !may_see(memory, role, own);
        if (memory->hidden && madvise(memory->at, SECRET_MEMORY_MAX_BYTES, MADV_WIPEONFORK) != 0)
            log_debug("the child wipes secrets itself: %s", strerror(errno));
    }
}

void secrets_after_fork(void)
{
    for (struct secret_memory *memory = regions; memory; memory = memory->next) {
        if (memory->hidden)
            madvise(memory->at, SECRET_MEMORY_MAX_BYTES, MADV_KEEPONFORK);
        memory->hidden = false;
    }
}

void secrets_in_child(void)
{
    for (struct secret_memory *memory = regions; memory; memory = memory->next) {
        if (!memory->hidden)
            secret_memory_lock(memory);
        else if (memory->usable > 0)
            /* Zeroes already, but for a kernel that doesn't know MADV_WIPEONFORK. */
            madvise(memory->at, memory->usable, MADV_DONTNEED);
    }
}
