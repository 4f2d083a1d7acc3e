/* Turns of conversations, on a real store. */
#include "test/unit/keeper_world.h"

static void one_after_the_other(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    assert_begun(&first, 0, "");
    assert_int_equal(turns_open(world->turns), 1);
    answer = commit(world, &peer_one, &first, 0, "\"a\"");
    assert_int_equal(answer.type, KEEPER_COMMITTED);
    assert_int_equal(turns_open(world->turns), 0);
    struct keeper_message second = begin(world, &peer_two, &first.session);
    assert_begun(&second, 1, "\"a\",\"yes\"");
    assert_int_equal(second.messages, 2);
    assert_int_equal(second.tokens, 10);
    answer = commit(world, &peer_two, &second, 0, "\"b\"");
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
    (void)commit(world, &peer_one, &first, 0, "\"a\"");
    struct keeper_message second = begin(world, &peer_two, &first.session);
    struct keeper_message abort = {.type = KEEPER_ABORT, .session = first.session};
    turns_abort(world->turns, &abort); /* of nobody */
    assert_int_equal(turns_open(world->turns), 1);
    abort.request = second.request;
    turns_abort(world->turns, &abort);
    struct keeper_message third = begin(world, &peer_one, &first.session);
    assert_begun(&third, 1, "\"a\",\"yes\"");
    turns_forget_peer(world->turns, &peer_one);
    assert_int_equal(turns_open(world->turns), 0);
    third = begin(world, &peer_one, &first.session);
    assert_begun(&third, 1, "\"a\",\"yes\"");
    answer = commit(world, &peer_one, &third, 0, "\"c\"");
    assert_int_equal(answer.type, KEEPER_COMMITTED);
    answer = commit(world, &peer_two, &second, 0, "\"b\"");
    assert_refused(&answer, KEEPER_BUSY);
}

/* The keeper that took it died before it answered. */
static void said_again(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    (void)commit(world, &peer_one, &first, 0, "\"a\"");
    close_world(world);
    open_world(world);
    answer = commit(world, &peer_one, &first, 0, "\"a\"");
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
    (void)commit(world, &peer_one, &first, 0, "\"a\"");
    const struct keeper_message said = asking(KEEPER_ANNOUNCE, &first.session);
    turns_announce(world->turns, &peer_one, &said);
    answer = begin(world, &peer_two, &first.session);
    assert_refused(&answer, KEEPER_BUSY);
    assert_false(sweep(world, start_ms + 10 * minute_ms));
    turns_forget_peer(world->turns, &peer_one);
    answer = begin(world, &peer_two, &first.session);
    assert_int_equal(answer.type, KEEPER_BEGUN);
}

static void whose_it_is(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    struct uuid none = {{1}};
    (void)commit(world, &peer_one, &first, 0, "\"a\"");
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
    (void)commit(world, &peer_one, &answer, 0, "\"a\""); /* two messages, ten tokens */
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
        committed = commit(world, &peer_one, &answer, 0, "\"a\"");
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
    (void)commit(world, &peer_one, &first, 0, "\"a\"");
    answer = begin_at(world, &peer_one, &asked, start_ms + minute_ms - 1);
    assert_int_equal(answer.type, KEEPER_BEGUN);
    /* What has a turn open is not swept, for that turn may end well. */
    assert_false(sweep(world, start_ms + 5 * minute_ms));
    take(world, &peer_one, &answer, 0, "\"b\"");
    store_at(world, start_ms + 5 * minute_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
    answer = begin_at(world, &peer_one, &asked, start_ms + 6 * minute_ms);
    assert_refused(&answer, KEEPER_EXPIRED);
    (void)sweep(world, start_ms + 6 * minute_ms);
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
        take(world, i == 1 ? &peer_two : &peer_one, &begun[i], 0, "\"a\"");
    }
    turns_forget_peer(world->turns, &peer_two);
    commits_forget_peer(world->commits, &peer_two);
    assert_true(commits_any(world->commits));
    store_at(world, start_ms);
    assert_false(commits_any(world->commits));
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
    take(world, &peer_one, &first, 0, "\"a\"");
    take(world, &peer_one, &first, 0, "\"a\"");
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
        TEST(turns_have_an_end),
        TEST(expiry),
        TEST(several_in_one_transaction),
        TEST(twice_in_one_transaction),
        TEST(twice_in_one_transaction),
    };
    return cmocka_run_group_tests_name("turns", tests, NULL, NULL);
}
