/* The conversations that were in use last, as the store has them: whoever goes on with one of them
 * waits for no look at the database, or, where other hosts write to it as well, for the turns alone
 * that are new. Bounded in bytes; what was longest not in use goes first, and what has expired. */
#pragma once

#include "master/store/sessions.h"

#include <stddef.h>

struct hot;

enum { HOT_BYTES_MAX = 64 << 20 };

/* Texts are the hot ones' until the next call. */
struct hot_session {
    struct session_row row;
    struct str messages; /* as in sessions_load */
};

struct hot *hot_new(size_t bytes_max);
void hot_free(struct hot **hot);

/* What the store has under that id. Without `with_messages` they may be absent, unless they are
 * here anyway. `*found` as in sessions_load; false when the store fails. */
bool hot_load(struct hot *hot, struct sessions_store *store, const struct uuid *id,
              bool with_messages, struct hot_session *session, bool *found, struct error *error)
    __attribute__((warn_unused_result));
/* A turn that was stored in the transaction under way: `row` is the session with it. */
void hot_add_turn(struct hot *hot, const struct session_row *row, struct str messages);
/* The transaction has ended: with `good` false what was added in it goes. */
void hot_settle(struct hot *hot, bool good);
void hot_drop(struct hot *hot, const struct uuid *id);
/* Those that had expired then, beginning with what was longest not in use; the first that had not
 * ends it. */
void hot_drop_expired(struct hot *hot, int64_t before_ms);

size_t hot_bytes(const struct hot *hot);
size_t hot_count(const struct hot *hot);
