/* The SQLite file of sessions: how it is made, brought up to date, read and written, and what
 * becomes of it in others' hands. */
#include "test/unit/master_sessions.h"

#include "master/store/migrations.h"

#include <signal.h>
#include <sys/resource.h>

/* Time goes on when a test says so. */
static int64_t now_us;

static int64_t told_us(void)
{
    return now_us;
}

static int64_t told_wall_ms(void)
{
    return start_ms;
}

static void later(void)
{
    now_us += 100000;
}

static int start_clock(void **state)
{
    static const struct clock_source source = {told_us, told_wall_ms};
    clock_set_source(&source);
    later();
    return set_up(state);
}

static void assert_not_opened(const struct place *place, const char *part)
{
    struct sessions_store *store = (void *)place;
    struct error error;
    assert_false(try_open(place, &store, &error));
    assert_null(store);
    assert_says(&error, part);
}

static void assert_no_begin(struct sessions_store *store, const char *part)
{
    struct error error;
    assert_false(sessions_begin(store, &error));
    assert_says(&error, part);
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
    bool moved;
    row.turns = row.messages = 1;
    begin(store);
    add_session(store, 1, start_ms);
    sqlite3_exec(latest, "PRAGMA max_page_count = 20", NULL, NULL, NULL);
    assert_false(sessions_add_turn(store, &row, buf_view(&big), &moved, &error));
    assert_says(&error, "full");
    assert_false(sessions_commit(store, &error));
    put_session(store, 3, start_ms);
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)) FROM sessions"), "03;");
    sqlite3_exec(latest, "PRAGMA max_page_count = 100000", NULL, NULL, NULL);
    begin(store);
    assert_true(sessions_add_turn(store, &row, buf_view(&big), &moved, &error));
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
    later();
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
    later();
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
    later();
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
    assert_false(sessions_load(store, &row.id, 0, &row, &messages, &found, &error));
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
    assert_false(sessions_load(store, &id, 0, &row, &messages, &found, &error));
    assert_says(&error, "can't load a session: no such table");
    assert_false(found);
    assert_string_equal(buf_cstr(&messages), "[");
    assert_no_begin(store, "can't open the sessions: no such table");
    ask(place, "CREATE TABLE session_messages (place INTEGER PRIMARY KEY, session, turn, "
               "request, messages, tokens, stored_at, expires_at, body)");
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

#define BY_ID "SEARCH sessions USING INDEX sqlite_autoindex_sessions_1 (id=?); "
#define BY_NUMBER "SEARCH sessions USING INTEGER PRIMARY KEY (rowid=?); "
#define BY_PLACE "SEARCH turns USING INTEGER PRIMARY KEY (rowid=?); "
#define OF_SESSION(more) "SEARCH places USING PRIMARY KEY (session=?" more "); "
#define NEW                                                                                        \
    "SEARCH turns USING INTEGER PRIMARY KEY (rowid>?); SCALAR SUBQUERY 1; "                        \
    "SEARCH session_places USING PRIMARY KEY (session=?); "

static void nothing_is_searched_without_an_index(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    static const struct {
        const char *statement, *plan;
    } plans[] = {
        {"SELECT sessions.number, ", BY_ID},
        {"SELECT turns.turn, request, messages, tokens, stored_at, expires_at FROM "
         "session_messages",
         NEW},
        {"SELECT turns.turn, request, messages, tokens, stored_at, expires_at FROM session_places",
         OF_SESSION("") BY_PLACE},
        {"SELECT body FROM session_places", OF_SESSION(" AND turn>?") BY_PLACE},
        {"SELECT body FROM session_messages", NEW},
        {"SELECT 1", BY_NUMBER},
    };
    struct buf plan = {0};
    for (size_t i = 0; i < sizeof plans / sizeof *plans; i++) {
        plan_of(plans[i].statement, &plan);
        assert_string_equal(buf_cstr(&plan), plans[i].plan);
    }
    buf_free(&plan);
    sessions_close(&store);
}

static void nothing_is_swept_without_an_index(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    static const char *const statements[] = {
        "DELETE FROM sessions WHERE number = ",
        "DELETE FROM session_messages",
        "DELETE FROM session_places",
        "SELECT number",
        "UPDATE sessions SET ended",
        "UPDATE sessions SET look_at",
        "DELETE FROM sessions WHERE number IN",
        "SELECT key",
        "DELETE FROM idempotent_answers WHERE key",
        "DELETE FROM idempotent_answers WHERE rowid IN (SELECT rowid FROM idempotent_answers "
        "WHERE expires_at",
    };
    struct buf plan = {0};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        plan_of(statements[i], &plan);
        if (strstr(buf_cstr(&plan), "SCAN") || strstr(buf_cstr(&plan), "TEMP"))
            fail_msg("%s: %s", statements[i], buf_cstr(&plan));
    }
    buf_free(&plan);
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

/* --- what others have written */

/* The file's own numbers are not moved by what this connection does. */
static void own_turns_leave_the_epoch(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct session_row row = new_row(1);
    put_turn(store, &row);
    uint64_t epoch = sessions_epoch(store);
    for (int i = 0; i < 600; i++) {
        put_turn(store, &row);
        assert_true(sessions_epoch(store) == epoch);
    }
    begin(store);
    commit_all(store);
    begin(store);
    add_turn(store, &row);
    sessions_undo(store);
    assert_string_equal(ask(place, "SELECT count(*) FROM sessions"), "1;");
    later();
    assert_true(sessions_epoch(store) == epoch);
    sqlite3_wal_checkpoint_v2(latest, NULL, SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    put_session(store, 2, start_ms);
    assert_true(sessions_epoch(store) == epoch);
    sessions_close(&store);
}

static void others_change_the_epoch(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place), *other = open_sessions(place);
    put_session(store, 1, start_ms);
    uint64_t epoch = sessions_epoch(store);
    put_session(other, 2, start_ms);
    assert_true(sessions_epoch(store) != epoch);
    epoch = sessions_epoch(store);
    assert_true(sessions_epoch(store) == epoch);
    begin(other);
    assert_true(delete_session(other, 1));
    commit_all(other);
    begin(store); /* not asked before */
    assert_true(sessions_epoch(store) != epoch);
    epoch = sessions_epoch(store);
    commit_all(store);
    assert_int_equal(unlink(place->path), 0);
    later();
    assert_true(sessions_epoch(store) != epoch);
    epoch = sessions_epoch(store);
    assert_true(sessions_epoch(store) == epoch);
    sessions_close(&store);
    sessions_close(&other);
}

/* Between a commit and its end: what it has written looks like the latest. */
static int write_behind(void *context, sqlite3 *db, const char *name, int pages)
{
    struct sessions_store *other = context;
    (void)db;
    (void)name;
    (void)pages;
    put_session(other, 2, start_ms);
    return SQLITE_OK;
}

static void others_that_write_right_behind_are_seen(void **state)
{
    struct place *place = *state;
    struct sessions_store *other = open_sessions(place), *store = open_sessions(place);
    put_session(store, 1, start_ms);
    uint64_t epoch = sessions_epoch(store);
    sqlite3_wal_hook(latest, write_behind, other);
    put_session(store, 3, start_ms);
    sqlite3_wal_hook(latest, NULL, NULL);
    assert_true(sessions_epoch(store) != epoch);
    sessions_close(&store);
    sessions_close(&other);
}

/* What goes unnoticed for a moment is found out before a turn is said to be stored. */
static void a_file_that_was_just_deleted_takes_no_turn(void **state)
{
    struct place *place = *state;
    struct sessions_store *store = open_sessions(place);
    struct error error;
    put_session(store, 1, start_ms);
    assert_int_equal(unlink(place->path), 0);
    begin(store);
    add_session(store, 2, start_ms);
    assert_false(sessions_commit(store, &error));
    assert_says(&error, "deleted");
    put_session(store, 3, start_ms);
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)) FROM sessions"), "03;");
    sessions_close(&store);
}

/* --- files of earlier programs */

#define ID(number) "X'" number "00ff070000000000000000000000" number "'"

static void make_first_file(const struct place *place)
{
    const struct migration *first = migrations_after("sessions", 0);
    sqlite3 *db;
    assert_int_equal(first->number, 1);
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, first->sql, NULL, NULL, NULL), SQLITE_OK);
    static const char rows[] =
        "PRAGMA user_version = 1;"
        "INSERT INTO sessions VALUES"
        "(" ID("01") ", 'shop', 'chat', 'till', 500, 2, 5, 70, 1000, 9000, " ID(
            "65") ", 0),"
                  "(" ID("02") ", 'it''s', 'talk', 'web', 600, 1, 2, 30, 900, 9100, " ID(
                      "66") ", 0),"
                            "(" ID("03") ", 'shop', 'chat', 'till', 700, 0, 0, 0, 800, 2000, " ID(
                                "67") ", 1);"
                                      "INSERT INTO session_messages VALUES"
                                      "(" ID("02") ", 0, '{\"u\":1}'), (" ID(
                                          "02") ", 1, '{\"v\":1}'),"
                                                "(" ID("01") ", 4, '{\"e\":\"\\u00e4,\"}'), (" ID(
                                                    "01") ", 0, '{\"a\":1}'),"
                                                          "(" ID("01") ", 1, '{\"b\":1}'), (" ID(
                                                              "01") ", 2, '{\"c\":[]}'),"
                                                                    "(" ID(
                                                                        "01") ", 3, '{\"d\":1}')";
    char *message = NULL;
    if (sqlite3_exec(db, rows, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s", message);
    sqlite3_close(db);
}

static void sessions_of_the_first_schema_go_on(void **state)
{
    struct place *place = *state;
    struct session_row row;
    make_first_file(place);
    struct sessions_store *store = open_sessions(place);
    assert_messages(store, 1, "{\"a\":1},{\"b\":1},{\"c\":[]},{\"d\":1},{\"e\":\"\\u00e4,\"}");
    assert_messages(store, 2, "{\"u\":1},{\"v\":1}");
    assert_true(load(store, 1, &row, NULL));
    assert_true(str_eq(row.project, STR("shop")) && str_eq(row.token, STR("till")));
    assert_true(row.turns == 2 && row.messages == 5 && row.tokens == 70);
    assert_true(row.created_ms == 1000 && row.stored_ms == 8500 && row.expires_ms == 9000);
    assert_int_equal(row.last_request.bytes[15], 101);
    row.expires_ms = 20000;
    put_turn(store, &row);
    assert_messages(store, 1,
                    "{\"a\":1},{\"b\":1},{\"c\":[]},{\"d\":1},{\"e\":\"\\u00e4,\"},"
                    "{\"q\":3},{\"a\":3}");
    assert_true(load(store, 3, &row, NULL));
    assert_true(row.ended && row.expires_ms == 2000);
    assert_int_equal(sweep(store, 9100, 10), 2);
    assert_string_equal(ask(place, "SELECT hex(substr(id, 16)), ended FROM sessions ORDER BY id"),
                        "01|0;02|1;03|1;");
    assert_string_equal(ask(place, "PRAGMA integrity_check"), "ok;");
    sessions_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, start_clock, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(file_is_private),
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
        TEST(nothing_is_swept_without_an_index),
        TEST(two_may_have_it_open),
        TEST(own_turns_leave_the_epoch),
        TEST(others_change_the_epoch),
        TEST(others_that_write_right_behind_are_seen),
        TEST(a_file_that_was_just_deleted_takes_no_turn),
        TEST(sessions_of_the_first_schema_go_on),
    };
    return cmocka_run_group_tests_name("sessions in SQLite", tests, NULL, NULL);
}
