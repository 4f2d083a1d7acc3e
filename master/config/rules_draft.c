/* Routing rules: their conditions are read and held against each other, so that a rule which can't
 * hold, or is never reached, is found before anybody waits for it. */
#include "master/config/drafts.h"

/* --- one condition --- */

/* The keys of `when`, in the order of `enum routing_fact`. */
static const enum key_id fact_keys[FACTS_COUNT] = {
    RULE_input_tokens,     RULE_messages_count, RULE_monthly_spend_pct, RULE_has_output_schema,
    RULE_has_input_schema, RULE_streaming,      RULE_time_of_day};

static int64_t unit_of(enum routing_fact fact)
{
    return fact == FACT_MONTHLY_SPEND_PCT ? ROUTING_PCT : 1;
}

/* Digits, and as many decimals as the unit has. */
static bool read_number(struct str text, int64_t unit, int64_t *value)
{
    struct str whole = text, rest = text;
    unsigned long long number;
    whole = str_split(&rest, '.');
    if (whole.len == 0 || whole.len > 12 || !str_to_u64(whole, &number))
        return false;
    *value = (int64_t)number * unit;
    if (!rest.at)
        return true;
    if (rest.len == 0)
        return false;
    for (size_t i = 0; i < rest.len; i++) {
        unit /= 10;
        if (unit == 0 || rest.at[i] < '0' || rest.at[i] > '9')
            return false;
        *value += (rest.at[i] - '0') * unit;
    }
    return true;
}

static bool read_comparison(struct str text, int64_t unit, struct routing_condition *condition)
{
    static const enum comparison all[] = {COMPARISON_GE, COMPARISON_LE, COMPARISON_EQ,
                                          COMPARISON_GT, COMPARISON_LT};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct str sign = str_of(comparison_name(all[i]));
        if (!str_starts(text, sign))
            continue;
        condition->comparison = all[i];
        return read_number(str_trim((struct str){text.at + sign.len, text.len - sign.len}), unit,
                           &condition->value);
    }
    return false;
}

/* "22:00"; 24:00 is the end of a day. */
static bool read_minute(struct str text, int *minute)
{
    unsigned long long hours, minutes;
    if (text.len != 5 || text.at[2] != ':' || !str_to_u64((struct str){text.at, 2}, &hours) ||
        !str_to_u64((struct str){text.at + 3, 2}, &minutes))
        return false;
    *minute = (int)(hours * 60 + minutes);
    return hours <= 24 && minutes < 60 && *minute <= 24 * 60;
}

static bool read_window(struct str text, struct routing_condition *condition)
{
    struct str to = text;
    struct str from = str_split(&to, '-');
    return read_minute(str_trim(from), &condition->from_minute) &&
           read_minute(str_trim(to), &condition->to_minute) && condition->from_minute < 24 * 60;
}

/* --- what a condition leaves --- */

/* The values that a condition of a number holds for: whole ones, or parts of the unit. */
struct span {
    int64_t low, high;
};

static struct span span_of(const struct routing_condition *condition)
{
    int64_t value = condition->value;
    switch (condition->comparison) {
    case COMPARISON_GE:
        return (struct span){value, INT64_MAX};
    case COMPARISON_GT:
        return (struct span){value + 1, INT64_MAX};
    case COMPARISON_LE:
        return (struct span){0, value};
    case COMPARISON_LT:
        return (struct span){0, value - 1};
    case COMPARISON_EQ:
        break;
    }
    return (struct span){value, value};
}

static bool is_number(enum routing_fact fact)
{
    return fact == FACT_INPUT_TOKENS || fact == FACT_MESSAGES_COUNT ||
           fact == FACT_MONTHLY_SPEND_PCT;
}

static bool minute_holds(const struct routing_condition *condition, int minute)
{
    const struct routing_facts facts = {.minute_of_day = minute};
    return routing_condition_holds(condition, &facts);
}

/* Whether `wide` holds wherever `narrow` does: both are of the same fact. */
static bool contains(const struct routing_condition *wide, const struct routing_condition *narrow)
{
    if (is_number(wide->fact)) {
        struct span outer = span_of(wide), inner = span_of(narrow);
        return outer.low <= inner.low && inner.high <= outer.high;
    }
    if (wide->fact != FACT_TIME_OF_DAY)
        return wide->value == narrow->value;
    for (int minute = 0; minute < 24 * 60; minute++)
        if (minute_holds(narrow, minute) && !minute_holds(wide, minute))
            return false;
    return true;
}

static bool holds_always(const struct routing_condition *condition)
{
    struct span span = span_of(condition);
    return is_number(condition->fact) && span.low == 0 && span.high == INT64_MAX;
}

static const struct routing_condition *condition_of(const struct rule_draft *rule,
                                                    enum routing_fact fact)
{
    for (size_t i = 0; i < rule->conditions_count; i++)
        if (rule->conditions[i].fact == fact)
            return &rule->conditions[i];
    return NULL;
}

/* Whether the first rule holds wherever the second one does. */
static bool covers(const struct rule_draft *first, const struct rule_draft *second)
{
    for (size_t i = 0; i < first->conditions_count; i++) {
        const struct routing_condition *wide = &first->conditions[i];
        const struct routing_condition *narrow = condition_of(second, wide->fact);
        if (!holds_always(wide) && (!narrow || !contains(wide, narrow)))
            return false;
    }
    return true;
}

/* --- reading --- */

static void check_number(struct reading *reading, struct rule_draft *rule, enum key_id key,
                         const struct routing_condition *condition)
{
    struct span span = span_of(condition);
    if (span.high < span.low)
        section_error(reading, &rule->section, key, "can never hold: nothing is less than 0");
    else if (holds_always(condition))
        section_warning(reading, &rule->section, key, "holds always: leave it out");
    else if (condition->fact == FACT_MONTHLY_SPEND_PCT && span.low > 100 * ROUTING_PCT)
        section_error(reading, &rule->section, key,
                      "can never hold: no more than 100 %% of a budget is spent");
}

static void read_comparing(struct reading *reading, struct rule_draft *rule, enum key_id key,
                           const char *text, struct routing_condition *condition)
{
    bool is_share = condition->fact == FACT_MONTHLY_SPEND_PCT;
    if (read_comparison(str_trim(str_of(text)), unit_of(condition->fact), condition))
        check_number(reading, rule, key, condition);
    else
        section_error(reading, &rule->section, key,
                      "must be a comparison (>=, >, <=, < or ==) with a %s, such as \"%s\", not "
                      "\"%s\"",
                      is_share ? "percentage" : "whole number", is_share ? ">= 90" : ">= 1000",
                      text);
}

static void read_time(struct reading *reading, struct rule_draft *rule,
                      struct routing_condition *condition)
{
    const char *text = rule->when.time_of_day;
    if (!read_window(str_of(text), condition))
        section_error(reading, &rule->section, RULE_time_of_day,
                      "must be two times of a day, such as \"22:00-06:00\", not \"%s\"", text);
    else if (condition->from_minute == condition->to_minute)
        section_error(reading, &rule->section, RULE_time_of_day,
                      "can never hold: it ends when it begins; 00:00-24:00 is the whole day");
}

/* What the endpoint's own keys settle. */
static void check_possible(struct reading *reading, struct rule_draft *rule,
                           const struct endpoint_draft *endpoint,
                           const struct routing_condition *condition)
{
    enum key_id key = fact_keys[condition->fact];
    if (condition->fact == FACT_STREAMING && condition->value && !endpoint->streaming_enabled)
        section_warning(reading, &rule->section, key, "never holds: streaming_enabled is false");
    if (condition->fact == FACT_HAS_OUTPUT_SCHEMA && condition->value && !endpoint->output_schema &&
        !endpoint->section.bad[ENDPOINT_output_schema])
        section_warning(reading, &rule->section, key,
                        "never holds: the endpoint has no output_schema");
    if (condition->fact == FACT_HAS_INPUT_SCHEMA && condition->value && !endpoint->input_schema &&
        !endpoint->section.bad[ENDPOINT_input_schema])
        section_warning(reading, &rule->section, key,
                        "never holds: the endpoint has no input_schema");
    if (condition->fact == FACT_MONTHLY_SPEND_PCT && endpoint->monthly_nano_usd == INT64_MAX &&
        !endpoint->section.bad[ENDPOINT_monthly_usd])
        section_error(reading, &rule->section, key,
                      "needs a budget of the endpoint's own: budget.monthly_usd is not set");
}

static void read_condition(struct reading *reading, struct rule_draft *rule,
                           const struct endpoint_draft *endpoint, enum routing_fact fact)
{
    enum key_id key = fact_keys[fact];
    struct section *section = &rule->section;
    const struct when_draft *when = &rule->when;
    struct routing_condition *condition = &rule->conditions[rule->conditions_count];
    const char *const texts[FACTS_COUNT] = {when->input_tokens, when->messages_count,
                                            when->monthly_spend_pct};
    const bool truths[FACTS_COUNT] = {[FACT_HAS_OUTPUT_SCHEMA] = when->has_output_schema,
                                      [FACT_HAS_INPUT_SCHEMA] = when->has_input_schema,
                                      [FACT_STREAMING] = when->streaming};
    rule->bad = rule->bad || section->bad[key];
    if (!section->at[key] || section->bad[key])
        return;
    *condition = (struct routing_condition){.fact = fact, .comparison = COMPARISON_EQ};
    if (is_number(fact))
        read_comparing(reading, rule, key, texts[fact], condition);
    else if (fact == FACT_TIME_OF_DAY)
        read_time(reading, rule, condition);
    else
        condition->value = truths[fact];
    if (!section->bad[key])
        check_possible(reading, rule, endpoint, condition);
    rule->bad = rule->bad || section->bad[key];
    rule->conditions_count++;
}

/* It becomes a header's value and a column. */
static void check_decision(struct reading *reading, struct rule_draft *rule, size_t index)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
    if (rule->section.bad[RULE_decision])
        return;
    if (!rule->decision)
        rule->decision = arena_printf(reading->lasting, "rule-%zu", index + 1);
    else if (rule->decision[strspn(rule->decision, allowed)] != '\0')
        section_error(reading, &rule->section, RULE_decision,
                      "must be letters, digits, -, _ and ., for it becomes a header");
}

static void check_reached(struct reading *reading, const struct endpoint_draft *endpoint,
                          const struct rule_draft *rule)
{
    for (const struct rule_draft *before = endpoint->rules; before != rule; before++) {
        if (before->bad || rule->bad || !covers(before, rule))
            continue;
        problem_warning(reading->problems, rule->section.file, rule->section.mark,
                        rule->section.path,
                        "is never reached: the rule in line %u holds wherever this one does",
                        before->section.mark.line);
        return;
    }
}

static void read_rule(struct reading *reading, const struct drafts *drafts,
                      struct endpoint_draft *endpoint, const struct yaml_node *node, size_t index)
{
    struct rule_draft *rule = &endpoint->rules[endpoint->rules_count++];
    rule->section = (struct section){
        .id = SECTION_RULE,
        .file = endpoint->section.file,
        .path =
            arena_printf(reading->scratch, "%s.routing.rules[%zu]", endpoint->section.path, index),
        .mark = node->mark,
        .node = node,
    };
    unsigned errors = reading->problems->errors;
    bool is_read = section_read(reading, &rule->section);
    rule->bad = reading->problems->errors > errors;
    if (!is_read)
        return;
    rule->conditions = arena_alloc(reading->lasting, FACTS_COUNT * sizeof *rule->conditions);
    for (int fact = 0; fact < FACTS_COUNT; fact++)
        read_condition(reading, rule, endpoint, (enum routing_fact)fact);
    rule_use_read(reading, drafts, endpoint, rule);
    check_decision(reading, rule, index);
    check_reached(reading, endpoint, rule);
}

void rules_read(struct reading *reading, const struct drafts *drafts,
                struct endpoint_draft *endpoint)
{
    const struct yaml_node *list = endpoint->rules_node;
    size_t count = list ? list->count : 0;
    endpoint->rules = arena_alloc(reading->scratch, count * sizeof *endpoint->rules);
    for (size_t i = 0; i < count; i++)
        read_rule(reading, drafts, endpoint, list->entries[i].value, i);
}
