#include "master/keeper/commits.h"

#include "master/keeper/trouble.h"
#include "shared/base/clock.h"
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

static bool has_key(const struct commit *commit)
{
    return commit->asked.key.len > 0;
}

/* Its worker has told the client already that it could not be stored, or is about to. */
static bool is_late(const struct commit *commit)
{
    return commit->asked.deadline_ms != 0 && clock_now_ms() > commit->asked.deadline_ms;
}

static void answer_kept(struct commit *commit)
{
    commit->answer.type = KEEPER_KEPT;
    commit->answer.answer = buf_view(&commit->kept);
}

/* Whether all of it is stored already, or can't be: then `*done`. */
static bool look_first(struct commits *commits, struct sessions_store *store, struct commit *commit,
                       struct turn_judgement *turn, int64_t now_ms, bool *done, struct error *error)
{
    const struct keeper_message *asked = &commit->asked;
    enum answer_owner owner = ANSWER_NOBODYS;
    if (has_turn(commit) && !turns_judge(commits->turns, asked, turn, error))
        return false;
    if (has_key(commit) && !answers_look(store, asked, now_ms, &owner, &commit->kept, error))
        return false;
    *done = true;
    if (owner == ANSWER_OWN || turn->verdict == TURN_STORED)
        return true;
    if (turn->verdict == TURN_REFUSED)
        keeper_refuse(&commit->answer, turn->refusal);
    else if (owner == ANSWER_ANOTHERS)
        answer_kept(commit);
    else if (is_late(commit))
        keeper_refuse(&commit->answer, KEEPER_UNAVAILABLE);
    else
        *done = false;
    return true;
}

/* Neither the turn nor the answer is stored without the other. */
static bool store_both(struct commits *commits, struct sessions_store *store, struct commit *commit,
                       int64_t now_ms, struct error *error)
{
    struct turn_judgement turn = {.verdict = TURN_FITS};
    bool done, moved = false;
    if (!look_first(commits, store, commit, &turn, now_ms, &done, error))
        return false;
    if (done)
        return true;
    if (has_turn(commit) &&
        !turns_add(commits->turns, &commit->asked, &turn, now_ms, &moved, error))
        return false;
    if (moved)
        keeper_refuse(&commit->answer, KEEPER_BUSY);
    return moved || !has_key(commit) ||
           answers_keep(commits->answers, store, &commit->asked, now_ms, error);
}

/* Stored or refused, it is over. */
static bool store_one(struct commits *commits, struct sessions_store *store, struct commit *commit,
                      int64_t now_ms, struct error *error)
{
    const struct keeper_message *asked = &commit->asked;
    return store_both(commits, store, commit, now_ms, error) &&
           (!has_turn(commit) || turns_release(commits->turns, asked, error)) &&
           (!has_key(commit) || holds_release(commits->holds, store, asked, error));
}

static bool store_all(struct commits *commits, struct sessions_store *store, int64_t now_ms)
{
    struct error error;
    struct answers before = commits->answers ? *commits->answers : (struct answers){0};
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
    if (commits->answers)
        *commits->answers = before;
    return false;
}

static void close_one(struct commits *commits, const struct commit *commit)
{
    if (has_turn(commit))
        turns_end(commits->turns, &commit->asked);
    if (has_key(commit))
        holds_end(commits->holds, &commit->asked);
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
            keeper_refuse(&one->answer, KEEPER_UNAVAILABLE);
        }
        close_one(commits, one);
        if (one->peer)
            answer(context, one->peer, &one->answer);
        free_commit(one);
    }
}
