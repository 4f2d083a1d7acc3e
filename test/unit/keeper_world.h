/* For tests of the keeper's parts: all of them, on a real store. */
#pragma once

#include "master/keeper/commits.h"
#include "test/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const int64_t start_ms = INT64_C(1800000000000), minute_ms = 60000;
static int peer_one, peer_two;

struct world {
    char folder[SCRATCH_PATH], path[SCRATCH_PATH];
    struct config config;
    struct sessions_store *store;
    struct turns *turns;
    struct holds *holds;
    struct answers answers_kept;
    struct commits *commits;
    int64_t deadline_ms;              /* of what is to be stored for a key */
    struct uuid holder;               /* the request that holds keys */
    struct keeper_message answers[8]; /* of commits; texts are not to be read */
    void *peers[8];
    size_t answers_count;
};

static inline void open_world(struct world *world)
{
    struct error error;
    world->config = (struct config){.sessions_path = world->path, .store.driver = "sqlite"};
    if (!sessions_open(&world->config, "", &world->store, &error))
        fail_msg("%s", error.message);
    world->turns = turns_new(world->store);
    world->holds = holds_new();
    world->answers_kept = (struct answers){.most_bytes = 1 << 20};
    world->commits = commits_new(world->turns, world->holds, &world->answers_kept);
}

static inline int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    world->holder.bytes[0] = 1;
    assert_non_null(scratch_make(world->folder));
    scratch_path(world->folder, "sessions.db", world->path);
    open_world(world);
    *state = world;
    return 0;
}

static inline void close_world(struct world *world)
{
    commits_free(&world->commits);
    holds_free(&world->holds);
    turns_free(&world->turns);
    sessions_close(&world->store);
}

static inline int teardown(void **state)
{
    struct world *world = *state;
    close_world(world);
    scratch_remove(world->folder);
    free(world);
    return 0;
}

static inline struct keeper_message asking(enum keeper_type type, const struct uuid *session)
{
    struct keeper_message message = {
        .type = (uint8_t)type,
        .ticket = 7,
        .ttl_ms = minute_ms,
        .max_messages = 6,
        .max_tokens = 100,
        .messages = 1,
        .tokens = 10,
        .project = STR("shop"),
        .endpoint = STR("chat"),
        .token = STR("till"),
    };
    if (session)
        message.session = *session;
    return message;
}

/* Each of another request. */
static inline struct keeper_message begin_at(struct world *world, void *peer,
                                             const struct keeper_message *asked, int64_t now_ms)
{
    static uint8_t requests;
    struct keeper_message of_request = *asked, answer;
    of_request.request.bytes[0] = ++requests;
    turns_begin(world->turns, peer, &of_request, now_ms, &answer);
    assert_int_equal(answer.ticket, 7);
    return answer;
}

static inline struct keeper_message begin(struct world *world, void *peer,
                                          const struct uuid *session)
{
    const struct keeper_message asked = asking(KEEPER_BEGIN, session);
    return begin_at(world, peer, &asked, start_ms);
}

static inline void on_answer(void *context, void *peer, const struct keeper_message *answer)
{
    struct world *world = context;
    world->peers[world->answers_count] = peer;
    world->answers[world->answers_count++] = *answer;
}

/* `other` is not 0 for another request than the one that has begun it. */
static inline void take(struct world *world, void *peer, const struct keeper_message *begun,
                        uint8_t other, const char *said)
{
    struct keeper_message asked = asking(KEEPER_COMMIT, &begun->session);
    struct buf body = {0};
    buf_printf(&body, "%s,\"yes\"", said);
    asked.turn = begun->turn;
    asked.request = begun->request;
    asked.request.bytes[1] = other;
    asked.body = buf_view(&body);
    asked.messages = 2;
    commits_take(world->commits, peer, &asked);
    buf_free(&body); /* it was copied */
}

static inline void store_at(struct world *world, int64_t now_ms)
{
    world->answers_count = 0;
    commits_store(world->commits, world->store, now_ms, on_answer, world);
}

static inline struct keeper_message commit(struct world *world, void *peer,
                                           const struct keeper_message *begun, uint8_t other,
                                           const char *said)
{
    take(world, peer, begun, other, said);
    store_at(world, start_ms);
    assert_int_equal(world->answers_count, 1);
    assert_ptr_equal(world->peers[0], peer);
    return world->answers[0];
}

static inline void assert_refused(const struct keeper_message *answer, enum keeper_refusal refusal)
{
    assert_int_equal(answer->type, KEEPER_REFUSED);
    assert_int_equal(answer->refusal, refusal);
}

static inline void assert_begun(const struct keeper_message *answer, int64_t turn,
                                const char *messages)
{
    assert_int_equal(answer->type, KEEPER_BEGUN);
    assert_int_equal(answer->turn, turn);
    assert_int_equal(answer->body.len, strlen(messages));
    assert_memory_equal(answer->body.at, messages, strlen(messages));
}

static inline bool sweep(struct world *world, int64_t now_ms)
{
    struct error error;
    bool more = false;
    if (!sessions_begin(world->store, &error) ||
        !turns_sweep(world->turns, now_ms, &more, &error) || !sessions_commit(world->store, &error))
        fail_msg("%s", error.message);
    return more;
}
