/* The word of a budget, and the ledger over three of them. (What dies in between is test/steps'
 * business.) */
#include "shared/counters/ledger.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAY = 317, JUNE, JULY };

static struct {
    struct shm_worker workers[2];
    struct shm_account *accounts; /* endpoint, token, project */
    struct shm_request request;
    struct ledger ledger;
} test;

static int set_up(void **state)
{
    (void)state;
    memset((void *)&test.workers, 0, sizeof test.workers);
    memset((void *)&test.request, 0, sizeof test.request);
    test.accounts = aligned_alloc(128, BUDGETS * sizeof *test.accounts);
    memset((void *)test.accounts, 0, BUDGETS * sizeof *test.accounts);
    for (int i = 0; i < BUDGETS; i++)
        atomic_store(&test.accounts[i].caps[CAP_MONTHLY_NANO_USD], CAP_UNLIMITED);
    test.ledger = (struct ledger){test.accounts, test.workers, 2, 1};
    test.request.endpoint = BUDGET_ENDPOINT;
    test.request.token = BUDGET_TOKEN;
    test.request.project = BUDGET_PROJECT;
    test.request.month = JUNE;
    request_set_state(&test.request, REQUEST_OPEN);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free((void *)test.accounts);
    return 0;
}

static struct spend_applied applied(void)
{
    return (struct spend_applied){(char *)&test.workers[0].applied, sizeof *test.workers, 2};
}

static bool reserve(uint32_t month, uint64_t operation, int64_t amount, int64_t cap)
{
    const struct spend_applied where = applied();
    return spend_reserve(&test.accounts[0].spend, &where, month, (struct spend_tag){1, operation},
                         amount, cap);
}

static int64_t amount(uint32_t month)
{
    return spend_amount(&test.accounts[0].spend, month);
}

static void a_cap_is_met_to_the_nano_dollar(void **state)
{
    (void)state;
    assert_true(reserve(JUNE, 1, 60, 100));
    assert_false(reserve(JUNE, 2, 41, 100));
    assert_true(reserve(JUNE, 3, 40, 100));
    assert_false(reserve(JUNE, 4, 1, 100));
    assert_true(reserve(JUNE, 5, 0, 100));
    assert_int_equal(amount(JUNE), 100);
    const struct spend_applied where = applied();
    spend_add(&test.accounts[0].spend, &where, JUNE, (struct spend_tag){1, 6}, -30);
    assert_int_equal(amount(JUNE), 70);
    spend_add(&test.accounts[0].spend, &where, JUNE, (struct spend_tag){1, 7}, 500);
    assert_int_equal(amount(JUNE), 570); /* a bill above the cap counts whole */
    assert_false(reserve(JUNE, 8, 0, 100));
    /* Without a cap, up to 72 million USD. */
    assert_true(reserve(JUNE, 9, INT64_MAX, CAP_UNLIMITED));
    assert_int_equal(amount(JUNE), (INT64_C(1) << 56) - 1);
}

/* The old month settles beside the new one, and is gone with the one after that. */
static void months_have_words_of_their_own(void **state)
{
    (void)state;
    const struct spend_applied where = applied();
    assert_true(reserve(MAY, 1, 10, 100));
    assert_true(reserve(JUNE, 2, 20, 100));
    spend_add(&test.accounts[0].spend, &where, MAY, (struct spend_tag){1, 3}, -4);
    assert_int_equal(amount(MAY), 6);
    assert_int_equal(amount(JUNE), 20);
    assert_int_equal(spend_latest_month(&test.accounts[0].spend), JUNE);
    assert_true(reserve(JULY, 4, 30, 100));
    assert_int_equal(amount(MAY), 0);
    assert_int_equal(amount(JULY), 30);
    assert_int_equal(spend_latest_month(&test.accounts[0].spend), JULY);
    spend_add(&test.accounts[0].spend, &where, MAY, (struct spend_tag){1, 5}, 50);
    assert_int_equal(amount(JULY), 30); /* two months late: nobody counts there any more */
    /* Neighbours of every number that fits. */
    for (uint32_t month = 1; month < 0xFFF; month++) {
        assert_true(reserve(month, 6, 0, CAP_UNLIMITED));
        if (month > JULY)
            assert_int_equal(spend_latest_month(&test.accounts[0].spend), month);
    }
}

static void what_has_happened_is_known(void **state)
{
    const struct spend_applied where = applied();
    const struct shm_spend *spend = &test.accounts[0].spend;
    (void)state;
    assert_false(spend_has_happened(spend, &where, JUNE, (struct spend_tag){1, 1}));
    assert_true(reserve(JUNE, 1, 10, 100));
    assert_true(spend_has_happened(spend, &where, JUNE, (struct spend_tag){1, 1}));
    assert_false(spend_has_happened(spend, &where, JUNE, (struct spend_tag){1, 2}));
    assert_false(spend_has_happened(spend, &where, JUNE, (struct spend_tag){0, 1}));
    /* Another slot's replaces the tag, and leaves a note. */
    spend_add(&test.accounts[0].spend, &where, JUNE, (struct spend_tag){0, 77}, 1);
    assert_int_equal(atomic_load(&test.workers[1].applied), 1);
    assert_true(spend_has_happened(spend, &where, JUNE, (struct spend_tag){1, 1}));
    assert_false(spend_has_happened(spend, &where, JUNE, (struct spend_tag){1, 2}));
}

static void a_cold_start_raises(void **state)
{
    (void)state;
    struct shm_spend *spend = &test.accounts[0].spend;
    spend_raise(spend, JUNE, 50);
    spend_raise(spend, JUNE, 40);
    assert_int_equal(amount(JUNE), 50);
    assert_true(reserve(JUNE, 1, 50, 100));
    assert_false(reserve(JUNE, 2, 1, 100));
    spend_raise(spend, MAY, 7);
    spend_raise(spend, JULY + 1, 8);
    spend_raise(spend, JUNE, 1000);
    assert_int_equal(amount(JULY + 1), 8);
    assert_int_equal(amount(JUNE), 0); /* replaced by a later one */
}

static int64_t of(enum budget budget)
{
    return spend_amount(&test.accounts[budget].spend, JUNE);
}

static void a_request_counts_in_three_accounts(void **state)
{
    (void)state;
    const struct settlement settlement = {.cost_nano_usd = 7, .basis = COST_REPORTED};
    assert_int_equal(ledger_reserve(&test.ledger, &test.request, 20), BUDGETS);
    assert_int_equal(request_state(&test.request), REQUEST_HELD);
    for (int i = 0; i < BUDGETS; i++)
        assert_int_equal(of((enum budget)i), 20);
    request_set_state(&test.request, REQUEST_SENT);
    ledger_settle(&test.ledger, &test.request, &settlement);
    for (int i = 0; i < BUDGETS; i++)
        assert_int_equal(of((enum budget)i), 7);
    assert_int_equal(request_sums(&test.request)->cost_nano_usd, 7);
    /* A second attempt. */
    assert_int_equal(ledger_reserve(&test.ledger, &test.request, 20), BUDGETS);
    ledger_release(&test.ledger, &test.request);
    assert_int_equal(request_state(&test.request), REQUEST_OPEN);
    for (int i = 0; i < BUDGETS; i++)
        assert_int_equal(of((enum budget)i), 7);
    assert_int_equal(request_sums(&test.request)->cost_nano_usd, 7);
}

static void where_one_has_no_room_none_keeps_anything(void **state)
{
    (void)state;
    for (int i = 0; i < BUDGETS; i++) {
        for (int j = 0; j < BUDGETS; j++)
            atomic_store(&test.accounts[j].caps[CAP_MONTHLY_NANO_USD], i == j ? 19 : 20);
        assert_int_equal(ledger_reserve(&test.ledger, &test.request, 20), i);
        assert_int_equal(request_state(&test.request), REQUEST_OPEN);
        for (int j = 0; j < BUDGETS; j++)
            assert_int_equal(of((enum budget)j), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_cap_is_met_to_the_nano_dollar),    TEST(months_have_words_of_their_own),
        TEST(what_has_happened_is_known),         TEST(a_cold_start_raises),
        TEST(a_request_counts_in_three_accounts), TEST(where_one_has_no_room_none_keeps_anything),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
