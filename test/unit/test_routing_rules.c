#include "shared/routing/rules.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static bool holds(const struct routing_condition *condition, const struct routing_facts *facts)
{
    return routing_condition_holds(condition, facts);
}

/* What each says below, at and above its edge. */
static const struct {
    enum comparison comparison;
    bool below, at, above;
} cases[] = {
    {COMPARISON_GE, false, true, true},  {COMPARISON_GT, false, false, true},
    {COMPARISON_LE, true, true, false},  {COMPARISON_LT, true, false, false},
    {COMPARISON_EQ, false, true, false},
};

static void every_comparison_at_its_edge(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct routing_condition condition = {FACT_INPUT_TOKENS, cases[i].comparison, 100000, 0, 0};
        struct routing_facts facts = {.input_tokens = 99999};
        assert_int_equal(holds(&condition, &facts), cases[i].below);
        facts.input_tokens = 100000;
        assert_int_equal(holds(&condition, &facts), cases[i].at);
        facts.input_tokens = 100001;
        assert_int_equal(holds(&condition, &facts), cases[i].above);
        condition.fact = FACT_MESSAGES_COUNT;
        condition.value = 3;
        facts.messages_count = 2;
        assert_int_equal(holds(&condition, &facts), cases[i].below);
        facts.messages_count = 3;
        assert_int_equal(holds(&condition, &facts), cases[i].at);
        facts.messages_count = 4;
        assert_int_equal(holds(&condition, &facts), cases[i].above);
    }
}

/* To the nano-dollar, whatever the cap: 90 % of 0.7 USD is 630000000. */
static void a_share_is_exact(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct routing_condition condition = {FACT_MONTHLY_SPEND_PCT, cases[i].comparison,
                                                    90 * ROUTING_PCT, 0, 0};
        struct routing_facts facts = {.cap_nano_usd = 700000000, .spent_nano_usd = 629999999};
        assert_int_equal(holds(&condition, &facts), cases[i].below);
        facts.spent_nano_usd = 630000000;
        assert_int_equal(holds(&condition, &facts), cases[i].at);
        facts.spent_nano_usd = 630000001;
        assert_int_equal(holds(&condition, &facts), cases[i].above);
    }
    const struct routing_condition condition = {FACT_MONTHLY_SPEND_PCT, COMPARISON_GE,
                                                90 * ROUTING_PCT, 0, 0};
    const struct routing_facts greatest = {.cap_nano_usd = INT64_C(50000000) * 1000000000,
                                           .spent_nano_usd = INT64_C(45000000) * 1000000000};
    const struct routing_facts nothing = {.cap_nano_usd = 0};
    assert_true(holds(&condition, &greatest));
    assert_true(holds(&condition, &nothing)); /* there is nothing left of nothing */
}

static void truths(void **state)
{
    (void)state;
    static const enum routing_fact facts_of[] = {FACT_HAS_OUTPUT_SCHEMA, FACT_HAS_INPUT_SCHEMA,
                                                 FACT_STREAMING};
    for (size_t i = 0; i < 3; i++) {
        const struct routing_condition yes = {facts_of[i], COMPARISON_EQ, 1, 0, 0};
        const struct routing_condition no = {facts_of[i], COMPARISON_EQ, 0, 0, 0};
        const struct routing_facts none = {0};
        const struct routing_facts one = {
            .has_output_schema = i == 0, .has_input_schema = i == 1, .streaming = i == 2};
        assert_true(holds(&yes, &one) && !holds(&yes, &none));
        assert_true(!holds(&no, &one) && holds(&no, &none));
    }
}

static void windows_may_wrap_midnight(void **state)
{
    (void)state;
    const struct routing_condition night = {FACT_TIME_OF_DAY, COMPARISON_EQ, 0, 22 * 60, 6 * 60};
    const struct routing_condition day = {FACT_TIME_OF_DAY, COMPARISON_EQ, 0, 6 * 60, 22 * 60};
    const struct routing_condition evening = {FACT_TIME_OF_DAY, COMPARISON_EQ, 0, 18 * 60, 24 * 60};
    for (int minute = 0; minute < 24 * 60; minute++) {
        const struct routing_facts facts = {.minute_of_day = minute};
        bool is_night = minute >= 22 * 60 || minute < 6 * 60;
        assert_int_equal(holds(&night, &facts), is_night);
        assert_int_equal(holds(&day, &facts), !is_night);
        assert_int_equal(holds(&evening, &facts), minute >= 18 * 60);
    }
}

static void all_conditions_must_hold(void **state)
{
    (void)state;
    const struct routing_condition both[] = {
        {FACT_INPUT_TOKENS, COMPARISON_GE, 10, 0, 0},
        {FACT_STREAMING, COMPARISON_EQ, 1, 0, 0},
    };
    const struct routing_rule rule = {both, 2, "x"}, always = {NULL, 0, "y"};
    const struct routing_facts all = {.input_tokens = 10, .streaming = true};
    const struct routing_facts one = {.input_tokens = 10};
    assert_true(routing_rule_holds(&rule, &all));
    assert_false(routing_rule_holds(&rule, &one));
    assert_true(routing_rule_holds(&always, &one));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_comparison_at_its_edge),
        cmocka_unit_test(a_share_is_exact),
        cmocka_unit_test(truths),
        cmocka_unit_test(windows_may_wrap_midnight),
        cmocka_unit_test(all_conditions_must_hold),
    };
    return cmocka_run_group_tests_name("rules", tests, NULL, NULL);
}
