/* Idempotency keys whose first request is in flight: whoever sends the same one meanwhile has to
 * wait for its answer. Kept in memory alone, as open turns are (turns.h): a keeper that begins anew
 * is told by its peers, and a peer that is gone holds nothing any more. */
#pragma once

#include "master/store/sessions.h"
#include "shared/wire/keeper.h"

struct holds;

struct holds *holds_new(void);
void holds_free(struct holds **holds);

/* KEEPER_HOLD's answer, HELD, KEPT or REFUSED, at `now_ms` of the wall clock. Its texts are
 * the holds' until the next call. */
void holds_begin(struct holds *holds, struct sessions_store *store, const void *peer,
                 const struct keeper_message *asked, int64_t now_ms, struct keeper_message *answer);
/* A key that the peer holds already. */
void holds_announce(struct holds *holds, const void *peer, const struct keeper_message *said);
bool holds_has(struct holds *holds, struct str key);
/* The request that `said` names is over: another's hold on the same key goes on. Its answer is
 * stored, and its claim went with the transaction (holds_release); or it is not to be, and the
 * claim is given up. */
bool holds_release(struct holds *holds, struct sessions_store *store,
                   const struct keeper_message *said, struct error *error);
void holds_end(struct holds *holds, const struct keeper_message *said);
void holds_abort(struct holds *holds, struct sessions_store *store,
                 const struct keeper_message *said);
/* All that the peer holds. Their claims (sessions_release) are given up with them. */
void holds_forget_peer(struct holds *holds, struct sessions_store *store, const void *peer);
/* The claims of all go on for another while. */
void holds_renew(struct holds *holds, struct sessions_store *store);
size_t holds_count(const struct holds *holds);
