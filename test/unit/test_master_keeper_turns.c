/* Turns of conversations, on a real store. */
#include "master/keeper/turns.h"

#include "test/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const int64_t start_ms = INT64_C(1800000000000), minute_ms = 60000;
static int peer_one, peer_two;

struct world {
    char folder[SCRATCH_PATH], path[SCRATCH_PATH];
    struct sessions_store *store;
    struct turns *turns;
    struct keeper_message answers[8]; /* of commits */
    void *peers[8];
    size_t answers_count;
};

static void open_world(struct world *world)
{
    const struct config config = {.store.driver = "sqlite", .sessions_path = world->path};
    struct error error;
    if (!sessions_open(&config, "", &world->store, &error))
        fail_msg("%s", error.message);
    world->turns = turns_new(world->store);
}

static int setup(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(scratch_make(world->folder));
    scratch_path(world->folder, "sessions.db", world->path);
    open_world(world);
    *state = world;
    return 0;
}

static void close_world(struct world *world)
{
    turns_free(&world->turns);
    sessions_close(&world->store);
}

static int teardown(void **state)
{
    struct world *world = *state;
    close_world(world);
    scratch_remove(world->folder);
    free(world);
    return 0;
}

static struct keeper_message asking(enum keeper_type type, const struct uuid *session)
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

static struct keeper_message begin_at(struct world *world, void *peer,
                                      const struct keeper_message *asked, int64_t now_ms)
{
    struct keeper_message answer;
    turns_begin(world->turns, peer, asked, now_ms, &answer);
    assert_int_equal(answer.ticket, 7);
    return answer;
}

static struct keeper_message begin(struct world *world, void *peer, const struct uuid *session)
{
    const struct keeper_message asked = asking(KEEPER_BEGIN, session);
    return begin_at(world, peer, &asked, start_ms);
}

static void on_answer(void *context, void *peer, const struct keeper_message *answer)
{
    struct world *world = context;
    world->peers[world->answers_count] = peer;
    world->answers[world->answers_count++] = *answer;
}

static void take(struct world *world, void *peer, const struct keeper_message *begun,
                 uint8_t request, const char *said)
{
    struct keeper_message asked = asking(KEEPER_COMMIT, &begun->session);
    struct buf body = {0};
    buf_printf(&body, "%s,\"yes\"", said);
    asked.messages = 2;
    asked.turn = begun->turn;
    asked.request.bytes[0] = request;
    asked.body = buf_view(&body);
    turns_take(world->turns, peer, &asked);
    buf_free(&body); /* it was copied */
}

static void store_at(struct world *world, int64_t now_ms)
{
    world->answers_count = 0;
    turns_store(world->turns, now_ms, on_answer, world);
}

static struct keeper_message commit(struct world *world, void *peer,
                                    const struct keeper_message *begun, uint8_t request,
                                    const char *said)
{
    take(world, peer, begun, request, said);
    store_at(world, start_ms);
    assert_int_equal(world->answers_count, 1);
    assert_ptr_equal(world->peers[0], peer);
    return world->answers[0];
}

static void assert_refused(const struct keeper_message *answer, enum keeper_refusal refusal)
{
    assert_int_equal(answer->type, KEEPER_REFUSED);
    assert_int_equal(answer->refusal, refusal);
}

static void assert_begun(const struct keeper_message *answer, int64_t turn, const char *messages)
{
    assert_int_equal(answer->type, KEEPER_BEGUN);
    assert_int_equal(answer->turn, turn);
    assert_int_equal(answer->body.len, strlen(messages));
    assert_memory_equal(answer->body.at, messages, strlen(messages));
}

static void one_after_the_other(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    assert_begun(&first, 0, "");
    assert_int_equal(turns_open(world->turns), 1);
    answer = commit(world, &peer_one, &first, 1, "\"a\"");
    assert_int_equal(answer.type, KEEPER_COMMITTED);
    assert_int_equal(turns_open(world->turns), 0);
    struct keeper_message second = begin(world, &peer_two, &first.session);
    assert_begun(&second, 1, "\"a\",\"yes\"");
    assert_int_equal(second.messages, 2);
    assert_int_equal(second.tokens, 10);
    answer = commit(world, &peer_two, &second, 2, "\"b\"");
    assert_int_equal(answer.type, KEEPER_COMMITTED);
    close_world(world);
    open_world(world);
    struct keeper_message third = begin(world, &peer_one, &first.session);
    assert_begun(&third, 2, "\"a\",\"yes\",\"b\",\"yes\"");
}

static void one_at_a_time(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    answer = begin(world, &peer_two, &first.session);
    assert_refused(&answer, KEEPER_BUSY);
    struct keeper_message asked = asking(KEEPER_BEGIN, &first.session);
    asked.token = STR("other");
    answer = begin_at(world, &peer_two, &asked, start_ms);
    assert_refused(&answer, KEEPER_FORBIDDEN);
    (void)commit(world, &peer_one, &first, 1, "\"a\"");
    struct keeper_message second = begin(world, &peer_two, &first.session);
    const struct keeper_message abort = {.type = KEEPER_ABORT, .session = first.session};
    turns_abort(world->turns, &abort);
    struct keeper_message third = begin(world, &peer_one, &first.session);
    assert_begun(&third, 1, "\"a\",\"yes\"");
    turns_forget_peer(world->turns, &peer_one);
    assert_int_equal(turns_open(world->turns), 0);
    third = begin(world, &peer_one, &first.session);
    assert_begun(&third, 1, "\"a\",\"yes\"");
    answer = commit(world, &peer_one, &third, 3, "\"c\"");
    assert_int_equal(answer.type, KEEPER_COMMITTED);
    answer = commit(world, &peer_two, &second, 2, "\"b\"");
    assert_refused(&answer, KEEPER_BUSY);
}

/* The keeper that took it died before it answered. */
static void said_again(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    (void)commit(world, &peer_one, &first, 1, "\"a\"");
    close_world(world);
    open_world(world);
    answer = commit(world, &peer_one, &first, 1, "\"a\"");
    assert_int_equal(answer.type, KEEPER_COMMITTED);
    answer = commit(world, &peer_one, &first, 2, "\"b\"");
    assert_refused(&answer, KEEPER_BUSY);
    struct keeper_message second = begin(world, &peer_one, &first.session);
    assert_begun(&second, 1, "\"a\",\"yes\"");
}

static void announced(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    (void)commit(world, &peer_one, &first, 1, "\"a\"");
    const struct keeper_message said = asking(KEEPER_ANNOUNCE, &first.session);
    turns_announce(world->turns, &peer_one, &said);
    answer = begin(world, &peer_two, &first.session);
    assert_refused(&answer, KEEPER_BUSY);
    assert_false(turns_sweep(world->turns, start_ms + 10 * minute_ms));
    turns_forget_peer(world->turns, &peer_one);
    answer = begin(world, &peer_two, &first.session);
    assert_int_equal(answer.type, KEEPER_BEGUN);
}

static void whose_it_is(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    struct uuid none = {{1}};
    (void)commit(world, &peer_one, &first, 1, "\"a\"");
    struct keeper_message others[3];
    for (int i = 0; i < 3; i++)
        others[i] = asking(KEEPER_BEGIN, &first.session);
    others[0].project = others[1].endpoint = others[2].token = STR("another");
    for (int i = 0; i < 3; i++) {
        answer = begin_at(world, &peer_one, &others[i], start_ms);
        assert_refused(&answer, KEEPER_FORBIDDEN);
    }
    answer = begin(world, &peer_one, &none);
    assert_refused(&answer, KEEPER_FORBIDDEN);
}

static void caps(void **state)
{
    struct world *world = *state;
    struct keeper_message asked = asking(KEEPER_BEGIN, NULL), answer;
    asked.messages = 6;
    answer = begin_at(world, &peer_one, &asked, start_ms);
    assert_refused(&answer, KEEPER_FULL);
    asked.messages = 5;
    asked.tokens = 101;
    answer = begin_at(world, &peer_one, &asked, start_ms);
    assert_refused(&answer, KEEPER_FULL);
    asked.tokens = 100;
    answer = begin_at(world, &peer_one, &asked, start_ms);
    assert_int_equal(answer.type, KEEPER_BEGUN);
    (void)commit(world, &peer_one, &answer, 1, "\"a\""); /* two messages, ten tokens */
    struct keeper_message next = asking(KEEPER_BEGIN, &answer.session);
    next.messages = 3;
    next.tokens = 91;
    struct keeper_message second = begin_at(world, &peer_one, &next, start_ms);
    assert_refused(&second, KEEPER_FULL);
    next.tokens = 90;
    next.messages = 4;
    second = begin_at(world, &peer_one, &next, start_ms);
    assert_refused(&second, KEEPER_FULL);
    next.messages = 3;
    second = begin_at(world, &peer_one, &next, start_ms);
    assert_int_equal(second.type, KEEPER_BEGUN);
}

static void turns_have_an_end(void **state)
{
    struct world *world = *state;
    struct keeper_message asked = asking(KEEPER_BEGIN, NULL), answer, committed;
    asked.max_messages = asked.max_tokens = 1000000;
    for (int i = 0; i < SESSIONS_TURNS_MAX; i++) {
        answer = begin_at(world, &peer_one, &asked, start_ms);
        assert_int_equal(answer.type, KEEPER_BEGUN);
        committed = commit(world, &peer_one, &answer, 1, "\"a\"");
        assert_int_equal(committed.type, KEEPER_COMMITTED);
        asked.session = answer.session;
    }
    answer = begin_at(world, &peer_one, &asked, start_ms);
    assert_refused(&answer, KEEPER_FULL);
}

static void expiry(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    const struct keeper_message asked = asking(KEEPER_BEGIN, &first.session);
    (void)commit(world, &peer_one, &first, 1, "\"a\"");
    answer = begin_at(world, &peer_one, &asked, start_ms + minute_ms - 1);
    assert_int_equal(answer.type, KEEPER_BEGUN);
    /* What has a turn open is not swept, for that turn may end well. */
    assert_false(turns_sweep(world->turns, start_ms + 5 * minute_ms));
    take(world, &peer_one, &answer, 2, "\"b\"");
    store_at(world, start_ms + 5 * minute_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
    answer = begin_at(world, &peer_one, &asked, start_ms + 6 * minute_ms);
    assert_refused(&answer, KEEPER_EXPIRED);
    (void)turns_sweep(world->turns, start_ms + 6 * minute_ms);
    answer = begin_at(world, &peer_one, &asked, start_ms + 6 * minute_ms);
    assert_refused(&answer, KEEPER_EXPIRED);
    assert_int_equal(answer.body.len, 0);
    struct keeper_message other = asked;
    other.token = STR("another");
    answer = begin_at(world, &peer_one, &other, start_ms + 6 * minute_ms);
    assert_refused(&answer, KEEPER_FORBIDDEN);
}

static void several_in_one_transaction(void **state)
{
    struct world *world = *state;
    struct keeper_message begun[3];
    for (uint8_t i = 0; i < 3; i++) {
        begun[i] = begin(world, i == 1 ? &peer_two : &peer_one, NULL);
        take(world, i == 1 ? &peer_two : &peer_one, &begun[i], i, "\"a\"");
    }
    turns_forget_peer(world->turns, &peer_two);
    assert_true(turns_has_commits(world->turns));
    store_at(world, start_ms);
    assert_false(turns_has_commits(world->turns));
    assert_int_equal(world->answers_count, 2); /* the one that is gone hears nothing, */
    for (int i = 0; i < 3; i++) {              /* and its turn is stored all the same */
        struct keeper_message answer = begin(world, &peer_one, &begun[i].session);
        assert_begun(&answer, 1, "\"a\",\"yes\"");
    }
}

/* The keeper that took it said it twice, or two of its workers did. */
static void twice_in_one_transaction(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL);
    take(world, &peer_one, &first, 1, "\"a\"");
    take(world, &peer_one, &first, 1, "\"a\"");
    take(world, &peer_two, &first, 2, "\"b\"");
    store_at(world, start_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
    assert_int_equal(world->answers[1].type, KEEPER_COMMITTED);
    assert_refused(&world->answers[2], KEEPER_BUSY);
    struct keeper_message second = begin(world, &peer_one, &first.session);
    assert_begun(&second, 1, "\"a\",\"yes\"");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_after_the_other),
        TEST(one_at_a_time),
        TEST(said_again),
        TEST(announced),
        TEST(whose_it_is),
        TEST(caps),
        TEST(turns_have_an_end),
        TEST(expiry),
        TEST(several_in_one_transaction),
        TEST(twice_in_one_transaction),
    };
    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
