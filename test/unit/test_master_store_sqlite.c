#include "master/store/migrations.h"
#include "master/store/store.h"
#include "master/store/usage.h"
#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>

#include <cmocka.h>

struct place {
    char directory[SCRATCH_PATH], path[SCRATCH_PATH];
    struct config_store config;
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (!scratch_make(place->directory))
        return -1;
    scratch_path(place->directory, "logs.db", place->path);
    place->config = (struct config_store){.driver = "sqlite", .path = place->path};
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    scratch_remove(place->directory);
    free(place);
    return 0;
}

static void no_offset(void *context, const char *segment, uint64_t committed)
{
    (void)context;
    fail_msg("unexpected offset %s %llu", segment, (unsigned long long)committed);
}

static struct store *open_store(const struct place *place, store_offset_fn *each, void *context)
{
    struct store *store = NULL;
    struct error error;
    assert_true(store_open(&place->config, "host-1", &store, &error));
    if (store_start(store, each, context, &error) != STORE_DONE)
        fail_msg("%s", error.message);
    return store;
}

/* What the database says, through a connection of its own; '|' between columns, ';' behind rows. */
static const char *ask(const struct place *place, const char *sql)
{
    static char answer[65536];
    sqlite3 *db;
    sqlite3_stmt *statement;
    answer[0] = '\0';
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    size_t len = 0;
    while (sqlite3_step(statement) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const char *text = (const char *)sqlite3_column_text(statement, i);
            len += (size_t)snprintf(answer + len, sizeof answer - len, "%s%s", i ? "|" : "",
                                    text ? text : "NULL");
        }
        len += (size_t)snprintf(answer + len, sizeof answer - len, ";");
    }
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    sqlite3_close(db);
    return answer;
}

static struct record row_at(int64_t wall_ms)
{
    struct record row;
    record_init(&row);
    row.request_id = uuid_v7(wall_ms);
    row.created_at = wall_ms;
    row.status = STR("ok");
    return row;
}

static enum store_result commit(struct store *store, struct store_batch *batch)
{
    struct error error = {""};
    enum store_result result = store_commit(store, batch, &error);
    assert_int_equal(result == STORE_DONE, error.message[0] == '\0');
    return result;
}

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

static void usage_table_has_its_columns(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    static const char *types[] = {[USAGE_KIND_HOUR] = "TEXT",
                                  [USAGE_KIND_TEXT] = "TEXT",
                                  [USAGE_KIND_BOOL] = "INTEGER",
                                  [USAGE_KIND_NUMBER] = "INTEGER"};
    struct buf expected = {0};
    for (size_t i = 0; i < usage_columns_count; i++)
        buf_printf(&expected, "%s|%s|1|%d;", usage_columns[i].name, types[usage_columns[i].kind],
                   i < usage_keys_count ? (int)i + 1 : 0);
    assert_string_equal(ask(place, "SELECT name, type, \"notnull\", pk FROM "
                                   "pragma_table_info('gateway_usage_hourly')"),
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

static void note_offset(void *context, const char *segment, uint64_t committed)
{
    buf_printf(context, "%s=%llu;", segment, (unsigned long long)committed);
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

static bool note_row(void *context, const struct str *values)
{
    buf_str(context, values[0]);
    buf_putc(context, ' ');
    return true;
}

static int64_t query(struct store *store, size_t limit, int64_t after, struct buf *seen)
{
    struct error error;
    struct store_query query = {.limit = limit, .after = after};
    buf_clear(seen);
    if (!store_query(store, &query, note_row, seen, &error))
        fail_msg("%s", error.message);
    return query.position;
}

static void assert_ids(struct buf *seen, const struct record *rows, const char *order)
{
    struct buf expected = {0};
    for (; *order; order++) {
        char text[UUID_TEXT_LEN + 1];
        buf_printf(&expected, "%s ", uuid_format(&rows[*order - '0'].request_id, text));
    }
    assert_string_equal(buf_cstr(seen), buf_cstr(&expected));
    buf_free(&expected);
}

static void readers_get_the_newest_then_the_new(void **state)
{
    struct place *place = *state;
    struct error error;
    struct store *reader = NULL, *store;
    assert_false(store_open_reader(&place->config, &reader, &error));
    assert_non_null(strstr(error.message, "no rows yet"));
    store = open_store(place, no_offset, NULL);
    struct record rows[6];
    for (int i = 0; i < 6; i++)
        rows[i] = row_at(1000000 + i);
    struct buf seen = {0};
    assert_true(store_open_reader(&place->config, &reader, &error));
    assert_int_equal(query(reader, 10, -1, &seen), 0);
    assert_ids(&seen, rows, "");

    struct store_batch batch = {.rows = rows + 1, .rows_count = 4};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    int64_t position = query(reader, 3, -1, &seen);
    assert_ids(&seen, rows, "234");
    assert_int_equal(query(reader, 0, -1, &seen), position);
    assert_ids(&seen, rows, "");
    assert_int_equal(query(reader, 10, position, &seen), position);
    assert_ids(&seen, rows, "");

    /* 0 began before all others and ended last: it is new all the same. */
    struct record late[2] = {rows[5], rows[0]};
    batch = (struct store_batch){.rows = late, .rows_count = 2};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    position = query(reader, 1, position, &seen);
    assert_ids(&seen, rows, "5");
    query(reader, 10, position, &seen);
    assert_ids(&seen, rows, "0");
    query(reader, 10, -1, &seen);
    assert_ids(&seen, rows, "012345");
    store_close(&reader);
    store_close(&store);
    buf_free(&seen);
}

static bool check_values(void *context, const struct str *values)
{
    *(int *)context += 1;
    for (size_t i = 0; i < record_columns_count; i++) {
        const char *name = record_columns[i].name;
        const char *expected = strcmp(name, "created_at") == 0      ? "1970-01-01T00:00:00.007Z"
                               : strcmp(name, "streamed") == 0      ? "false"
                               : strcmp(name, "latency_ms") == 0    ? "-5"
                               : strcmp(name, "error_message") == 0 ? ""
                               : strcmp(name, "status") == 0        ? "ok"
                                                                    : NULL;
        if (i == 0)
            assert_int_equal(values[i].len, UUID_TEXT_LEN);
        else if (expected)
            assert_true(values[i].at && str_eq(values[i], str_of(expected)));
        else
            assert_null(values[i].at);
    }
    return true;
}

static void values_are_text(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL), *reader;
    struct record row = row_at(7);
    row.streamed = 0;
    row.latency_ms = -5;
    row.error_message = STR("");
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    struct error error;
    struct store_query newest = {.limit = 5, .after = -1};
    int count = 0;
    assert_true(store_open_reader(&place->config, &reader, &error));
    assert_true(store_query(reader, &newest, check_values, &count, &error));
    assert_int_equal(count, 1);
    store_close(&reader);
    store_close(&store);
}

static struct store_found inspect(const struct place *place, store_offset_fn *each, void *context)
{
    struct store_found found;
    struct error error;
    if (!store_inspect(&place->config, "host-1", &found, each, context, &error))
        fail_msg("%s", error.message);
    return found;
}

static void what_an_inspection_finds(void **state)
{
    struct place *place = *state;
    int newest = migrations_newest("sqlite");
    struct store_found found = inspect(place, no_offset, NULL);
    assert_false(found.exists);
    assert_int_equal(found.schema, 0);
    assert_int_equal(found.schema_known, newest);
    assert_int_not_equal(access(place->path, F_OK), 0); /* it made none */
    ask(place, "PRAGMA journal_mode = WAL");
    found = inspect(place, no_offset, NULL);
    assert_true(found.exists);
    assert_int_equal(found.schema, 0);

    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[3] = {row_at(1), row_at(2), row_at(3)};
    const struct store_offset offsets[] = {{"a", 10}, {"b", 20}};
    struct store_batch batch = {
        .rows = rows, .rows_count = 3, .offsets = offsets, .offsets_count = 2};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    struct buf seen = {0};
    found = inspect(place, note_offset, &seen);
    assert_int_equal(found.schema, newest);
    assert_int_equal(found.rows, 3);
    assert_string_equal(buf_cstr(&seen), "a=10;b=20;");
    ask(place, "INSERT INTO schema_migrations VALUES (9000, 'later', 'some day')");
    found = inspect(place, note_offset, &seen);
    assert_int_equal(found.schema, 9000);
    store_close(&store);
    buf_free(&seen);
    FILE *file = fopen(place->path, "w");
    for (int i = 0; i < 100; i++)
        fputs("this is no database at all\n", file);
    fclose(file);
    struct error error;
    assert_false(store_inspect(&place->config, "host-1", &found, no_offset, NULL, &error));
    assert_non_null(strstr(error.message, "not a database"));
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

/* One query on each side: what the rollups say, and what the rows say themselves. */
static void assert_usage_equals_rows(const struct place *place)
{
    static char sums[65536], keys[1024];
    struct buf usage = {0}, rows = {0};
    buf_puts(&usage, "SELECT ");
    buf_puts(&rows, "SELECT ");
    size_t at = 0;
    for (size_t i = 0; i < usage_columns_count; i++) {
        const char *name = usage_columns[i].name;
        const char *bucket = strstr(name, "_b");
        unsigned number;
        if (i < usage_keys_count)
            continue;
        buf_printf(&usage, "%ssum(%s)", at++ ? ", " : "", name);
        buf_puts(&rows, at > 1 ? ", " : "");
        if (strcmp(name, "requests") == 0)
            buf_puts(&rows, "count(*)");
        else if (bucket && sscanf(bucket, "_b%2u", &number) == 1)
            buf_printf(&rows, "count(*) FILTER (WHERE %.*s >= %lld AND %.*s < %lld)",
                       (int)(bucket - name), name, number ? 1LL << (number - 1) : -1LL,
                       (int)(bucket - name), name,
                       number < USAGE_BUCKETS - 1 ? 1LL << number : INT64_MAX);
        else
            buf_printf(&rows, "coalesce(sum(%s), 0)", name);
    }
    const char *by = "substr(%s, 1, 13), coalesce(project, ''), coalesce(endpoint, ''), "
                     "coalesce(token, ''), coalesce(model, ''), coalesce(status, ''), "
                     "coalesce(routing_decision, ''), coalesce(streamed, 0)";
    snprintf(keys, sizeof keys, by, "created_at");
    buf_printf(&rows, ", %s FROM gateway_logs GROUP BY %s ORDER BY %s", keys, keys, keys);
    snprintf(keys, sizeof keys, by, "hour");
    buf_printf(&usage, ", %s FROM gateway_usage_hourly GROUP BY %s ORDER BY %s", keys, keys, keys);
    snprintf(sums, sizeof sums, "%s", ask(place, buf_cstr(&rows)));
    assert_true(sums[0] != '\0' && strlen(sums) < sizeof sums - 200);
    assert_string_equal(ask(place, buf_cstr(&usage)), sums);
    buf_free(&usage);
    buf_free(&rows);
}

static struct record busy_row(int number)
{
    static const struct str names[] = {STR("a"), STR("b"), {NULL, 0}};
    struct record row = row_at(1790812799000 + number * 977);
    row.project = STR("demo");
    row.endpoint = names[number % 3];
    row.token = names[number % 2];
    row.status = number % 5 ? STR("ok") : STR("provider_error");
    row.routing_decision = number % 7 ? STR_ABSENT : STR("cheap");
    row.streamed = number % 4 == 3;
    row.prompt_tokens = number * 31;
    row.completion_tokens = number % 3 ? number : RECORD_NULL;
    row.cost_nano_usd = number * 1000003;
    row.latency_ms = number * number * number;
    row.gateway_us = number % 6 ? number * 50 : 0;
    row.first_token_ms = number % 4 == 3 ? number : RECORD_NULL;
    row.bytes_in = 100 + number;
    row.bytes_out = 1000;
    return row;
}

static void usage_equals_the_rows(void **state)
{
    enum { ROWS = 24 };
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[ROWS + 2];
    for (int i = 0; i < ROWS; i++)
        rows[i] = busy_row(i);
    rows[ROWS] = rows[0];     /* twice in one batch */
    rows[ROWS + 1] = rows[1]; /* and again, with other numbers: what is there first counts */
    rows[ROWS + 1].prompt_tokens = 999;
    struct store_batch batch = {.rows = rows, .rows_count = ROWS + 2};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(batch.new_rows, ROWS);
    assert_usage_equals_rows(place);
    /* The whole batch again, as after a death before its answer; then half of it with a new row. */
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(batch.new_rows, 0);
    rows[3] = busy_row(1000);
    batch.rows_count = 12;
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_int_equal(batch.new_rows, 1);
    assert_usage_equals_rows(place);
    assert_string_equal(ask(place, "SELECT sum(requests) FROM gateway_usage_hourly"), "25;");
    assert_string_equal(ask(place, "SELECT DISTINCT month FROM gateway_usage_hourly"),
                        "2026-09;2026-10;");
    store_close(&store);
}

/* What was taken back, for a row's content or a lock, is not in the sums. */
static void usage_of_refused_rows_is_taken_back(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    ask(place, "CREATE TRIGGER poison BEFORE INSERT ON gateway_logs WHEN new.status = 'poison' "
               "BEGIN SELECT RAISE(ABORT, 'poisonous'); END");
    ask(place, "CREATE TRIGGER stop BEFORE INSERT ON gateway_spool WHEN new.segment = 'bad' "
               "BEGIN SELECT RAISE(ABORT, 'stopped'); END");
    struct record rows[4] = {busy_row(1), busy_row(2), busy_row(3), busy_row(4)};
    rows[3].status = STR("poison");
    struct store_batch batch = {.rows = rows, .rows_count = 4};
    assert_int_equal(commit(store, &batch), STORE_REFUSED);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_usage_hourly"), "0;");
    const struct store_offset offset = {"bad", 1};
    batch =
        (struct store_batch){.rows = rows, .rows_count = 3, .offsets = &offset, .offsets_count = 1};
    assert_int_equal(commit(store, &batch), STORE_AWAY);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_usage_hourly"), "0;");
    for (int i = 0; i < 2; i++) {
        batch = (struct store_batch){.rows = rows + 2 * i, .rows_count = i ? 1 : 2};
        assert_int_equal(commit(store, &batch), STORE_DONE);
    }
    assert_usage_equals_rows(place);
    assert_string_equal(ask(place, "SELECT sum(requests) FROM gateway_usage_hourly"), "3;");
    store_close(&store);
}

static void usage_knows_the_months_of_the_zone(void **state)
{
    static int64_t starts[MONTHS_COUNT + 1];
    struct place *place = *state;
    for (int i = 0; i <= MONTHS_COUNT; i++)
        starts[i] = 946684800000 + i * INT64_C(30) * 86400000;
    place->config.months.starts = starts;
    struct store *store = open_store(place, no_offset, NULL);
    /* A month that begins within an hour: two rows of that hour, in two months. */
    starts[330] += 1800 * 1000;
    struct record rows[2] = {row_at(starts[330] - 1), row_at(starts[330])};
    struct store_batch batch = {.rows = rows, .rows_count = 2};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_string_equal(ask(place, "SELECT month, requests, count(*) OVER (PARTITION BY hour) "
                                   "FROM gateway_usage_hourly ORDER BY month"),
                        "2027-06|1|2;2027-07|1|2;");
    store_close(&store);
}

static void refused_requests_are_added_up(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    const struct refused refused[] = {
        {1790812800000, STR("unauthorized"), STR("10.0.0.0/24"), STR("host-1"), 3},
        {1790812800000, STR("not_found"), STR("unix"), STR("host-1"), 1},
        {1790812800000, STR("unauthorized"), STR("10.0.0.0/24"), STR("host-1"), 4},
    };
    const struct store_offset offset = {"a", 10};
    struct store_batch batch = {
        .offsets = &offset, .offsets_count = 1, .refused = refused, .refused_count = 3};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    batch.refused_count = 1;
    assert_int_equal(commit(store, &batch), STORE_DONE);
    assert_string_equal(ask(place, "SELECT minute, code, network, host, count FROM gateway_refused "
                                   "ORDER BY code"),
                        "2026-10-01T00:00:00.000Z|not_found|unix|host-1|1;"
                        "2026-10-01T00:00:00.000Z|unauthorized|10.0.0.0/24|host-1|10;");
    store_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(table_has_the_records_columns),
        TEST(usage_table_has_its_columns),
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
        TEST(readers_get_the_newest_then_the_new),
        TEST(values_are_text),
        TEST(what_an_inspection_finds),
        TEST(reasons_have_names),
        TEST(only_rows_are_refused),
        TEST(usage_equals_the_rows),
        TEST(usage_of_refused_rows_is_taken_back),
        TEST(usage_knows_the_months_of_the_zone),
        TEST(refused_requests_are_added_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
