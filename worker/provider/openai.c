/* OpenAI's chat completions. Source: the request and response types of the official SDK. */
#include "worker/provider/openai_dialect.h"

#include "worker/provider/chat.h"
#include "worker/provider/chunks.h"

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

static void add_stop(const struct openai_dialect *dialect, struct buf *body,
                     struct json_object *stop)
{
    bool wraps = dialect->stop_is_list && !json_object_is_type(stop, json_type_array);
    buf_puts(body, wraps ? ",\"stop\":[" : ",\"stop\":");
    json_write(body, stop);
    buf_puts(body, wraps ? "]" : "");
}

static double cooled(const struct openai_dialect *dialect, double temperature)
{
    bool hot = dialect->hottest > 0 && temperature > dialect->hottest;
    return hot ? dialect->hottest : temperature;
}

static void add_value(const struct openai_dialect *dialect, struct buf *body, enum member member,
                      struct json_object *value)
{
    if (!value)
        return;
    if (member == MEMBER_stop)
        add_stop(dialect, body, value);
    else if (member == MEMBER_temperature)
        add_number(body, "temperature", cooled(dialect, json_object_get_double(value)));
    else
        add_member(body, member == MEMBER_seed ? dialect->seed : member_name(member), value);
}

static void add_format(const struct structured *output, struct buf *body)
{
    if (output->native)
        buf_printf(body,
                   ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":"
                   "{\"name\":\"output\",\"strict\":%s,\"schema\":%s}}",
                   output->strict ? "true" : "false", output->native);
}

void openai_build_body(const struct completion_request *request, struct buf *body)
{
    const struct config_target *target = request->target;
    const struct openai_dialect *dialect = openai_dialect(target->provider);
    struct json_object *messages = openai_dialect_messages(dialect, request->messages);
    buf_puts(body, "{\"model\":");
    json_write_string(body, str_of(target->model));
    buf_puts(body, ",\"messages\":");
    json_write(body, messages);
    json_object_put(messages);
    add_number(body, "temperature", cooled(dialect, request->temperature));
    add_number(body, "top_p", request->top_p);
    if (request->max_tokens > 0) {
        buf_printf(body, ",\"%s\":", dialect->max_tokens);
        buf_i64(body, request->max_tokens);
    }
    if (request->streams)
        buf_puts(body, dialect->asks_usage
                           ? ",\"stream\":true,\"stream_options\":{\"include_usage\":true}"
                           : ",\"stream\":true");
    add_format(&request->output, body);
    for (int i = 0; i < MEMBER_NONE; i++)
        add_value(dialect, body, (enum member)i, request->parameters->values[i]);
    if (target->parameters)
        buf_printf(body, ",%s", target->parameters);
    buf_putc(body, '}');
}

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_credential *credential = request->target->credential;
    (void)error;
    call->url = arena_printf(arena, "%s/chat/completions", credential->base_url);
    call_add_bearer(call, request, arena);
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
        {"model_length", "length"}, /* mistral */
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (str_eq(reason, str_of(reasons[i].said)))
            return reasons[i].meant;
    return "stop";
}

static void read_usage(struct json_object *usage, struct usage *out)
{
    if (!json_object_is_type(usage, json_type_object))
        return;
    struct json_object *input = json_member(usage, "prompt_tokens_details", NULL);
    struct json_object *output = json_member(usage, "completion_tokens_details", NULL);
    out->reported = true;
    out->prompt_tokens = usage_count(usage, "prompt_tokens");
    out->completion_tokens = usage_count(usage, "completion_tokens");
    out->total_tokens = out->prompt_tokens + out->completion_tokens;
    out->cached_tokens = usage_count(input, "cached_tokens");
    out->cache_write_tokens = usage_count(input, "cache_write_tokens");
    out->reasoning_tokens = usage_count(output, "reasoning_tokens");
}

/* A list of parts, as reasoning models have it: the texts of it. */
static struct str joined(struct json_object *content, struct arena *arena)
{
    struct buf text = {0};
    chat_append_texts(content, &text);
    struct str copy = arena_copy(arena, buf_view(&text));
    buf_free(&text);
    return copy;
}

/* Some leave out that a call is one of a function, or give its arguments as an object. */
static void complete_call(struct json_object *call)
{
    struct json_object *function = json_member(call, "function", NULL);
    struct json_object *arguments = json_member(function, "arguments", NULL);
    if (!json_member(call, "type", NULL) && json_object_is_type(call, json_type_object))
        json_object_object_add(call, "type", json_object_new_string("function"));
    if (!json_object_is_type(arguments, json_type_object))
        return;
    struct buf text = {0};
    json_write(&text, arguments);
    json_object_object_add(function, "arguments",
                           json_object_new_string_len(text.data, (int)text.len));
    buf_free(&text);
}

static bool read_calls(struct json_object *calls, bool strict, struct completion *completion,
                       struct error *error)
{
    if (calls && !json_object_is_type(calls, json_type_array))
        return error_set(error, "the message's tool_calls are not a list");
    if (!calls || json_object_array_length(calls) == 0)
        return true;
    completion->tool_calls = calls;
    for (size_t i = 0; !strict && i < json_object_array_length(calls); i++)
        complete_call(json_object_array_get_idx(calls, i));
    return true;
}

static bool read_message(struct json_object *message, bool strict, struct arena *arena,
                         struct completion *completion, struct error *error)
{
    bool says_content; /* null is an answer, too: of a filter, or all tokens spent on reasoning */
    struct json_object *content = json_member(message, "content", &says_content);
    completion->content = !strict && json_object_is_type(content, json_type_array)
                              ? joined(content, arena)
                              : json_text(content);
    completion->refusal = json_text(json_member(message, "refusal", NULL));
    if (!read_calls(json_member(message, "tool_calls", NULL), strict, completion, error))
        return false;
    if (content && !completion->content.at)
        return error_set(error, "the message's content is not a string");
    if (!says_content && !completion->tool_calls && !completion->refusal.at)
        return error_set(error, "the message has neither content nor tool calls");
    return true;
}

bool openai_read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    struct error reason;
    bool strict = openai_dialect(reply->provider)->strict;
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
    completion->id = answer_name(answer, "id");
    completion->model = answer_name(answer, "model");
    struct str finish = json_text(json_member(choice, "finish_reason", NULL));
    completion->finish_reason = finish_reason_of(finish);
    read_usage(json_member(answer, "usage", NULL), &completion->usage);
    if (!strict && str_eq(finish, STR("error")))
        return error_set(error, "the model failed");
    return read_message(message, strict, arena, completion, error);
}

/* ---- a streamed answer */

/* Pieces of a call: the first has its name. */
static bool stream_call(struct streamed *streamed, struct json_object *call, int64_t place)
{
    struct json_object *function = json_member(call, "function", NULL);
    struct str id = json_text(json_member(call, "id", NULL));
    bool begins = !streamed_has_call(streamed, place);
    if (begins)
        chunks_begin_call(streamed, place, id, json_text(json_member(function, "name", NULL)), NULL,
                          NULL);
    bool more = chunks_add_arguments(streamed, place,
                                     json_text(json_member(function, "arguments", NULL)), NULL);
    return begins || more;
}

static bool stream_calls(struct streamed *streamed, struct json_object *calls)
{
    bool said = false;
    for (size_t i = 0; i < chat_count(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        int64_t place = json_int_or(json_member(call, "index", NULL), (int64_t)i);
        said = stream_call(streamed, call, place) || said;
    }
    return said;
}

/* Members that other providers leave out or write another way. Whether anything was changed. */
static bool complete_calls(struct json_object *calls)
{
    bool changed = false;
    for (size_t i = 0; i < chat_count(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        struct json_object *function = json_member(call, "function", NULL);
        bool begins = json_member(function, "name", NULL) != NULL;
        struct json_object *arguments = json_member(function, "arguments", NULL);
        if (!json_object_is_type(call, json_type_object))
            continue;
        changed = changed || json_object_is_type(arguments, json_type_object) ||
                  (begins && !json_member(call, "type", NULL));
        if (begins)
            complete_call(call);
        if (json_member(call, "index", NULL))
            continue;
        json_object_object_add(call, "index", json_object_new_int64((int64_t)i));
        changed = true;
    }
    return changed;
}

static bool flatten_content(struct json_object *delta, struct arena *arena)
{
    struct json_object *content = json_member(delta, "content", NULL);
    if (!json_object_is_type(content, json_type_array))
        return false;
    json_object_object_add(delta, "content", chat_string(joined(content, arena)));
    return true;
}

/* Usage elsewhere than in an event of its own: it gets one at the end. */
static bool move_usage(struct streamed *streamed, struct json_object *data, bool has_choice)
{
    struct json_object *groq = json_member(data, "x_groq", NULL);
    struct json_object *usage = json_member(data, "usage", NULL);
    read_usage(json_member(groq, "usage", NULL), &streamed->usage);
    read_usage(usage, &streamed->usage);
    bool moves = json_member(groq, "usage", NULL) || (usage && has_choice);
    if (moves && groq)
        json_object_object_del(groq, "usage");
    if (moves && usage)
        json_object_object_del(data, "usage");
    return moves;
}

static bool rename_reason(struct json_object *choice, const char *meant, struct str said)
{
    if (!meant || str_eq(said, str_of(meant)))
        return false;
    json_object_object_add(choice, "finish_reason", json_object_new_string(meant));
    return true;
}

static bool says_anything(struct streamed *streamed, struct json_object *delta)
{
    struct json_object *thought = json_member(delta, "reasoning_content", NULL);
    if (json_text(thought).len == 0)
        thought = json_member(delta, "reasoning", NULL);
    bool said = chunks_add_text(streamed, json_member(delta, "content", NULL), NULL);
    said = chunks_add_refusal(streamed, json_member(delta, "refusal", NULL), NULL) || said;
    said = stream_calls(streamed, json_member(delta, "tool_calls", NULL)) || said;
    return chunks_add_reasoning(streamed, thought, NULL) || said;
}

static enum event_kind read_choice(struct streamed *streamed, struct json_object *data,
                                   struct json_object *choice, struct buf *chunks)
{
    bool strict = openai_dialect(streamed->provider)->strict;
    struct json_object *delta = json_member(choice, "delta", NULL);
    struct str said = json_text(json_member(choice, "finish_reason", NULL));
    const char *meant = said.at ? finish_reason_of(said) : NULL;
    bool changed = move_usage(streamed, data, choice != NULL);
    if (!strict && str_eq(said, STR("error")))
        return streamed_fail(streamed, STR("the model failed"));
    if (!strict) {
        changed = flatten_content(delta, streamed->arena) || changed;
        changed = complete_calls(json_member(delta, "tool_calls", NULL)) || changed;
    }
    bool anything = says_anything(streamed, delta) || meant;
    if (meant)
        chunks_finish(streamed, meant, NULL);
    if (!strict && (rename_reason(choice, meant, said) || changed))
        chunks_write(data, chunks);
    return anything ? EVENT_CONTENT : EVENT_SILENT;
}

enum event_kind openai_read_event(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks)
{
    struct json_object *choices = json_member(data, "choices", NULL);
    struct str stopped = json_text(json_member(json_member(data, "x_groq", NULL), "error", NULL));
    streamed_note_names(streamed, answer_name(data, "id"), answer_name(data, "model"));
    if (stopped.at)
        return streamed_fail(streamed, stopped);
    if (chat_count(choices) > 0)
        return read_choice(streamed, data, json_object_array_get_idx(choices, 0), chunks);
    read_usage(json_member(data, "usage", NULL), &streamed->usage);
    return json_member(data, "usage", NULL) ? EVENT_USAGE : EVENT_SILENT;
}

void openai_write_failure(const struct stream_failure *failure, struct buf *events)
{
    buf_puts(events, "data: {\"error\":{\"message\":");
    json_write_string(events, failure->message);
    buf_printf(events, ",\"type\":\"%s\",\"param\":null,\"code\":\"%s\"", failure->type,
               failure->code);
    if (failure->details.len)
        buf_printf(events, ",\"details\":%.*s", STR_ARG(failure->details));
    buf_puts(events, "}}\n\n");
}

/* ---- errors */

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

/* Some say {"detail": "…"} or {"detail": [{"msg": "…"}]} in place of a message. */
static struct str message_of(struct json_object *object)
{
    struct str message = json_text(json_member(object, "message", NULL));
    struct json_object *detail = json_member(object, "detail", NULL);
    if (message.at)
        return message;
    if (json_object_is_type(detail, json_type_array) && json_object_array_length(detail) > 0)
        return json_text(json_member(json_object_array_get_idx(detail, 0), "msg", NULL));
    return json_text(detail);
}

/* Bodies that say otherwise than their status: a call or an answer that the model garbled, and a
 * request that is larger than what one provider takes in a minute. */
static bool is_of_the_provider(struct str code)
{
    return str_eq(code, STR("tool_use_failed")) || str_eq(code, STR("json_validate_failed")) ||
           str_eq(code, STR("rate_limit_exceeded"));
}

enum provider_fault openai_read_error(const struct upstream_reply *reply, struct arena *arena,
                                      struct refusal *refusal)
{
    const struct openai_dialect *dialect = openai_dialect(reply->provider);
    struct json_object *parsed = NULL;
    struct json_object *object = error_object(reply, &parsed);
    struct str code = json_text(json_member(object, "code", NULL));
    enum provider_fault fault = provider_fault_of(reply->status);
    if (fault == FAULT_LATER && is_out_of_money(code))
        fault = FAULT_CREDENTIAL;
    else if (fault == FAULT_REQUEST && is_of_the_provider(code))
        fault = FAULT_PROVIDER;
    else if (dialect->request_status != 0 && reply->status == dialect->request_status)
        fault = FAULT_REQUEST;
    else if (dialect->later_status != 0 && reply->status == dialect->later_status)
        fault = FAULT_LATER;
    refusal->said = arena_copy(arena, message_of(object));
    json_object_put(parsed);
    return fault;
}

const struct provider provider_openai = {
    .build = build,
    .read_answer = openai_read_answer,
    .read_event = openai_read_event,
    .write_failure = openai_write_failure,
    .read_error = openai_read_error,
};
