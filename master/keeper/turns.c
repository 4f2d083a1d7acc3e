#include "master/keeper/turns.h"

#include "master/keeper/claim.h"
#include "master/keeper/trouble.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096, SWEEP_AT_ONCE = 64 };

struct open_turn {
    struct uuid session, request;
    const void *peer;
    int64_t began_ms; /* of the wall clock */
    bool claimed;     /* in a store that others share */
    struct open_turn *next;
    struct str project, endpoint, token; /* whose it is */
    char texts[];
};

struct turns {
    struct sessions_store *store;
    struct open_turn *open[BUCKETS];
    size_t open_count;
    struct hot *hot;
};

struct turns *turns_new(struct sessions_store *store)
{
    struct turns *turns = xcalloc(1, sizeof *turns);
    turns->store = store;
    turns->hot = hot_new(HOT_BYTES_MAX);
    return turns;
}

void turns_use(struct turns *turns, struct sessions_store *store)
{
    turns->store = store;
}

/* --- claims --- */

static struct str claim_of(const struct uuid *session)
{
    return (struct str){(const char *)session->bytes, sizeof session->bytes};
}

static bool is_shared(const struct turns *turns)
{
    return turns->store && sessions_shared(turns->store);
}

/* Of the open turns of that peer; NULL = of all. The texts are the turns'. */
static struct str *claims_of(const struct turns *turns, const void *peer, size_t *count)
{
    struct str *claims = xcalloc(turns->open_count + 1, sizeof *claims);
    *count = 0;
    for (size_t i = 0; i < BUCKETS; i++)
        for (const struct open_turn *one = turns->open[i]; one; one = one->next)
            if (one->claimed && (!peer || one->peer == peer))
                claims[(*count)++] = claim_of(&one->session);
    return claims;
}

/* False, refused, while another host has the session, or nobody knows. */
static bool claim(struct turns *turns, const struct uuid *session, enum keeper_refusal *refusal)
{
    struct error error;
    bool got = false;
    if (!is_shared(turns))
        return true;
    *refusal = KEEPER_BUSY;
    if (sessions_claim(turns->store, claim_of(session), &got, &error))
        return got;
    trouble_say(&error);
    *refusal = KEEPER_UNAVAILABLE;
    return false;
}

void turns_renew(struct turns *turns)
{
    struct error error;
    size_t count;
    struct str *claims = claims_of(turns, NULL, &count);
    if (is_shared(turns) && !sessions_renew(turns->store, claims, count, &error))
        trouble_say(&error);
    free(claims);
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

/* Copies a text to where `*at` is, and moves that behind it. */
static struct str keep(char **at, struct str text)
{
    struct str kept = {*at, text.len};
    memcpy(*at, text.len ? text.at : "", text.len);
    *at += text.len;
    return kept;
}

static void open_turn(struct turns *turns, const void *peer, const struct uuid *session,
                      const struct keeper_message *said, int64_t began_ms, bool claimed)
{
    struct open_turn **place = find_open(turns, session);
    if (*place)
        return;
    size_t bytes = said->project.len + said->endpoint.len + said->token.len;
    struct open_turn *open = *place = xmalloc(sizeof *open + bytes);
    char *at = open->texts;
    *open = (struct open_turn){.session = *session,
                               .request = said->request,
                               .peer = peer,
                               .began_ms = began_ms,
                               .claimed = claimed};
    open->project = keep(&at, said->project);
    open->endpoint = keep(&at, said->endpoint);
    open->token = keep(&at, said->token);
    turns->open_count++;
}

static void close_turn(struct turns *turns, struct open_turn **place)
{
    struct open_turn *closed = *place;
    if (!closed)
        return;
    *place = closed->next;
    free(closed);
    turns->open_count--;
}

/* Its claim was this host's before, or is one of a session that is not stored yet. */
void turns_announce(struct turns *turns, const void *peer, const struct keeper_message *said)
{
    open_turn(turns, peer, &said->session, said, INT64_MIN, true);
}

/* NULL where it is another request's. */
static struct open_turn **find_own(struct turns *turns, const struct keeper_message *said)
{
    struct open_turn **place = find_open(turns, &said->session);
    bool own = *place && uuid_compare(&(*place)->request, &said->request) == 0;
    return own ? place : NULL;
}

bool turns_has(struct turns *turns, const struct uuid *session)
{
    return *find_open(turns, session) != NULL;
}

void turns_abort(struct turns *turns, const struct keeper_message *said)
{
    struct open_turn **place = find_own(turns, said);
    const struct str claim = claim_of(&said->session);
    if (!place)
        return;
    if ((*place)->claimed)
        claim_give_up(turns->store, &claim, 1);
    close_turn(turns, place);
}

void turns_forget_peer(struct turns *turns, const void *peer)
{
    size_t count;
    struct str *claims = claims_of(turns, peer, &count);
    claim_give_up(turns->store, claims, count);
    free(claims);
    for (size_t i = 0; i < BUCKETS; i++)
        for (struct open_turn **place = &turns->open[i]; *place;)
            if ((*place)->peer == peer)
                close_turn(turns, place);
            else
                place = &(*place)->next;
}

size_t turns_open(const struct turns *turns)
{
    return turns->open_count;
}

/* --- beginning --- */

static bool is_theirs(const struct session_row *row, const struct keeper_message *asked)
{
    return str_eq(row->project, asked->project) && str_eq(row->endpoint, asked->endpoint) &&
           str_eq(row->token, asked->token);
}

/* One that is not stored yet is known by its open turn. */
static enum keeper_refusal refusal_of_open(const struct open_turn *open,
                                           const struct keeper_message *asked)
{
    const struct session_row owner = {
        .project = open->project, .endpoint = open->endpoint, .token = open->token};
    return is_theirs(&owner, asked) ? KEEPER_BUSY : KEEPER_FORBIDDEN;
}

/* With its answer. */
static bool has_room(const struct keeper_message *asked, const struct session_row *row)
{
    return row->turns < SESSIONS_TURNS_MAX &&
           row->messages + asked->messages + 1 <= asked->max_messages &&
           row->tokens + asked->tokens <= asked->max_tokens;
}

/* KEEPER_REFUSALS = it may begin. */
static enum keeper_refusal refusal_of_known(const struct keeper_message *asked,
                                            const struct session_row *row, bool found,
                                            int64_t now_ms)
{
    if (!found || !is_theirs(row, asked))
        return KEEPER_FORBIDDEN;
    if (row->ended || row->expires_ms <= now_ms)
        return KEEPER_EXPIRED;
    return has_room(asked, row) ? KEEPER_REFUSALS : KEEPER_FULL;
}

static enum keeper_refusal begin_claimed(struct turns *turns, const void *peer,
                                         const struct keeper_message *asked, int64_t now_ms,
                                         struct keeper_message *answer)
{
    struct hot_session session;
    struct error error;
    bool found;
    if (!hot_load(turns->hot, turns->store, &asked->session, true, &session, &found, &error)) {
        trouble_say(&error);
        return KEEPER_UNAVAILABLE;
    }
    enum keeper_refusal refusal = refusal_of_known(asked, &session.row, found, now_ms);
    if (refusal != KEEPER_REFUSALS)
        return refusal;
    if (session.messages.len > KEEPER_BODY_MAX)
        return KEEPER_FULL;
    open_turn(turns, peer, &asked->session, asked, now_ms, is_shared(turns));
    answer->turn = session.row.turns;
    answer->messages = session.row.messages;
    answer->tokens = session.row.tokens;
    answer->body = session.messages;
    return refusal;
}

static void begin_known(struct turns *turns, const void *peer, const struct keeper_message *asked,
                        int64_t now_ms, struct keeper_message *answer)
{
    enum keeper_refusal refusal;
    const struct open_turn *open = *find_open(turns, &asked->session);
    if (open) {
        keeper_refuse(answer, refusal_of_open(open, asked));
    } else if (!claim(turns, &asked->session, &refusal)) {
        keeper_refuse(answer, refusal);
    } else if ((refusal = begin_claimed(turns, peer, asked, now_ms, answer)) != KEEPER_REFUSALS) {
        const struct str claim_taken = claim_of(&asked->session);
        keeper_refuse(answer, refusal);
        claim_give_up(turns->store, &claim_taken, 1);
    }
}

void turns_begin(struct turns *turns, const void *peer, const struct keeper_message *asked,
                 int64_t now_ms, struct keeper_message *answer)
{
    static const struct session_row empty;
    *answer = (struct keeper_message){.type = KEEPER_BEGUN,
                                      .ticket = asked->ticket,
                                      .session = asked->session,
                                      .request = asked->request};
    if (!uuid_is_nil(&asked->session)) {
        begin_known(turns, peer, asked, now_ms, answer);
    } else if (!has_room(asked, &empty)) {
        keeper_refuse(answer, KEEPER_FULL);
    } else {
        answer->session = uuid_v7(now_ms);
        open_turn(turns, peer, &answer->session, asked, now_ms, false);
    }
}

/* --- storing --- */

static bool is_repeated(const struct session_row *row, const struct keeper_message *asked)
{
    return row->turns == asked->turn + 1 && uuid_compare(&row->last_request, &asked->request) == 0;
}

bool turns_judge(struct turns *turns, const struct keeper_message *asked,
                 struct turn_judgement *judgement, struct error *error)
{
    struct hot_session session;
    const struct session_row *row = &session.row;
    bool found;
    *judgement = (struct turn_judgement){.verdict = TURN_REFUSED, .refusal = KEEPER_BUSY};
    if (!hot_load(turns->hot, turns->store, &asked->session, false, &session, &found, error))
        return false;
    judgement->row = *row;
    judgement->is_new = !found;
    if (found && is_repeated(row, asked))
        judgement->verdict = TURN_STORED;
    else if (found && row->ended)
        judgement->refusal = KEEPER_EXPIRED;
    else if (found && !is_theirs(row, asked))
        judgement->refusal = KEEPER_FORBIDDEN;
    else if (row->turns == asked->turn)
        judgement->verdict = TURN_FITS;
    else if (!found)
        judgement->refusal = KEEPER_FORBIDDEN; /* somebody has deleted it */
    return true;
}

bool turns_add(struct turns *turns, const struct keeper_message *asked,
               const struct turn_judgement *judgement, int64_t now_ms, bool *moved,
               struct error *error)
{
    const struct session_row *row = &judgement->row;
    struct session_row next = {
        .id = asked->session,
        .number = row->number,
        .last_request = asked->request,
        .project = asked->project,
        .endpoint = asked->endpoint,
        .token = asked->token,
        .turns = asked->turn + 1,
        .messages = row->messages + asked->messages,
        .tokens = row->tokens + asked->tokens,
        .created_ms = judgement->is_new ? now_ms : row->created_ms,
        .stored_ms = now_ms,
        .expires_ms = now_ms + asked->ttl_ms,
    };
    if (!sessions_add_turn(turns->store, &next, asked->body, moved, error))
        return false;
    if (*moved)
        hot_drop(turns->hot, &asked->session);
    else
        hot_add_turn(turns->hot, &next, asked->body);
    return true;
}

bool turns_release(struct turns *turns, const struct keeper_message *said, struct error *error)
{
    struct open_turn **place = find_own(turns, said);
    return !place || !(*place)->claimed || !is_shared(turns) ||
           sessions_release(turns->store, claim_of(&said->session), error);
}

void turns_settle(struct turns *turns, bool good)
{
    hot_settle(turns->hot, good);
}

void turns_end(struct turns *turns, const struct keeper_message *said)
{
    struct open_turn **place = find_own(turns, said);
    if (place)
        close_turn(turns, place);
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

bool turns_sweep(struct turns *turns, int64_t now_ms, bool *more, struct error *error)
{
    unsigned done = 0;
    int64_t before_ms = sweep_before(turns, now_ms);
    /* INT64_MIN: nobody knows when that one began. */
    bool good = before_ms == INT64_MIN ||
                sessions_sweep(turns->store, before_ms, SWEEP_AT_ONCE, &done, error);
    hot_drop_expired(turns->hot, before_ms);
    *more = done >= SWEEP_AT_ONCE;
    return good;
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
    hot_free(&turns->hot);
    free(turns);
}
