/* Which targets may answer: the first rule that fits says who is asked first. */
#include "worker/stage/stage.h"

#include "worker/provider/estimate.h"

/* Some facts are a look at the whole prompt, or at all requests in flight. */
static bool asks_for(const struct config_endpoint *endpoint, enum routing_fact fact)
{
    for (size_t i = 0; i < endpoint->rules_count; i++)
        for (size_t j = 0; j < endpoint->rules[i].rule.conditions_count; j++)
            if (endpoint->rules[i].rule.conditions[j].fact == fact)
                return true;
    return false;
}

struct routing_facts route_facts(const struct exchange *ex)
{
    const struct config_endpoint *endpoint = ex->endpoint;
    struct routing_facts facts = {
        .messages_count =
            (int64_t)json_object_array_length(ex->messages) - (endpoint->system_prompt ? 1 : 0),
        .has_output_schema = endpoint->output_schema,
        .has_input_schema = endpoint->input_schema,
        .streaming = ex->relay.asked,
        .minute_of_day = minute_of_day(&ex->services->config->offsets, ex->created_wall_ms),
    };
    if (asks_for(endpoint, FACT_INPUT_TOKENS))
        facts.input_tokens = estimate_messages(ex->messages);
    if (asks_for(endpoint, FACT_MONTHLY_SPEND_PCT)) {
        struct budget_standing standing;
        (void)budget_look(ex, BUDGET_ENDPOINT, &standing);
        facts.spent_nano_usd = standing.spent;
        facts.cap_nano_usd = standing.cap;
    }
    return facts;
}

enum stage_result stage_route(struct exchange *ex)
{
    const struct config_endpoint *endpoint = ex->endpoint;
    const struct config_rule *fitting = NULL;
    if (endpoint->rules_count > 0) {
        const struct routing_facts facts = route_facts(ex);
        for (size_t i = 0; i < endpoint->rules_count && !fitting; i++)
            if (routing_rule_holds(&endpoint->rules[i].rule, &facts))
                fitting = &endpoint->rules[i];
    }
    chain_begin(ex, fitting);
    return STAGE_NEXT;
}
