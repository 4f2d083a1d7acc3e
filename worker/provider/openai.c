/* OpenAI's chat completions. Source: the request and response types of the official SDK. */
#include "worker/provider/provider.h"

#include "shared/base/json.h"

#include <math.h>

static void add_member(struct buf *body, const char *name, struct json_object *value)
{
    if (!value)
        return;
    buf_printf(body, ",\"%s\":", name);
    json_write(body, value);
}

static void add_number(struct buf *body, const char *name, double value)
{
    if (isnan(value))
        return;
    buf_printf(body, ",\"%s\":", name);
    json_write_double(body, value);
}

void openai_build_body(const struct completion_request *request, struct buf *body)
{
    const struct config_target *target = request->target;
    const struct client_parameters *parameters = request->parameters;
    buf_puts(body, "{\"model\":");
    json_write_string(body, str_of(target->model));
    buf_puts(body, ",\"messages\":");
    json_write(body, request->messages);
    add_number(body, "temperature", request->temperature);
    add_number(body, "top_p", request->top_p);
    if (request->max_tokens > 0) {
        buf_puts(body, ",\"max_completion_tokens\":");
        buf_i64(body, request->max_tokens);
    }
    for (int i = 0; i < MEMBER_NONE; i++)
        add_member(body, member_name((enum member)i), parameters->values[i]);
    if (target->parameters)
        buf_printf(body, ",%s", target->parameters);
    buf_putc(body, '}');
}

static void add_header(struct upstream_call *call, struct str name, struct str value)
{
    call->headers[call->headers_count++] = (struct call_header){name, value};
}

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_credential *credential = request->target->credential;
    if (credential->headers_count + 2 > CALL_HEADERS_MAX)
        return error_set(error, "credential %s has more than %d headers", credential->name,
                         CALL_HEADERS_MAX - 2);
    call->url = arena_printf(arena, "%s/chat/completions", credential->base_url);
    add_header(call, STR("Content-Type"), STR("application/json"));
    if (credential->api_key)
        add_header(call, STR("Authorization"),
                   str_of(arena_printf(arena, "Bearer %s", credential->api_key)));
    for (size_t i = 0; i < credential->headers_count; i++)
        add_header(call, str_of(credential->headers[i].name), str_of(credential->headers[i].value));
    openai_build_body(request, &call->body);
    return true;
}

static const char *finish_reason_of(struct str reason)
{
    static const struct {
        const char *said, *meant;
    } reasons[] = {
        {"stop", "stop"},
        {"length", "length"},
        {"tool_calls", "tool_calls"},
        {"function_call", "tool_calls"},
        {"content_filter", "content_filter"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (str_eq(reason, str_of(reasons[i].said)))
            return reasons[i].meant;
    return "stop";
}

static const int64_t COUNT_MAX = INT64_C(1000000000000); /* beyond what any model reads */

/* A count may be missing, null or nonsense: then it is 0. */
static int64_t count_in(struct json_object *object, const char *name)
{
    int64_t count = json_int_or(json_member(object, name, NULL), 0);
    return count > 0 && count <= COUNT_MAX ? count : 0;
}

static void read_usage(struct json_object *usage, struct usage *out)
{
    if (!json_object_is_type(usage, json_type_object))
        return;
    struct json_object *input = json_member(usage, "prompt_tokens_details", NULL);
    struct json_object *output = json_member(usage, "completion_tokens_details", NULL);
    out->reported = true;
    out->prompt_tokens = count_in(usage, "prompt_tokens");
    out->completion_tokens = count_in(usage, "completion_tokens");
    out->total_tokens = out->prompt_tokens + out->completion_tokens;
    out->cached_tokens = count_in(input, "cached_tokens");
    out->cache_write_tokens = count_in(input, "cache_write_tokens");
    out->reasoning_tokens = count_in(output, "reasoning_tokens");
}

static bool read_message(struct json_object *message, struct completion *completion,
                         struct error *error)
{
    bool says_content; /* null is an answer, too: of a filter, or all tokens spent on reasoning */
    struct json_object *content = json_member(message, "content", &says_content);
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    completion->content = json_text(content);
    completion->refusal = json_text(json_member(message, "refusal", NULL));
    if (json_object_is_type(calls, json_type_array) && json_object_array_length(calls) > 0)
        completion->tool_calls = calls;
    else if (calls && !json_object_is_type(calls, json_type_array))
        return error_set(error, "the message's tool_calls are not a list");
    if (content && !completion->content.at)
        return error_set(error, "the message's content is not a string");
    if (!says_content && !completion->tool_calls && !completion->refusal.at)
        return error_set(error, "the message has neither content nor tool calls");
    return true;
}

/* What goes into rows and answers beside the text; absent when it is beyond what any provider
 * says. */
static struct str short_text(struct json_object *answer, const char *name)
{
    enum { LONGEST = 256 };
    struct str text = json_text(json_member(answer, name, NULL));
    return text.len <= LONGEST ? text : STR_ABSENT;
}

bool openai_read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    struct error reason;
    (void)arena;
    if (!json_read(buf_view(&reply->body), &completion->parsed, &reason))
        return error_set(error, "the answer is not JSON: %s", reason.message);
    struct json_object *answer = completion->parsed;
    struct json_object *choices = json_member(answer, "choices", NULL);
    if (!json_object_is_type(choices, json_type_array) || json_object_array_length(choices) == 0)
        return error_set(error, "the answer has no choices");
    struct json_object *choice = json_object_array_get_idx(choices, 0);
    struct json_object *message = json_member(choice, "message", NULL);
    if (!json_object_is_type(message, json_type_object))
        return error_set(error, "the answer's choice has no message");
    completion->id = short_text(answer, "id");
    completion->model = short_text(answer, "model");
    completion->finish_reason =
        finish_reason_of(json_text(json_member(choice, "finish_reason", NULL)));
    read_usage(json_member(answer, "usage", NULL), &completion->usage);
    return read_message(message, completion, error);
}

/* OpenAI says `{"error":{"message":…,"code":…}}`; proxies in front of it say anything. */
static struct json_object *error_object(const struct upstream_reply *reply,
                                        struct json_object **parsed)
{
    struct error ignored;
    if (!json_read(buf_view(&reply->body), parsed, &ignored))
        return NULL;
    struct json_object *inner = json_member(*parsed, "error", NULL);
    return json_object_is_type(inner, json_type_object) ? inner : *parsed;
}

static bool is_out_of_money(struct str code)
{
    return str_eq(code, STR("insufficient_quota")) || str_eq(code, STR("credit_balance_exhausted"));
}

enum provider_fault openai_read_error(const struct upstream_reply *reply, struct arena *arena,
                                      struct str *said)
{
    struct json_object *parsed = NULL;
    struct json_object *object = error_object(reply, &parsed);
    struct str code = json_text(json_member(object, "code", NULL));
    bool out_of_money = is_out_of_money(code);
    *said = arena_copy(arena, json_text(json_member(object, "message", NULL)));
    json_object_put(parsed);
    switch (reply->status) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 422:
        return FAULT_REQUEST;
    case 401:
    case 402:
    case 403:
        return FAULT_CREDENTIAL;
    case 404:
        return FAULT_MODEL;
    case 429:
        return out_of_money ? FAULT_CREDENTIAL : FAULT_LATER;
    default:
        return FAULT_PROVIDER;
    }
}

const struct provider provider_openai = {
    .build = build,
    .read_answer = openai_read_answer,
    .read_error = openai_read_error,
};
