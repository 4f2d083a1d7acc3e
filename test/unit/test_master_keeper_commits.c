/* Keys that are held, answers that are kept, and what is stored together. */
#include "test/unit/keeper_world.h"

static const int64_t day_ms = ANSWERS_KEPT_MS;

/* A key is its first byte, what was asked likewise. */
static struct keeper_message keyed(enum keeper_type type, char key, char content)
{
    static char texts[8][2][KEEPER_HASH_BYTES];
    static unsigned next;
    char(*text)[KEEPER_HASH_BYTES] = texts[next++ % 8];
    struct keeper_message message = asking(type, NULL);
    memset(text, 0, sizeof texts[0]);
    text[0][0] = key;
    text[1][0] = content;
    message.key = (struct str){text[0], KEEPER_HASH_BYTES};
    message.content = (struct str){text[1], KEEPER_HASH_BYTES};
    return message;
}

static struct keeper_message hold_at(struct world *world, void *peer, char key, char content,
                                     int64_t now_ms)
{
    struct keeper_message asked = keyed(KEEPER_HOLD, key, content), answer;
    asked.request = world->holder;
    holds_begin(world->holds, world->store, peer, &asked, now_ms, &answer);
    assert_int_equal(answer.ticket, 7);
    return answer;
}

static void assert_held(struct world *world, void *peer, char key, char content)
{
    struct keeper_message answer = hold_at(world, peer, key, content, start_ms);
    assert_int_equal(answer.type, KEEPER_HELD);
    assert_int_equal(answer.key.len, KEEPER_HASH_BYTES);
}

static void assert_kept(const struct keeper_message *answer, const char *text)
{
    assert_int_equal(answer->type, KEEPER_KEPT);
    assert_int_equal(answer->answer.len, strlen(text));
    assert_memory_equal(answer->answer.at, text, strlen(text));
}

/* COMMIT of a key's answer, and of a turn of `begun` (NULL = none): of its request with 1, of
 * another one else. */
static void keep_at(struct world *world, char key, char content, uint8_t request, const char *text,
                    const struct keeper_message *begun, int64_t now_ms)
{
    struct keeper_message asked = keyed(KEEPER_COMMIT, key, content);
    asked.request.bytes[0] = request;
    asked.answer = str_of(text);
    asked.deadline_ms = world->deadline_ms;
    if (begun) {
        asked.session = begun->session;
        asked.request = begun->request;
        asked.request.bytes[1] = (uint8_t)(request - 1);
        asked.turn = begun->turn;
        asked.body = STR("\"q\",\"a\"");
        asked.messages = 2;
    }
    commits_take(world->commits, &peer_one, &asked);
    store_at(world, now_ms);
    assert_int_equal(world->answers_count, 1);
}

static void keep(struct world *world, char key, char content, uint8_t request, const char *text)
{
    keep_at(world, key, content, request, text, NULL, start_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
}

static void held_then_kept(void **state)
{
    struct world *world = *state;
    struct keeper_message answer;
    assert_held(world, &peer_one, 'k', 'c');
    answer = hold_at(world, &peer_two, 'k', 'c', start_ms);
    assert_refused(&answer, KEEPER_IN_PROGRESS);
    answer = hold_at(world, &peer_one, 'k', 'd', start_ms);
    assert_refused(&answer, KEEPER_MISMATCH);
    assert_held(world, &peer_one, 'l', 'c');
    keep(world, 'k', 'c', 1, "yes");
    assert_int_equal(holds_count(world->holds), 1);
    answer = hold_at(world, &peer_two, 'k', 'c', start_ms);
    assert_kept(&answer, "yes");
    answer = hold_at(world, &peer_two, 'k', 'd', start_ms);
    assert_refused(&answer, KEEPER_MISMATCH);
    assert_int_equal(holds_count(world->holds), 1);
    close_world(world);
    open_world(world);
    answer = hold_at(world, &peer_two, 'k', 'c', start_ms);
    assert_kept(&answer, "yes");
}

static void abort_key(struct world *world, char key, uint8_t request)
{
    struct keeper_message said = keyed(KEEPER_ABORT, key, 'c');
    said.request.bytes[0] = request;
    holds_abort(world->holds, world->store, &said);
}

static void freed(void **state)
{
    struct world *world = *state;
    struct keeper_message said = keyed(KEEPER_ANNOUNCE, 'm', 'c'), answer;
    assert_held(world, &peer_one, 'k', 'c');
    assert_held(world, &peer_one, 'l', 'c');
    holds_announce(world->holds, &peer_one, &said);
    answer = hold_at(world, &peer_two, 'm', 'c', start_ms);
    assert_refused(&answer, KEEPER_IN_PROGRESS);
    abort_key(world, 'k', 9);
    assert_int_equal(holds_count(world->holds), 3); /* that is another's */
    abort_key(world, 'k', 1);
    assert_held(world, &peer_two, 'k', 'd');
    holds_forget_peer(world->holds, world->store, &peer_one);
    assert_int_equal(holds_count(world->holds), 1);
    assert_held(world, &peer_two, 'l', 'c');
    assert_held(world, &peer_two, 'm', 'c');
    abort_key(world, 'x', 0);
    assert_int_equal(holds_count(world->holds), 3);
}

/* A keeper that died before it answered is asked by its peers again; another request that got hold
 * of the key meanwhile gets the answer that was first. */
static void said_again(void **state)
{
    struct world *world = *state;
    keep(world, 'k', 'c', 1, "first");
    keep(world, 'k', 'c', 1, "first");
    keep_at(world, 'k', 'c', 2, "second", NULL, start_ms);
    assert_int_equal(world->answers[0].type, KEEPER_KEPT);
    struct keeper_message answer = hold_at(world, &peer_two, 'k', 'c', start_ms);
    assert_kept(&answer, "first");
}

static void for_a_day(void **state)
{
    struct world *world = *state;
    struct keeper_message answer;
    keep(world, 'k', 'c', 1, "first");
    answer = hold_at(world, &peer_two, 'k', 'c', start_ms + day_ms - 1);
    assert_kept(&answer, "first");
    answer = hold_at(world, &peer_two, 'k', 'd', start_ms + day_ms);
    assert_int_equal(answer.type, KEEPER_HELD);
    keep_at(world, 'k', 'd', 1, "second", NULL, start_ms + day_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
    answer = hold_at(world, &peer_two, 'k', 'd', start_ms + day_ms);
    assert_kept(&answer, "second");
}

static bool tidy(struct world *world, int64_t now_ms)
{
    struct error error;
    bool more;
    if (!sessions_begin(world->store, &error) ||
        !answers_tidy(&world->answers_kept, world->store, now_ms, &more, &error) ||
        !sessions_commit(world->store, &error))
        fail_msg("%s", error.message);
    return more;
}

static void swept(void **state)
{
    struct world *world = *state;
    for (char i = 0; i < 70; i++)
        keep(world, i, 'c', 1, "0123456789");
    assert_int_equal(world->answers_kept.bytes, 700);
    assert_false(tidy(world, start_ms + day_ms - 1));
    assert_int_equal(world->answers_kept.bytes, 700);
    assert_true(tidy(world, start_ms + day_ms));
    assert_false(tidy(world, start_ms + day_ms));
    assert_int_equal(world->answers_kept.bytes, 0);
}

/* The oldest make room; one that is larger than all of it is not kept at their cost. */
static void bounded(void **state)
{
    struct world *world = *state;
    struct keeper_message answer;
    struct buf large = {0};
    world->answers_kept.most_bytes = 35;
    for (char i = 0; i < 4; i++)
        keep_at(world, i, 'c', 1, "0123456789", NULL, start_ms + i);
    assert_int_equal(world->answers_kept.bytes, 30);
    answer = hold_at(world, &peer_one, 0, 'c', start_ms);
    assert_int_equal(answer.type, KEEPER_HELD);
    answer = hold_at(world, &peer_one, 1, 'c', start_ms);
    assert_kept(&answer, "0123456789");
    buf_printf(&large, "%050d", 7);
    keep(world, 'k', 'c', 1, buf_cstr(&large));
    assert_int_equal(world->answers_kept.bytes, 30);
    answer = hold_at(world, &peer_one, 'k', 'c', start_ms);
    assert_int_equal(answer.type, KEEPER_HELD);
    answer = hold_at(world, &peer_one, 3, 'c', start_ms);
    assert_kept(&answer, "0123456789");
    buf_free(&large);
    close_world(world); /* a new keeper counts what is there */
    open_world(world);
    world->answers_kept.most_bytes = 60;
    keep(world, 'l', 'c', 1, "0123456789");
    assert_int_equal(world->answers_kept.bytes, 40);
}

/* A reload has lowered it: nobody waits until all of that is gone. */
static void lowered(void **state)
{
    struct world *world = *state;
    for (int i = 0; i < 200; i++)
        keep(world, (char)i, 'c', 1, "0123456789");
    world->answers_kept.most_bytes = 500;
    keep(world, (char)200, 'c', 1, "0123456789");
    assert_int_equal(world->answers_kept.bytes, 2010 - 640);
    assert_true(tidy(world, start_ms));
    assert_false(tidy(world, start_ms));
    assert_int_equal(world->answers_kept.bytes, 500);
}

/* The worker has given it up: its client hears that it is not stored, so it must not be. One that
 * was stored in time is. */
static void too_late(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    world->deadline_ms = 1; /* since the machine was started */
    keep_at(world, 'k', 'c', 1, "first", &first, start_ms);
    assert_refused(&world->answers[0], KEEPER_UNAVAILABLE);
    assert_int_equal(turns_open(world->turns), 0);
    answer = hold_at(world, &peer_one, 'k', 'c', start_ms);
    assert_int_equal(answer.type, KEEPER_HELD);
    world->deadline_ms = 0;
    keep_at(world, 'k', 'c', 1, "first", &first, start_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
    world->deadline_ms = 1;
    keep_at(world, 'k', 'c', 1, "first", &first, start_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
}

/* A turn and its key's answer: both or neither. */
static void with_a_turn(void **state)
{
    struct world *world = *state;
    struct keeper_message first = begin(world, &peer_one, NULL), answer;
    world->holder = first.request;
    assert_held(world, &peer_one, 'k', 'c');
    keep_at(world, 'k', 'c', 1, "first", &first, start_ms);
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
    assert_int_equal(turns_open(world->turns), 0);
    assert_int_equal(holds_count(world->holds), 0);
    keep_at(world, 'k', 'c', 1, "first", &first, start_ms); /* said again */
    assert_int_equal(world->answers[0].type, KEEPER_COMMITTED);
    /* The turn does not fit any more: nothing is kept for the key. */
    keep_at(world, 'l', 'c', 2, "second", &first, start_ms);
    assert_refused(&world->answers[0], KEEPER_BUSY);
    answer = hold_at(world, &peer_one, 'l', 'c', start_ms);
    assert_int_equal(answer.type, KEEPER_HELD);
    /* The key has another's answer: the turn is not stored. */
    struct keeper_message second = begin(world, &peer_one, &first.session);
    assert_begun(&second, 1, "\"q\",\"a\"");
    keep_at(world, 'k', 'c', 1, "third", &second, start_ms);
    assert_int_equal(world->answers[0].type, KEEPER_KEPT);
    second = begin(world, &peer_one, &first.session);
    assert_begun(&second, 1, "\"q\",\"a\"");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(held_then_kept), TEST(freed),       TEST(said_again), TEST(for_a_day), TEST(swept),
        TEST(bounded),        TEST(with_a_turn), TEST(lowered),    TEST(too_late),
    };
    return cmocka_run_group_tests_name("commits", tests, NULL, NULL);
}
