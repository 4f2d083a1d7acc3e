#include "master/keeper/turns.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096, SWEEP_AT_ONCE = 64, KEPT_BUFFER_BYTES = 256 * 1024 };

struct open_turn {
    struct uuid session;
    const void *peer;
    char *project, *endpoint, *token; /* whose it is */
    int64_t began_ms;                 /* of the wall clock */
    struct open_turn *next;
};

/* A copy of what was asked, until it is stored. */
struct commit {
    void *peer;
    struct keeper_message asked;
    char *texts; /* its texts, one behind the other */
    struct commit *next;
};

struct turns {
    struct sessions_store *store;
    struct open_turn *open[BUCKETS];
    size_t open_count;
    struct commit *commits, **last_commit;
    struct buf messages; /* of the session that was begun last */
};

struct turns *turns_new(struct sessions_store *store)
{
    struct turns *turns = xcalloc(1, sizeof *turns);
    turns->store = store;
    turns->last_commit = &turns->commits;
    return turns;
}

void turns_use(struct turns *turns, struct sessions_store *store)
{
    turns->store = store;
}

/* --- open turns --- */

static struct open_turn **bucket_of(struct turns *turns, const struct uuid *session)
{
    uint32_t word; /* the last bytes of an id are random */
    memcpy(&word, session->bytes + sizeof session->bytes - sizeof word, sizeof word);
    return &turns->open[word % BUCKETS];
}

static struct open_turn **find_open(struct turns *turns, const struct uuid *session)
{
    struct open_turn **place = bucket_of(turns, session);
    while (*place && uuid_compare(&(*place)->session, session) != 0)
        place = &(*place)->next;
    return place;
}

static char *text_of(struct str text)
{
    char *copy = xcalloc(1, text.len + 1);
    memcpy(copy, text.len ? text.at : "", text.len);
    return copy;
}

static void open_turn(struct turns *turns, const void *peer, const struct uuid *session,
                      const struct keeper_message *said, int64_t began_ms)
{
    struct open_turn **place = find_open(turns, session);
    if (*place)
        return;
    *place = xcalloc(1, sizeof **place);
    **place = (struct open_turn){.session = *session,
                                 .peer = peer,
                                 .began_ms = began_ms,
                                 .project = text_of(said->project),
                                 .endpoint = text_of(said->endpoint),
                                 .token = text_of(said->token)};
    turns->open_count++;
}

static void close_turn(struct turns *turns, struct open_turn **place)
{
    struct open_turn *closed = *place;
    if (!closed)
        return;
    *place = closed->next;
    free(closed->project);
    free(closed->endpoint);
    free(closed->token);
    free(closed);
    turns->open_count--;
}

void turns_announce(struct turns *turns, const void *peer, const struct keeper_message *said)
{
    open_turn(turns, peer, &said->session, said, INT64_MIN);
}

void turns_abort(struct turns *turns, const struct keeper_message *said)
{
    close_turn(turns, find_open(turns, &said->session));
}

void turns_forget_peer(struct turns *turns, const void *peer)
{
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct open_turn **place = &turns->open[i]; *place;)
            if ((*place)->peer == peer)
                close_turn(turns, place);
            else
                place = &(*place)->next;
    for (struct commit *one = turns->commits; one; one = one->next)
        if (one->peer == peer)
            one->peer = NULL; /* it is stored, and nobody hears of it */
}

size_t turns_open(const struct turns *turns)
{
    return turns->open_count;
}

/* --- beginning --- */

static void refuse(struct keeper_message *answer, enum keeper_refusal refusal)
{
    answer->type = KEEPER_REFUSED;
    answer->refusal = (uint8_t)refusal;
}

static bool is_theirs(const struct session_row *row, const struct keeper_message *asked)
{
    return str_eq(row->project, asked->project) && str_eq(row->endpoint, asked->endpoint) &&
           str_eq(row->token, asked->token);
}

/* One that is not stored yet is known by its open turn. */
static enum keeper_refusal refusal_of_open(const struct open_turn *open,
                                           const struct keeper_message *asked)
{
    const struct session_row owner = {.project = str_of(open->project),
                                      .endpoint = str_of(open->endpoint),
                                      .token = str_of(open->token)};
    return is_theirs(&owner, asked) ? KEEPER_BUSY : KEEPER_FORBIDDEN;
}

/* With its answer. */
static bool has_room(const struct keeper_message *asked, const struct session_row *row)
{
    return row->messages + asked->messages + 1 <= asked->max_messages &&
           row->tokens + asked->tokens <= asked->max_tokens;
}

static bool load(struct turns *turns, const struct uuid *id, struct session_row *row,
                 struct buf *messages, bool *found)
{
    struct error error;
    if (sessions_load(turns->store, id, row, messages, found, &error))
        return true;
    log_error("sessions: %s", error.message);
    return false;
}

static void begin_known(struct turns *turns, const void *peer, const struct keeper_message *asked,
                        int64_t now_ms, struct keeper_message *answer)
{
    struct session_row row = {0};
    bool found = false;
    struct open_turn *open = *find_open(turns, &asked->session);
    if (turns->messages.cap > KEPT_BUFFER_BYTES)
        buf_free(&turns->messages);
    buf_clear(&turns->messages);
    if (open) {
        refuse(answer, refusal_of_open(open, asked));
    } else if (!load(turns, &asked->session, &row, &turns->messages, &found)) {
        refuse(answer, KEEPER_UNAVAILABLE);
    } else if (!found || !is_theirs(&row, asked)) {
        refuse(answer, KEEPER_FORBIDDEN);
    } else if (row.ended || row.expires_ms <= now_ms) {
        refuse(answer, KEEPER_EXPIRED);
    } else if (!has_room(asked, &row)) {
        refuse(answer, KEEPER_FULL);
    } else {
        open_turn(turns, peer, &asked->session, asked, now_ms);
        answer->turn = row.turns;
        answer->messages = row.messages;
        answer->tokens = row.tokens;
        answer->body = buf_view(&turns->messages);
    }
}

void turns_begin(struct turns *turns, const void *peer, const struct keeper_message *asked,
                 int64_t now_ms, struct keeper_message *answer)
{
    static const struct session_row empty;
    *answer = (struct keeper_message){
        .type = KEEPER_BEGUN, .ticket = asked->ticket, .session = asked->session};
    if (!uuid_is_nil(&asked->session)) {
        begin_known(turns, peer, asked, now_ms, answer);
    } else if (!has_room(asked, &empty)) {
        refuse(answer, KEEPER_FULL);
    } else {
        answer->session = uuid_v7(now_ms);
        open_turn(turns, peer, &answer->session, asked, now_ms);
    }
}

/* --- committing --- */

static struct str keep(char **at, struct str text)
{
    struct str kept = {*at, text.len};
    memcpy(*at, text.len ? text.at : "", text.len);
    *at += text.len;
    return kept;
}

void turns_take(struct turns *turns, void *peer, const struct keeper_message *asked)
{
    struct commit *commit = xcalloc(1, sizeof *commit);
    size_t bytes = asked->project.len + asked->endpoint.len + asked->token.len + asked->body.len;
    commit->texts = xcalloc(1, bytes + 1);
    char *at = commit->texts;
    commit->peer = peer;
    commit->asked = *asked;
    commit->asked.project = keep(&at, asked->project);
    commit->asked.endpoint = keep(&at, asked->endpoint);
    commit->asked.token = keep(&at, asked->token);
    commit->asked.body = keep(&at, asked->body);
    *turns->last_commit = commit;
    turns->last_commit = &commit->next;
}

bool turns_has_commits(const struct turns *turns)
{
    return turns->commits != NULL;
}

/* Whether the turn fits behind what is stored. A commit that is said again, for the keeper that
 * took it died before it answered, is stored already. */
static enum keeper_type verdict_on(const struct keeper_message *asked,
                                   const struct session_row *row, bool found, bool *stored,
                                   enum keeper_refusal *refusal)
{
    *stored = found && row->turns == asked->turn + 1 &&
              uuid_compare(&row->last_request, &asked->request) == 0;
    if (*stored)
        return KEEPER_COMMITTED;
    *refusal = KEEPER_BUSY;
    if (found && row->ended)
        *refusal = KEEPER_EXPIRED;
    else if (found && !is_theirs(row, asked))
        *refusal = KEEPER_FORBIDDEN;
    else if (found ? row->turns == asked->turn : asked->turn == 0)
        return KEEPER_COMMITTED;
    else if (!found)
        *refusal = KEEPER_EXPIRED; /* somebody has deleted it */
    return KEEPER_REFUSED;
}

static size_t split(struct str body, struct str *messages, size_t most)
{
    size_t count = 0;
    while (count < most && keeper_next(&body, &messages[count]))
        count++;
    return count;
}

static bool add_turn(struct turns *turns, const struct keeper_message *asked,
                     struct session_row *row, bool found, int64_t now_ms, struct error *error)
{
    enum { MOST = 1024 };
    struct str *messages = xcalloc(MOST, sizeof *messages);
    size_t count = split(asked->body, messages, MOST);
    struct session_row next = {
        .id = asked->session,
        .last_request = asked->request,
        .project = asked->project,
        .endpoint = asked->endpoint,
        .token = asked->token,
        .ttl_ms = asked->ttl_ms,
        .turns = asked->turn + 1,
        .messages = row->messages + (int64_t)count,
        .tokens = row->tokens + asked->tokens,
        .created_ms = found ? row->created_ms : now_ms,
        .expires_ms = now_ms + asked->ttl_ms,
    };
    bool good = sessions_add_turn(turns->store, &next, messages, count, error);
    free(messages);
    return good;
}

static bool store_one(struct turns *turns, const struct keeper_message *asked, int64_t now_ms,
                      struct keeper_message *answer, struct error *error)
{
    struct session_row row = {0};
    bool found, stored;
    enum keeper_refusal refusal = KEEPER_BUSY;
    if (!sessions_load(turns->store, &asked->session, &row, NULL, &found, error))
        return false;
    enum keeper_type verdict = verdict_on(asked, &row, found, &stored, &refusal);
    *answer = (struct keeper_message){
        .type = KEEPER_COMMITTED, .ticket = asked->ticket, .session = asked->session};
    if (verdict == KEEPER_REFUSED)
        refuse(answer, refusal);
    else if (!stored)
        return add_turn(turns, asked, &row, found, now_ms, error);
    return true;
}

static void free_commit(struct commit *commit)
{
    free(commit->texts);
    free(commit);
}

static size_t count_commits(const struct turns *turns)
{
    size_t count = 0;
    for (const struct commit *one = turns->commits; one; one = one->next)
        count++;
    return count;
}

static bool store_all(struct turns *turns, int64_t now_ms, struct keeper_message *answers)
{
    struct error error;
    bool good = sessions_begin(turns->store, &error);
    size_t i = 0;
    for (struct commit *one = turns->commits; one && good; one = one->next)
        good = store_one(turns, &one->asked, now_ms, &answers[i++], &error);
    good = good && sessions_commit(turns->store, &error);
    if (good)
        return true;
    log_error("sessions: %s", error.message);
    sessions_undo(turns->store);
    return false;
}

/* Nothing is said before all of it is durable. */
void turns_store(struct turns *turns, int64_t now_ms, turns_answer_fn *answer, void *context)
{
    size_t count = count_commits(turns), i = 0;
    struct keeper_message *answers = xcalloc(count + 1, sizeof *answers);
    bool good = store_all(turns, now_ms, answers);
    struct commit *one = turns->commits, *next;
    turns->commits = NULL;
    turns->last_commit = &turns->commits;
    for (; one; one = next, i++) {
        next = one->next;
        if (!good) {
            answers[i] =
                (struct keeper_message){.ticket = one->asked.ticket, .session = one->asked.session};
            refuse(&answers[i], KEEPER_UNAVAILABLE);
        }
        close_turn(turns, find_open(turns, &one->asked.session));
        if (one->peer)
            answer(context, one->peer, &answers[i]);
        free_commit(one);
    }
    free(answers);
}

/* --- the sweep --- */

/* What had expired before the oldest open turn began can't be a session that has one. */
static int64_t sweep_before(const struct turns *turns, int64_t now_ms)
{
    int64_t before_ms = now_ms;
    for (size_t i = 0; i < BUCKETS && turns->open_count > 0; i++)
        for (const struct open_turn *one = turns->open[i]; one; one = one->next)
            before_ms = one->began_ms < before_ms ? one->began_ms : before_ms;
    return before_ms;
}

bool turns_sweep(struct turns *turns, int64_t now_ms)
{
    struct error error;
    unsigned done = 0;
    int64_t before_ms = sweep_before(turns, now_ms);
    if (before_ms == INT64_MIN)
        return false; /* nobody knows when that one began */
    bool good = sessions_begin(turns->store, &error) &&
                sessions_sweep(turns->store, before_ms, SWEEP_AT_ONCE, &done, &error) &&
                sessions_commit(turns->store, &error);
    if (good)
        return done >= SWEEP_AT_ONCE;
    log_error("sessions: %s", error.message);
    sessions_undo(turns->store);
    return false;
}

void turns_free(struct turns **place)
{
    struct turns *turns = *place;
    *place = NULL;
    if (!turns)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        while (turns->open[i])
            close_turn(turns, &turns->open[i]);
    while (turns->commits) {
        struct commit *next = turns->commits->next;
        free_commit(turns->commits);
        turns->commits = next;
    }
    buf_free(&turns->messages);
    free(turns);
}
