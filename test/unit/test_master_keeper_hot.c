/* The conversations that are kept in memory, before a real store. */
#include "master/keeper/hot.h"

#include "test/unit/master_told_sessions.h"

static const int64_t start_ms = INT64_C(1800000000000);

struct world {
    struct told told;
    struct sessions_store *store, *other;
    struct hot *hot;
};

/* What was known before the first look is worth nothing. */
static void start_hot(struct world *world, size_t bytes_max)
{
    struct hot_session session;
    struct error error;
    bool found;
    hot_free(&world->hot);
    world->hot = hot_new(bytes_max);
    if (!hot_load(world->hot, world->store, &(struct uuid){{99}}, true, &session, &found, &error))
        fail_msg("%s", error.message);
    assert_false(found);
}

static int set_up_world(void **state, bool shared)
{
    struct world *world = calloc(1, sizeof *world);
    struct error error;
    told_open(&world->told, shared);
    world->store = &world->told.store;
    if (!sessions_open(&world->told.config, "", &world->other, &error))
        fail_msg("%s", error.message);
    start_hot(world, HOT_BYTES_MAX);
    *state = world;
    return 0;
}

static int set_up_alone(void **state)
{
    return set_up_world(state, false);
}

static int set_up_shared(void **state)
{
    return set_up_world(state, true);
}

static int tear_down(void **state)
{
    struct world *world = *state;
    hot_free(&world->hot);
    assert_null(world->hot);
    sessions_close(&world->other);
    told_close(&world->told);
    free(world);
    return 0;
}

static struct session_row new_row(uint8_t number)
{
    return (struct session_row){.id = {{number, [15] = number}},
                                .project = STR("shop"),
                                .endpoint = STR("chat"),
                                .token = STR("till"),
                                .created_ms = start_ms,
                                .stored_ms = start_ms,
                                .expires_ms = start_ms + 1000};
}

/* One turn more, into the store and, where it is ours, to the hot ones. */
static void add_turn(struct world *world, struct sessions_store *store, struct session_row *row,
                     const char *messages)
{
    struct error error;
    bool moved;
    row->turns++;
    row->messages++;
    if (!sessions_add_turn(store, row, str_of(messages), &moved, &error))
        fail_msg("%s", error.message);
    assert_false(moved);
    if (store == world->store)
        hot_add_turn(world->hot, row, str_of(messages));
}

static void begin(struct sessions_store *store)
{
    struct error error;
    if (!sessions_begin(store, &error))
        fail_msg("%s", error.message);
}

static bool commit(struct world *world, struct sessions_store *store)
{
    struct error error;
    bool good = sessions_commit(store, &error);
    if (store == world->store)
        hot_settle(world->hot, good);
    return good;
}

static void put_turn(struct world *world, struct sessions_store *store, struct session_row *row,
                     const char *messages)
{
    begin(store);
    add_turn(world, store, row, messages);
    assert_true(commit(world, store));
}

static void delete_session(struct world *world, uint8_t number)
{
    struct session_row row = new_row(number);
    struct error error;
    bool found;
    begin(world->other);
    assert_true(sessions_delete(world->other, &row.id, &found, &error));
    assert_true(found);
    assert_true(commit(world, world->other));
}

static bool load(struct world *world, uint8_t number, struct hot_session *session)
{
    struct session_row row = new_row(number);
    struct error error;
    bool found;
    if (!hot_load(world->hot, world->store, &row.id, true, session, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

/* As the store has it, after so many more loads from there. */
static void assert_loaded(struct world *world, uint8_t number, int64_t turns, const char *messages,
                          unsigned loads)
{
    struct hot_session session;
    unsigned before = world->store->loads;
    assert_true(load(world, number, &session));
    assert_int_equal(session.row.turns, turns);
    assert_true(str_eq(session.row.project, STR("shop")));
    assert_true(str_eq(session.row.endpoint, STR("chat")));
    assert_true(str_eq(session.row.token, STR("till")));
    assert_true(str_eq(session.messages, str_of(messages)));
    assert_int_equal(world->store->loads - before, loads);
}

static void assert_gone(struct world *world, uint8_t number)
{
    struct hot_session session;
    assert_false(load(world, number, &session));
}

static void a_hit_needs_no_look(void **state)
{
    struct world *world = *state;
    struct session_row row = new_row(1);
    put_turn(world, world->store, &row, "1");
    assert_loaded(world, 1, 1, "1", 0);
    put_turn(world, world->store, &row, "2");
    assert_loaded(world, 1, 2, "1,2", 0);
    hot_drop(world->hot, &row.id);
    assert_loaded(world, 1, 2, "1,2", 1);
    put_turn(world, world->store, &row, "3");
    assert_loaded(world, 1, 3, "1,2,3", 0);
    assert_gone(world, 2);
}

/* Its row alone is asked for: what is not here is not kept without its messages. */
static void a_row_alone_is_not_kept(void **state)
{
    struct world *world = *state;
    struct session_row row = new_row(1);
    struct hot_session session;
    struct error error;
    bool found;
    put_turn(world, world->other, &row, "1");
    assert_true(hot_load(world->hot, world->store, &row.id, false, &session, &found, &error));
    assert_true(found);
    assert_int_equal(session.row.turns, 1);
    assert_int_equal(hot_count(world->hot), 0);
    put_turn(world, world->store, &row, "2");
    assert_loaded(world, 1, 2, "1,2", 1);
}

static void what_others_write_makes_all_void(void **state)
{
    struct world *world = *state;
    struct session_row rows[] = {new_row(1), new_row(2)};
    put_turn(world, world->store, &rows[0], "1");
    put_turn(world, world->store, &rows[1], "2");
    delete_session(world, 1);
    assert_gone(world, 1);
    assert_loaded(world, 2, 1, "2", 1);
    assert_loaded(world, 2, 1, "2", 0);
}

static void what_fails_is_not_kept(void **state)
{
    struct world *world = *state;
    struct session_row rows[] = {new_row(1), new_row(2), new_row(3)};
    struct hot_session session;
    put_turn(world, world->store, &rows[0], "1");
    put_turn(world, world->store, &rows[2], "3");
    begin(world->store);
    add_turn(world, world->store, &rows[0], "x");
    add_turn(world, world->store, &rows[1], "y");
    assert_true(load(world, 3, &session)); /* it is the latest in use, and was not changed */
    world->store->failing = true;
    assert_false(commit(world, world->store));
    world->store->failing = false;
    assert_loaded(world, 1, 1, "1", 1);
    assert_gone(world, 2);
    assert_loaded(world, 3, 1, "3", 0);
}

static void what_has_ended_is_not_kept(void **state)
{
    struct world *world = *state;
    struct session_row row = new_row(1);
    struct hot_session session;
    struct error error;
    unsigned done;
    put_turn(world, world->other, &row, "1");
    begin(world->other);
    assert_true(sessions_sweep(world->other, row.expires_ms, 10, &done, &error));
    assert_true(commit(world, world->other));
    assert_true(load(world, 1, &session));
    assert_true(session.row.ended);
    assert_int_equal(session.messages.len, 0);
    assert_int_equal(hot_count(world->hot), 0);
}

/* What was longest not in use goes first; capacities count. */
static void memory_is_bounded(void **state)
{
    enum { BYTES_MAX = 64 * 1024, ROWS = 40 };
    struct world *world = *state;
    struct buf text = {0};
    start_hot(world, BYTES_MAX);
    while (text.len < 3000)
        buf_puts(&text, "0123456789");
    for (uint8_t i = 1; i <= ROWS; i++) {
        struct session_row row = new_row(i);
        put_turn(world, world->store, &row, buf_cstr(&text));
        assert_loaded(world, 1, 1, buf_cstr(&text), 0); /* always in use */
        assert_true(hot_bytes(world->hot) <= BYTES_MAX);
    }
    assert_in_range(hot_count(world->hot), 10, BYTES_MAX / 4096);
    assert_loaded(world, ROWS, 1, buf_cstr(&text), 0);
    assert_loaded(world, 2, 1, buf_cstr(&text), 1);
    buf_free(&text);
}

/* One that is larger than all may be is there until the next is wanted. */
static void one_may_be_larger_than_all(void **state)
{
    struct world *world = *state;
    struct session_row row = new_row(1), small = new_row(2);
    struct buf text = {0};
    start_hot(world, 4096);
    while (text.len < 10000)
        buf_puts(&text, "0123456789");
    put_turn(world, world->store, &row, buf_cstr(&text));
    put_turn(world, world->store, &small, "s");
    assert_loaded(world, 1, 1, buf_cstr(&text), 1);
    assert_loaded(world, 2, 1, "s", 1);
    assert_true(hot_bytes(world->hot) <= 4096);
    buf_free(&text);
}

/* --- with other hosts */

static void only_new_turns_are_brought(void **state)
{
    struct world *world = *state;
    struct session_row row = new_row(1);
    put_turn(world, world->other, &row, "1");
    put_turn(world, world->other, &row, "2");
    assert_loaded(world, 1, 2, "1,2", 1);
    assert_loaded(world, 1, 2, "1,2", 1);
    assert_int_equal(world->store->from_turn, 2);
    put_turn(world, world->other, &row, "3");
    put_turn(world, world->other, &row, "4");
    assert_loaded(world, 1, 4, "1,2,3,4", 1);
    assert_int_equal(world->store->from_turn, 2);
    put_turn(world, world->store, &row, "5");
    assert_loaded(world, 1, 5, "1,2,3,4,5", 1);
    assert_int_equal(world->store->from_turn, 5);
}

static void what_has_expired_goes(void **state)
{
    struct world *world = *state;
    struct session_row first = new_row(1), second = new_row(2), longer = new_row(3),
                       behind = new_row(4);
    longer.expires_ms += 1;
    put_turn(world, world->store, &first, "1");
    put_turn(world, world->store, &second, "2");
    put_turn(world, world->store, &longer, "3");
    put_turn(world, world->store, &behind, "4");
    hot_drop_expired(world->hot, start_ms + 999);
    assert_int_equal(hot_count(world->hot), 4);
    hot_drop_expired(world->hot, start_ms + 1000);
    assert_int_equal(hot_count(world->hot), 2); /* it ends with the first that is still good */
    assert_loaded(world, 3, 1, "3", 0);
    hot_drop_expired(world->hot, INT64_MIN);
    assert_int_equal(hot_count(world->hot), 2);
    hot_drop_expired(world->hot, start_ms + 1001);
    assert_int_equal(hot_count(world->hot), 0);
    assert_int_equal(hot_bytes(world->hot), 0);
    assert_loaded(world, 1, 1, "1", 1);
}

static void another_session_of_that_name_is_loaded_anew(void **state)
{
    struct world *world = *state;
    struct session_row row = new_row(1), others = new_row(2), again = new_row(1);
    put_turn(world, world->other, &row, "1");
    assert_loaded(world, 1, 1, "1", 1);
    delete_session(world, 1);
    assert_gone(world, 1);
    assert_int_equal(hot_count(world->hot), 0);
    put_turn(world, world->other, &others, "2");
    put_turn(world, world->other, &again, "3");
    assert_loaded(world, 1, 1, "3", 1);
    delete_session(world, 1);
    row = new_row(3);
    put_turn(world, world->other, &row, "4");
    again = new_row(1);
    put_turn(world, world->other, &again, "5");
    assert_loaded(world, 1, 1, "5", 2);
}

int main(void)
{
#define ALONE(function) cmocka_unit_test_setup_teardown(function, set_up_alone, tear_down)
#define SHARED(function) cmocka_unit_test_setup_teardown(function, set_up_shared, tear_down)
    const struct CMUnitTest tests[] = {
        ALONE(a_hit_needs_no_look),
        ALONE(a_row_alone_is_not_kept),
        ALONE(what_others_write_makes_all_void),
        ALONE(what_fails_is_not_kept),
        ALONE(what_has_ended_is_not_kept),
        ALONE(memory_is_bounded),
        ALONE(one_may_be_larger_than_all),
        ALONE(what_has_expired_goes),
        SHARED(only_new_turns_are_brought),
        SHARED(another_session_of_that_name_is_loaded_anew),
    };
    return cmocka_run_group_tests_name("sessions in memory", tests, NULL, NULL);
}
