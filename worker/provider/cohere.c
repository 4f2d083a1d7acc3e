/* Cohere's chat, version 2. Source: the request and response types of the official SDK, and its
 * documentation. */
#include "worker/provider/chat.h"
#include "worker/provider/chunks.h"

/* ---- the request */

static bool takes_all_parts(struct json_object *content, struct error *error)
{
    for (size_t i = 0; i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        if (part.kind == CHAT_OTHER)
            return chat_refuse_part(&part, error);
    }
    return true;
}

/* Parts are as OpenAI's; a content that is empty is refused there, so it is left out. */
static void put_content(struct json_object *made, struct json_object *content)
{
    struct str text = json_text(content);
    if (text.len > 0 || chat_count(content) > 0)
        chat_put(made, "content", json_object_get(content));
}

static bool add_message(struct json_object *list, struct json_object *message, struct error *error)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    struct json_object *content = json_member(message, "content", NULL);
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    enum chat_role role = chat_role_of(message);
    if (role == CHAT_SYSTEM)
        return true;
    if (!takes_all_parts(content, error))
        return false;
    struct json_object *made = json_object_new_object();
    chat_put_string(made, "role", str_of(roles[role]));
    put_content(made, content);
    if (chat_count(calls) > 0)
        chat_put(made, "tool_calls", json_object_get(calls));
    if (role == CHAT_TOOL)
        chat_put_string(made, "tool_call_id",
                        json_text(json_member(message, "tool_call_id", NULL)));
    json_object_array_add(list, made);
    return true;
}

/* The system's texts go first, as one. */
static bool put_messages(struct json_object *body, struct json_object *messages,
                         struct error *error)
{
    struct json_object *list = json_object_new_array();
    struct buf system = {0};
    chat_put(body, "messages", list);
    chat_append_system(messages, &system);
    if (system.len > 0) {
        struct json_object *first = json_object_new_object();
        chat_put_string(first, "role", STR("system"));
        chat_put_string(first, "content", buf_view(&system));
        json_object_array_add(list, first);
    }
    buf_free(&system);
    for (size_t i = 0; i < json_object_array_length(messages); i++)
        if (!add_message(list, json_object_array_get_idx(messages, i), error))
            return false;
    return true;
}

/* What a tool takes has to be said there, be it nothing. */
static struct json_object *tool_of(struct json_object *tool)
{
    struct json_object *copy = NULL;
    if (json_object_deep_copy(tool, &copy, json_c_shallow_copy_default) != 0)
        return json_object_get(tool);
    struct json_object *function = json_member(copy, "function", NULL);
    if (function && !json_member(function, "parameters", NULL)) {
        struct json_object *nothing = json_object_new_object();
        chat_put_string(nothing, "type", STR("object"));
        chat_put(nothing, "properties", json_object_new_object());
        chat_put(function, "parameters", nothing);
    }
    return copy;
}

/* A certain tool can't be chosen: it is the only one then, and has to be called. */
static void put_tools(struct json_object *body, const struct client_parameters *parameters)
{
    struct json_object *tools = parameters->values[MEMBER_tools];
    struct json_object *list = json_object_new_array();
    struct str chosen;
    enum chat_choice choice = chat_choice_of(parameters->values[MEMBER_tool_choice], &chosen);
    for (size_t i = 0; i < chat_count(tools); i++) {
        struct json_object *tool = json_object_array_get_idx(tools, i);
        struct json_object *function = json_member(tool, "function", NULL);
        if (choice != CHAT_NAMED || str_eq(json_text(json_member(function, "name", NULL)), chosen))
            json_object_array_add(list, tool_of(tool));
    }
    if (json_object_array_length(list) > 0)
        chat_put(body, "tools", json_object_get(list));
    json_object_put(list);
    if (choice == CHAT_NONE)
        chat_put_string(body, "tool_choice", STR("NONE"));
    else if (choice == CHAT_REQUIRED || choice == CHAT_NAMED)
        chat_put_string(body, "tool_choice", STR("REQUIRED"));
}

static void put_parameters(struct json_object *body, const struct completion_request *request)
{
    struct json_object *const *values = request->parameters->values;
    struct json_object *frequency = values[MEMBER_frequency_penalty];
    struct json_object *presence = values[MEMBER_presence_penalty];
    if (request->max_tokens > 0)
        chat_put(body, "max_tokens", json_object_new_int64(request->max_tokens));
    chat_put_number(body, "temperature",
                    chat_number(values[MEMBER_temperature], request->temperature, 0, 2));
    chat_put_number(body, "p", chat_number(values[MEMBER_top_p], request->top_p, 0.01, 0.99));
    chat_put(body, "stop_sequences", chat_stop_list(values[MEMBER_stop]));
    chat_put(body, "seed", json_object_get(values[MEMBER_seed]));
    if (frequency)
        chat_put_number(body, "frequency_penalty", chat_number(frequency, 0, 0, 1));
    if (presence)
        chat_put_number(body, "presence_penalty", chat_number(presence, 0, 0, 1));
}

static void put_format(struct json_object *body, const struct structured *output)
{
    if (!output->native)
        return;
    struct json_object *format = json_object_new_object();
    chat_put_string(format, "type", STR("json_object"));
    chat_put(format, "json_schema", chat_read(output->native));
    chat_put(body, "response_format", format);
}

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_target *target = request->target;
    struct json_object *body = json_object_new_object();
    call->url = arena_printf(arena, "%s/v2/chat", target->credential->base_url);
    call_add_bearer(call, request, arena);
    chat_put_string(body, "model", str_of(target->model));
    chat_put(body, "stream", json_object_new_boolean(request->streams));
    bool good = put_messages(body, request->messages, error);
    put_tools(body, request->parameters);
    put_parameters(body, request);
    put_format(body, &request->output);
    if (good)
        chat_write_body(body, target->parameters, &call->body);
    json_object_put(body);
    return good;
}

/* ---- the answer */

static const struct chat_reason reasons[] = {
    {"COMPLETE", "stop"},        {"STOP_SEQUENCE", "stop"}, {"MAX_TOKENS", "length"},
    {"TOOL_CALL", "tool_calls"}, {"ERROR", NULL},           {"TIMEOUT", NULL},
};

/* Thinking and the plan before a call are passed over. */
static void read_message(struct json_object *message, struct completion *completion,
                         struct arena *arena)
{
    struct json_object *said = json_member(message, "tool_calls", NULL);
    struct json_object *calls = json_object_new_array();
    struct buf text = {0};
    for (size_t i = 0; i < chat_count(said); i++)
        json_object_array_add(calls, json_object_get(json_object_array_get_idx(said, i)));
    chat_append_texts(json_member(message, "content", NULL), &text);
    chat_complete(completion, &text, calls, arena);
    buf_free(&text);
}

static void read_usage(struct json_object *said, struct usage *usage)
{
    struct json_object *tokens = json_member(said, "tokens", NULL);
    if (!json_object_is_type(tokens, json_type_object))
        return;
    usage->cached_tokens = usage_count(said, "cached_tokens");
    chat_set_usage(usage, usage_count(tokens, "input_tokens"),
                   usage_count(tokens, "output_tokens"));
}

static bool read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    if (!chat_read_object(reply, completion, error))
        return false;
    struct json_object *answer = completion->parsed;
    struct json_object *message = json_member(answer, "message", NULL);
    struct str reason = json_text(json_member(answer, "finish_reason", NULL));
    if (!json_object_is_type(message, json_type_object))
        return error_set(error, "the answer has no message");
    completion->id = answer_name(answer, "id");
    completion->finish_reason =
        chat_finish_reason(reasons, sizeof reasons / sizeof *reasons, reason);
    read_usage(json_member(answer, "usage", NULL), &completion->usage);
    if (!completion->finish_reason)
        return error_set(error, "the model failed (%.*s)", STR_ARG(reason));
    read_message(message, completion, arena);
    return true;
}

/* ---- a streamed answer: what is a list elsewhere is a single object here */

static enum event_kind stream_call(struct streamed *streamed, int64_t place,
                                   struct json_object *call, struct buf *chunks)
{
    struct json_object *function = json_member(call, "function", NULL);
    struct str id = json_text(json_member(call, "id", NULL));
    struct str name = json_text(json_member(function, "name", NULL));
    struct str arguments = json_text(json_member(function, "arguments", NULL));
    bool begins = name.at && !streamed_has_call(streamed, place);
    if (begins)
        chunks_begin_call(streamed, place, id, name, NULL, chunks);
    bool more = chunks_add_arguments(streamed, place, arguments, chunks);
    return begins || more ? EVENT_CONTENT : EVENT_SILENT;
}

static enum event_kind stream_end(struct streamed *streamed, struct json_object *delta,
                                  struct buf *chunks)
{
    struct str reason = json_text(json_member(delta, "finish_reason", NULL));
    struct str error = json_text(json_member(delta, "error", NULL));
    const char *meant = chat_finish_reason(reasons, sizeof reasons / sizeof *reasons, reason);
    read_usage(json_member(delta, "usage", NULL), &streamed->usage);
    if (!meant)
        return streamed_fail(streamed, error.at ? error : reason);
    chunks_finish(streamed, meant, chunks);
    return EVENT_CONTENT;
}

static enum event_kind read_event(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks)
{
    struct str type = json_text(json_member(data, "type", NULL));
    struct json_object *delta = json_member(data, "delta", NULL);
    struct json_object *message = json_member(delta, "message", NULL);
    struct json_object *content = json_member(message, "content", NULL);
    int64_t place = json_int_or(json_member(data, "index", NULL), 0);
    bool said = false;
    if (str_eq(type, STR("message-start")))
        streamed_note_names(streamed, answer_name(data, "id"), STR_ABSENT);
    if (str_eq(type, STR("message-end")))
        return stream_end(streamed, delta, chunks);
    if (str_eq(type, STR("tool-call-start")) || str_eq(type, STR("tool-call-delta")))
        return stream_call(streamed, place, json_member(message, "tool_calls", NULL), chunks);
    if (str_eq(type, STR("tool-call-end")))
        said = chunks_end_call(streamed, place, chunks);
    if (str_eq(type, STR("content-start")) || str_eq(type, STR("content-delta")))
        said = chunks_add_text(streamed, json_member(content, "text", NULL), chunks) ||
               chunks_add_reasoning(streamed, json_member(content, "thinking", NULL), chunks);
    return said ? EVENT_CONTENT : EVENT_SILENT;
}

static void write_failure(const struct stream_failure *failure, struct buf *events)
{
    buf_printf(events,
               "event: message-end\ndata: {\"type\":\"message-end\",\"delta\":{"
               "\"finish_reason\":\"%s\",\"error\":",
               failure->status == 504 ? "TIMEOUT" : "ERROR");
    json_write_string(events, failure->message);
    buf_puts(events, "}}\n\n");
}

/* ---- errors */

enum { STATUS_UNSAFE_OR_TOKEN = 498 };

/* The documentation says that 498 is an unsafe request, the SDK that it is a bad token: the message
 * tells which. */
static enum provider_fault read_error(const struct upstream_reply *reply, struct arena *arena,
                                      struct refusal *refusal)
{
    struct json_object *parsed = NULL;
    struct error ignored;
    if (json_read(buf_view(&reply->body), &parsed, &ignored))
        refusal->said = arena_copy(arena, json_text(json_member(parsed, "message", NULL)));
    json_object_put(parsed);
    if (reply->status != STATUS_UNSAFE_OR_TOKEN)
        return provider_fault_of(reply->status);
    bool is_key = refusal->said.at && (strcasestr(refusal->said.at, "token") ||
                                       strcasestr(refusal->said.at, "api key"));
    return is_key ? FAULT_CREDENTIAL : FAULT_REQUEST;
}

const struct provider provider_cohere = {
    .build = build,
    .read_answer = read_answer,
    .read_event = read_event,
    .write_failure = write_failure,
    .read_error = read_error,
};
