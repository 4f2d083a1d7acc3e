/* The turns of conversations: which are open, and what may follow. A turn begins on what the store
 * has; it is stored when it has ended well, or nothing is. One at a time of each conversation.
 *
 * Who has a turn open is kept in memory alone: a keeper that begins anew is told by its peers
 * (KEEPER_ANNOUNCE), and a peer that is gone has no open turns any more. Whether a commit still
 * fits is told by the number of turns, so a turn that nobody announced can do no harm. Where the
 * store is shared a session with an open turn is claimed there, for other hosts' keepers. */
#pragma once

#include "master/keeper/hot.h"
#include "master/store/sessions.h"
#include "shared/wire/keeper.h"

struct turns;

/* `store` stays the caller's; NULL = there is none yet, and nothing but announcements may come. */
struct turns *turns_new(struct sessions_store *store);
void turns_use(struct turns *turns, struct sessions_store *store);
void turns_free(struct turns **turns);

/* A turn that the peer has open already. */
void turns_announce(struct turns *turns, const void *peer, const struct keeper_message *said);
/* KEEPER_BEGIN's answer, BEGUN or REFUSED, at `now_ms` of the wall clock. Its body is the turns'
 * until the next call. */
void turns_begin(struct turns *turns, const void *peer, const struct keeper_message *asked,
                 int64_t now_ms, struct keeper_message *answer);
void turns_abort(struct turns *turns, const struct keeper_message *said);
/* All that the peer has open. */
void turns_forget_peer(struct turns *turns, const void *peer);

/* Commits are stored together: turns_take, as often as there are any, then turns_store, which tells
 * each one's answer. */
void turns_take(struct turns *turns, void *peer, const struct keeper_message *asked);
bool turns_has_commits(const struct turns *turns);
typedef void turns_answer_fn(void *context, void *peer, const struct keeper_message *answer);
void turns_store(struct turns *turns, int64_t now_ms, turns_answer_fn *answer, void *context);

/* Claims of what is open last longer. */
void turns_renew(struct turns *turns);
/* A part of the sweep; false when there is nothing more to be swept now. */
bool turns_sweep(struct turns *turns, int64_t now_ms);
/* How many are open. */
size_t turns_open(const struct turns *turns);
