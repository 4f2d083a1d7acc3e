#include "master/store/sessions.h"
#include "test/unit/master_sqlite.h"

#include "master/store/migrations.h"

#include <signal.h>
#include <sys/resource.h>

static const int64_t start_ms = 1790000000000, hour_ms = 3600000, day_ms = 86400000;

/* The connection that was opened last. */
static sqlite3 *latest;

static int note_connection(sqlite3 *db, char **message, const struct sqlite3_api_routines *api)
{
    (void)message;
    (void)api;
    latest = db;
    return SQLITE_OK;
}

static struct sessions_store *open_sessions(const struct place *place)
{
    struct sessions_store *store = NULL;
    struct error error;
    sqlite3_auto_extension((void (*)(void))note_connection);
    bool opened = sessions_open(place->path, &store, &error);
    sqlite3_reset_auto_extension();
    if (!opened)
        fail_msg("%s", error.message);
    assert_non_null(store);
    return store;
}

static void assert_says(const struct error *error, const char *part)
{
    if (!strstr(error->message, part))
        fail_msg("\"%s\" lacks \"%s\"", error->message, part);
}

static void assert_not_opened(const struct place *place, const char *part)
{
    struct sessions_store *store = (void *)place;
    struct error error;
    assert_false(sessions_open(place->path, &store, &error));
    assert_null(store);
    assert_says(&error, part);
}

static void begin(struct sessions_store *store)
{
    struct error error;
    if (!sessions_begin(store, &error))
        fail_msg("%s", error.message);
}

static void commit_all(struct sessions_store *store)
{
    struct error error;
    if (!sessions_commit(store, &error))
        fail_msg("%s", error.message);
}

static void assert_no_begin(struct sessions_store *store, const char *part)
{
    struct error error;
    assert_false(sessions_begin(store, &error));
    assert_says(&error, part);
}

static struct uuid id_of(uint8_t number)
{
    struct uuid id = {{number, 0, 0xff, 7}};
    id.bytes[15] = number;
    return id;
}

/* Its turns are an hour long. */
static struct session_row new_row(uint8_t number)
{
    return (struct session_row){.id = id_of(number),
                                .last_request = id_of((uint8_t)(number + 100)),
                                .project = STR("shop"),
                                .endpoint = STR("chat"),
                                .token = STR("till"),
                                .ttl_ms = hour_ms,
                                .created_ms = start_ms,
                                .expires_ms = start_ms + hour_ms};
}

/* One turn more, of two messages. */
static bool try_turn(struct sessions_store *store, struct session_row *row, struct error *error)
{
    char texts[2][64];
    row->turns++;
    row->messages += 2;
    row->tokens += 10;
    snprintf(texts[0], sizeof texts[0], "{\"q\":%d}", (int)row->turns);
    snprintf(texts[1], sizeof texts[1], "{\"a\":%d}", (int)row->turns);
    const struct str messages[] = {str_of(texts[0]), str_of(texts[1])};
    return sessions_add_turn(store, row, messages, 2, error);
}

static void add_turn(struct sessions_store *store, struct session_row *row)
{
    struct error error;
    if (!try_turn(store, row, &error))
        fail_msg("%s", error.message);
}

static void put_turn(struct sessions_store *store, struct session_row *row)
{
    begin(store);
    add_turn(store, row);
    commit_all(store);
}

/* A session of one turn that expires then. */
static void add_session(struct sessions_store *store, uint8_t number, int64_t expires_ms)
{
    struct session_row row = new_row(number);
    row.expires_ms = expires_ms;
    add_turn(store, &row);
}

static void put_session(struct sessions_store *store, uint8_t number, int64_t expires_ms)
{
    begin(store);
    add_session(store, number, expires_ms);
    commit_all(store);
}

static bool load(struct sessions_store *store, uint8_t number, struct session_row *row,
                 struct buf *messages)
{
    struct uuid id = id_of(number);
    struct error error;
    bool found = false;
    if (!sessions_load(store, &id, row, messages, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

static void assert_messages(struct sessions_store *store, uint8_t number, const char *expected)
{
    struct session_row row;
    struct buf messages = {0};
    assert_true(load(store, number, &row, &messages));
    assert_string_equal(buf_cstr(&messages), expected);
    buf_free(&messages);
}

static void assert_names(const struct session_row *row, const char *expected)
{
    struct buf names = {0};
    buf_printf(&names, "%.*s %.*s %.*s", STR_ARG(row->project), STR_ARG(row->endpoint),
               STR_ARG(row->token));
    assert_string_equal(buf_cstr(&names), expected);
    buf_free(&names);
}

static bool delete_session(struct sessions_store *store, uint8_t number)
{
    struct uuid id = id_of(number);
    struct error error;
    bool found = false;
    if (!sessions_delete(store, &id, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

static unsigned sweep(struct sessions_store *store, int64_t now_ms, unsigned most)
{
    struct error error;
    unsigned done = 12345;
    begin(store);
    if (!sessions_sweep(store, now_ms, most, &done, &error))
        fail_msg("%s", error.message);
    commit_all(store);
    return done;
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

static sqlite3 *lock(const struct place *place)
{
    sqlite3 *other;
    assert_int_equal(sqlite3_open(place->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return other;
}

static void assert_mode(const struct place *place, const char *name)
{
    struct stat status;
    char path[SCRATCH_PATH];
    assert_int_equal(stat(scratch_path(place->directory, name, path), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0600);
}

/* --- */

static void file_is_private(void **state)
{
    struct place *place = *state;
    mode_t mask = umask(0);
    struct sessions_store *store = open_sessions(place);
    umask(mask);
    put_session(store, 1, start_ms);
    assert_mode(place, "logs.db");
    assert_mode(place, "logs.db-wal");
    assert_mode(place, "logs.db-shm");
    assert_string_equal(ask(place, "PRAGMA journal_mode"), "wal;");
    sessions_close(&store);
    assert_null(store);
    sessions_close(&store);
}

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
    assert_int_equal(read.ttl_ms, hour_ms);
    assert_int_equal(read.turns, 1);
    assert_int_equal(read.messages, 2);
    assert_int_equal(read.tokens, (INT64_C(1) << 40) + 10);
    assert_int_equal(read.created_ms, start_ms);
    assert_int_equal(read.expires_ms, start_ms + hour_ms);
    assert_false(read.ended);
    assert_messages(store, 1, "{\"q\":1},{\"a\":1}");
    sessions_close(&store);
}

/* 300 turns: positions sort as numbers, and turns of two sessions come in turns. */
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
    }
    assert_messages(store, 1, buf_cstr(&expected));
    assert_messages(store, 2, buf_cstr(&expected));
    assert_true(load(store, 2, &read, NULL));
    assert_int_equal(read.turns, 300);
    assert_int_equal(read.messages, 600);
    assert_int_equal(read.tokens, 3000);
    assert_int_equal(read.expires_ms, start_ms + hour_ms + 300);
    assert_string_equal(ask(place, "SELECT min(position), max(position), count(*) "
                                   "FROM session_messages GROUP BY session"),
                        "0|599|600;0|599|600;");
    buf_free(&expected);
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

static void turns_of_no_session_are_refused(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1), again = new_row(2);
    struct error error;
    begin(store);
    add_session(store, 3, start_ms);
    row.turns = 1;
    assert_false(try_turn(store, &row, &error));
    assert_says(&error, "not there");
    /* That was the end of the transaction: nothing is kept of it, nothing more can be written. */
    assert_false(sessions_commit(store, &error));
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions"), "0;");
    begin(store);
    add_session(store, 2, start_ms);
    assert_false(try_turn(store, &again, &error));
    assert_says(&error, "UNIQUE");
    assert_false(sessions_commit(store, &error));
    sessions_close(&store);
}

/* Its row is written before: both are taken back. */
static void messages_take_no_others_place(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1);
    struct error error;
    put_turn(store, &row);
    row.messages--;
    begin(store);
    assert_false(try_turn(store, &row, &error));
    assert_false(sessions_commit(store, &error));
    row = new_row(2);
    row.messages = -1;
    begin(store);
    assert_false(try_turn(store, &row, &error));
    assert_string_equal(ask(place, "SELECT turns, messages FROM sessions"), "1|2;");
    assert_messages(store, 1, "{\"q\":1},{\"a\":1}");
    sessions_close(&store);
}

static void writing_needs_a_transaction(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row = new_row(1);
    struct error error;
    bool found;
    unsigned done;
    assert_false(try_turn(store, &row, &error));
    assert_says(&error, "no transaction");
    assert_false(sessions_delete(store, &row.id, &found, &error));
    assert_false(sessions_sweep(store, start_ms, 1, &done, &error));
    assert_false(sessions_commit(store, &error));
    sessions_undo(store);
    begin(store);
    assert_no_begin(store, "transaction");
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
    assert_string_equal(ask(place, "SELECT turns, messages FROM sessions"), "1|2;");
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "2;");
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
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "2;");
    sessions_close(&store);
}

/* A tombstone tells whose it was; nothing can be added to it, but it can be deleted. */
static void expired_becomes_a_tombstone(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row;
    struct buf messages = {0};
    struct error error;
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
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "2;");
    begin(store);
    row.turns = 1;
    assert_false(try_turn(store, &row, &error));
    begin(store);
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
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "14;");
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions, session_messages "
                                   "WHERE session = id AND ended"),
                        "0;");
    assert_int_equal(sweep(store, start_ms + 10, 3), 3);
    assert_int_equal(sweep(store, start_ms + 10, 3), 1);
    assert_int_equal(sweep(store, start_ms + 10, 3), 0);
    assert_string_equal(ask(place, "SELECT count(*) FROM session_messages"), "6;");
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
                                   "(SELECT count(*) FROM session_messages)"),
                        "0;");
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
        rows[i].ttl_ms = i == 4 ? 9 * hour_ms : hour_ms;
        rows[i].expires_ms = start_ms + turn[i] + rows[i].ttl_ms;
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
    sessions_close(&store);
}

static void texts_stay_as_they_are(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row = new_row(1);
    struct error error;
    struct buf big = {0}, expected = {0}, read = {0};
    while (big.len < 1 << 20)
        buf_printf(&big, "{\"%zu\":\"\xc3\xa4\xf0\x9f\x98\x80\"}", big.len);
    const struct str messages[] = {STR("{\"it's\":\"\\\"quoted\\\", '; DROP TABLE sessions\"}"),
                                   buf_view(&big), STR(""), STR("{\"\xe2\x82\xac\":\"%s ?1\"}"),
                                   buf_view(&big)};
    size_t count = sizeof messages / sizeof *messages;
    for (size_t i = 0; i < count; i++) {
        buf_puts(&expected, i ? "," : "");
        buf_str(&expected, messages[i]);
    }
    row.project = STR("o'\"\xc3\x9f\";--");
    row.turns = 1;
    row.messages = (int64_t)count;
    begin(store);
    assert_true(sessions_add_turn(store, &row, messages, count, &error));
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

static void two_may_have_it_open(void **state)
{
    struct place *place = *state;
    struct sessions_store *one = open_sessions(place), *two = open_sessions(place);
    struct session_row row;
    begin(one);
    add_session(one, 1, start_ms + hour_ms);
    assert_false(load(two, 1, &row, NULL));
    commit_all(one);
    assert_true(load(two, 1, &row, NULL));
    begin(two);
    add_turn(two, &row);
    commit_all(two);
    assert_messages(one, 1, "{\"q\":1},{\"a\":1},{\"q\":2},{\"a\":2}");
    sessions_close(&one);
    sessions_close(&two);
}

static void migrations_are_applied_once(void **state)
{
    struct place *place = *state;
    char expected[32];
    snprintf(expected, sizeof expected, "%d;", migrations_newest("sessions"));
    for (int i = 0; i < 2; i++) {
        struct sessions_store *store = open_sessions(place);
        sessions_close(&store);
        assert_string_equal(ask(place, "PRAGMA user_version"), expected);
    }
    assert_true(migrations_newest("sessions") >= 1);
}

static void a_later_schema_is_refused(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    sessions_close(&store);
    ask(place, "PRAGMA user_version = 9000");
    assert_not_opened(place, "9000");
    assert_not_opened(place, "newer promptgate");
    assert_string_equal(ask(place, "PRAGMA user_version"), "9000;");
}

static void unusable_paths_are_refused(void **state)
{
    struct place *place = *state;
    FILE *file = fopen(place->path, "w");
    for (int i = 0; i < 100; i++)
        fputs("this is no database at all\n", file);
    fclose(file);
    assert_not_opened(place, "not a database");
    scratch_path(place->directory, "missing/sessions.db", place->path);
    assert_not_opened(place, "missing/sessions.db");
    strcpy(place->path, place->directory);
    assert_not_opened(place, place->directory);
}

static void locked_is_an_error_for_now(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row;
    put_session(store, 1, start_ms);
    sqlite3 *other = lock(place);
    assert_no_begin(store, "logs.db: can't begin to write: database is locked");
    assert_true(load(store, 1, &row, NULL));
    assert_not_opened(place, "locked");
    sqlite3_close(other);
    put_session(store, 2, start_ms);
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions"), "2;");
    sessions_close(&store);
}

/* SQLITE_FULL, by a limit of SQLite's own. */
static void full_keeps_nothing_and_passes(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(2);
    struct error error;
    struct buf big = {0};
    memset(buf_reserve(&big, 1 << 20), 'x', 1 << 20);
    big.len = 1 << 20;
    struct str message = buf_view(&big);
    row.turns = row.messages = 1;
    begin(store);
    add_session(store, 1, start_ms);
    sqlite3_exec(latest, "PRAGMA max_page_count = 20", NULL, NULL, NULL);
    assert_false(sessions_add_turn(store, &row, &message, 1, &error));
    assert_says(&error, "full");
    assert_false(sessions_commit(store, &error));
    put_session(store, 3, start_ms);
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)) FROM sessions"), "03;");
    sqlite3_exec(latest, "PRAGMA max_page_count = 100000", NULL, NULL, NULL);
    begin(store);
    assert_true(sessions_add_turn(store, &row, &message, 1, &error));
    commit_all(store);
    buf_free(&big);
    sessions_close(&store);
}

/* Another failure than that: a file that may not grow. The connection is given up, and its file is
 * opened anew. */
static void a_failed_write_keeps_nothing_and_passes(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1);
    struct error error = {""};
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_IGN);
    put_turn(store, &row);
    begin(store);
    add_session(store, 2, start_ms);
    small = (struct rlimit){.rlim_cur = 4096, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    bool committed = sessions_commit(store, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_DFL);
    assert_false(committed);
    assert_says(&error, "can't commit: disk I/O error");
    assert_messages(store, 1, "{\"q\":1},{\"a\":1}");
    assert_false(load(store, 2, &row, NULL));
    put_session(store, 2, start_ms);
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions"), "2;");
    sessions_close(&store);
}

static void a_deleted_file_is_made_anew(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row;
    struct error error;
    put_session(store, 1, start_ms);
    assert_int_equal(unlink(place->path), 0);
    begin(store);
    assert_false(load(store, 1, &row, NULL));
    add_session(store, 2, start_ms);
    assert_int_equal(unlink(place->path), 0);
    assert_false(sessions_commit(store, &error));
    assert_says(&error, "deleted");
    assert_false(load(store, 2, &row, NULL));
    put_session(store, 3, start_ms);
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)) FROM sessions"), "03;");
    sessions_close(&store);
}

/* Its own -wal must not be played into the database that another one has put there. */
static void a_replaced_file_is_taken_as_it_is(void **state)
{
    struct place *place = *state;
    char copy[SCRATCH_PATH], sql[SCRATCH_PATH + 32];
    scratch_path(place->directory, "copy.db", copy);
    snprintf(sql, sizeof sql, "VACUUM INTO '%s'", copy);
    struct sessions_store *store = open_sessions(place);
    struct session_row row;
    put_session(store, 1, start_ms);
    ask(place, sql);
    put_session(store, 2, start_ms);
    assert_int_equal(rename(copy, place->path), 0);
    begin(store);
    assert_true(load(store, 1, &row, NULL));
    assert_false(load(store, 2, &row, NULL));
    add_session(store, 3, start_ms);
    commit_all(store);
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)) FROM sessions"), "01;03;");
    assert_string_equal(ask(place, "PRAGMA integrity_check"), "ok;");
    sessions_close(&store);
}

static void a_deleted_wal_loses_nothing(void **state)
{
    struct place *place = *state;
    char wal[SCRATCH_PATH];
    scratch_path(place->directory, "logs.db-wal", wal);
    struct sessions_store *store = open_sessions(place);
    put_session(store, 1, start_ms);
    assert_int_equal(unlink(wal), 0);
    put_session(store, 2, start_ms);
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)) FROM sessions"), "01;02;");
    sessions_close(&store);
}

static int stop(void *context)
{
    (void)context;
    return 1;
}

/* It fails behind some of the messages. */
static void a_load_that_breaks_off_gives_nothing(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct session_row row = new_row(1);
    struct buf messages = {0};
    struct error error;
    bool found = true;
    begin(store);
    for (int i = 0; i < 100; i++)
        add_turn(store, &row);
    commit_all(store);
    buf_puts(&messages, "[");
    sqlite3_progress_handler(latest, 400, stop, NULL);
    assert_false(sessions_load(store, &row.id, &row, &messages, &found, &error));
    assert_says(&error, "interrupted");
    assert_false(found);
    assert_string_equal(buf_cstr(&messages), "[");
    assert_true(load(store, 1, &row, &messages));
    assert_int_equal(row.messages, 200);
    buf_free(&messages);
    sessions_close(&store);
}

/* The next call opens the file anew, and says what it lacks. */
static void a_failed_load_gives_nothing(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row;
    struct uuid id = id_of(1);
    struct buf messages = {0};
    struct error error;
    bool found = true;
    put_session(store, 1, start_ms);
    ask(place, "DROP TABLE session_messages");
    buf_puts(&messages, "[");
    assert_false(sessions_load(store, &id, &row, &messages, &found, &error));
    assert_says(&error, "can't load a session: no such table");
    assert_false(found);
    assert_string_equal(buf_cstr(&messages), "[");
    assert_no_begin(store, "can't open the sessions: no such table");
    ask(place, "CREATE TABLE session_messages (session, position, message)");
    begin(store);
    commit_all(store);
    buf_free(&messages);
    sessions_close(&store);
}

/* How the store's own statement that begins with `text` is run. */
static void plan_of(const char *text, struct buf *plan)
{
    sqlite3_stmt *statement = NULL, *explain;
    struct buf sql = {0};
    do
        statement = sqlite3_next_stmt(latest, statement);
    while (statement && strncmp(sqlite3_sql(statement), text, strlen(text)) != 0);
    if (!statement)
        fail_msg("no statement begins with %s", text);
    buf_printf(&sql, "EXPLAIN QUERY PLAN %s", sqlite3_sql(statement));
    assert_int_equal(sqlite3_prepare_v2(latest, buf_cstr(&sql), -1, &explain, NULL), SQLITE_OK);
    buf_clear(plan);
    while (sqlite3_step(explain) == SQLITE_ROW)
        buf_printf(plan, "%s; ", (const char *)sqlite3_column_text(explain, 3));
    sqlite3_finalize(explain);
    buf_free(&sql);
}

#define BY_ID "SEARCH sessions USING PRIMARY KEY (id=?); "
#define BY_SESSION "SEARCH session_messages USING PRIMARY KEY (session=?); "
#define BY_INDEX(name) "LIST SUBQUERY 1; SEARCH sessions USING INDEX " name " (expires_at<?); "

static void nothing_is_searched_without_an_index(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    static const struct {
        const char *statement, *plan;
    } plans[] = {
        {"SELECT message FROM", BY_SESSION},
        {"SELECT id, project, endpoint, token, ttl_ms, turns, messages, tokens, created_at, "
         "expires_at, last_request, ended FROM sessions WHERE id",
         BY_ID},
        {"UPDATE sessions SET project", BY_ID},
        {"DELETE FROM sessions WHERE id = ", BY_ID},
        {"DELETE FROM session_messages WHERE session = ", BY_SESSION},
        {"DELETE FROM session_messages WHERE session IN", BY_SESSION BY_INDEX("sessions_to_end")},
        {"UPDATE sessions SET ended", BY_ID BY_INDEX("sessions_to_end")},
        {"DELETE FROM sessions WHERE id IN", BY_ID BY_INDEX("sessions_to_forget")},
    };
    struct buf plan = {0};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        plan_of(plans[i].statement, &plan);
        assert_string_equal(buf_cstr(&plan), plans[i].plan);
    }
    buf_free(&plan);
    sessions_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(file_is_private),
        TEST(a_session_is_read_as_it_was_written),
        TEST(turns_stay_in_order),
        TEST(a_loaded_session_goes_on),
        TEST(unknown_ids_are_not_found),
        TEST(turns_of_no_session_are_refused),
        TEST(messages_take_no_others_place),
        TEST(writing_needs_a_transaction),
        TEST(undo_leaves_nothing),
        TEST(deleted_is_gone),
        TEST(expired_becomes_a_tombstone),
        TEST(the_sweep_goes_in_small_parts),
        TEST(tombstones_stay_for_30_days),
        TEST(what_expired_long_ago_goes_at_once),
        TEST(the_list_begins_with_the_latest_turn),
        TEST(texts_stay_as_they_are),
        TEST(two_may_have_it_open),
        TEST(migrations_are_applied_once),
        TEST(a_later_schema_is_refused),
        TEST(unusable_paths_are_refused),
        TEST(locked_is_an_error_for_now),
        TEST(full_keeps_nothing_and_passes),
        TEST(a_failed_write_keeps_nothing_and_passes),
        TEST(a_deleted_file_is_made_anew),
        TEST(a_replaced_file_is_taken_as_it_is),
        TEST(a_deleted_wal_loses_nothing),
        TEST(a_load_that_breaks_off_gives_nothing),
        TEST(a_failed_load_gives_nothing),
        TEST(nothing_is_searched_without_an_index),
    };
    return cmocka_run_group_tests_name("sessions", tests, NULL, NULL);
}
