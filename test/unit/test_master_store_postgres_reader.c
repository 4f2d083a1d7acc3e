#include "master/store/migrations.h"
#include "master/store/postgres_private.h"
#include "test/unit/postgres_place.h"

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
        rows[i] = row_at(now_ms + i);
    struct buf seen = {0};
    assert_true(store_open_reader(&place->config, &reader, &error));
    assert_int_equal(query(reader, 10, -1, &seen), 0);
    assert_ids(&seen, rows, "");

    struct store_batch batch = {.rows = rows + 1, .rows_count = 4};
    assert_committed(store, &batch);
    int64_t position = query(reader, 3, -1, &seen);
    assert_ids(&seen, rows, "234");
    assert_int_equal(query(reader, 0, -1, &seen), position);
    assert_int_equal(query(reader, 10, position, &seen), position);
    assert_ids(&seen, rows, "");

    /* 0 began before all others and ended last: it is new all the same. */
    struct record late[2] = {rows[5], rows[0]};
    batch = (struct store_batch){.rows = late, .rows_count = 2};
    assert_committed(store, &batch);
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

static void readers_filter(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL), *reader;
    struct record rows[6];
    for (int i = 0; i < 6; i++) {
        rows[i] = row_at(now_ms + i * 1000);
        rows[i].endpoint = i % 2 ? STR("odd") : STR("it's");
        rows[i].status = i > 3 ? STR("not_found") : STR("ok");
    }
    rows[2].routing_decision = STR("cheap");
    rows[3].token = STR("web");
    rows[4].project = STR("demo");
    struct store_batch batch = {.rows = rows, .rows_count = 6};
    assert_committed(store, &batch);
    const struct {
        struct store_filter filter;
        const char *ids;
    } cases[] = {
        {{.endpoint = STR("it's")}, "024"},
        {{.status = STR("ok")}, "0123"},
        {{.status = STR("not_found")}, "45"},
        {{.status = STR("not_found"), .endpoint = STR("odd")}, "5"},
        {{.decision = STR("cheap")}, "2"},
        {{.token = STR("web")}, "3"},
        {{.project = STR("demo")}, "4"},
        {{.since_wall_ms = now_ms + 2000}, "2345"},
        {{.since_wall_ms = now_ms + 1, .until_wall_ms = now_ms + 3000}, "12"},
    };
    struct buf seen = {0};
    struct error error;
    assert_true(store_open_reader(&place->config, &reader, &error));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int64_t after = -1; after <= 0; after++) {
            struct store_query query = {.filter = cases[i].filter, .limit = 10, .after = after};
            buf_clear(&seen);
            assert_true(store_query(reader, &query, note_row, &seen, &error));
            assert_ids(&seen, rows, cases[i].ids);
        }
    }
    buf_free(&seen);
    store_close(&reader);
    store_close(&store);
}

/* Two months of rows, enough for the planner to have a choice, and a rollup of two years. */
static void fill(const struct place *place)
{
    ask(place,
        "SELECT gateway_logs_partition(1788220800000), gateway_logs_partition(1790812800000)");
    ask(place,
        "INSERT INTO gateway_logs (request_id, project, endpoint, token, status, "
        "routing_decision) SELECT (lpad(to_hex(1788220800000 + i::bigint * 250000), 12, '0') || "
        "'7000' || lpad(to_hex(i), 16, '8'))::uuid, 'demo', 'e' || i % 50, 't' || i % 40, "
        "CASE WHEN i % 100 = 0 THEN 'rate_limited' ELSE 'ok' END, "
        "CASE WHEN i % 90 = 0 THEN 'cheap' END FROM generate_series(1, 20000) AS i");
    /* Columns that are not named get a zero. */
    ask(place, "DO $$ DECLARE zeroes text := (SELECT string_agg(column_name, ', ') FROM "
               "information_schema.columns WHERE table_name = 'gateway_usage_hourly' AND "
               "data_type = 'bigint'); BEGIN EXECUTE 'INSERT INTO gateway_usage_hourly (month, "
               "hour, project, endpoint, token, provider, model, status, routing_decision, "
               "streamed, ' || zeroes || $x$) SELECT to_char(hour, 'YYYY-MM'), hour, 'demo', "
               "'e' || e, '', 'openai', 'm', 'ok', '', false, $x$ || "
               "regexp_replace(zeroes, '[a-z0-9_]+', '0', 'g') || $x$ FROM generate_series(1, 3) "
               "AS e, generate_series(timestamptz '2025-01-01Z', '2026-12-31Z', '3 hours') AS "
               "hour$x$; END $$");
    ask(place, "ANALYZE");
}

static const char *plan(const struct place *place, struct buf *sql)
{
    struct buf explain = {0};
    buf_printf(&explain, "EXPLAIN (COSTS OFF) %s", buf_cstr(sql));
    const char *text = ask(place, buf_cstr(&explain));
    buf_free(&explain);
    buf_clear(sql);
    return text;
}

static void assert_plan(const struct place *place, struct buf *sql, const char *index,
                        const char *never)
{
    /* Months made ahead are empty: nothing is quicker there than to look. */
    static const char *const full[] = {"Seq Scan on gateway_logs_2026_09",
                                       "Seq Scan on gateway_logs_2026_10",
                                       "Seq Scan on gateway_usage_hourly"};
    const char *text = plan(place, sql);
    if (!strstr(text, index) || strstr(text, never))
        fail_msg("%s, not %s: %s", index, never, text);
    for (size_t i = 0; i < sizeof full / sizeof *full; i++)
        if (strstr(text, full[i]))
            fail_msg("%s", text);
}

static void queries_use_indexes(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    fill(place);
    const struct {
        struct store_filter filter;
        const char *index; /* of the newest month; a partition's are named by their columns */
    } cases[] = {
        {{.endpoint = STR_ABSENT}, "Backward using gateway_logs_2026_10_pkey"},
        {{.endpoint = STR("e7")}, "gateway_logs_2026_10_endpoint_request_id_idx"},
        {{.project = STR("demo"), .endpoint = STR("e7")},
         "gateway_logs_2026_10_endpoint_request_id_idx"},
        {{.token = STR("t7")}, "gateway_logs_2026_10_token_request_id_idx"},
        {{.status = STR("rate_limited")}, "gateway_logs_2026_10_status_request_id_idx"},
        {{.decision = STR("cheap")}, "gateway_logs_2026_10_routing_decision_request_id_idx"},
    };
    struct buf sql = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store_query query = {.filter = cases[i].filter, .limit = 20, .after = -1};
        postgres_query_text(place->admin, &query, &sql);
        assert_plan(place, &sql, cases[i].index, "gateway_usage");
        /* Other months than those asked for are not looked at. */
        query.filter.until_wall_ms = 1790000000000;
        postgres_query_text(place->admin, &query, &sql);
        assert_plan(place, &sql, "gateway_logs_2026_09", "2026_10");
        query = (struct store_query){.filter = cases[i].filter, .limit = 20, .after = 19900};
        postgres_query_text(place->admin, &query, &sql);
        assert_plan(place, &sql, "gateway_logs_2026_10_stored_idx", "gateway_usage");
    }
    for (int by = STORE_BY_ENDPOINT; by <= STORE_BY_MODEL; by++) {
        postgres_spend_text(place->admin, "2026-10", (enum store_spend_by)by, &sql);
        assert_plan(place, &sql, "gateway_usage_hourly_pkey", "gateway_logs");
    }
    buf_puts(&sql, "SELECT sum(requests) FROM gateway_usage_hourly WHERE hour >= '2026-12-20Z'");
    assert_plan(place, &sql, "gateway_usage_hourly_by_hour", "gateway_logs");
    buf_free(&sql);
    store_close(&store);
}

static bool note_spend(void *context, const struct store_spend *spend)
{
    buf_printf(context, "%.*s/%.*s %lld %lld;", STR_ARG(spend->group), STR_ARG(spend->name),
               (long long)spend->requests, (long long)spend->cost_nano_usd);
    return true;
}

static void readers_get_sums(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL), *reader;
    struct record rows[3] = {row_at(now_ms), row_at(now_ms), row_at(now_ms)};
    for (int i = 0; i < 3; i++) {
        rows[i].project = STR("demo");
        rows[i].endpoint = i ? STR("dear") : STR("cheap");
        rows[i].cost_nano_usd = 10 + i;
    }
    struct store_batch batch = {.rows = rows, .rows_count = 3};
    assert_committed(store, &batch);
    struct buf seen = {0};
    struct error error;
    assert_true(store_open_reader(&place->config, &reader, &error));
    assert_true(store_spend(reader, "2026-09", STORE_BY_ENDPOINT, note_spend, &seen, &error));
    assert_string_equal(buf_cstr(&seen), "demo/dear 2 23;demo/cheap 1 10;");
    buf_clear(&seen);
    assert_true(store_spend(reader, "2026-08", STORE_BY_MODEL, note_spend, &seen, &error));
    assert_string_equal(buf_cstr(&seen), "");
    buf_free(&seen);
    store_close(&reader);
    store_close(&store);
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
    return false; /* one is enough */
}

static void values_are_text(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL), *reader;
    struct record rows[2] = {row_at(7), row_at(8)};
    rows[0].streamed = 0;
    rows[0].latency_ms = -5;
    rows[0].error_message = STR("");
    struct store_batch batch = {.rows = rows, .rows_count = 2};
    assert_committed(store, &batch);
    struct error error;
    assert_true(store_open_reader(&place->config, &reader, &error));
    struct store_query query = {.limit = 10, .after = -1};
    int count = 0;
    assert_true(store_query(reader, &query, check_values, &count, &error));
    assert_int_equal(count, 1);
    store_close(&reader);
    store_close(&store);
}

static void looking_changes_nothing(void **state)
{
    struct place *place = *state;
    struct store_found found;
    struct error error;
    assert_true(store_inspect(&place->config, "host-1", &found, no_offset, NULL, &error));
    assert_false(found.exists);
    assert_int_equal(found.schema_known, migrations_newest("postgres"));
    assert_string_equal(ask(place, "SELECT count(*) FROM pg_class WHERE relname = "
                                   "'schema_migrations'"),
                        "0;");
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    const struct store_offset offset = {"a", 10};
    struct store_batch batch = {
        .rows = &row, .rows_count = 1, .offsets = &offset, .offsets_count = 1};
    assert_committed(store, &batch);
    struct buf seen = {0};
    assert_true(store_inspect(&place->config, "host-1", &found, note_offset, &seen, &error));
    assert_true(found.exists);
    assert_int_equal(found.schema, found.schema_known);
    assert_int_equal(found.rows, 1);
    assert_string_equal(buf_cstr(&seen), "a=10;");
    store_close(&store);
    buf_free(&seen);
    name_database(place, "gateway", "no_such_database");
    assert_false(store_inspect(&place->config, "host-1", &found, no_offset, NULL, &error));
    assert_null(strstr(error.message, "very-secret"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(readers_get_the_newest_then_the_new),
        TEST(readers_filter),
        TEST(queries_use_indexes),
        TEST(readers_get_sums),
        TEST(values_are_text),
        TEST(looking_changes_nothing),
    };
    return RUN_TESTS("store_postgres_reader", tests);
}
