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
bool turns_has(struct turns *turns, const struct uuid *session);
/* The turn of the request that `said` names; another's of the same session goes on. */
void turns_abort(struct turns *turns, const struct keeper_message *said);
/* All that the peer has open. */
void turns_forget_peer(struct turns *turns, const void *peer);

/* ---- storing, in a transaction of the caller's */

enum turn_verdict {
    TURN_FITS,   /* behind what is stored */
    TURN_STORED, /* already: the COMMIT is said again, for the keeper that took it has died */
    TURN_REFUSED
};

struct turn_judgement {
    enum turn_verdict verdict;
    enum keeper_refusal refusal;
    bool is_new;            /* the session */
    struct session_row row; /* as it is; its texts are not to be used */
};

bool turns_judge(struct turns *turns, const struct keeper_message *asked,
                 struct turn_judgement *judgement, struct error *error);
/* For one that fits. `*moved`: another host has stored that turn since; nothing was. */
bool turns_add(struct turns *turns, const struct keeper_message *asked,
               const struct turn_judgement *judgement, int64_t now_ms, bool *moved,
               struct error *error);
/* Its claim goes with the transaction, whether it was stored or refused. */
bool turns_release(struct turns *turns, const struct keeper_message *said, struct error *error);
/* The transaction has ended; with `good` false nothing of it is kept. */
void turns_settle(struct turns *turns, bool good);
/* Behind that: the turn is over. */
void turns_end(struct turns *turns, const struct keeper_message *said);

/* Claims of what is open last longer. */
void turns_renew(struct turns *turns);
/* A part of the sweep, in a transaction likewise; `*more`: it is not the last one. */
bool turns_sweep(struct turns *turns, int64_t now_ms, bool *more, struct error *error);
/* How many are open. */
size_t turns_open(const struct turns *turns);
