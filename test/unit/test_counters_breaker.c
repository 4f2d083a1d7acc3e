#include "shared/counters/breaker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static const struct breaker_limits limits = {5, 50, 10000, 5000};

static bool allows(struct shm_breaker *breaker, int64_t now_ms)
{
    return breaker_allows(breaker, 1, &limits, now_ms);
}

static bool fail_at(struct shm_breaker *breaker, int64_t now_ms)
{
    return breaker_failed(breaker, &limits, now_ms, now_ms);
}

static bool succeed_at(struct shm_breaker *breaker, int64_t now_ms)
{
    return breaker_succeeded(breaker, &limits, now_ms, now_ms);
}

static void open_at(struct shm_breaker *breaker, int64_t now_ms)
{
    for (int i = 1; i < 5; i++)
        assert_false(fail_at(breaker, now_ms));
    assert_true(fail_at(breaker, now_ms));
}

static void failures_in_a_row_open_it(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    for (int i = 0; i < 4; i++)
        assert_false(fail_at(&breaker, 1000));
    for (int i = 0; i < 20; i++)
        assert_false(succeed_at(&breaker, 1000)); /* the row is broken, the rate is low */
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_CLOSED);
    open_at(&breaker, 1001);
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_OPEN);
    assert_false(fail_at(&breaker, 1002)); /* it was open */
}

static void a_rate_of_failures_opens_it(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    for (int i = 0; i < 4; i++) { /* 4 of 8: too few calls to tell */
        assert_false(fail_at(&breaker, 1000));
        assert_false(succeed_at(&breaker, 1000));
    }
    assert_false(succeed_at(&breaker, 1000));
    assert_true(fail_at(&breaker, 1000)); /* 5 of 10 */
    breaker_reset(&breaker);
    for (int i = 0; i < 10; i++) {
        assert_false(succeed_at(&breaker, 1000));
        assert_false(succeed_at(&breaker, 1000));
        assert_false(fail_at(&breaker, 1000)); /* a third */
    }
}

/* What is older than the window doesn't count: here 9 of 9 failed, never 5 in a row. */
static void a_rate_looks_back_for_a_window(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    const struct breaker_limits patient = {20, 50, 10000, 5000};
    for (int i = 0; i < 19; i++)
        assert_false(breaker_failed(&breaker, &patient, 6000, 6000));
    assert_false(breaker_succeeded(&breaker, &patient, 6000, 6000));
    for (int i = 0; i < 30; i++)
        assert_false(breaker_succeeded(&breaker, &patient, 21000, 21000));
    for (int i = 0; i < 19; i++) /* 19 of 49; with the old ones 38 of 69 */
        assert_false(breaker_failed(&breaker, &patient, 21000, 21000));
}

static void one_probe_at_a_time(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    assert_true(allows(&breaker, 900));
    open_at(&breaker, 1000);
    assert_false(allows(&breaker, 5999));
    assert_true(allows(&breaker, 6000));
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_PROBING);
    assert_false(allows(&breaker, 6000));
    assert_false(fail_at(&breaker, 6500)); /* the probe has failed */
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_OPEN);
    assert_false(allows(&breaker, 11499));
    assert_true(allows(&breaker, 11500));
    assert_true(succeed_at(&breaker, 11600));
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_CLOSED);
    assert_true(allows(&breaker, 11600) && allows(&breaker, 11600));
    for (int i = 1; i < 5; i++) /* it begins anew: what was before doesn't count */
        assert_false(fail_at(&breaker, 11700));
}

static void a_prober_that_died_is_followed_by_another(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    open_at(&breaker, 1000);
    assert_true(allows(&breaker, 6000));
    assert_false(allows(&breaker, 10999));
    assert_true(allows(&breaker, 11000));
}

/* Calls that are made for want of another target change nothing, but for the probe. */
static void calls_while_it_is_open(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    open_at(&breaker, 1000);
    assert_false(succeed_at(&breaker, 2000));
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_OPEN);
    assert_false(fail_at(&breaker, 5900));
    assert_true(allows(&breaker, 6000)); /* that one has not put it off */
}

/* Calls that began before it opened say nothing of what is now. */
static void late_news_changes_nothing(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    open_at(&breaker, 1000);
    assert_false(breaker_succeeded(&breaker, &limits, 500, 2000));
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_OPEN);
    assert_true(allows(&breaker, 6000));
    assert_false(breaker_failed(&breaker, &limits, 900, 6100));
    assert_false(breaker_succeeded(&breaker, &limits, 5900, 6100));
    assert_int_equal(breaker_look(&breaker, 1), BREAKER_PROBING);
}

static void a_refused_key_stays_out_for_its_generation(void **state)
{
    (void)state;
    struct shm_breaker breaker = {0};
    assert_true(breaker_refuse(&breaker, 3));
    assert_false(breaker_refuse(&breaker, 3)); /* the alarm was given */
    assert_false(breaker_refuse(&breaker, 2)); /* of a worker that still drains */
    assert_int_equal(breaker_look(&breaker, 2), BREAKER_REFUSED);
    assert_int_equal(breaker_look(&breaker, 3), BREAKER_REFUSED);
    assert_int_equal(breaker_look(&breaker, 4), BREAKER_CLOSED);
    assert_false(breaker_allows(&breaker, 3, &limits, 1000000));
    assert_true(breaker_allows(&breaker, 4, &limits, 1000000));
    assert_true(breaker_refuse(&breaker, 4));
}

/* --- many at once --- */

enum { THREADS = 4, ROUNDS = 20000 };

struct crowd {
    struct shm_breaker breaker;
    _Atomic int probes, opened;
};

static void *fail_and_probe(void *context)
{
    struct crowd *crowd = context;
    for (int i = 0; i < ROUNDS; i++) {
        if (allows(&crowd->breaker, 100000))
            atomic_fetch_add(&crowd->probes, 1);
        if (breaker_failed(&crowd->breaker, &limits, 1000, 1000))
            atomic_fetch_add(&crowd->opened, 1);
    }
    return NULL;
}

static void one_of_many_opens_it_and_one_probes(void **state)
{
    (void)state;
    struct crowd crowd = {0};
    pthread_t threads[THREADS];
    open_at(&crowd.breaker, 1000);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fail_and_probe, &crowd), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(crowd.opened, 0);
    assert_int_equal(crowd.probes, 1); /* the failures are older than the probe */
    crowd = (struct crowd){0};
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, fail_and_probe, &crowd), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(crowd.opened, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(failures_in_a_row_open_it),
        cmocka_unit_test(a_rate_of_failures_opens_it),
        cmocka_unit_test(a_rate_looks_back_for_a_window),
        cmocka_unit_test(one_probe_at_a_time),
        cmocka_unit_test(a_prober_that_died_is_followed_by_another),
        cmocka_unit_test(calls_while_it_is_open),
        cmocka_unit_test(late_news_changes_nothing),
        cmocka_unit_test(a_refused_key_stays_out_for_its_generation),
        cmocka_unit_test(one_of_many_opens_it_and_one_probes),
    };
    return cmocka_run_group_tests_name("breaker", tests, NULL, NULL);
}
