#include "master/store/sessions_drivers.h"
#include "shared/base/clock.h"
#include "test/unit/postgres_place.h"
#include "test/unit/session_rows.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

static void make_tables(const struct place *place)
{
    struct store *store = open_store(place, no_offset, NULL);
    store_close(&store);
}

static struct sessions_store *open_sessions(const struct place *place, const char *host)
{
    const struct config config = {.store = place->config};
    struct sessions_store *store = NULL;
    struct error error;
    if (!sessions_open(&config, host, &store, &error))
        fail_msg("%s", error.message);
    return store;
}

/* Until there is a connection: calls are refused meanwhile. */
static void wait_for(struct sessions_store *store)
{
    struct error error;
    int64_t bytes, limit_ms = clock_now_ms() + SERVER_PATIENCE_MS;
    while (!answers_bytes(store, &bytes, &error)) {
        if (clock_now_ms() > limit_ms)
            fail_msg("%s", error.message);
        usleep(5000);
    }
}

static struct sessions_store *open_host(const struct place *place, const char *host)
{
    struct sessions_store *store = open_sessions(place, host);
    wait_for(store);
    return store;
}

static struct sessions_store *open_first(const struct place *place)
{
    make_tables(place);
    return open_host(place, "one");
}

static bool add_turn(struct sessions_store *store, struct session_row *row)
{
    struct error error;
    bool moved;
    if (!try_turn(store, row, &moved, &error))
        fail_msg("%s", error.message);
    return !moved;
}

static bool put_turn(struct sessions_store *store, struct session_row *row)
{
    begin(store);
    bool added = add_turn(store, row);
    commit_all(store);
    return added;
}

/* A session of one turn that expires then. */
static void put_session(struct sessions_store *store, uint8_t number, int64_t expires_ms)
{
    struct session_row row = new_row(number);
    row.expires_ms = expires_ms;
    assert_true(put_turn(store, &row));
}

static bool load_from(struct sessions_store *store, uint8_t number, int64_t from,
                      struct session_row *row, struct buf *messages)
{
    struct uuid id = id_of(number);
    struct error error;
    bool found;
    if (!sessions_load(store, &id, from, row, messages, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

static bool load(struct sessions_store *store, uint8_t number, struct session_row *row)
{
    return load_from(store, number, 0, row, NULL);
}

static void assert_messages(struct sessions_store *store, uint8_t number, int64_t from,
                            const char *expected)
{
    struct session_row row;
    struct buf messages = {0};
    assert_true(load_from(store, number, from, &row, &messages));
    assert_string_equal(buf_cstr(&messages), expected);
    buf_free(&messages);
}

static unsigned sweep(struct sessions_store *store, int64_t wall_ms, unsigned most)
{
    struct error error;
    unsigned done;
    begin(store);
    if (!sessions_sweep(store, wall_ms, most, &done, &error))
        fail_msg("%s", error.message);
    commit_all(store);
    return done;
}

static bool claim(struct sessions_store *store, uint8_t number)
{
    struct uuid id = id_of(number);
    struct error error;
    bool got;
    if (!sessions_claim(store, (struct str){(const char *)id.bytes, 16}, &got, &error))
        fail_msg("%s", error.message);
    return got;
}

static void give_back(struct sessions_store *store, uint8_t number)
{
    struct uuid id = id_of(number);
    struct error error;
    if (!sessions_release(store, (struct str){(const char *)id.bytes, 16}, &error))
        fail_msg("%s", error.message);
}

/* ---- conversations */

static void a_session_is_read_as_it_was_written(void **state)
{
    struct sessions_store *store = open_first(*state);
    struct session_row row = new_row(1), read;
    row.project = STR("o'\"\xc3\x9f\";--");
    row.token = STR("");
    assert_true(put_turn(store, &row));
    assert_true(row.number > 0);
    assert_true(load(store, 1, &read));
    assert_int_equal(uuid_compare(&read.id, &row.id), 0);
    assert_int_equal(uuid_compare(&read.last_request, &row.last_request), 0);
    assert_true(str_eq(read.project, row.project) && str_eq(read.endpoint, row.endpoint));
    assert_true(str_eq(read.token, STR("")));
    assert_int_equal(read.number, row.number);
    assert_int_equal(read.turns, 1);
    assert_int_equal(read.messages, 2);
    assert_int_equal(read.tokens, 10);
    assert_int_equal(read.created_ms, start_ms);
    assert_int_equal(read.stored_ms, start_ms);
    assert_int_equal(read.expires_ms, start_ms + hour_ms);
    assert_false(read.ended);
    assert_false(load(store, 2, &read));
    sessions_close(&store);
}

static void turns_follow_each_other(void **state)
{
    struct sessions_store *store = open_first(*state);
    struct session_row row = new_row(1), read;
    for (int i = 0; i < 11; i++) {
        row.stored_ms = start_ms + i;
        row.expires_ms = row.stored_ms + hour_ms;
        row.last_request = id_of((uint8_t)i);
        assert_true(put_turn(store, &row));
    }
    assert_messages(store, 1, 9, "{\"q\":10},{\"a\":10},{\"q\":11},{\"a\":11}");
    assert_messages(store, 1, 10, "{\"q\":11},{\"a\":11}");
    assert_messages(store, 1, 11, "");
    assert_true(load(store, 1, &read));
    assert_int_equal(read.turns, 11);
    assert_int_equal(read.messages, 22);
    assert_int_equal(read.stored_ms, start_ms + 10);
    assert_int_equal(read.expires_ms, start_ms + 10 + hour_ms);
    assert_int_equal(read.created_ms, start_ms);
    assert_int_equal(read.last_request.bytes[0], 10);
    sessions_close(&store);
}

static void texts_stay_as_they_are(void **state)
{
    struct sessions_store *store = open_first(*state);
    struct session_row row = new_row(1), read;
    struct error error;
    struct buf big = {0}, messages = {0};
    bool moved;
    buf_puts(&big, "{\"it's\":\"\\\"quoted\\\", \\u0000'; DROP TABLE sessions $1\"}");
    while (big.len < 1 << 22)
        buf_printf(&big, ",{\"%zu\" : \"\xc3\xa4\xf0\x9f\x98\x80\"}", big.len);
    row.turns = row.messages = 1;
    begin(store);
    assert_true(sessions_add_turn(store, &row, buf_view(&big), &moved, &error));
    commit_all(store);
    buf_puts(&messages, "[");
    assert_true(load_from(store, 1, 0, &read, &messages));
    assert_int_equal(messages.len, big.len + 1);
    assert_memory_equal(messages.data + 1, big.data, big.len);
    buf_free(&big);
    buf_free(&messages);
    sessions_close(&store);
}

static void a_turn_is_stored_once(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_first(place), *two = open_host(place, "two");
    struct session_row first = new_row(1), mine, theirs;
    put_turn(one, &first);
    assert_true(load(two, 1, &theirs));
    mine = first;
    theirs.project = theirs.endpoint = theirs.token = STR("x");
    assert_true(put_turn(one, &mine));
    assert_false(put_turn(two, &theirs));
    struct session_row again = new_row(1);
    assert_false(put_turn(two, &again));
    assert_messages(two, 1, 0, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2}");
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "2;");
    sessions_close(&one);
    sessions_close(&two);
}

static void deleted_is_gone(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct session_row row = new_row(1);
    struct error error;
    bool found;
    put_turn(store, &row);
    for (int i = 0; i < 2; i++) {
        begin(store);
        assert_true(sessions_delete(store, &row.id, &found, &error));
        commit_all(store);
        assert_int_equal(found, i == 0);
    }
    assert_false(put_turn(store, &row));
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "0;");
    sessions_close(&store);
}

/* A tool of the command line has no name, and a connection when it begins. */
static void the_command_line_waits(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    put_session(store, 1, start_ms);
    struct sessions_store *tool = open_sessions(place, NULL);
    struct session_row row;
    assert_true(load(tool, 1, &row));
    assert_true(sessions_shared(tool));
    sessions_close(&tool);
    sessions_close(&store);
}

static void note_row(void *context, const struct session_row *row)
{
    buf_printf(context, "%d:%.*s:%d ", row->id.bytes[0], STR_ARG(row->project), (int)row->turns);
}

static void assert_list(struct sessions_store *store, const char *project, unsigned most,
                        const char *expected)
{
    struct buf seen = {0};
    struct error error;
    if (!sessions_list(store, project, most, note_row, &seen, &error))
        fail_msg("%s", error.message);
    assert_string_equal(buf_cstr(&seen), expected);
    buf_free(&seen);
}

static void the_list_begins_with_the_latest_turn(void **state)
{
    struct sessions_store *store = open_first(*state);
    static const int64_t stored[] = {20, 40, 10, 30, 50};
    struct session_row rows[5];
    for (uint8_t i = 0; i < 5; i++) {
        rows[i] = new_row(i);
        rows[i].project = i % 2 ? STR("shop") : STR("it's");
        rows[i].stored_ms = start_ms + stored[i];
        put_turn(store, &rows[i]);
    }
    rows[2].stored_ms = start_ms + 45;
    put_turn(store, &rows[2]);
    put_session(store, 9, start_ms - 1);
    assert_int_equal(sweep(store, start_ms, 10), 1);
    assert_list(store, NULL, 10, "4:it's:1 2:it's:2 1:shop:1 3:shop:1 0:it's:1 ");
    assert_list(store, NULL, 2, "4:it's:1 2:it's:2 ");
    assert_list(store, "shop", 10, "1:shop:1 3:shop:1 ");
    assert_list(store, "", 10, "");
    sessions_close(&store);
}

/* ---- transactions */

static void writing_needs_a_transaction(void **state)
{
    struct sessions_store *store = open_first(*state);
    struct session_row row = new_row(1);
    struct error error;
    bool flag;
    unsigned done;
    assert_false(try_turn(store, &row, &flag, &error));
    assert_says(&error, "no transaction is under way");
    assert_false(sessions_delete(store, &row.id, &flag, &error));
    assert_false(sessions_sweep(store, start_ms, 10, &done, &error));
    assert_false(sessions_commit(store, &error));
    sessions_close(&store);
}

static void undo_leaves_nothing(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct session_row row = new_row(1), other = new_row(2);
    assert_true(claim(store, 1));
    begin(store);
    add_turn(store, &row);
    give_back(store, 1);
    sessions_undo(store);
    sessions_undo(store);
    begin(store);
    sessions_undo(store);
    put_turn(store, &other);
    assert_false(load(store, 1, &row));
    assert_true(load(store, 2, &row));
    assert_string_equal(ask(place, "SELECT count(*) FROM keeper_leases"), "1;");
    sessions_close(&store);
}

/* Nothing of the transaction is kept, and the next one goes well. */
static void a_failure_ends_the_transaction(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct session_row good = new_row(1), bad = new_row(2), after = new_row(3);
    struct error error;
    bool moved;
    uint64_t epoch = sessions_epoch(store);
    bad.endpoint = STR("\xff");
    begin(store);
    add_turn(store, &good);
    assert_false(try_turn(store, &bad, &moved, &error));
    assert_says(&error, "can't store a session: invalid byte sequence");
    assert_false(try_turn(store, &after, &moved, &error));
    assert_false(sessions_commit(store, &error));
    sessions_undo(store);
    after = new_row(3);
    put_turn(store, &after);
    assert_int_equal(sessions_epoch(store), epoch);
    assert_string_equal(ask(place, "SELECT left(id::text, 2) FROM sessions"), "03;");
    sessions_close(&store);
}

/* ---- claims */

static void one_host_has_a_claim(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_first(place), *two = open_host(place, "two");
    assert_true(claim(one, 1));
    assert_true(claim(one, 1));
    assert_false(claim(two, 1));
    assert_true(claim(two, 2));
    give_back(two, 1);
    assert_false(claim(two, 1));
    give_back(one, 1);
    assert_true(claim(two, 1));
    assert_string_equal(ask(place, "SELECT host, round(extract(epoch FROM until - now()) / 10) "
                                   "FROM keeper_leases"),
                        "two|3;two|3;");
    sessions_close(&one);
    sessions_close(&two);
}

static void a_claim_is_given_back_with_what_was_stored(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_first(place), *two = open_host(place, "two");
    struct session_row row = new_row(1);
    struct error error;
    bool got;
    assert_true(claim(one, 1) && claim(one, 2) && claim(one, 3));
    begin(one);
    add_turn(one, &row);
    give_back(one, 1);
    give_back(one, 2);
    assert_false(claim(two, 1));
    assert_false(sessions_claim(one, STR("x"), &got, &error));
    commit_all(one);
    assert_true(claim(two, 1) && claim(two, 2));
    assert_false(claim(two, 3));
    begin(one);
    give_back(one, 3);
    commit_all(one);
    assert_true(claim(two, 3));
    sessions_close(&one);
    sessions_close(&two);
}

static void claims_end_unless_they_are_renewed(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_first(place), *two = open_host(place, "two");
    struct uuid ids[] = {id_of(1), id_of(2), id_of(3)};
    struct str what[3];
    struct error error;
    for (uint8_t i = 0; i < 3; i++) {
        what[i] = (struct str){(const char *)ids[i].bytes, 16};
        assert_true(claim(i == 2 ? two : one, (uint8_t)(i + 1)));
    }
    ask(place, "UPDATE keeper_leases SET until = now() - interval '1 second'");
    assert_true(claim(two, 1));
    assert_true(sessions_renew(one, what, 0, &error));
    assert_true(sessions_renew(one, what, 3, &error));
    assert_true(claim(one, 3));
    assert_false(claim(two, 2));
    assert_false(claim(one, 1));
    sessions_close(&one);
    sessions_close(&two);
}

/* ---- the sweep */

static void expired_becomes_a_tombstone(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct session_row row = new_row(3), read;
    put_session(store, 1, start_ms);
    put_session(store, 2, start_ms + 1);
    row.expires_ms = start_ms;
    put_turn(store, &row);
    row.expires_ms = start_ms + hour_ms;
    put_turn(store, &row);
    assert_int_equal(sweep(store, start_ms, 10), 2);
    assert_true(load(store, 1, &read));
    assert_true(read.ended);
    assert_int_equal(read.expires_ms, start_ms);
    assert_int_equal(read.turns, 0);
    assert_true(str_eq(read.token, STR("till")));
    assert_messages(store, 1, 0, "");
    assert_messages(store, 2, 0, "{\"q\":1},{\"a\":1}");
    assert_messages(store, 3, 1, "{\"q\":2},{\"a\":2}");
    assert_int_equal(sweep(store, start_ms, 10), 0);
    read.turns = 1;
    assert_false(put_turn(store, &read));
    assert_int_equal(sweep(store, start_ms + hour_ms, 10), 2);
    assert_true(load(store, 3, &read) && read.ended);
    assert_int_equal(read.expires_ms, start_ms + hour_ms);
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "0;");
    sessions_close(&store);
}

static void what_is_claimed_is_not_swept(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_first(place), *two = open_host(place, "two");
    put_session(one, 1, start_ms);
    assert_true(claim(two, 1));
    assert_int_equal(sweep(one, start_ms + hour_ms, 10), 0);
    ask(place, "UPDATE keeper_leases SET until = now()");
    assert_int_equal(sweep(one, start_ms + hour_ms, 10), 1);
    ask(place, "UPDATE keeper_leases SET until = now() - interval '59 minutes'");
    sweep(one, start_ms + hour_ms, 10);
    assert_string_equal(ask(place, "SELECT count(*) FROM keeper_leases"), "1;");
    ask(place, "UPDATE keeper_leases SET until = now() - interval '61 minutes'");
    sweep(one, start_ms + hour_ms, 10);
    assert_string_equal(ask(place, "SELECT count(*) FROM keeper_leases"), "0;");
    sessions_close(&one);
    sessions_close(&two);
}

static void tombstones_stay_for_30_days(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    for (uint8_t i = 1; i <= 5; i++)
        put_session(store, i, start_ms);
    assert_int_equal(sweep(store, start_ms, 3), 3);
    assert_int_equal(sweep(store, start_ms, 3), 2);
    assert_int_equal(sweep(store, start_ms + 30 * day_ms, 3), 0);
    assert_int_equal(sweep(store, start_ms + 30 * day_ms + 1, 3), 3);
    assert_int_equal(sweep(store, start_ms + 30 * day_ms + 1, 3), 2);
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions"), "0;");
    sessions_close(&store);
}

static void hosts_sweep_at_once(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_first(place), *two = open_host(place, "two");
    struct error error;
    unsigned done;
    for (uint8_t i = 1; i <= 5; i++)
        put_session(one, i, start_ms);
    begin(one);
    assert_true(sessions_sweep(one, start_ms, 3, &done, &error));
    assert_int_equal(done, 3);
    assert_int_equal(sweep(two, start_ms, 10), 2);
    commit_all(one);
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions WHERE ended"), "5;");
    sessions_close(&one);
    sessions_close(&two);
}

/* A turn that is being stored keeps its session from being ended by another host, and the sweep
 * that comes a moment later sees it. */
static void a_turn_and_a_sweep_at_once(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_first(place), *two = open_host(place, "two");
    struct session_row row = new_row(1), read;
    struct error error;
    bool moved;
    row.expires_ms = start_ms;
    put_turn(one, &row);
    row.expires_ms = start_ms + hour_ms;
    begin(one);
    assert_true(try_turn(one, &row, &moved, &error) && !moved);
    assert_int_equal(sweep(two, start_ms, 10), 0);
    commit_all(one);
    assert_int_equal(sweep(two, start_ms, 10), 1);
    assert_true(load(one, 1, &read) && !read.ended);
    assert_int_equal(read.turns, 2);
    sessions_close(&one);
    sessions_close(&two);
}

/* What waits for another host to have ended it, or deleted it, finds that out. */
static void a_turn_waits_for_who_ends_its_session(void **state)
{
    static const char *const endings[] = {"UPDATE sessions SET ended = true",
                                          "DELETE FROM sessions"};
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    for (uint8_t i = 0; i < 2; i++) {
        struct session_row row = new_row(i);
        char sql[128];
        put_turn(store, &row);
        snprintf(sql, sizeof sql,
                 "BEGIN; SELECT FROM sessions FOR UPDATE; %s; "
                 "SELECT pg_sleep(0.4); COMMIT",
                 endings[i]);
        assert_true(PQsendQuery(place->admin, sql));
        usleep(150000);
        assert_false(put_turn(store, &row));
        for (PGresult *result; (result = PQgetResult(place->admin));)
            PQclear(result);
    }
    sessions_close(&store);
}

/* ---- answers */

static struct kept_answer new_answer(const char *key, int64_t stored_ms)
{
    return (struct kept_answer){.key = {key, ANSWER_HASH_BYTES},
                                .content = {key, ANSWER_HASH_BYTES},
                                .request = id_of(7),
                                .stored_ms = stored_ms,
                                .expires_ms = stored_ms + hour_ms,
                                .answer = STR("\0\xff'\\ bytes")};
}

static bool put_answer(struct sessions_store *store, const struct kept_answer *answer)
{
    struct error error;
    bool existed;
    begin(store);
    if (!answers_add(store, answer, &existed, &error))
        fail_msg("%s", error.message);
    commit_all(store);
    return !existed;
}

static bool find_answer(struct sessions_store *store, const char *key, struct kept_answer *answer)
{
    struct error error;
    bool found;
    if (!answers_find(store, (struct str){key, ANSWER_HASH_BYTES}, answer, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

static void an_answer_is_kept_until_it_expires(void **state)
{
    static const char key[ANSWER_HASH_BYTES] = "\0key", other[ANSWER_HASH_BYTES] = "other";
    struct sessions_store *store = open_first(*state);
    struct kept_answer answer = new_answer(key, start_ms), later, read;
    assert_true(put_answer(store, &answer));
    later = new_answer(key, start_ms + hour_ms - 1);
    later.answer = STR("");
    assert_false(put_answer(store, &later));
    assert_false(find_answer(store, other, &read));
    assert_true(find_answer(store, key, &read));
    assert_true(str_eq(read.key, answer.key) && str_eq(read.content, answer.content));
    assert_true(str_eq(read.answer, answer.answer));
    assert_int_equal(uuid_compare(&read.request, &answer.request), 0);
    assert_int_equal(read.stored_ms, start_ms);
    assert_int_equal(read.expires_ms, start_ms + hour_ms);
    later.stored_ms++;
    assert_true(put_answer(store, &later));
    assert_true(find_answer(store, key, &read));
    assert_true(read.answer.at && read.answer.len == 0);
    assert_int_equal(read.stored_ms, start_ms + hour_ms);
    sessions_close(&store);
}

static void answers_go(void **state)
{
    static char keys[5][ANSWER_HASH_BYTES] = {"0", "1", "2", "3", "4"};
    struct sessions_store *store = open_first(*state);
    struct error error;
    int64_t bytes;
    unsigned done;
    assert_true(answers_bytes(store, &bytes, &error));
    assert_int_equal(bytes, 0);
    for (int i = 0; i < 5; i++) {
        struct kept_answer answer = new_answer(keys[i], start_ms + i);
        answer.answer.len = 5 + (size_t)i;
        put_answer(store, &answer);
    }
    assert_true(answers_bytes(store, &bytes, &error));
    assert_int_equal(bytes, 35);
    begin(store);
    assert_true(answers_sweep(store, start_ms + hour_ms + 1, 10, &done, &bytes, &error));
    assert_int_equal(done, 2);
    assert_int_equal(bytes, 11);
    assert_true(answers_drop(store, 2, &done, &bytes, &error));
    assert_int_equal(done, 2);
    assert_int_equal(bytes, 15);
    assert_true(answers_drop(store, 2, &done, &bytes, &error));
    assert_int_equal(done, 1);
    assert_int_equal(bytes, 9);
    assert_true(answers_drop(store, 2, &done, &bytes, &error));
    assert_int_equal(done, 0);
    commit_all(store);
    sessions_close(&store);
}

/* ---- the server's faults */

static void tables_are_waited_for(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place, "one"), *tool = NULL;
    const struct config config = {.store = place->config};
    struct error error;
    int64_t limit_ms = clock_now_ms() + SERVER_PATIENCE_MS;
    while (!sessions_begin(store, &error) && !strstr(error.message, "tables") &&
           clock_now_ms() < limit_ms)
        usleep(5000);
    assert_says(&error, "the logger has not made the tables yet");
    assert_false(sessions_open(&config, NULL, &tool, &error));
    assert_says(&error, "the logger has not made the tables yet");
    assert_null(tool);
    make_tables(place);
    wait_for(store);
    sessions_close(&store);
}

static void a_later_schema_is_refused(void **state)
{
    struct place *place = *state;
    struct sessions_store *tool = NULL;
    const struct config config = {.store = place->config};
    struct error error;
    make_tables(place);
    ask(place, "INSERT INTO schema_migrations (number, name) VALUES (9000, 'x')");
    assert_false(sessions_open(&config, NULL, &tool, &error));
    assert_says(&error, "9000");
    assert_says(&error, "newer promptgate");
}

static void nothing_of_the_dsn_is_said(void **state)
{
    struct place *place = *state;
    struct sessions_store *tool = NULL;
    struct error error;
    name_database(place, "nobody-there", place->name);
    const struct config config = {.store = place->config};
    assert_false(sessions_open(&config, NULL, &tool, &error));
    assert_null(strstr(error.message, "very-secret"));
    assert_says(&error, "can't connect");
}

static void cut_connections(const struct place *place)
{
    ask(place, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
               "WHERE datname = current_database() AND pid <> pg_backend_pid()");
}

static void a_lost_connection_is_made_anew(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct session_row row = new_row(1);
    struct error error;
    uint64_t epoch = sessions_epoch(store);
    begin(store);
    add_turn(store, &row);
    cut_connections(place);
    assert_false(sessions_commit(store, &error));
    assert_says(&error, "can't commit");
    assert_false(sessions_commit(store, &error));
    sessions_undo(store);
    wait_for(store);
    assert_true(sessions_epoch(store) > epoch);
    assert_false(load(store, 1, &row));
    row = new_row(1);
    assert_true(put_turn(store, &row));
    cut_connections(place); /* while nothing is asked */
    usleep(100000);
    assert_false(sessions_begin(store, &error));
    assert_says(&error, "not connected yet");
    wait_for(store);
    assert_true(load(store, 1, &row));
    sessions_close(&store);
}

/* Locks that others hold for too long. */
static void locked_is_an_error_for_now(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct session_row row = new_row(1);
    struct error error;
    bool moved;
    uint64_t epoch = sessions_epoch(store);
    put_turn(store, &row);
    ask(place, "BEGIN; SELECT FROM sessions FOR UPDATE");
    int64_t before_ms = clock_now_ms();
    begin(store);
    assert_false(try_turn(store, &row, &moved, &error));
    assert_says(&error, "lock timeout");
    assert_in_range(clock_now_ms() - before_ms, 0, SESSIONS_WAIT_MS + 500);
    ask(place, "ROLLBACK");
    row.turns = 1;
    assert_true(put_turn(store, &row));
    assert_int_equal(sessions_epoch(store), epoch);
    sessions_close(&store);
}

/* A server that takes connections and says nothing. */
static void silence_is_not_waited_for(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct session_row row;
    struct uuid id = id_of(1);
    struct error error;
    bool found;
    /* The server process of this connection. */
    pid_t pid = atoi(ask(place, "SELECT max(pid) FROM pg_stat_activity WHERE datname = "
                                "current_database() AND pid <> pg_backend_pid()"));
    kill(pid, SIGSTOP);
    int64_t before_ms = clock_now_ms();
    bool good = sessions_load(store, &id, 0, &row, NULL, &found, &error);
    int64_t waited_ms = clock_now_ms() - before_ms;
    kill(pid, SIGCONT);
    assert_false(good);
    assert_says(&error, "no answer in time");
    assert_in_range(waited_ms, SESSIONS_WAIT_MS - 50, SESSIONS_WAIT_MS + 500);
    wait_for(store);
    sessions_close(&store);
}

/* Refused at once, for a while without an attempt. */
static void a_server_that_is_away_is_not_waited_for(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_first(place);
    struct error error;
    PQfinish(place->admin);
    place->admin = NULL;
    server_end(&server, SIGQUIT);
    int64_t before_ms = clock_now_ms();
    while (clock_now_ms() - before_ms < 700) {
        int64_t call_ms = clock_now_ms();
        assert_false(sessions_begin(store, &error));
        assert_in_range(clock_now_ms() - call_ms, 0, 200);
        usleep(10000);
    }
    assert_says(&error, "PostgreSQL at");
    assert_true(server_begin(&server));
    wait_for(store);
    put_session(store, 1, start_ms);
    sessions_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_is_read_as_it_was_written),
        TEST(turns_follow_each_other),
        TEST(texts_stay_as_they_are),
        TEST(a_turn_is_stored_once),
        TEST(deleted_is_gone),
        TEST(the_command_line_waits),
        TEST(the_list_begins_with_the_latest_turn),
        TEST(writing_needs_a_transaction),
        TEST(undo_leaves_nothing),
        TEST(a_failure_ends_the_transaction),
        TEST(one_host_has_a_claim),
        TEST(a_claim_is_given_back_with_what_was_stored),
        TEST(claims_end_unless_they_are_renewed),
        TEST(expired_becomes_a_tombstone),
        TEST(what_is_claimed_is_not_swept),
        TEST(tombstones_stay_for_30_days),
        TEST(hosts_sweep_at_once),
        TEST(a_turn_and_a_sweep_at_once),
        TEST(a_turn_waits_for_who_ends_its_session),
        TEST(an_answer_is_kept_until_it_expires),
        TEST(answers_go),
        TEST(tables_are_waited_for),
        TEST(a_later_schema_is_refused),
        TEST(nothing_of_the_dsn_is_said),
        TEST(a_lost_connection_is_made_anew),
        TEST(locked_is_an_error_for_now),
        TEST(silence_is_not_waited_for),
        TEST(a_server_that_is_away_is_not_waited_for),
    };
    return RUN_TESTS("sessions in PostgreSQL", tests);
}
