#include "master/keeper/answers.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"

#include <inttypes.h>

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

static bool make_room(struct answers *answers, struct sessions_store *store, int64_t wanted,
                      struct error *error)
{
    unsigned done = 1;
    int64_t freed;
    while (answers->bytes + wanted > answers->most_bytes && done > 0) {
        if (!answers_drop(store, 1, &done, &freed, error))
            return false;
        answers->bytes -= freed;
        answers->dropped += done;
    }
    warn(answers);
    return true;
}

/* What has the same request's name was stored by a keeper that died before it could say so. */
static bool look_at_other(struct sessions_store *store, const struct keeper_message *asked,
                          bool *other, struct buf *kept, struct error *error)
{
    struct kept_answer there;
    bool found;
    if (!answers_find(store, asked->key, &there, &found, error))
        return false;
    *other = found && uuid_compare(&there.request, &asked->request) != 0;
    if (*other)
        buf_str(kept, there.answer);
    return true;
}

bool answers_keep(struct answers *answers, struct sessions_store *store,
                  const struct keeper_message *asked, int64_t now_ms, bool *other, struct buf *kept,
                  struct error *error)
{
    const struct kept_answer answer = {.key = asked->key,
                                       .content = asked->content,
                                       .request = asked->request,
                                       .stored_ms = now_ms,
                                       .expires_ms = now_ms + ANSWERS_KEPT_MS,
                                       .answer = asked->answer};
    int64_t bytes = (int64_t)asked->answer.len;
    bool existed;
    *other = false;
    if (!count(answers, store, error) || !make_room(answers, store, bytes, error) ||
        !answers_add(store, &answer, &existed, error))
        return false;
    if (existed)
        return look_at_other(store, asked, other, kept, error);
    answers->bytes += bytes;
    return true;
}

bool answers_tidy(struct answers *answers, struct sessions_store *store, int64_t now_ms, bool *more,
                  struct error *error)
{
    unsigned done;
    int64_t freed;
    if (!answers_sweep(store, now_ms, AT_ONCE, &done, &freed, error))
        return false;
    *more = done == AT_ONCE;
    answers->bytes -= freed;
    return true;
}
