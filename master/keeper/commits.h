/* What workers want stored: turns of conversations, answers for Idempotency-Keys. All that has come
 * together is one transaction, and nothing is said before it is durable. */
#pragma once

#include "master/keeper/answers.h"
#include "master/keeper/holds.h"
#include "master/keeper/turns.h"

struct commits;

/* The parts stay the caller's; the two last may be NULL where nobody has a key. */
struct commits *commits_new(struct turns *turns, struct holds *holds, struct answers *answers);
void commits_free(struct commits **commits);

/* Takes a copy of a COMMIT. */
void commits_take(struct commits *commits, void *peer, const struct keeper_message *asked);
bool commits_any(const struct commits *commits);
/* What it wanted stored is, and nobody hears of it. */
void commits_forget_peer(struct commits *commits, const void *peer);

typedef void commits_answer_fn(void *context, void *peer, const struct keeper_message *answer);

/* Stores all, and tells each one's answer: COMMITTED, REFUSED, or KEPT where the key has another
 * request's answer by now. Their turns and keys are over then. */
void commits_store(struct commits *commits, struct sessions_store *store, int64_t now_ms,
                   commits_answer_fn *answer, void *context);
