#include "master/keeper/answers.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"

#include <inttypes.h>

_Static_assert((int)ANSWER_HASH_BYTES == (int)KEEPER_HASH_BYTES,
               "the store's keys are the messages'");

enum { AT_ONCE = 64, COUNT_MS = 60000, WARN_MS = 60000 };

/* Reads an index as a whole, so it is done seldom; what this keeper adds it counts itself. */
static bool count(struct answers *answers, struct sessions_store *store, struct error *error)
{
    int64_t now_ms = clock_now_ms();
    if (answers->counted_ms != 0 && now_ms - answers->counted_ms < COUNT_MS)
        return true;
    if (!answers_bytes(store, &answers->bytes, error))
        return false;
    answers->counted_ms = now_ms;
    return true;
}

static void warn(struct answers *answers)
{
    int64_t now_ms = clock_now_ms();
    if (answers->dropped == 0 || (answers->warned_ms != 0 && now_ms - answers->warned_ms < WARN_MS))
        return;
    log_warning("answers of requests with an Idempotency-Key have more than "
                "store.idempotency_bytes (%" PRId64 "): the %" PRIu64
                " oldest are forgotten before their 24 hours were over",
                answers->most_bytes, answers->dropped);
    answers->warned_ms = now_ms;
    answers->dropped = 0;
}

/* A small part at a time, for others wait: the sweep does the rest. */
static bool make_room(struct answers *answers, struct sessions_store *store, int64_t wanted,
                      bool *more, struct error *error)
{
    unsigned done = 1;
    int64_t freed;
    for (int i = 0; i < AT_ONCE && done > 0; i++) {
        if (answers->bytes + wanted <= answers->most_bytes)
            break;
        if (!answers_drop(store, 1, &done, &freed, error))
            return false;
        answers->bytes -= freed;
        answers->dropped += done;
    }
    *more = done > 0 && answers->bytes + wanted > answers->most_bytes;
    warn(answers);
    return true;
}

bool answers_look(struct sessions_store *store, const struct keeper_message *asked, int64_t now_ms,
                  enum answer_owner *owner, struct buf *kept, struct error *error)
{
    struct kept_answer there;
    bool found;
    *owner = ANSWER_NOBODYS;
    if (!answers_find(store, asked->key, &there, &found, error))
        return false;
    if (!found || there.expires_ms <= now_ms)
        return true;
    *owner = uuid_compare(&there.request, &asked->request) == 0 ? ANSWER_OWN : ANSWER_ANOTHERS;
    if (*owner == ANSWER_ANOTHERS)
        buf_str(kept, there.answer);
    return true;
}

/* One that nothing else would fit beside would cost all others theirs. */
static bool is_too_large(const struct answers *answers, const struct keeper_message *asked)
{
    if ((int64_t)asked->answer.len <= answers->most_bytes)
        return false;
    log_warning("an answer of %.*s/%.*s for an Idempotency-Key has more than "
                "store.idempotency_bytes: it is not kept",
                STR_ARG(asked->project), STR_ARG(asked->endpoint));
    return true;
}

bool answers_keep(struct answers *answers, struct sessions_store *store,
                  const struct keeper_message *asked, int64_t now_ms, struct error *error)
{
    const struct kept_answer answer = {.key = asked->key,
                                       .content = asked->content,
                                       .request = asked->request,
                                       .stored_ms = now_ms,
                                       .expires_ms = now_ms + ANSWERS_KEPT_MS,
                                       .answer = asked->answer};
    int64_t bytes = (int64_t)asked->answer.len;
    bool existed, more;
    if (is_too_large(answers, asked))
        return true;
    if (!count(answers, store, error) || !make_room(answers, store, bytes, &more, error) ||
        !answers_add(store, &answer, &existed, error))
        return false;
    answers->bytes += bytes;
    return !existed || error_set(error, "another host has stored an answer meanwhile");
}

bool answers_tidy(struct answers *answers, struct sessions_store *store, int64_t now_ms, bool *more,
                  struct error *error)
{
    unsigned done;
    int64_t freed;
    if (!answers_sweep(store, now_ms, AT_ONCE, &done, &freed, error))
        return false;
    answers->bytes -= freed;
    *more = done == AT_ONCE;
    return *more || (count(answers, store, error) && make_room(answers, store, 0, more, error));
}
