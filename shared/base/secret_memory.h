/* Memory for opened secrets: page-aligned private regions that no core dump holds, that are kept
 * out of swap where that is allowed, and that a fork can be told to wipe in the child.
 *
 * Each region says which roles may see it. Around each fork the parent hides what the child's role
 * may not see, and shows it again: the child then finds zeroes there (MADV_WIPEONFORK). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What a process that is about to be forked is for. */
enum secrets_role {
    SECRETS_NOBODY = 0, /* sees none */
    SECRETS_WORKER = 1, /* sees its configuration's */
    SECRETS_READER = 2, /* reads a configuration: sees what that needs of the environment */
    SECRETS_STORE = 4,  /* writes to the store: sees what leads there */
};

struct secret_memory;

enum { SECRET_MEMORY_MAX_BYTES = 64 << 20 };

/* `roles` is made of enum secrets_role bits. Out of memory ends the process. */
struct secret_memory *secret_memory_new(unsigned roles);
/* Wipes it; the caller's pointer becomes NULL. */
void secret_memory_free(struct secret_memory **memory);
/* `size` zeroed bytes that stay where they are as long as the region; NULL when it is full. */
char *secret_memory_take(struct secret_memory *memory, size_t size);
/* Wipes and takes back all but the first `kept` bytes of what was taken last, which `last` is. */
void secret_memory_shrink(struct secret_memory *memory, char *last, size_t kept);
bool secret_memory_holds(const struct secret_memory *memory, const void *at);
/* Keeps what was taken so far out of swap. That this is not allowed (RLIMIT_MEMLOCK) is logged once
 * by each process. */
void secret_memory_lock(struct secret_memory *memory);

/* Before fork, in the parent. Of the regions that `role` may see, a worker sees `own` alone; with
 * NULL none, and other roles see all that theirs is named in. */
void secrets_before_fork(enum secrets_role role, const struct secret_memory *own);
/* After fork, in the parent, also when it failed. */
void secrets_after_fork(void);
/* After fork, in the child: gives up what it may not see, and locks what it may (a lock is not
 * inherited). */
void secrets_in_child(void);
