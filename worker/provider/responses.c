/* OpenAI's /v1/responses, for models whose tools work only there (models.yaml: api). Source: the
 * request, response and event types of the official SDK. */
#include "worker/provider/chat.h"
#include "worker/provider/chunks.h"

#include <math.h>

/* ---- the conversation: messages and calls are items in a row */

static struct json_object *item_of(const char *type)
{
    struct json_object *item = json_object_new_object();
    chat_put_string(item, "type", str_of(type));
    return item;
}

static struct json_object *part_of(const struct chat_part *part, struct json_object *said)
{
    bool is_image = part->kind == CHAT_IMAGE;
    struct json_object *made = item_of(is_image ? "input_image" : "input_text");
    struct json_object *detail = json_member(json_member(said, "image_url", NULL), "detail", NULL);
    chat_put_string(made, is_image ? "image_url" : "text", part->text);
    if (is_image)
        chat_put(made, "detail", detail ? json_object_get(detail) : chat_string(STR("auto")));
    return made;
}

static bool put_user_content(struct json_object *message, struct json_object *content,
                             struct error *error)
{
    struct json_object *parts = json_object_new_array();
    if (json_object_is_type(content, json_type_string)) {
        json_object_put(parts);
        chat_put(message, "content", json_object_get(content));
        return true;
    }
    chat_put(message, "content", parts);
    for (size_t i = 0; i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        if (part.kind == CHAT_OTHER)
            return chat_refuse_part(&part, error);
        json_object_array_add(parts, part_of(&part, json_object_array_get_idx(content, i)));
    }
    return true;
}

static bool add_user(struct json_object *items, struct json_object *said, struct error *error)
{
    struct json_object *message = json_object_new_object();
    json_object_array_add(items, message);
    chat_put_string(message, "role", STR("user"));
    return put_user_content(message, json_member(said, "content", NULL), error);
}

static void add_calls(struct json_object *items, struct json_object *calls)
{
    for (size_t i = 0; i < chat_count(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        struct json_object *function = json_member(call, "function", NULL);
        struct json_object *item = item_of("function_call");
        chat_put_string(item, "call_id", json_text(json_member(call, "id", NULL)));
        chat_put_string(item, "name", json_text(json_member(function, "name", NULL)));
        chat_put_string(item, "arguments", json_text(json_member(function, "arguments", NULL)));
        json_object_array_add(items, item);
    }
}

/* Its text, then its calls. */
static void add_assistant(struct json_object *items, struct json_object *said)
{
    struct buf text = {0};
    chat_append_texts(json_member(said, "content", NULL), &text);
    if (text.len > 0) {
        struct json_object *message = json_object_new_object();
        chat_put_string(message, "role", STR("assistant"));
        chat_put(message, "content", chat_string(buf_view(&text)));
        json_object_array_add(items, message);
    }
    buf_free(&text);
    add_calls(items, json_member(said, "tool_calls", NULL));
}

static void add_result(struct json_object *items, struct json_object *said)
{
    struct json_object *item = item_of("function_call_output");
    struct buf text = {0};
    chat_append_texts(json_member(said, "content", NULL), &text);
    chat_put_string(item, "call_id", json_text(json_member(said, "tool_call_id", NULL)));
    chat_put(item, "output", chat_string(buf_view(&text)));
    buf_free(&text);
    json_object_array_add(items, item);
}

static bool put_conversation(struct json_object *body, struct json_object *messages,
                             struct error *error)
{
    struct json_object *items = json_object_new_array();
    struct buf system = {0};
    bool good = true;
    chat_append_system(messages, &system);
    if (system.len > 0)
        chat_put(body, "instructions", chat_string(buf_view(&system)));
    buf_free(&system);
    chat_put(body, "input", items);
    for (size_t i = 0; good && i < json_object_array_length(messages); i++) {
        struct json_object *message = json_object_array_get_idx(messages, i);
        enum chat_role role = chat_role_of(message);
        if (role == CHAT_USER)
            good = add_user(items, message, error);
        else if (role == CHAT_ASSISTANT)
            add_assistant(items, message);
        else if (role == CHAT_TOOL)
            add_result(items, message);
    }
    return good;
}

/* ---- tools and parameters: what is nested elsewhere is flat here, and the other way round */

static void put_tools(struct json_object *body, struct json_object *tools)
{
    struct json_object *list = chat_count(tools) ? json_object_new_array() : NULL;
    for (size_t i = 0; i < chat_count(tools); i++) {
        struct json_object *tool = json_object_array_get_idx(tools, i);
        struct json_object *function = json_member(tool, "function", NULL);
        struct json_object *made = item_of("function");
        json_object_object_foreach(function, name, value)
            json_object_object_add(made, name, json_object_get(value));
        json_object_array_add(list, made);
    }
    chat_put(body, "tools", list);
}

static void put_tool_choice(struct json_object *body, struct json_object *tool_choice)
{
    static const char *const words[] = {NULL, "auto", "none", "required"};
    struct str name;
    enum chat_choice choice = chat_choice_of(tool_choice, &name);
    if (choice == CHAT_CHOICE_UNSAID)
        return;
    if (choice != CHAT_NAMED) {
        chat_put_string(body, "tool_choice", str_of(words[choice]));
        return;
    }
    struct json_object *made = item_of("function");
    chat_put_string(made, "name", name);
    chat_put(body, "tool_choice", made);
}

/* {"type":"json_schema","json_schema":{…}} has its inner members beside the type here. */
static struct json_object *format_of(struct json_object *response_format)
{
    struct json_object *schema = json_member(response_format, "json_schema", NULL);
    if (!json_object_is_type(schema, json_type_object))
        return json_object_get(response_format);
    struct json_object *made = item_of("json_schema");
    json_object_object_foreach(schema, name, value)
        json_object_object_add(made, name, json_object_get(value));
    return made;
}

static struct json_object *schema_format(const struct structured *output)
{
    struct json_object *made = item_of("json_schema");
    chat_put_string(made, "name", STR("output"));
    chat_put(made, "strict", json_object_new_boolean(output->strict));
    chat_put(made, "schema", chat_read(output->native));
    return made;
}

static void put_text(struct json_object *body, const struct completion_request *request)
{
    struct json_object *const *values = request->parameters->values;
    struct json_object *text = json_object_new_object();
    if (request->output.native)
        chat_put(text, "format", schema_format(&request->output));
    else if (values[MEMBER_response_format])
        chat_put(text, "format", format_of(values[MEMBER_response_format]));
    chat_put(text, "verbosity", json_object_get(values[MEMBER_verbosity]));
    if (json_object_object_length(text) > 0)
        chat_put(body, "text", text);
    else
        json_object_put(text);
}

static void put_parameters(struct json_object *body, const struct completion_request *request)
{
    static const enum member same[] = {
        MEMBER_parallel_tool_calls, MEMBER_service_tier,      MEMBER_metadata,
        MEMBER_prompt_cache_key,    MEMBER_safety_identifier, MEMBER_user,
        MEMBER_top_logprobs};
    struct json_object *const *values = request->parameters->values;
    if (request->max_tokens > 0)
        chat_put(body, "max_output_tokens", json_object_new_int64(request->max_tokens));
    chat_put_number(body, "temperature",
                    chat_number(values[MEMBER_temperature], request->temperature, 0, 2));
    chat_put_number(body, "top_p", chat_number(values[MEMBER_top_p], request->top_p, 0, 1));
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        chat_put(body, member_name(same[i]), json_object_get(values[same[i]]));
    if (values[MEMBER_reasoning_effort]) {
        struct json_object *reasoning = json_object_new_object();
        chat_put(reasoning, "effort", json_object_get(values[MEMBER_reasoning_effort]));
        chat_put(body, "reasoning", reasoning);
    }
    put_text(body, request);
}

/* Nothing is kept there: the conversation comes whole each time. */
static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_target *target = request->target;
    struct json_object *body = json_object_new_object();
    call->url = arena_printf(arena, "%s/responses", target->credential->base_url);
    call_add_bearer(call, request, arena);
    chat_put_string(body, "model", str_of(target->model));
    bool good = put_conversation(body, request->messages, error);
    put_tools(body, request->parameters->values[MEMBER_tools]);
    put_tool_choice(body, request->parameters->values[MEMBER_tool_choice]);
    put_parameters(body, request);
    chat_put(body, "store", json_object_new_boolean(false));
    if (request->streams)
        chat_put(body, "stream", json_object_new_boolean(true));
    if (good)
        chat_write_body(body, target->parameters, &call->body);
    json_object_put(body);
    return good;
}

/* ---- the answer */

static void read_usage(struct json_object *said, struct usage *usage)
{
    if (!json_object_is_type(said, json_type_object))
        return;
    struct json_object *input = json_member(said, "input_tokens_details", NULL);
    struct json_object *output = json_member(said, "output_tokens_details", NULL);
    usage->cached_tokens = usage_count(input, "cached_tokens");
    usage->cache_write_tokens = usage_count(input, "cache_write_tokens");
    usage->reasoning_tokens = usage_count(output, "reasoning_tokens");
    chat_set_usage(usage, usage_count(said, "input_tokens"), usage_count(said, "output_tokens"));
}

/* NULL: the model failed. */
static const char *reason_of(struct json_object *response, bool any_calls)
{
    struct str status = json_text(json_member(response, "status", NULL));
    struct str why =
        json_text(json_member(json_member(response, "incomplete_details", NULL), "reason", NULL));
    if (str_eq(status, STR("failed")) || str_eq(status, STR("cancelled")))
        return NULL;
    if (str_eq(why, STR("max_output_tokens")))
        return "length";
    if (str_eq(why, STR("content_filter")))
        return "content_filter";
    return any_calls ? "tool_calls" : "stop";
}

static struct str error_of(struct json_object *response)
{
    return json_text(json_member(json_member(response, "error", NULL), "message", NULL));
}

/* The parts of a message: what was said, or why nothing was. */
static void read_parts(struct json_object *parts, struct buf *text, struct completion *completion,
                       struct arena *arena)
{
    for (size_t i = 0; i < chat_count(parts); i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        buf_str(text, json_text(json_member(part, "text", NULL)));
        struct str refusal = json_text(json_member(part, "refusal", NULL));
        if (refusal.at)
            completion->refusal = arena_copy(arena, refusal);
    }
}

/* Reasoning is passed over. */
static void read_items(struct json_object *items, struct completion *completion,
                       struct arena *arena)
{
    struct json_object *calls = json_object_new_array();
    struct buf text = {0};
    for (size_t i = 0; i < chat_count(items); i++) {
        struct json_object *item = json_object_array_get_idx(items, i);
        struct str type = json_text(json_member(item, "type", NULL));
        if (str_eq(type, STR("message")))
            read_parts(json_member(item, "content", NULL), &text, completion, arena);
        if (str_eq(type, STR("function_call")))
            json_object_array_add(
                calls, chat_new_call(json_text(json_member(item, "call_id", NULL)),
                                     json_text(json_member(item, "name", NULL)),
                                     json_member(item, "arguments", NULL), completion->id, i));
    }
    chat_complete(completion, &text, calls, arena);
    if (completion->refusal.at && text.len == 0)
        completion->content = STR_ABSENT;
    buf_free(&text);
}

static bool read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    if (!chat_read_object(reply, completion, error))
        return false;
    struct json_object *answer = completion->parsed;
    struct json_object *items = json_member(answer, "output", NULL);
    if (!json_object_is_type(items, json_type_array))
        return error_set(error, "the answer has no output");
    completion->id = answer_name(answer, "id");
    completion->model = answer_name(answer, "model");
    read_usage(json_member(answer, "usage", NULL), &completion->usage);
    read_items(items, completion, arena);
    completion->finish_reason = reason_of(answer, completion->tool_calls != NULL);
    if (!completion->finish_reason)
        return error_set(error, "the model failed (%.*s)", STR_ARG(error_of(answer)));
    return true;
}

/* ---- a streamed answer: items and their pieces by name; the last event has all of it */

static enum event_kind stream_end(struct streamed *streamed, struct json_object *response,
                                  struct buf *chunks)
{
    const char *reason = reason_of(response, streamed->calls_count > 0);
    read_usage(json_member(response, "usage", NULL), &streamed->usage);
    if (!reason)
        return streamed_fail(streamed, error_of(response));
    chunks_finish(streamed, reason, chunks);
    return EVENT_CONTENT;
}

static bool stream_delta(struct streamed *streamed, struct str type, struct json_object *data,
                         struct buf *chunks)
{
    struct json_object *delta = json_member(data, "delta", NULL);
    int64_t place = json_int_or(json_member(data, "output_index", NULL), 0);
    if (str_eq(type, STR("response.output_text.delta")))
        return chunks_add_text(streamed, delta, chunks);
    if (str_eq(type, STR("response.refusal.delta")))
        return chunks_add_refusal(streamed, delta, chunks);
    if (str_eq(type, STR("response.reasoning_text.delta")) ||
        str_eq(type, STR("response.reasoning_summary_text.delta")))
        return chunks_add_reasoning(streamed, delta, chunks);
    if (str_eq(type, STR("response.function_call_arguments.delta")))
        return chunks_add_arguments(streamed, place, json_text(delta), chunks);
    return false;
}

/* A call's item says all but its arguments at first, and at last these, too. */
static bool stream_item(struct streamed *streamed, struct str type, struct json_object *data,
                        struct buf *chunks)
{
    struct json_object *item = json_member(data, "item", NULL);
    int64_t place = json_int_or(json_member(data, "output_index", NULL), 0);
    if (!str_eq(json_text(json_member(item, "type", NULL)), STR("function_call")))
        return false;
    if (str_eq(type, STR("response.output_item.done")))
        return chunks_end_call(streamed, place, chunks);
    if (!str_eq(type, STR("response.output_item.added")))
        return false;
    chunks_begin_call(streamed, place, json_text(json_member(item, "call_id", NULL)),
                      json_text(json_member(item, "name", NULL)), NULL, chunks);
    return true;
}

static enum event_kind read_event(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks)
{
    struct str type = json_text(json_member(data, "type", NULL));
    struct json_object *response = json_member(data, "response", NULL);
    if (str_eq(type, STR("error")))
        return streamed_fail(streamed, json_text(json_member(data, "message", NULL)));
    streamed_note_names(streamed, answer_name(response, "id"), answer_name(response, "model"));
    if (str_eq(type, STR("response.completed")) || str_eq(type, STR("response.incomplete")) ||
        str_eq(type, STR("response.failed")))
        return stream_end(streamed, response, chunks);
    bool said =
        stream_delta(streamed, type, data, chunks) || stream_item(streamed, type, data, chunks);
    return said ? EVENT_CONTENT : EVENT_SILENT;
}

static void write_failure(const struct stream_failure *failure, struct buf *events)
{
    buf_printf(events, "event: error\ndata: {\"type\":\"error\",\"code\":\"%s\",\"message\":",
               failure->code);
    json_write_string(events, failure->message);
    buf_puts(events, ",\"param\":null}\n\n");
}

const struct provider provider_responses = {
    .build = build,
    .read_answer = read_answer,
    .read_event = read_event,
    .write_failure = write_failure,
    .read_error = openai_read_error,
};
