/* What the store adds up beside the rows, and what it deletes. */
#include "test/unit/master_sqlite.h"

#include "master/store/usage.h"

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

static void old_rows_go_in_slices(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[10];
    struct refused refused[5];
    for (int i = 0; i < 10; i++) {
        rows[i] = row_at(1790812800000 + i * 60000);
        rows[i].request_id = uuid_first(1790812800000 + i * 60000); /* uuid_v7 never goes back */
    }
    for (int i = 0; i < 5; i++)
        refused[i] = (struct refused){1790812800000 + i * 60000, STR("unauthorized"), STR("unix"),
                                      STR("host-1"), 1};
    struct store_batch batch = {
        .rows = rows, .rows_count = 10, .refused = refused, .refused_count = 5};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    struct store_expiry expiry = expire(store, 1790812800000, 3);
    assert_int_equal(expiry.rows, 0);
    assert_false(expiry.more);
    expiry = expire(store, 1790812800000 + 4 * 60000, 3); /* 4 are before it */
    assert_int_equal(expiry.rows, 3);
    assert_true(expiry.more);
    assert_string_equal(ask(place, "SELECT count(*), min(created_at) FROM gateway_logs"),
                        "7|2026-10-01T00:03:00.000Z;");
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_refused"), "2;");
    expiry = expire(store, 1790812800000 + 4 * 60000, 3);
    assert_int_equal(expiry.rows, 1);
    assert_false(expiry.more);
    assert_string_equal(ask(place, "SELECT count(*), min(created_at) FROM gateway_logs"),
                        "6|2026-10-01T00:04:00.000Z;");
    assert_string_equal(ask(place, "SELECT minute FROM gateway_refused"),
                        "2026-10-01T00:04:00.000Z;");
    assert_string_equal(ask(place, "SELECT sum(requests) FROM gateway_usage_hourly"), "10;");
    store_close(&store);
}

static void a_locked_store_keeps_old_rows(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(1);
    row.request_id = uuid_first(1);
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    assert_int_equal(commit(store, &batch), STORE_DONE);
    sqlite3 *other;
    assert_int_equal(sqlite3_open(place->path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    struct error error;
    struct store_expiry expiry = {.before_wall_ms = 1000, .rows_max = 5};
    assert_int_equal(store_expire(store, &expiry, &error), STORE_AWAY);
    assert_int_equal(store_reason(store), STORE_REASON_locked);
    assert_int_equal(expiry.rows, 0);
    sqlite3_close(other);
    expiry = expire(store, 1000, 5);
    assert_int_equal(expiry.rows, 1);
    store_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(usage_table_has_its_columns),         TEST(usage_equals_the_rows),
        TEST(usage_of_refused_rows_is_taken_back), TEST(usage_knows_the_months_of_the_zone),
        TEST(refused_requests_are_added_up),       TEST(old_rows_go_in_slices),
        TEST(a_locked_store_keeps_old_rows),
    };
    return cmocka_run_group_tests_name("sqlite, usage", tests, NULL, NULL);
}
