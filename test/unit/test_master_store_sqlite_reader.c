/* What is read from the store: rows, by filters, sums, and what there is at all. */
#include "test/unit/master_sqlite.h"

#include "master/store/migrations.h"
#include "master/store/sqlite_private.h"

static int64_t query(struct store *store, size_t limit, int64_t after, struct buf *seen)
{
    struct error error;
    struct store_query query = {.limit = limit, .after = after};
    buf_clear(seen);
    if (!store_query(store, &query, note_row, seen, &error))
        fail_msg("%s", error.message);
    return query.position;
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

static const char *found(struct store *reader, struct store_query query, struct buf *seen)
{
    struct error error;
    buf_clear(seen);
    if (!store_query(reader, &query, note_row, seen, &error))
        fail_msg("%s", error.message);
    return buf_cstr(seen);
}

/* Each filter alone and all of them: the rows that it lets through, and those only. */
static void filters_choose_rows(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL), *reader;
    struct record rows[6];
    for (int i = 0; i < 6; i++) {
        rows[i] = row_at(1790812800000 + i * 1000);
        rows[i].request_id = uuid_first(1790812800000 + i * 1000);
        rows[i].project = i < 4 ? STR("demo") : STR("other");
        rows[i].endpoint = i % 2 ? STR("b") : STR("a");
        rows[i].token = i == 3 ? STR("web") : STR("cli");
        rows[i].status = i == 2 || i == 4 ? STR("rate_limited") : STR("ok");
        rows[i].routing_decision = i == 5 ? STR("cheap") : STR_ABSENT;
    }
    struct store_batch batch = {.rows = rows, .rows_count = 6};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    const struct {
        struct store_filter filter;
        size_t limit;
        const char *order;
    } cases[] = {
        {{.endpoint = STR("a")}, 10, "024"},
        {{.endpoint = STR("a")}, 2, "24"},
        {{.project = STR("demo"), .endpoint = STR("a")}, 10, "02"},
        {{.project = STR("other")}, 10, "45"},
        {{.token = STR("web")}, 10, "3"},
        {{.status = STR("rate_limited")}, 10, "24"},
        {{.status = STR("ok")}, 3, "135"},
        {{.decision = STR("cheap")}, 10, "5"},
        {{.since_wall_ms = 1790812802000}, 10, "2345"},
        {{.until_wall_ms = 1790812802000}, 10, "01"},
        {{.since_wall_ms = 1790812801000, .until_wall_ms = 1790812805000}, 2, "34"},
        {{.endpoint = STR("a"), .status = STR("ok"), .token = STR("cli")}, 10, "0"},
        {{.endpoint = STR("nothing")}, 10, ""},
        {{.endpoint = STR("a' OR 1")}, 10, ""},
    };
    struct error error;
    struct buf seen = {0};
    assert_true(store_open_reader(&place->config, &reader, &error));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store_query query = {
            .filter = cases[i].filter, .limit = cases[i].limit, .after = -1};
        found(reader, query, &seen);
        assert_ids(&seen, rows, cases[i].order);
        query.after = 0; /* the first ones, then */
        query.limit = 10;
        found(reader, query, &seen);
        if (cases[i].limit == 10)
            assert_ids(&seen, rows, cases[i].order);
    }
    /* What doesn't pass isn't looked at again; and rows that are gone hold nobody up. */
    struct store_query follow = {.filter = {.decision = STR("cheap")}, .limit = 10, .after = 5};
    assert_true(store_query(reader, &follow, note_row, &seen, &error));
    assert_int_equal(follow.position, 6);
    follow = (struct store_query){.filter = {.token = STR("web")}, .limit = 10, .after = 3};
    assert_true(store_query(reader, &follow, note_row, &seen, &error));
    assert_int_equal(follow.position, 6);
    expire(store, 1790812900000, 100);
    follow.after = 6;
    assert_true(store_query(reader, &follow, note_row, &seen, &error));
    assert_int_equal(follow.position, 0);
    buf_free(&seen);
    store_close(&reader);
    store_close(&store);
}

static const char *plan(const struct place *place, struct buf *sql)
{
    static char text[4096];
    size_t len = 0;
    sqlite3 *db;
    sqlite3_stmt *statement;
    struct buf explain = {0};
    buf_printf(&explain, "EXPLAIN QUERY PLAN %s", buf_cstr(sql));
    buf_clear(sql);
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, buf_cstr(&explain), -1, &statement, NULL), SQLITE_OK);
    while (sqlite3_step(statement) == SQLITE_ROW)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s; ",
                                (const char *)sqlite3_column_text(statement, 3));
    sqlite3_finalize(statement);
    sqlite3_close(db);
    buf_free(&explain);
    return text;
}

static void assert_plan(const struct place *place, struct buf *sql, const char *index)
{
    const char *text = plan(place, sql);
    if (!strstr(text, index))
        fail_msg("%s is not used: %s", index, text);
    if (strstr(text, "SCAN gateway") || strstr(text, "TEMP B-TREE FOR ORDER BY"))
        fail_msg("%s", text);
}

static void queries_use_indexes(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    const struct {
        struct store_filter filter;
        const char *index;
    } cases[] = {
        {{.endpoint = STR("a")}, "gateway_logs_by_endpoint (endpoint=? AND request_id>?)"},
        {{.project = STR("demo"), .endpoint = STR("a")}, "gateway_logs_by_endpoint (endpoint=?"},
        {{.token = STR("a")}, "gateway_logs_by_token (token=? AND request_id>?)"},
        {{.status = STR("rate_limited")}, "gateway_logs_by_status (status=? AND request_id>?)"},
        {{.decision = STR("a")}, "gateway_logs_by_decision (routing_decision=? AND request_id>?)"},
        {{.since_wall_ms = 1000}, "(request_id>?)"},
        {{.since_wall_ms = 1000, .until_wall_ms = 2000}, "(request_id>? AND request_id<?)"},
        {{.endpoint = STR("a"), .since_wall_ms = 1000, .until_wall_ms = 2000},
         "gateway_logs_by_endpoint (endpoint=? AND request_id>? AND request_id<?)"},
    };
    struct buf sql = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store_query query = {.filter = cases[i].filter, .limit = 20, .after = -1};
        sqlite_query_text(&query, &sql);
        assert_plan(place, &sql, cases[i].index);
        query.after = 7;
        sqlite_query_text(&query, &sql);
        assert_plan(place, &sql, "USING INTEGER PRIMARY KEY (rowid>?)");
    }
    for (int by = STORE_BY_ENDPOINT; by <= STORE_BY_MODEL; by++) {
        sqlite_spend_text((enum store_spend_by)by, &sql);
        const char *text = plan(place, &sql);
        assert_non_null(strstr(text, "gateway_usage_hourly USING PRIMARY KEY (month=?)"));
        assert_null(strstr(text, "gateway_logs"));
    }
    buf_puts(&sql, "SELECT sum(requests) FROM gateway_usage_hourly WHERE hour >= ?");
    assert_plan(place, &sql, "gateway_usage_hourly_by_hour (hour>?)");
    buf_free(&sql);
    store_close(&store);
}

static bool note_spend(void *context, const struct store_spend *spend)
{
    buf_printf(context, "%.*s/%.*s %d %d %d %d;", STR_ARG(spend->group), STR_ARG(spend->name),
               (int)spend->requests, (int)spend->prompt_tokens, (int)spend->completion_tokens,
               (int)spend->cost_nano_usd);
    return true;
}

static void spend_of_a_month(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL), *reader;
    struct record rows[5];
    for (int i = 0; i < 5; i++) {
        rows[i] = row_at(i < 4 ? 1790812800000 + i * 3600000 : 1790812799999);
        rows[i].project = STR("demo");
        rows[i].endpoint = i % 2 ? STR("b") : STR("a");
        rows[i].token = i == 3 ? STR_ABSENT : STR("cli");
        rows[i].provider = STR("openai");
        rows[i].model = i == 1 ? STR("large") : STR("small");
        rows[i].prompt_tokens = 10;
        rows[i].completion_tokens = 3;
        rows[i].cost_nano_usd = i == 1 ? 5000 : 100;
    }
    struct store_batch batch = {.rows = rows, .rows_count = 5};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    static const char *const expected[] = {
        [STORE_BY_ENDPOINT] = "demo/b 2 20 6 5100;demo/a 2 20 6 200;",
        [STORE_BY_TOKEN] = "demo/cli 3 30 9 5200;demo/ 1 10 3 100;",
        [STORE_BY_MODEL] = "openai/large 1 10 3 5000;openai/small 3 30 9 300;",
    };
    struct error error;
    struct buf seen = {0};
    assert_true(store_open_reader(&place->config, &reader, &error));
    for (int by = STORE_BY_ENDPOINT; by <= STORE_BY_MODEL; by++) {
        buf_clear(&seen);
        assert_true(
            store_spend(reader, "2026-10", (enum store_spend_by)by, note_spend, &seen, &error));
        assert_string_equal(buf_cstr(&seen), expected[by]);
    }
    buf_clear(&seen);
    assert_true(store_spend(reader, "2026-11", STORE_BY_TOKEN, note_spend, &seen, &error));
    assert_string_equal(buf_cstr(&seen), "");
    buf_free(&seen);
    store_close(&reader);
    store_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(readers_get_the_newest_then_the_new),
        TEST(values_are_text),
        TEST(what_an_inspection_finds),
        TEST(filters_choose_rows),
        TEST(queries_use_indexes),
        TEST(spend_of_a_month),
    };
    return cmocka_run_group_tests_name("sqlite, reader", tests, NULL, NULL);
}
