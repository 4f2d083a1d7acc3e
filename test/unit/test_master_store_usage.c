#include "master/store/usage.h"
#include "shared/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static const struct months utc = {0};

static struct record row_at(int64_t wall_ms)
{
    struct record row;
    record_init(&row);
    row.request_id = uuid_v7(wall_ms);
    row.created_at = wall_ms;
    return row;
}

static void buckets_are_powers_of_two(void **state)
{
    (void)state;
    assert_int_equal(usage_bucket(INT64_MIN + 1), 0);
    assert_int_equal(usage_bucket(0), 0);
    assert_int_equal(usage_bucket(1), 1);
    for (unsigned i = 2; i < USAGE_BUCKETS; i++) {
        assert_int_equal(usage_bucket((INT64_C(1) << (i - 1)) - 1), i - 1);
        assert_int_equal(usage_bucket(INT64_C(1) << (i - 1)), i);
    }
    assert_int_equal(usage_bucket(INT64_MAX), USAGE_BUCKETS - 1);
}

static void columns_are_named_in_order(void **state)
{
    (void)state;
    assert_int_equal(usage_columns_count, 10 + 13 + 3 * USAGE_BUCKETS);
    assert_int_equal(usage_keys_count, 10);
    assert_string_equal(usage_columns[0].name, "month");
    assert_string_equal(usage_columns[9].name, "streamed");
    assert_string_equal(usage_columns[10].name, "requests");
    assert_string_equal(usage_columns[23].name, "latency_ms_b00");
    assert_string_equal(usage_columns[usage_columns_count - 1].name, "first_token_ms_b23");
    for (size_t i = 0; i < usage_columns_count; i++)
        assert_int_equal(usage_columns[i].kind == USAGE_KIND_NUMBER, i >= usage_keys_count);
}

static void rows_of_one_key_are_added_up(void **state)
{
    (void)state;
    struct usage_table table = {0};
    struct record rows[3] = {row_at(1790812799000), row_at(1790812799999), row_at(1790812800000)};
    for (int i = 0; i < 3; i++) {
        rows[i].endpoint = STR("summarize");
        rows[i].prompt_tokens = 10 + i;
        rows[i].latency_ms = 100 * i;
    }
    rows[1].first_token_ms = 3;
    for (int i = 0; i < 3; i++)
        usage_add(&table, &utc, &rows[i]);
    assert_int_equal(table.count, 2);
    const struct usage *first = &table.sums[0];
    assert_int_equal(first->hour, 1790809200000);
    assert_true(str_eq(first->month, STR("2026-09")));
    assert_true(str_eq(first->endpoint, STR("summarize")));
    assert_true(str_eq(first->project, STR("")));
    assert_non_null(first->project.at);
    assert_int_equal(first->requests, 2);
    assert_int_equal(first->prompt_tokens, 21);
    assert_int_equal(first->completion_tokens, 0);
    assert_int_equal(first->latency_ms, 100);
    assert_int_equal(first->latency_ms_buckets[0], 1);
    assert_int_equal(first->latency_ms_buckets[7], 1);
    assert_int_equal(first->first_token_ms, 3);
    assert_int_equal(first->first_token_ms_buckets[2], 1);
    assert_int_equal(first->gateway_us_buckets[0], 0);
    assert_true(str_eq(table.sums[1].month, STR("2026-10")));
    usage_free(&table);
}

/* '' and absent are the same; texts are not mixed up where one ends and the next begins. */
static void keys_are_told_apart(void **state)
{
    (void)state;
    struct usage_table table = {0};
    struct record rows[7];
    for (int i = 0; i < 7; i++)
        rows[i] = row_at(1790812800000);
    rows[0].project = STR("ab"), rows[0].endpoint = STR("c");
    rows[1].project = STR("a"), rows[1].endpoint = STR("bc");
    rows[2].streamed = 1;
    rows[3].streamed = 0;
    rows[5].routing_decision = STR("");
    rows[6].created_at = RECORD_NULL; /* its id's time, then */
    for (int i = 0; i < 7; i++)
        usage_add(&table, &utc, &rows[i]);
    assert_int_equal(table.count, 4);
    assert_int_equal(table.sums[3].requests, 4);
    usage_free(&table);
}

static void many_keys_and_again(void **state)
{
    (void)state;
    enum { KEYS = 500, TIMES = 3 };
    static char names[KEYS][8];
    struct usage_table table = {0};
    struct record row = row_at(1790812800000);
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < KEYS * TIMES; i++) {
            snprintf(names[i % KEYS], sizeof names[0], "t%d", i % KEYS);
            row.token = str_of(names[i % KEYS]);
            usage_add(&table, &utc, &row);
        }
        assert_int_equal(table.count, KEYS);
        for (int i = 0; i < KEYS; i++) {
            assert_int_equal(table.sums[i].requests, TIMES);
            assert_string_equal(table.sums[i].month.at, "2026-10");
        }
        usage_clear(&table);
        assert_int_equal(table.count, 0);
    }
    usage_free(&table);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_are_powers_of_two),
        cmocka_unit_test(columns_are_named_in_order),
        cmocka_unit_test(rows_of_one_key_are_added_up),
        cmocka_unit_test(keys_are_told_apart),
        cmocka_unit_test(many_keys_and_again),
    };
    return cmocka_run_group_tests_name("usage", tests, NULL, NULL);
}
