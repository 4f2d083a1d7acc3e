#include "worker/fit.h"

#include "worker/output.h"
#include "worker/provider/structured.h"

#include <math.h>

void fit_leave_out(struct exchange *ex, const char *name)
{
    struct str text = str_of(name);
    for (const struct name_list *one = ex->ignored; one; one = one->next)
        if (str_eq(one->name, text))
            return;
    exchange_ignore(ex, text);
}

static void drop_parameters(struct exchange *ex, struct fitted *fitted, uint64_t lacked)
{
    for (int i = 0; i < MEMBER_NONE; i++) {
        enum member member = (enum member)i;
        double *own = member == MEMBER_temperature ? &fitted->request.temperature
                      : member == MEMBER_top_p     ? &fitted->request.top_p
                                                   : NULL;
        bool sent = fitted->parameters.values[member] || (own && !isnan(*own));
        if (!sent || !(lacked & MEMBER_BIT(member)))
            continue;
        fitted->parameters.values[member] = NULL;
        if (own)
            *own = NAN;
        fit_leave_out(ex, member_name(member));
    }
}

/* "auto" and "none" force nothing. */
static bool forces_a_tool(struct json_object *choice)
{
    struct str word = json_text(choice);
    return choice && !str_eq(word, STR("auto")) && !str_eq(word, STR("none"));
}

static void drop_forced_tool_choice(struct exchange *ex, struct fitted *fitted)
{
    struct json_object **choice = &fitted->parameters.values[MEMBER_tool_choice];
    if (!forces_a_tool(*choice))
        return;
    *choice = NULL;
    fit_leave_out(ex, "tool_choice");
}

static void say(struct fitted *fitted, struct json_object *messages)
{
    json_object_put(fitted->request.messages);
    fitted->request.messages = messages;
}

/* A model that can't go on with an answer is not shown its beginning; nor is one whose answer has
 * to be whole. */
static void drop_prefill(struct exchange *ex, struct fitted *fitted)
{
    size_t count = json_object_array_length(ex->messages);
    struct json_object *last = count ? json_object_array_get_idx(ex->messages, count - 1) : NULL;
    if (!str_eq(json_text(json_member(last, "role", NULL)), STR("assistant")))
        return;
    struct json_object *others = json_object_new_array_ext((int)count);
    for (size_t i = 0; i + 1 < count; i++)
        json_object_array_add(others, json_object_get(json_object_array_get_idx(ex->messages, i)));
    say(fitted, others);
    fit_leave_out(ex, "prefill");
}

static void limit_tokens(struct exchange *ex, struct fitted *fitted, int64_t limit)
{
    int64_t *tokens = &fitted->request.max_tokens;
    if (limit == 0 || *tokens <= limit)
        return;
    *tokens = limit;
    if (ex->parameters.max_tokens > limit)
        fit_leave_out(ex, json_member(ex->body, "max_tokens", NULL) ? "max_tokens"
                                                                    : "max_completion_tokens");
}

/* The schema of the answer, and a turn to mend one that does not fit it. */
static void ask_for_output(struct exchange *ex, struct fitted *fitted)
{
    struct config_schema *schema = ex->endpoint->output_schema;
    struct completion_request *request = &fitted->request;
    struct json_object **format = &fitted->parameters.values[MEMBER_response_format];
    if (!schema)
        return;
    if (*format)
        fit_leave_out(ex, "response_format");
    *format = NULL;
    request->output = structured_for(
        schema, request->target,
        (struct structured_request){.has_tools = fitted->parameters.values[MEMBER_tools],
                                    .streams = request->streams});
    if (request->output.prompt)
        say(fitted, output_told(request->output.prompt, request->messages));
    if (ex->unfit.code != API_OK)
        say(fitted, output_repair_turn(&ex->unfit, request->messages));
}

void fit_request(struct exchange *ex, const struct config_target *target, struct fitted *fitted)
{
    const struct config_model *model = &target->known;
    int64_t asked = ex->parameters.max_tokens;
    fit_release(fitted);
    fitted->parameters = ex->parameters;
    fitted->request = (struct completion_request){
        .target = target,
        .messages = json_object_get(ex->messages),
        .parameters = &fitted->parameters,
        .temperature = ex->parameters.values[MEMBER_temperature] ? NAN : target->temperature,
        .top_p = ex->parameters.values[MEMBER_top_p] ? NAN : target->top_p,
        .max_tokens = asked ? asked : target->max_output_tokens,
        .streams = ex->relay.asked,
    };
    if (fitted->request.max_tokens == 0)
        fitted->request.max_tokens = provider_max_tokens(target->provider);
    drop_parameters(ex, fitted, model->lacks.parameters | provider_lacks(target));
    limit_tokens(ex, fitted, model->output_limit);
    if (model->lacks.forced_tool_choice)
        drop_forced_tool_choice(ex, fitted);
    if (model->lacks.prefill || ex->endpoint->output_schema)
        drop_prefill(ex, fitted);
    ask_for_output(ex, fitted);
}

void fit_release(struct fitted *fitted)
{
    json_object_put(fitted->request.messages);
    fitted->request.messages = NULL;
}
