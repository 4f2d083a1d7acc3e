#include "shared/routing/rules.h"

const char *comparison_name(enum comparison comparison)
{
    static const char *const names[] = {">=", ">", "<=", "<", "=="};
    return names[comparison];
}

const char *routing_fact_key(enum routing_fact fact)
{
    static const char *const keys[] = {
#define FACT(id, key) key,
        ROUTING_FACTS
#undef FACT
    };
    return keys[fact];
}

bool comparison_holds(enum comparison comparison, int64_t left, bool rest, int64_t right)
{
    switch (comparison) {
    case COMPARISON_GE:
        return left >= right;
    case COMPARISON_GT:
        return left > right || (left == right && rest);
    case COMPARISON_LE:
        return left < right || (left == right && !rest);
    case COMPARISON_LT:
        return left < right;
    case COMPARISON_EQ:
        return left == right && !rest;
    }
    return false;
}

/* A budget of nothing is spent from the start. */
static bool spend_holds(const struct routing_condition *condition,
                        const struct routing_facts *facts)
{
    __int128 parts = (__int128)facts->spent_nano_usd * 100 * ROUTING_PCT;
    int64_t cap = facts->cap_nano_usd;
    if (cap <= 0)
        return comparison_holds(condition->comparison, 100 * ROUTING_PCT, false, condition->value);
    return comparison_holds(condition->comparison, (int64_t)(parts / cap), parts % cap != 0,
                            condition->value);
}

static bool is_within(int minute, int from, int to)
{
    return from < to ? minute >= from && minute < to : minute >= from || minute < to;
}

bool routing_condition_holds(const struct routing_condition *condition,
                             const struct routing_facts *facts)
{
    enum comparison comparison = condition->comparison;
    switch (condition->fact) {
    case FACT_INPUT_TOKENS:
        return comparison_holds(comparison, facts->input_tokens, false, condition->value);
    case FACT_MESSAGES_COUNT:
        return comparison_holds(comparison, facts->messages_count, false, condition->value);
    case FACT_MONTHLY_SPEND_PCT:
        return spend_holds(condition, facts);
    case FACT_HAS_OUTPUT_SCHEMA:
        return facts->has_output_schema == condition->value;
    case FACT_HAS_INPUT_SCHEMA:
        return facts->has_input_schema == condition->value;
    case FACT_STREAMING:
        return facts->streaming == condition->value;
    case FACT_TIME_OF_DAY:
        return is_within(facts->minute_of_day, condition->from_minute, condition->to_minute);
    case FACTS_COUNT:
        break;
    }
    return false;
}

bool routing_rule_holds(const struct routing_rule *rule, const struct routing_facts *facts)
{
    for (size_t i = 0; i < rule->conditions_count; i++)
        if (!routing_condition_holds(&rule->conditions[i], facts))
            return false;
    return true;
}
