#include "master/keeper/commits.h"

#include "master/keeper/trouble.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>
#include <string.h>

struct commit {
    void *peer; /* NULL = gone */
    struct keeper_message asked, answer;
    struct buf kept; /* of `answer` */
    struct commit *next;
    char texts[]; /* of `asked`, one behind the other */
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

enum { TEXTS = 7 };

static void texts_of(struct keeper_message *message, struct str *texts[TEXTS])
{
    struct str *const all[TEXTS] = {&message->project, &message->endpoint, &message->token,
                                    &message->key,     &message->content,  &message->body,
                                    &message->answer};
    memcpy(texts, all, sizeof all);
}

void commits_take(struct commits *commits, void *peer, const struct keeper_message *asked)
{
    struct keeper_message copy = *asked;
    struct str *texts[TEXTS];
    size_t bytes = 0;
    texts_of(&copy, texts);
    for (size_t i = 0; i < TEXTS; i++)
        bytes += texts[i]->len;
    struct commit *commit = xmalloc(sizeof *commit + bytes);
    *commit = (struct commit){.peer = peer, .asked = copy};
    texts_of(&commit->asked, texts);
    char *at = commit->texts;
    for (size_t i = 0; i < TEXTS; at += texts[i++]->len) {
        memcpy(at, texts[i]->len ? texts[i]->at : "", texts[i]->len);
        texts[i]->at = at;
    }
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
static bool store_both(struct commits *commits, struct sessions_store *store, struct commit *commit,
                       int64_t now_ms, struct error *error)
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
    if (asked->key.len > 0 &&
        !answers_keep(commits->answers, store, asked, now_ms, &other, &commit->kept, error))
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
        one->answer = (struct keeper_message){
            .type = KEEPER_COMMITTED, .ticket = one->asked.ticket, .session = one->asked.session};
        good = store_one(commits, store, one, now_ms, &error);
    }
    good = good && sessions_commit(store, &error);
    turns_settle(commits->turns, good);
    if (good) {
        trouble_over();
        return true;
    }
    trouble_say(&error);
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
            one->answer =
                (struct keeper_message){.ticket = one->asked.ticket, .session = one->asked.session};
            refuse(one, KEEPER_UNAVAILABLE);
        }
        close_one(commits, one);
        if (one->peer)
            answer(context, one->peer, &one->answer);
        free_commit(one);
    }
}
