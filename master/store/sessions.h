/* Where conversations are kept: a database of their own, written by the keeper alone. Every
 * function says false with a reason when the database fails; then nothing of the transaction under
 * way is kept, and the next begin tries anew. Times are of the wall clock, in milliseconds. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"
#include "shared/base/str.h"
#include "shared/base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

struct sessions_store;

/* One conversation. Texts are the caller's, or live until the next call. */
struct session_row {
    struct uuid id;
    struct uuid last_request;            /* whose turn the latest one was */
    struct str project, endpoint, token; /* names: whose it is */
    int64_t ttl_ms;
    int64_t turns, messages, tokens; /* that are kept; tokens are estimated */
    int64_t created_ms, expires_ms;
    bool ended; /* a tombstone: its messages are gone */
};

/* Makes the file and its tables where they are missing; a file of a later program is refused. */
bool sessions_open(const char *path, struct sessions_store **store, struct error *error)
    __attribute__((warn_unused_result));
/* The caller's pointer becomes NULL; an open transaction is undone. */
void sessions_close(struct sessions_store **store);

/* One transaction around all that the keeper has to write at a time. */
bool sessions_begin(struct sessions_store *store, struct error *error);
bool sessions_commit(struct sessions_store *store, struct error *error);
void sessions_undo(struct sessions_store *store);

/* `*found` tells whether there is such a session. `messages` (NULL = not wanted) gets its messages,
 * JSON objects with a comma between two, in their order. */
bool sessions_load(struct sessions_store *store, const struct uuid *id, struct session_row *row,
                   struct buf *messages, bool *found, struct error *error)
    __attribute__((warn_unused_result));
/* Stores the session as `row` says it, which is new when `row->turns` is 1, and the messages of its
 * latest turn behind the others. */
bool sessions_add_turn(struct sessions_store *store, const struct session_row *row,
                       const struct str *messages, size_t count, struct error *error)
    __attribute__((warn_unused_result));
/* It and its messages, without a tombstone. `*found` likewise. */
bool sessions_delete(struct sessions_store *store, const struct uuid *id, bool *found,
                     struct error *error) __attribute__((warn_unused_result));

/* A small part of the sweep, in the transaction under way: at most `most` expired sessions lose
 * their messages and become tombstones, and as many tombstones older than 30 days go. `*done`: how
 * many of both; fewer than `most` = there are no more. */
bool sessions_sweep(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                    struct error *error) __attribute__((warn_unused_result));

typedef void session_each_fn(void *context, const struct session_row *row);

/* What is stored, the latest turn first, tombstones not; `project` NULL = of all. */
bool sessions_list(struct sessions_store *store, const char *project, unsigned most,
                   session_each_fn *each, void *context, struct error *error)
    __attribute__((warn_unused_result));
