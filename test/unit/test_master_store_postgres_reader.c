#include "master/store/migrations.h"
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
        TEST(readers_get_sums),
        TEST(values_are_text),
        TEST(looking_changes_nothing),
    };
    return RUN_TESTS("store_postgres_reader", tests);
}
