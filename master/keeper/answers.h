/* Answers that are kept for requests with the same Idempotency-Key: for ANSWERS_KEPT_MS, and no
 * more of them than so many bytes; what does not fit any more is the oldest. */
#pragma once

#include "master/store/sessions.h"
#include "shared/wire/keeper.h"

enum { ANSWERS_KEPT_MS = 24 * 60 * 60 * 1000 };

/* All zero but `most_bytes` is one at the beginning. */
struct answers {
    int64_t most_bytes;
    int64_t bytes; /* as far as this keeper knows: other hosts' are counted now and then */
    int64_t counted_ms, warned_ms; /* monotonic; 0 = not yet */
    uint64_t dropped;              /* before their time, since the warning */
};

/* Whose answer a COMMIT's key has. */
enum answer_owner { ANSWER_NOBODYS, ANSWER_OWN, ANSWER_ANOTHERS };

/* ANSWER_OWN: the keeper that took the COMMIT before has stored it and died. ANSWER_ANOTHERS: it is
 * appended to `kept`. */
bool answers_look(struct sessions_store *store, const struct keeper_message *asked, int64_t now_ms,
                  enum answer_owner *owner, struct buf *kept, struct error *error);
/* Keeps COMMIT's answer, in the transaction under way, where the key has none. One that is larger
 * than all together may be is not kept. */
bool answers_keep(struct answers *answers, struct sessions_store *store,
                  const struct keeper_message *asked, int64_t now_ms, struct error *error);
/* A part of the sweep, in the transaction under way: what has expired, and what is too much;
 * `*more`: it is not the last one. */
bool answers_tidy(struct answers *answers, struct sessions_store *store, int64_t now_ms, bool *more,
                  struct error *error);
