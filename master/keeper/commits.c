#include "master/keeper/commits.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>
#include <string.h>

struct commit {
    void *peer; /* NULL = gone */
    struct keeper_message asked, answer;
    char *texts;     /* of `asked`, one behind the other */
    struct buf kept; /* of `answer` */
    struct commit *next;
};

struct commits {
    struct turns *turns;
    struct holds *holds;
    struct answers *answers;
    struct commit *first, **last;
};

struct commits *commits_new(struct turns *turns, struct holds *holds, struct answers *answers)
{
    struct commits *commits = xcalloc(1, sizeof *commits);
    *commits = (struct commits){turns, holds, answers, NULL, &commits->first};
    return commits;
}

/* --- what has come --- */

static struct str keep(char **at, struct str text)
{
    struct str kept = {*at, text.len};
    memcpy(*at, text.len ? text.at : "", text.len);
    *at += text.len;
    return kept;
}

void commits_take(struct commits *commits, void *peer, const struct keeper_message *asked)
{
    struct commit *commit = xcalloc(1, sizeof *commit);
    struct keeper_message *copy = &commit->asked;
    *copy = *asked;
    struct str *const texts[] = {&copy->project, &copy->endpoint, &copy->token, &copy->key,
                                 &copy->content, &copy->body,     &copy->answer};
    const size_t count = sizeof texts / sizeof *texts;
    size_t bytes = 1;
    for (size_t i = 0; i < count; i++)
        bytes += texts[i]->len;
    char *at = commit->texts = xcalloc(1, bytes);
    for (size_t i = 0; i < count; i++)
        *texts[i] = keep(&at, *texts[i]);
    commit->peer = peer;
    *commits->last = commit;
    commits->last = &commit->next;
}

bool commits_any(const struct commits *commits)
{
    return commits->first != NULL;
}

void commits_forget_peer(struct commits *commits, const void *peer)
{
    for (struct commit *one = commits->first; one; one = one->next)
        if (one->peer == peer)
            one->peer = NULL;
}

static void free_commit(struct commit *commit)
{
    buf_free(&commit->kept);
    free(commit->texts);
    free(commit);
}

void commits_free(struct commits **place)
{
    struct commits *commits = *place;
    *place = NULL;
    for (struct commit *one = commits ? commits->first : NULL, *next; one; one = next) {
        next = one->next;
        free_commit(one);
    }
    free(commits);
}

/* --- storing --- */

static bool has_turn(const struct commit *commit)
{
    return !uuid_is_nil(&commit->asked.session);
}

static void refuse(struct commit *commit, enum keeper_refusal refusal)
{
    commit->answer.type = KEEPER_REFUSED;
    commit->answer.refusal = (uint8_t)refusal;
}

/* One that another host has stored meanwhile: what goes with it is undone with the rest. */
static bool add_turn(struct commits *commits, struct commit *commit,
                     const struct turn_judgement *turn, int64_t now_ms, struct error *error)
{
    bool moved;
    if (turn->verdict == TURN_STORED)
        return true;
    if (!turns_add(commits->turns, &commit->asked, turn, now_ms, &moved, error))
        return false;
    if (moved && commit->asked.key.len > 0)
        return error_set(error, "another host has stored a turn that this one had begun");
    if (moved)
        refuse(commit, KEEPER_BUSY);
    return true;
}

/* Neither the turn nor the answer is stored without the other. */
static bool store_both(struct commits *commits, struct sessions_store *store,
                       struct commit *commit, int64_t now_ms, struct error *error)
{
    const struct keeper_message *asked = &commit->asked;
    struct turn_judgement turn = {.verdict = TURN_STORED};
    bool other = false;
    if (has_turn(commit) && !turns_judge(commits->turns, asked, &turn, error))
        return false;
    if (turn.verdict == TURN_REFUSED) {
        refuse(commit, turn.refusal);
        return true;
    }
    if (asked->key.len > 0 && !answers_keep(commits->answers, store, asked, now_ms, &other,
                                            &commit->kept, error))
        return false;
    if (!other)
        return add_turn(commits, commit, &turn, now_ms, error);
    commit->answer.type = KEEPER_KEPT;
    commit->answer.answer = buf_view(&commit->kept);
    return true;
}

/* Stored or refused, it is over. */
static bool store_one(struct commits *commits, struct sessions_store *store, struct commit *commit,
                      int64_t now_ms, struct error *error)
{
    const struct keeper_message *asked = &commit->asked;
    return store_both(commits, store, commit, now_ms, error) &&
           (!has_turn(commit) || turns_release(commits->turns, &asked->session, error)) &&
           (asked->key.len == 0 || holds_release(commits->holds, store, asked->key, error));
}

static bool store_all(struct commits *commits, struct sessions_store *store, int64_t now_ms)
{
    struct error error;
    bool good = sessions_begin(store, &error);
    for (struct commit *one = commits->first; one && good; one = one->next) {
        one->answer = (struct keeper_message){.type = KEEPER_COMMITTED,
                                              .ticket = one->asked.ticket,
                                              .session = one->asked.session};
        good = store_one(commits, store, one, now_ms, &error);
    }
    good = good && sessions_commit(store, &error);
    turns_settle(commits->turns, good);
    if (good)
        return true;
    log_error("sessions: %s", error.message);
    sessions_undo(store);
    return false;
}

static void close_one(struct commits *commits, const struct commit *commit)
{
    if (has_turn(commit))
        turns_end(commits->turns, &commit->asked.session);
    if (commit->asked.key.len > 0)
        holds_end(commits->holds, commit->asked.key);
}

void commits_store(struct commits *commits, struct sessions_store *store, int64_t now_ms,
                   commits_answer_fn *answer, void *context)
{
    bool good = store_all(commits, store, now_ms);
    struct commit *one = commits->first, *next;
    commits->first = NULL;
    commits->last = &commits->first;
    for (; one; one = next) {
        next = one->next;
        if (!good) {
            one->answer = (struct keeper_message){.ticket = one->asked.ticket,
                                                  .session = one->asked.session};
            refuse(one, KEEPER_UNAVAILABLE);
        }
        close_one(commits, one);
        if (one->peer)
            answer(context, one->peer, &one->answer);
        free_commit(one);
    }
}
