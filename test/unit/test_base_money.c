#include "shared/base/money.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* 0.15, 0.60, 0.075 and 0.1875 USD for a million tokens; twice that above 1,000. */
static const struct prices prices = {
    .known = true,
    .usual = {.input = 150000, .output = 600000, .cached_input = 75000, .cache_write = 187500},
    .above = {.input = 300000, .output = 1200000, .cached_input = 150000, .cache_write = 375000},
    .above_tokens = 1000,
};

static void costs(void **state)
{
    static const struct {
        struct token_counts tokens;
        int64_t nano_usd;
    } cases[] = {
        {{0, 0, 0, 0}, 0},
        {{1, 0, 0, 0}, 150},
        {{0, 1, 0, 0}, 600},
        {{38, 87, 0, 0}, 57900}, /* 0.0000579 USD */
        {{100, 10, 40, 0}, 60 * 150 + 40 * 75 + 6000},
        {{100, 10, 40, 8}, 52 * 150 + 40 * 75 + 8 * 187 + 4 + 6000}, /* 187.5 each */
        {{101, 0, 0, 1}, 100 * 150 + 188},                           /* rounded up */
        {{1000, 0, 0, 0}, 150000},
        {{1001, 1, 0, 0}, 1001 * 300 + 1200},
        {{1001, 0, 1001, 0}, 1001 * 150},
        {{-5, -7, -9, -1}, 0},
        {{10, 0, 50, 50}, 10 * 75}, /* no more cached than there are */
        {{INT64_MAX, INT64_MAX, 0, 0}, INT64_MAX},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(money_cost(&prices, &cases[i].tokens), cases[i].nano_usd);
    /* Exact far beyond what 64 bits of pico-USD hold. */
    struct token_counts many = {INT64_C(1000000000000), 0, 0, 0};
    assert_int_equal(money_cost(&prices, &many), INT64_C(300000000000000));
}

static void worst_costs(void **state)
{
    struct prices flat = prices;
    (void)state;
    assert_int_equal(money_worst_cost(&prices, 8, 10), 1500 + 6000);
    assert_int_equal(money_worst_cost(&prices, 1000, 0), 187500);
    assert_int_equal(money_worst_cost(&prices, 1001, 0), 375375);
    flat.above_tokens = 0;
    assert_int_equal(money_worst_cost(&flat, 100000, 0), 18750000);
    /* A tier above may be the cheaper one: the request could still fall into the other. */
    flat = prices;
    flat.above = (struct price){1, 1, 1, 1};
    assert_int_equal(money_worst_cost(&flat, 2000, 10), 2000 * 187 + 1000 + 6000);
    /* Whatever the parts are, no cost is above the worst. */
    for (int64_t prompt = 0; prompt < 1200; prompt += 100)
        for (int64_t cached = 0; cached <= prompt; cached += 50) {
            struct token_counts tokens = {prompt, 7, cached, (prompt - cached) / 2};
            assert_true(money_cost(&prices, &tokens) <= money_worst_cost(&prices, 1200, 7));
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(costs), cmocka_unit_test(worst_costs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
