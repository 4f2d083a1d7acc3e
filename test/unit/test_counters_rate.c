/* Windows by a clock that the test sets: edges of buckets, clocks that are behind, gaps, and what
 * clients are told. (That no order of processes passes a cap is test/steps' business.) */
#include "shared/counters/rate.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SECOND = 1000000 };

static struct {
    struct shm_account *accounts; /* endpoint, token, project */
    struct rate_accounts met;
    int64_t now_us;
    struct rate_verdict verdict;
} test;

static int set_up(void **state)
{
    (void)state;
    test.accounts = aligned_alloc(128, BUDGETS * sizeof *test.accounts);
    memset((void *)test.accounts, 0, BUDGETS * sizeof *test.accounts);
    for (int i = 0; i < BUDGETS; i++) {
        test.met.of[i] = &test.accounts[i];
        for (int j = 0; j < CAP_COUNT; j++)
            atomic_store(&test.accounts[i].caps[j], CAP_UNLIMITED);
    }
    test.now_us = INT64_C(1795000020) * SECOND; /* a whole minute */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free((void *)test.accounts);
    return 0;
}

static void cap(enum budget of, enum account_cap kind, int64_t value)
{
    atomic_store(&test.accounts[of].caps[kind], value);
}

/* `seconds` after the beginning. */
static bool admitted_at(double seconds)
{
    rate_admit(&test.met, test.now_us + (int64_t)(seconds * SECOND), 0, &test.verdict);
    return test.verdict.admitted;
}

static void without_a_limit_all_are_admitted(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++)
        assert_true(admitted_at(0));
    assert_false(test.verdict.limited);
}

static void room_comes_back_bucket_by_bucket(void **state)
{
    (void)state;
    cap(BUDGET_ENDPOINT, CAP_PER_MINUTE, 3);
    assert_true(admitted_at(0.9));
    assert_true(admitted_at(1.0));
    assert_int_equal(test.verdict.tightest.remaining, 1);
    assert_int_equal(test.verdict.tightest.cap, 3);
    assert_int_equal(test.verdict.tightest.reset_s, 61);
    assert_true(admitted_at(30.5));
    assert_int_equal(test.verdict.tightest.remaining, 0);
    /* The one of second 0 counts until the end of second 60. */
    assert_false(admitted_at(31));
    assert_int_equal(test.verdict.retry_after_s, 30);
    assert_false(admitted_at(60.999));
    assert_int_equal(test.verdict.retry_after_s, 1);
    assert_true(admitted_at(61));
    assert_false(admitted_at(61));
    assert_int_equal(test.verdict.retry_after_s, 1);
    assert_true(admitted_at(62));
    assert_false(admitted_at(62));
    assert_int_equal(test.verdict.retry_after_s, 29);
    assert_int_equal(test.verdict.tightest.reset_s, 61);
    assert_true(admitted_at(91));
    /* All is free after a long time. */
    assert_true(admitted_at(10000));
    assert_int_equal(test.verdict.tightest.remaining, 2);
}

static void hours_are_counted_in_minutes(void **state)
{
    (void)state;
    cap(BUDGET_TOKEN, CAP_PER_HOUR, 2);
    assert_true(admitted_at(59));
    assert_true(admitted_at(61));
    assert_false(admitted_at(3599));
    assert_int_equal(test.verdict.retry_after_s, 61);
    assert_int_equal(test.verdict.tightest.of, BUDGET_TOKEN);
    assert_true(test.verdict.tightest.hourly);
    assert_false(admitted_at(3659.9));
    assert_true(admitted_at(3660));
    assert_false(admitted_at(3660));
    assert_true(admitted_at(3720));
}

/* Another process's clock is ahead: what it counted, counts, and this one counts with it. */
static void a_clock_that_is_behind(void **state)
{
    (void)state;
    cap(BUDGET_ENDPOINT, CAP_PER_MINUTE, 2);
    assert_true(admitted_at(10));
    assert_true(admitted_at(7.5));
    assert_int_equal(test.verdict.wait_us, 2.5 * SECOND);
    assert_false(admitted_at(7.5));
    assert_int_equal(test.verdict.retry_after_s, 64);
    assert_false(admitted_at(70.9));
    assert_true(admitted_at(71));
}

static void the_one_that_refuses_longest_is_named(void **state)
{
    (void)state;
    cap(BUDGET_ENDPOINT, CAP_PER_MINUTE, 5);
    cap(BUDGET_TOKEN, CAP_PER_MINUTE, 4);
    cap(BUDGET_PROJECT, CAP_PER_HOUR, 4);
    for (int i = 0; i < 4; i++)
        assert_true(admitted_at(i));
    assert_int_equal(test.verdict.tightest.of, BUDGET_TOKEN);
    assert_false(admitted_at(5));
    assert_int_equal(test.verdict.tightest.of, BUDGET_PROJECT);
    assert_int_equal(test.verdict.retry_after_s, 3655);
    /* "a request that a rate limit refuses takes no room in any window" */
    cap(BUDGET_TOKEN, CAP_PER_MINUTE, CAP_UNLIMITED);
    cap(BUDGET_PROJECT, CAP_PER_HOUR, CAP_UNLIMITED);
    for (int i = 0; i < 100; i++)
        admitted_at(6);
    struct rate_limit limit;
    assert_true(
        rate_look(&test.accounts[BUDGET_ENDPOINT], false, test.now_us + 6 * SECOND, 0, &limit));
    assert_int_equal(limit.remaining, 0);
    assert_false(rate_look(&test.accounts[BUDGET_TOKEN], false, test.now_us, 0, &limit));
}

/* A limit that is lowered by a reload counts what was admitted before. */
static void limits_change_and_counts_stay(void **state)
{
    (void)state;
    cap(BUDGET_ENDPOINT, CAP_PER_MINUTE, 100);
    for (int i = 0; i < 50; i++)
        assert_true(admitted_at(i * 0.1));
    cap(BUDGET_ENDPOINT, CAP_PER_MINUTE, 10);
    assert_false(admitted_at(6));
    assert_int_equal(test.verdict.tightest.remaining, 0);
    assert_int_equal(test.verdict.retry_after_s, 60 + 1 + 4 - 6); /* when 41 of them are gone */
    cap(BUDGET_ENDPOINT, CAP_PER_MINUTE, 51);
    assert_true(admitted_at(6));
    assert_false(admitted_at(6));
}

/* The sum, however it is computed, against a plain list of admissions. */
static void the_sum_is_right_after_any_history(void **state)
{
    enum { HISTORY = 4000, CAP = 40 };
    static uint32_t admitted[HISTORY];
    size_t count = 0;
    uint32_t seed = 7, now = 1795000000;
    struct shm_window shared = {0};
    const struct window window = window_of(&shared);
    (void)state;
    for (int i = 0; i < HISTORY; i++) {
        seed = seed * 1103515245 + 12345;
        now += (seed >> 16) % 64 == 0 ? 50 + (seed >> 24) : (seed >> 16) % 4 == 0;
        size_t recent = 0;
        for (size_t j = 0; j < count; j++)
            recent += now - admitted[j] <= WINDOW_SPAN;
        struct window_state look;
        bool fits = window_look(&window, CAP, now, &look);
        assert_int_equal(look.used, recent);
        assert_int_equal(fits, recent < CAP);
        if (fits) {
            assert_true(window_take(&window, CAP, now, &look));
            admitted[count++] = now;
        } else {
            /* Then, and not before, there is room. */
            size_t then = 0, before = 0;
            for (size_t j = 0; j < count; j++) {
                then += look.free_at - admitted[j] <= WINDOW_SPAN;
                before += look.free_at - 1 - admitted[j] <= WINDOW_SPAN;
            }
            assert_true(then < CAP && before >= CAP);
        }
    }
    assert_true(count > 1000 && count < HISTORY);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(without_a_limit_all_are_admitted),      TEST(room_comes_back_bucket_by_bucket),
        TEST(hours_are_counted_in_minutes),          TEST(a_clock_that_is_behind),
        TEST(the_one_that_refuses_longest_is_named), TEST(limits_change_and_counts_stay),
        TEST(the_sum_is_right_after_any_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
