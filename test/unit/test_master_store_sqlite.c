#include "test/unit/master_sqlite.h"

#include "master/store/migrations.h"

/* No list of columns is written twice: the migration's must be those of columns.def. */
static void table_has_the_records_columns(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    static const char *types[] = {[RECORD_KIND_UUID] = "TEXT",
                                  [RECORD_KIND_TIME] = "TEXT",
                                  [RECORD_KIND_TEXT] = "TEXT",
                                  [RECORD_KIND_INT] = "INTEGER",
                                  [RECORD_KIND_BOOL] = "INTEGER"};
    struct buf expected = {0};
    for (size_t i = 0; i < record_columns_count; i++) {
        buf_printf(&expected, "%s|%s;", record_columns[i].name, types[record_columns[i].kind]);
        if (strcmp(record_columns[i].name, "cost_nano_usd") == 0)
            buf_puts(&expected, "cost_usd|REAL;");
    }
    assert_string_equal(ask(place, "SELECT name, type FROM pragma_table_xinfo('gateway_logs')"),
                        buf_cstr(&expected));
    buf_free(&expected);
    store_close(&store);
}

static void file_is_private_and_durable(void **state)
{
    struct place *place = *state;
    mode_t mask = umask(0);
    struct store *store = open_store(place, no_offset, NULL);
    umask(mask);
    struct stat status;
    char wal[SCRATCH_PATH];
    assert_int_equal(stat(place->path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(stat(scratch_path(place->directory, "logs.db-wal", wal), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_string_equal(ask(place, "PRAGMA journal_mode"), "wal;");
    store_close(&store);
}

static void a_row_is_read_as_it_was_written(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(1790000000042);
    row.cost_nano_usd = 1500000;
    row.streamed = 1;
    row.error_message = STR("it's \"bad\"; DROP TABLE gateway_logs");
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(batch.new_rows, 1);
    assert_string_equal(ask(place, "SELECT created_at, admitted_at, cost_usd, streamed, "
                                   "error_message, http_status, length(request_id) "
                                   "FROM gateway_logs"),
                        "2026-09-21T14:13:20.042Z|NULL|0.0015|1|"
                        "it's \"bad\"; DROP TABLE gateway_logs|NULL|36;");
    store_close(&store);
}

static void known_rows_are_left_alone(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[3] = {row_at(1), row_at(2), row_at(3)};
    struct store_batch batch = {.rows = rows, .rows_count = 2};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(batch.new_rows, 2);
    rows[0].status = rows[1].status = STR("worker_died");
    batch.rows_count = 3;
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(batch.new_rows, 1);
    assert_string_equal(ask(place, "SELECT status FROM gateway_logs"), "ok;ok;ok;");
    store_close(&store);
}

static void offsets_come_back(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    const struct store_offset offsets[] = {{"a", 10}, {"b", 20}, {"a", 30}};
    const char *gone[] = {"b", "never-there"};
    struct store_batch batch = {.offsets = offsets, .offsets_count = 2};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    batch = (struct store_batch){
        .offsets = offsets + 2, .offsets_count = 1, .gone = gone, .gone_count = 2};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    store_close(&store);

    struct buf seen = {0};
    store = open_store(place, note_offset, &seen);
    assert_string_equal(buf_cstr(&seen), "a=30;");
    store_close(&store);
    buf_free(&seen);

    struct error error;
    assert_true(store_open(&place->config, "host-2", &store, &error));
    assert_int_equal(store_start(store, no_offset, NULL, &error), STORE_DONE);
    store_close(&store);
}

/* Rows and offsets in one transaction: with the database locked, neither. */
static void locked_is_away_and_changes_nothing(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    sqlite3 *other;
    assert_int_equal(sqlite3_open(place->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    struct record row = row_at(1);
    const struct store_offset offset = {"a", 10};
    struct store_batch batch = {
        .rows = &row, .rows_count = 1, .offsets = &offset, .offsets_count = 1};
    assert_int_equal(commit(store, &batch), STORE_AWAY);
    assert_int_equal(batch.new_rows, 0);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(other);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "0;");
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(batch.new_rows, 1);
    assert_string_equal(ask(place, "SELECT segment, committed FROM gateway_spool"), "a|10;");
    store_close(&store);
}

/* A failure behind the rows (here: the offsets' table refuses) takes the rows back as well. */
static void all_or_nothing(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    ask(place, "CREATE TRIGGER stop BEFORE INSERT ON gateway_spool WHEN new.segment = 'bad' "
               "BEGIN SELECT RAISE(ABORT, 'stopped'); END");
    struct record rows[2] = {row_at(1), row_at(2)};
    const struct store_offset offsets[] = {{"good", 5}, {"bad", 10}};
    struct store_batch batch = {
        .rows = rows, .rows_count = 2, .offsets = offsets, .offsets_count = 2};
    assert_int_not_equal(commit(store, &batch), STORE_DONE);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "0;");
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_spool"), "0;");
    batch.offsets_count = 1;
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "2;");
    store_close(&store);
}

static void content_is_refused(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    ask(place, "CREATE TRIGGER poison BEFORE INSERT ON gateway_logs WHEN new.status = 'poison' "
               "BEGIN SELECT RAISE(ABORT, 'poisonous'); END");
    struct record rows[2] = {row_at(1), row_at(2)};
    rows[1].status = STR("poison");
    struct store_batch batch = {.rows = rows, .rows_count = 2};
    assert_int_equal(commit(store, &batch), STORE_REFUSED);
    assert_int_equal(store_reason(store), STORE_REASON_content);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "0;");
    store_close(&store);
}

static void assert_start(const struct place *place, enum store_result expected, const char *part)
{
    struct store *store = NULL;
    struct error error;
    assert_true(store_open(&place->config, "host-1", &store, &error));
    assert_int_equal(store_start(store, no_offset, NULL, &error), expected);
    if (!strstr(error.message, part))
        fail_msg("\"%s\" lacks \"%s\"", error.message, part);
    store_close(&store);
}

static void unusable_paths_are_refused(void **state)
{
    struct place *place = *state;
    char path[SCRATCH_PATH];
    place->config.path = scratch_path(place->directory, "missing/logs.db", path);
    assert_start(place, STORE_REFUSED, "missing/logs.db");
    place->config.path = place->directory;
    assert_start(place, STORE_REFUSED, place->directory);
    FILE *file = fopen(place->path, "w");
    for (int i = 0; i < 100; i++)
        fputs("this is no database at all\n", file);
    fclose(file);
    place->config.path = place->path;
    assert_start(place, STORE_REFUSED, "not a database");
}

static void locked_at_the_start_is_away(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    store_close(&store);
    sqlite3 *other;
    assert_int_equal(sqlite3_open(place->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_start(place, STORE_AWAY, "locked");
    sqlite3_close(other);
    store = open_store(place, no_offset, NULL);
    store_close(&store);
}

static void migrations_are_applied_once(void **state)
{
    struct place *place = *state;
    for (int i = 0; i < 2; i++) {
        struct store *store = open_store(place, no_offset, NULL);
        store_close(&store);
    }
    char expected[64];
    int newest = migrations_newest("sqlite");
    snprintf(expected, sizeof expected, "%d|%d;", newest, newest);
    assert_true(newest >= 1);
    assert_string_equal(ask(place, "SELECT max(number), count(*) FROM schema_migrations"),
                        expected);
    assert_null(migrations_after("sqlite", newest));
    assert_null(migrations_after("nothing", 0));
}

static void a_newer_schema_is_refused(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    store_close(&store);
    ask(place, "INSERT INTO schema_migrations VALUES (9000, 'later', 'some day')");
    assert_start(place, STORE_REFUSED, "9000");
    struct error error;
    assert_false(store_open_reader(&place->config, &store, &error));
    assert_non_null(strstr(error.message, "9000"));
}

static void reasons_have_names(void **state)
{
    (void)state;
    assert_string_equal(store_reason_name(STORE_REASON_none), "none");
    assert_string_equal(store_reason_name(STORE_REASON_locked), "locked");
    assert_string_equal(store_reason_name(STORE_REASON_other), "other");
    assert_string_equal(store_reason_name(STORE_REASON_COUNT), "other");
    assert_string_equal(store_reason_name(-1), "other");
    assert_string_equal(store_reason_text(STORE_REASON_full), "no room on the disk");
}

/* The offsets' own refusal is not the fault of the rows that come with them. */
static void only_rows_are_refused(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    ask(place, "CREATE TRIGGER stop BEFORE INSERT ON gateway_spool "
               "BEGIN SELECT RAISE(ABORT, 'stopped'); END");
    struct record row = row_at(1);
    const struct store_offset offset = {"a", 10};
    struct store_batch batch = {
        .rows = &row, .rows_count = 1, .offsets = &offset, .offsets_count = 1};
    assert_int_equal(commit(store, &batch), STORE_AWAY);
    assert_int_equal(store_reason(store), STORE_REASON_other);
    ask(place, "DROP TRIGGER stop");
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(store_reason(store), STORE_REASON_none);
    store_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(table_has_the_records_columns),
        TEST(file_is_private_and_durable),
        TEST(a_row_is_read_as_it_was_written),
        TEST(known_rows_are_left_alone),
        TEST(offsets_come_back),
        TEST(locked_is_away_and_changes_nothing),
        TEST(all_or_nothing),
        TEST(content_is_refused),
        TEST(unusable_paths_are_refused),
        TEST(locked_at_the_start_is_away),
        TEST(migrations_are_applied_once),
        TEST(a_newer_schema_is_refused),
        TEST(reasons_have_names),
        TEST(only_rows_are_refused),
    };
    return cmocka_run_group_tests_name("sqlite", tests, NULL, NULL);
}
