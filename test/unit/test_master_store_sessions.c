#include "test/unit/master_sessions.h"

static void assert_names(const struct session_row *row, const char *expected)
{
    struct buf names = {0};
    buf_printf(&names, "%.*s %.*s %.*s", STR_ARG(row->project), STR_ARG(row->endpoint),
               STR_ARG(row->token));
    assert_string_equal(buf_cstr(&names), expected);
    buf_free(&names);
}

static void note_session(void *context, const struct session_row *row)
{
    buf_printf(context, "%d:%.*s ", row->id.bytes[15], STR_ARG(row->project));
}

static void assert_list(struct sessions_store *store, const char *project, unsigned most,
                        const char *expected)
{
    struct buf seen = {0};
    struct error error;
    if (!sessions_list(store, project, most, note_session, &seen, &error))
        fail_msg("%s", error.message);
    assert_string_equal(buf_cstr(&seen), expected);
    buf_free(&seen);
}

/* --- */

static void a_session_is_read_as_it_was_written(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1), read;
    row.tokens = INT64_C(1) << 40;
    row.token = STR("");
    put_turn(store, &row);
    sessions_close(&store);

    store = open_sessions(place);
    assert_true(load(store, 1, &read, NULL));
    assert_memory_equal(&read.id, &row.id, sizeof row.id);
    assert_memory_equal(&read.last_request, &row.last_request, sizeof row.last_request);
    assert_names(&read, "shop chat ");
    assert_true(read.number > 0);
    assert_int_equal(read.number, row.number);
    assert_int_equal(read.turns, 1);
    assert_int_equal(read.messages, 2);
    assert_int_equal(read.tokens, (INT64_C(1) << 40) + 10);
    assert_int_equal(read.created_ms, start_ms);
    assert_int_equal(read.stored_ms, start_ms);
    assert_int_equal(read.expires_ms, start_ms + hour_ms);
    assert_false(read.ended);
    assert_messages(store, 1, "{\"q\":1},{\"a\":1}");
    sessions_close(&store);
}

/* 300 turns each, of which only some have a place that is stored, and turns of two sessions come in
 * turns. */
static void turns_stay_in_order(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row rows[2] = {new_row(1), new_row(2)}, read;
    struct buf expected = {0};
    for (int i = 1; i <= 300; i++) {
        begin(store);
        add_turn(store, &rows[0]);
        rows[1].expires_ms++;
        add_turn(store, &rows[1]);
        commit_all(store);
        buf_printf(&expected, "%s{\"q\":%d},{\"a\":%d}", i > 1 ? "," : "", i, i);
        if (i % 50 == 0) {
            assert_messages(store, 1, buf_cstr(&expected));
            assert_messages(store, 2, buf_cstr(&expected));
        }
    }
    assert_true(load(store, 2, &read, NULL));
    assert_int_equal(read.turns, 300);
    assert_int_equal(read.messages, 600);
    assert_int_equal(read.tokens, 3000);
    assert_int_equal(read.expires_ms, start_ms + hour_ms + 300);
    assert_string_equal(ask(place, "SELECT min(turn), max(turn), count(*) FROM session_messages "
                                   "GROUP BY session"),
                        "0|299|300;0|299|300;");
    assert_string_equal(ask(place, "SELECT count(*) BETWEEN 300 AND 598 FROM session_places"),
                        "1;");
    buf_free(&expected);
    sessions_close(&store);
}

static void assert_from(struct sessions_store *store, int64_t turn, const char *expected)
{
    struct session_row row;
    struct buf messages = {0};
    struct error error;
    struct uuid id = id_of(1);
    bool found;
    assert_true(sessions_load(store, &id, turn, &row, &messages, &found, &error));
    assert_true(found);
    assert_string_equal(buf_cstr(&messages), expected);
    buf_free(&messages);
}

static void later_turns_are_loaded_alone(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row = new_row(1);
    put_turn(store, &row); /* has its place at once, */
    put_turn(store, &row);
    put_turn(store, &row); /* these have none */
    assert_from(store, 0, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2},{\"q\":3},{\"a\":3}");
    assert_from(store, 1, "{\"q\":2},{\"a\":2},{\"q\":3},{\"a\":3}");
    assert_from(store, 2, "{\"q\":3},{\"a\":3}");
    assert_from(store, 3, "");
    sessions_close(&store);
}

/* A session that was loaded, its texts the store's, is stored again with one turn more. */
static void a_loaded_session_goes_on(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row;
    struct buf messages = {0};
    put_session(store, 1, start_ms + hour_ms);
    begin(store);
    buf_puts(&messages, "[");
    assert_true(load(store, 1, &row, &messages));
    assert_string_equal(buf_cstr(&messages), "[{\"q\":1},{\"a\":1}");
    add_turn(store, &row);
    commit_all(store);
    assert_messages(store, 1, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2}");
    assert_true(load(store, 1, &row, NULL));
    assert_names(&row, "shop chat till");
    buf_free(&messages);
    sessions_close(&store);
}

static void unknown_ids_are_not_found(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row;
    struct buf messages = {0};
    begin(store);
    add_session(store, 1, start_ms);
    assert_false(load(store, 2, &row, &messages));
    assert_false(delete_session(store, 2));
    commit_all(store);
    assert_int_equal(messages.len, 0);
    buf_free(&messages);
    sessions_close(&store);
}

static void assert_moved(struct sessions_store *store, struct session_row row)
{
    struct error error;
    bool moved = false;
    if (!try_turn(store, &row, &moved, &error))
        fail_msg("%s", error.message);
    assert_true(moved);
}

/* Nothing of it is stored, and the transaction goes on. With `anew` the store knows of nothing that
 * it has seen before. */
static void check_moved(struct place *place, bool anew)
{
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1), nobodys = new_row(2), other = new_row(3);
    put_turn(store, &row);
    put_turn(store, &row);
    put_turn(store, &other);
    if (anew) {
        sessions_close(&store);
        store = open_sessions(place);
    }
    begin(store);
    assert_moved(store, new_row(1));
    row.turns = 1;
    assert_moved(store, row);
    nobodys.turns = 1;
    nobodys.number = 99;
    assert_moved(store, nobodys);
    assert_true(delete_session(store, 3));
    assert_moved(store, other);
    add_session(store, 4, start_ms);
    commit_all(store);
    assert_messages(store, 1, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2}");
    assert_messages(store, 4, "{\"q\":1},{\"a\":1}");
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "3;");
    sessions_close(&store);
}

static void what_has_moved_is_not_stored(void **state)
{
    check_moved(*state, false);
}

static void what_has_moved_is_known_anew(void **state)
{
    check_moved(*state, true);
}

/* What was undone is no turn that another could follow. */
static void undone_turns_are_not_followed(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row = new_row(1), undone;
    put_turn(store, &row);
    undone = row;
    begin(store);
    add_turn(store, &undone);
    sessions_undo(store);
    begin(store);
    assert_moved(store, undone);
    add_turn(store, &row);
    commit_all(store);
    sessions_close(&store);
}

/* The last places are given again when what had them is gone. */
static void places_are_given_again(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1), last = new_row(2);
    put_turn(store, &row);
    put_turn(store, &last);
    put_turn(store, &last);
    begin(store);
    assert_true(delete_session(store, 2));
    commit_all(store);
    put_turn(store, &row);
    assert_string_equal(ask(place, "SELECT max(place) FROM session_messages"), "2;");
    assert_messages(store, 1, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2}");
    put_session(store, 3, start_ms);
    assert_int_equal(sweep(store, start_ms, 10), 1);
    put_turn(store, &row);
    assert_messages(store, 1, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2},{\"q\":3},{\"a\":3}");
    sessions_close(&store);
}

static void writing_needs_a_transaction(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row = new_row(1);
    struct error error;
    bool found, moved;
    unsigned done;
    assert_false(try_turn(store, &row, &moved, &error));
    assert_says(&error, "no transaction");
    assert_false(sessions_delete(store, &row.id, &found, &error));
    assert_false(sessions_sweep(store, start_ms, 1, &done, &error));
    assert_false(sessions_commit(store, &error));
    sessions_undo(store);
    begin(store);
    assert_false(sessions_begin(store, &error));
    assert_says(&error, "transaction");
    assert_false(sessions_commit(store, &error));
    sessions_close(&store);
}

static void undo_leaves_nothing(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row kept = new_row(1), row;
    put_turn(store, &kept);
    begin(store);
    add_turn(store, &kept);
    add_session(store, 2, start_ms);
    sessions_undo(store);
    assert_false(load(store, 2, &row, NULL));
    assert_messages(store, 1, "{\"q\":1},{\"a\":1}");
    begin(store);
    assert_true(delete_session(store, 1));
    sessions_close(&store);
    assert_string_equal(ask(place, "SELECT turn, messages FROM session_messages"), "0|2;");
}

static void deleted_is_gone(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row;
    begin(store);
    add_session(store, 1, start_ms);
    add_session(store, 2, start_ms);
    assert_true(delete_session(store, 1));
    assert_false(delete_session(store, 1));
    commit_all(store);
    assert_false(load(store, 1, &row, NULL));
    assert_messages(store, 2, "{\"q\":1},{\"a\":1}");
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "1;");
    sessions_close(&store);
}

/* A tombstone tells whose it was; nothing can be added to it, but it can be deleted. */
static void expired_becomes_a_tombstone(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row;
    struct buf messages = {0};
    put_session(store, 1, start_ms);
    put_session(store, 2, start_ms + 1);
    assert_int_equal(sweep(store, start_ms - 1, 10), 0);
    assert_int_equal(sweep(store, start_ms, 10), 1);
    assert_true(load(store, 1, &row, &messages));
    assert_true(row.ended);
    assert_true(str_eq(row.project, STR("shop")));
    assert_int_equal(row.expires_ms, start_ms);
    assert_int_equal(row.turns, 0);
    assert_int_equal(row.messages, 0);
    assert_int_equal(row.tokens, 0);
    assert_int_equal(messages.len, 0);
    assert_messages(store, 2, "{\"q\":1},{\"a\":1}");
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "1;");
    begin(store);
    row.turns = 1;
    assert_moved(store, row);
    row.turns = 0;
    assert_moved(store, row);
    assert_true(delete_session(store, 1));
    commit_all(store);
    assert_false(load(store, 1, &row, NULL));
    buf_free(&messages);
    sessions_close(&store);
}

static void the_sweep_goes_in_small_parts(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    begin(store);
    for (uint8_t i = 0; i < 10; i++)
        add_session(store, i, start_ms + (i < 7 ? i / 2 : hour_ms));
    commit_all(store);
    assert_int_equal(sweep(store, start_ms + 10, 3), 3);
    /* Those that expired first, and of the same time those with the first ids. */
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)) FROM sessions WHERE ended"),
                        "00;01;02;");
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "7;");
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions, session_messages "
                                   "WHERE session = number AND ended"),
                        "0;");
    assert_int_equal(sweep(store, start_ms + 10, 3), 3);
    assert_int_equal(sweep(store, start_ms + 10, 3), 1);
    assert_int_equal(sweep(store, start_ms + 10, 3), 0);
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "3;");
    assert_string_equal(ask(place, "SELECT sum(ended), count(*) FROM sessions"), "7|10;");
    sessions_close(&store);
}

static void tombstones_stay_for_30_days(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    begin(store);
    for (uint8_t i = 0; i < 5; i++)
        add_session(store, i, start_ms);
    add_session(store, 5, start_ms + 31 * day_ms);
    commit_all(store);
    assert_int_equal(sweep(store, start_ms + 1, 5), 5);
    assert_int_equal(sweep(store, start_ms + 30 * day_ms, 2), 0);
    assert_int_equal(sweep(store, start_ms + 30 * day_ms + 1, 2), 2);
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions"), "4;");
    assert_int_equal(sweep(store, start_ms + 30 * day_ms + 1, 2), 2);
    assert_int_equal(sweep(store, start_ms + 30 * day_ms + 1, 2), 1);
    assert_int_equal(sweep(store, start_ms + 30 * day_ms + 1, 2), 0);
    assert_messages(store, 5, "{\"q\":1},{\"a\":1}");
    sessions_close(&store);
}

/* After a long halt: fewer than asked for means that nothing is left, of either kind. */
static void what_expired_long_ago_goes_at_once(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    begin(store);
    for (uint8_t i = 0; i < 3; i++)
        add_session(store, i, start_ms);
    commit_all(store);
    assert_int_equal(sweep(store, start_ms + 40 * day_ms, 2), 4);
    assert_int_equal(sweep(store, start_ms + 40 * day_ms, 3), 2);
    assert_string_equal(ask(place, "SELECT (SELECT count(*) FROM sessions) + "
                                   "(SELECT count(*) FROM session_messages) + "
                                   "(SELECT count(*) FROM session_places WHERE session > 0)"),
                        "0;");
    sessions_close(&store);
}

/* A look before that turn's time says only when to look again. */
static void a_later_turn_puts_the_end_off(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1);
    put_turn(store, &row);
    row.expires_ms = start_ms + 2 * hour_ms;
    put_turn(store, &row);
    assert_string_equal(ask(place, "SELECT look_at - 1790000000000 FROM sessions"), "3600000;");
    assert_int_equal(sweep(store, start_ms + hour_ms - 1, 10), 0);
    assert_int_equal(sweep(store, start_ms + hour_ms, 10), 1);
    assert_int_equal(sweep(store, start_ms + hour_ms, 10), 0);
    assert_messages(store, 1, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2}");
    assert_int_equal(sweep(store, start_ms + 2 * hour_ms - 1, 10), 0);
    assert_int_equal(sweep(store, start_ms + 2 * hour_ms, 10), 1);
    assert_true(load(store, 1, &row, NULL));
    assert_true(row.ended);
    assert_int_equal(row.expires_ms, start_ms + 2 * hour_ms);
    sessions_close(&store);
}

static void the_list_begins_with_the_latest_turn(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row rows[5];
    begin(store);
    /* The last has its latest turn first of all, but expires last. */
    static const int64_t turn[] = {20, 40, 10, 30, 5};
    for (uint8_t i = 0; i < 5; i++) {
        rows[i] = new_row(i);
        rows[i].stored_ms = start_ms + turn[i];
        rows[i].expires_ms = rows[i].stored_ms + (i == 4 ? 9 * hour_ms : hour_ms);
        rows[i].project = i % 2 ? STR("shop") : STR("it's");
        add_turn(store, &rows[i]);
    }
    add_session(store, 9, start_ms - 1);
    commit_all(store);
    assert_int_equal(sweep(store, start_ms, 10), 1);
    assert_list(store, NULL, 10, "1:shop 3:shop 0:it's 2:it's 4:it's ");
    assert_list(store, NULL, 2, "1:shop 3:shop ");
    assert_list(store, "it's", 10, "0:it's 2:it's 4:it's ");
    assert_list(store, "it's", 1, "0:it's ");
    assert_list(store, "", 10, "");
    assert_list(store, NULL, 0, "");
    /* Turns that have no place yet count as well, and a session is there once. */
    rows[4].stored_ms = start_ms + 50;
    put_turn(store, &rows[4]);
    assert_list(store, NULL, 10, "4:it's 1:shop 3:shop 0:it's 2:it's ");
    sessions_close(&store);
}

static void texts_stay_as_they_are(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row = new_row(1);
    struct error error;
    bool moved;
    struct buf big = {0}, expected = {0}, read = {0};
    while (big.len < 1 << 20)
        buf_printf(&big, "{\"%zu\":\"\xc3\xa4\xf0\x9f\x98\x80\"}", big.len);
    buf_printf(&expected, "{\"it's\":\"\\\"quoted\\\", '; DROP TABLE sessions\"},%s,",
               buf_cstr(&big));
    buf_puts(&expected, "{\"\xe2\x82\xac\":\"%s ?1\"},[],\"]\"");
    row.project = STR("o'\"\xc3\x9f\";--");
    row.turns = 1;
    begin(store);
    assert_true(sessions_add_turn(store, &row, buf_view(&expected), &moved, &error));
    commit_all(store);
    assert_true(load(store, 1, &row, &read));
    assert_int_equal(read.len, expected.len);
    assert_memory_equal(read.data, expected.data, expected.len);
    assert_true(str_eq(row.project, STR("o'\"\xc3\x9f\";--")));
    buf_free(&big);
    buf_free(&expected);
    buf_free(&read);
    sessions_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_session_is_read_as_it_was_written),
        TEST(turns_stay_in_order),
        TEST(later_turns_are_loaded_alone),
        TEST(a_loaded_session_goes_on),
        TEST(unknown_ids_are_not_found),
        TEST(what_has_moved_is_not_stored),
        TEST(what_has_moved_is_known_anew),
        TEST(undone_turns_are_not_followed),
        TEST(places_are_given_again),
        TEST(writing_needs_a_transaction),
        TEST(undo_leaves_nothing),
        TEST(deleted_is_gone),
        TEST(expired_becomes_a_tombstone),
        TEST(the_sweep_goes_in_small_parts),
        TEST(tombstones_stay_for_30_days),
        TEST(what_expired_long_ago_goes_at_once),
        TEST(a_later_turn_puts_the_end_off),
        TEST(the_list_begins_with_the_latest_turn),
        TEST(texts_stay_as_they_are),
    };
    return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
