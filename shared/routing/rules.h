/* An endpoint's routing rules, compiled: the first whose conditions all hold says who answers.
 * Compiled by the master (routing_draft.c), run by workers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* FACT(id, key): what a condition can ask for, named as in `when`. */
#define ROUTING_FACTS                                                                              \
    FACT(INPUT_TOKENS, "input_tokens")           /* characters of the prompt / 4, up */            \
    FACT(MESSAGES_COUNT, "messages_count")       /* without the endpoint's system prompt */        \
    FACT(MONTHLY_SPEND_PCT, "monthly_spend_pct") /* of the endpoint's budget */                    \
    FACT(HAS_OUTPUT_SCHEMA, "has_output_schema")                                                   \
    FACT(HAS_INPUT_SCHEMA, "has_input_schema")                                                     \
    FACT(STREAMING, "streaming")                                                                   \
    FACT(TIME_OF_DAY, "time_of_day")

enum routing_fact {
#define FACT(id, key) FACT_##id,
    ROUTING_FACTS
#undef FACT
        FACTS_COUNT
};

enum comparison { COMPARISON_GE, COMPARISON_GT, COMPARISON_LE, COMPARISON_LT, COMPARISON_EQ };

/* A part of a hundred, in these parts. */
#define ROUTING_PCT INT64_C(1000000)

/* What is known of a request when it is routed. */
struct routing_facts {
    int64_t input_tokens, messages_count;
    int64_t spent_nano_usd, cap_nano_usd; /* of the endpoint's budget */
    bool has_output_schema, has_input_schema, streaming;
    int minute_of_day; /* in the configuration's time zone */
};

struct routing_condition {
    enum routing_fact fact;
    enum comparison comparison; /* of numbers; a share is in ROUTING_PCT */
    int64_t value;              /* of numbers, and of truths: 0 or 1 */
    int from_minute, to_minute; /* of a time of day: from the one until before the other */
};

struct routing_rule {
    const struct routing_condition *conditions;
    size_t conditions_count; /* 0 = it holds always */
    const char *decision;
};

/* ">=" */
const char *comparison_name(enum comparison comparison);
const char *routing_fact_key(enum routing_fact fact);
/* Whether a comparison holds; `rest` = the left side is more than `left` by a part of one. */
bool comparison_holds(enum comparison comparison, int64_t left, bool rest, int64_t right);
bool routing_condition_holds(const struct routing_condition *condition,
                             const struct routing_facts *facts);
bool routing_rule_holds(const struct routing_rule *rule, const struct routing_facts *facts);
