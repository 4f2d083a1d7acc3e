/* Anthropic's messages, version 2023-06-01. Source: the request and response types of the official
 * SDK, and its documentation. */
#include "worker/provider/chat.h"
#include "worker/provider/chunks.h"

#include <math.h>

static const char version_header[] = "anthropic-version";
static const struct str usual_version = {"2023-06-01", 10};

/* ---- the conversation: roles take turns, what follows in the same role is one message */

struct turns {
    struct json_object *all;    /* the messages */
    struct json_object *blocks; /* of the last one; part of `all` */
    const char *role;
    struct error *error;
};

static struct json_object *block_of(const char *type)
{
    struct json_object *block = json_object_new_object();
    chat_put_string(block, "type", str_of(type));
    return block;
}

static void add_block(struct turns *turns, const char *role, struct json_object *block)
{
    if (!turns->role || strcmp(turns->role, role) != 0) {
        struct json_object *message = json_object_new_object();
        turns->blocks = json_object_new_array();
        turns->role = role;
        chat_put_string(message, "role", str_of(role));
        chat_put(message, "content", turns->blocks);
        json_object_array_add(turns->all, message);
    }
    json_object_array_add(turns->blocks, block);
}

/* Empty texts are refused. */
static void add_text(struct turns *turns, const char *role, struct str text)
{
    if (text.len == 0)
        return;
    struct json_object *block = block_of("text");
    chat_put_string(block, "text", text);
    add_block(turns, role, block);
}

/* A URL that is no data is the provider's to fetch. */
static void add_image(struct turns *turns, const char *role, struct str url)
{
    struct str type, base64;
    bool has_data = chat_read_data_url(url, &type, &base64);
    struct json_object *block = block_of("image"), *source = block_of(has_data ? "base64" : "url");
    if (has_data) {
        chat_put_string(source, "media_type", type);
        chat_put_string(source, "data", base64);
    } else {
        chat_put_string(source, "url", url);
    }
    chat_put(block, "source", source);
    add_block(turns, role, block);
}

static bool add_content(struct turns *turns, const char *role, struct json_object *content)
{
    for (size_t i = 0; i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        if (part.kind == CHAT_OTHER)
            return chat_refuse_part(&part, turns->error);
        if (part.kind == CHAT_IMAGE)
            add_image(turns, role, part.text);
        else
            add_text(turns, role, part.text);
    }
    return true;
}

/* [A-Za-z0-9_-], the same for the same id. */
static struct json_object *id_of(struct str id)
{
    struct buf clean = {0};
    for (size_t i = 0; i < id.len; i++) {
        char c = id.at[i];
        bool good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                    c == '_' || c == '-';
        buf_putc(&clean, good ? c : '_');
    }
    struct json_object *text = chat_string(buf_view(&clean));
    buf_free(&clean);
    return text;
}

static bool add_call(struct turns *turns, struct json_object *call)
{
    struct chat_call read;
    if (!chat_read_call(call, &read, turns->error))
        return false;
    struct json_object *block = block_of("tool_use");
    chat_put(block, "id", id_of(read.id));
    chat_put(block, "name", chat_string(read.name));
    chat_put(block, "input", read.arguments);
    add_block(turns, "assistant", block);
    return true;
}

static bool add_assistant(struct turns *turns, struct json_object *message)
{
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    if (!add_content(turns, "assistant", json_member(message, "content", NULL)))
        return false;
    for (size_t i = 0; i < chat_count(calls); i++)
        if (!add_call(turns, json_object_array_get_idx(calls, i)))
            return false;
    return true;
}

static void add_result(struct turns *turns, struct json_object *message)
{
    struct json_object *block = block_of("tool_result");
    struct buf text = {0};
    chat_append_texts(json_member(message, "content", NULL), &text);
    chat_put(block, "tool_use_id", id_of(json_text(json_member(message, "tool_call_id", NULL))));
    chat_put(block, "content", chat_string(buf_view(&text)));
    buf_free(&text);
    add_block(turns, "user", block);
}

static bool add_message(struct turns *turns, struct json_object *message)
{
    switch (chat_role_of(message)) {
    case CHAT_SYSTEM:
        return true; /* not a turn here */
    case CHAT_USER:
        return add_content(turns, "user", json_member(message, "content", NULL));
    case CHAT_ASSISTANT:
        return add_assistant(turns, message);
    default:
        add_result(turns, message);
        return true;
    }
}

/* ---- tools */

static struct json_object *tool_of(struct json_object *tool)
{
    static const char *const copied[][2] = {{"name", "name"},
                                            {"description", "description"},
                                            {"parameters", "input_schema"},
                                            {"strict", "strict"}};
    struct json_object *function = json_member(tool, "function", NULL);
    struct json_object *made = json_object_new_object();
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++) {
        struct json_object *value = json_member(function, copied[i][0], NULL);
        if (value)
            json_object_object_add(made, copied[i][1], json_object_get(value));
    }
    if (!json_member(made, "input_schema", NULL))
        json_object_object_add(made, "input_schema", block_of("object"));
    return made;
}

static void write_tools(struct json_object *tools, struct buf *body)
{
    struct json_object *made = json_object_new_array();
    size_t count = chat_count(tools);
    for (size_t i = 0; i < count; i++)
        json_object_array_add(made, tool_of(json_object_array_get_idx(tools, i)));
    if (count > 0) {
        buf_puts(body, ",\"tools\":");
        json_write(body, made);
    }
    json_object_put(made);
}

static void write_tool_choice(struct json_object *tool_choice, struct buf *body)
{
    static const char *const types[] = {NULL, "auto", "none", "any", "tool"};
    struct str name;
    enum chat_choice choice = chat_choice_of(tool_choice, &name);
    if (choice == CHAT_CHOICE_UNSAID)
        return;
    buf_printf(body, ",\"tool_choice\":{\"type\":\"%s\"", types[choice]);
    if (choice == CHAT_NAMED) {
        buf_puts(body, ",\"name\":");
        json_write_string(body, name);
    }
    buf_putc(body, '}');
}

/* ---- the request */

static void write_number(struct buf *body, const char *name, double value)
{
    if (isnan(value))
        return;
    buf_printf(body, ",\"%s\":", name);
    json_write_double(body, value);
}

/* Older models take only one of the two: the temperature goes first. */
static void write_sampling(const struct completion_request *request, struct buf *body)
{
    struct json_object *const *values = request->parameters->values;
    double temperature = chat_number(values[MEMBER_temperature], request->temperature, 0, 1);
    double top_p = chat_number(values[MEMBER_top_p], request->top_p, 0, 1);
    write_number(body, "temperature", temperature);
    if (isnan(temperature))
        write_number(body, "top_p", top_p);
}

static void write_stop(struct json_object *stop, struct buf *body)
{
    struct json_object *list = chat_stop_list(stop);
    if (!list)
        return;
    buf_puts(body, ",\"stop_sequences\":");
    json_write(body, list);
    json_object_put(list);
}

static void write_user(struct json_object *user, struct buf *body)
{
    if (!user)
        return;
    buf_puts(body, ",\"metadata\":{\"user_id\":");
    json_write(body, user);
    buf_putc(body, '}');
}

/* The answer's schema, and what the configuration adds: both may set output_config. */
static void write_others(const struct completion_request *request, struct buf *body)
{
    const char *parameters = request->target->parameters;
    if (!request->output.native) {
        if (parameters)
            buf_printf(body, ",%s", parameters);
        return;
    }
    struct json_object *others = json_object_new_object(), *config = json_object_new_object();
    struct json_object *format = block_of("json_schema");
    struct buf text = {0};
    chat_put(format, "schema", chat_read(request->output.native));
    chat_put(config, "format", format);
    chat_put(others, "output_config", config);
    chat_write_body(others, parameters, &text);
    buf_putc(body, ',');
    buf_str(body, (struct str){text.data + 1, text.len - 2}); /* without its braces */
    buf_free(&text);
    json_object_put(others);
}

static bool write_body(const struct completion_request *request, struct buf *body,
                       struct error *error)
{
    const struct config_target *target = request->target;
    struct json_object *const *values = request->parameters->values;
    struct turns turns = {.all = json_object_new_array(), .error = error};
    struct buf system = {0};
    bool good = true;
    chat_append_system(request->messages, &system);
    for (size_t i = 0; good && i < json_object_array_length(request->messages); i++)
        good = add_message(&turns, json_object_array_get_idx(request->messages, i));
    buf_puts(body, "{\"model\":");
    json_write_string(body, str_of(target->model));
    buf_printf(body, ",\"max_tokens\":%lld", (long long)request->max_tokens);
    if (system.len > 0) {
        buf_puts(body, ",\"system\":");
        json_write_string(body, buf_view(&system));
    }
    buf_puts(body, ",\"messages\":");
    json_write(body, turns.all);
    write_sampling(request, body);
    write_stop(values[MEMBER_stop], body);
    write_tools(values[MEMBER_tools], body);
    write_tool_choice(values[MEMBER_tool_choice], body);
    write_user(values[MEMBER_user], body);
    if (request->streams)
        buf_puts(body, ",\"stream\":true");
    write_others(request, body);
    buf_putc(body, '}');
    json_object_put(turns.all);
    buf_free(&system);
    return good;
}

/* Of the credential's own headers; absent = it leaves that to us. */
static struct str version_of(const struct config_credential *credential)
{
    for (size_t i = 0; i < credential->headers_count; i++)
        if (str_eq_nocase(str_of(credential->headers[i].name), str_of(version_header)))
            return str_of(credential->headers[i].value);
    return STR_ABSENT;
}

/* Versions are dates; later ones refuse both. */
bool anthropic_samples(const struct config_credential *credential)
{
    struct str version = version_of(credential);
    return !version.at || str_eq(version, usual_version);
}

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_credential *credential = request->target->credential;
    call->url = arena_printf(arena, "%s/v1/messages", credential->base_url);
    call_add_headers(call, request, STR("x-api-key"), str_of(credential->api_key));
    if (!version_of(credential).at)
        call->headers[call->headers_count++] =
            (struct call_header){str_of(version_header), usual_version};
    return write_body(request, &call->body, error);
}

/* ---- the answer */

static const struct chat_reason reasons[] = {
    {"end_turn", "stop"},
    {"stop_sequence", "stop"},
    {"pause_turn", "stop"},
    {"max_tokens", "length"},
    {"model_context_window_exceeded", "length"},
    {"tool_use", "tool_calls"},
    {"refusal", "content_filter"},
};

/* What was read from the cache and written into it is not in input_tokens here. */
static void read_usage(struct json_object *usage, struct usage *out)
{
    if (!json_object_is_type(usage, json_type_object))
        return;
    struct json_object *details = json_member(usage, "output_tokens_details", NULL);
    out->cached_tokens = usage_count(usage, "cache_read_input_tokens");
    out->cache_write_tokens = usage_count(usage, "cache_creation_input_tokens");
    chat_set_usage(
        out, usage_count(usage, "input_tokens") + out->cached_tokens + out->cache_write_tokens,
        usage_count(usage, "output_tokens"));
    out->reasoning_tokens = usage_count(details, "thinking_tokens");
}

/* Thinking and what servers' tools did is passed over. */
static void read_blocks(struct json_object *blocks, struct completion *completion,
                        struct arena *arena)
{
    struct json_object *calls = json_object_new_array();
    struct buf text = {0};
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *block = json_object_array_get_idx(blocks, i);
        struct str type = json_text(json_member(block, "type", NULL));
        if (str_eq(type, STR("tool_use")))
            json_object_array_add(calls, chat_new_call(json_text(json_member(block, "id", NULL)),
                                                       json_text(json_member(block, "name", NULL)),
                                                       json_member(block, "input", NULL),
                                                       completion->id, i));
        if (str_eq(type, STR("text")))
            buf_str(&text, json_text(json_member(block, "text", NULL)));
    }
    chat_complete(completion, &text, calls, arena);
    buf_free(&text);
}

static bool read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    if (!chat_read_object(reply, completion, error))
        return false;
    struct json_object *answer = completion->parsed;
    struct json_object *blocks = json_member(answer, "content", NULL);
    if (!json_object_is_type(blocks, json_type_array))
        return error_set(error, "the answer has no content");
    completion->id = answer_name(answer, "id");
    completion->model = answer_name(answer, "model");
    completion->finish_reason =
        chat_finish_reason(reasons, sizeof reasons / sizeof *reasons,
                           json_text(json_member(answer, "stop_reason", NULL)));
    read_usage(json_member(answer, "usage", NULL), &completion->usage);
    read_blocks(blocks, completion, arena);
    return true;
}

/* ---- a streamed answer: block by block */

/* Counts are cumulative, and each event says only some of them. */
static void merge_usage(struct json_object *said, struct usage *usage)
{
    struct json_object *whole = json_object_new_object();
    chat_put(whole, "input_tokens",
             json_object_new_int64(usage->prompt_tokens - usage->cached_tokens -
                                   usage->cache_write_tokens));
    chat_put(whole, "cache_read_input_tokens", json_object_new_int64(usage->cached_tokens));
    chat_put(whole, "cache_creation_input_tokens",
             json_object_new_int64(usage->cache_write_tokens));
    chat_put(whole, "output_tokens", json_object_new_int64(usage->completion_tokens));
    json_object_object_foreach(said, name, value)
    {
        if (value)
            json_object_object_add(whole, name, json_object_get(value));
    }
    read_usage(whole, usage);
    json_object_put(whole);
}

static void note_usage(struct json_object *said, struct usage *usage)
{
    int64_t reasoning = usage->reasoning_tokens;
    if (!json_object_is_type(said, json_type_object))
        return;
    merge_usage(said, usage);
    if (usage->reasoning_tokens == 0)
        usage->reasoning_tokens = reasoning;
}

static bool stream_block(struct streamed *streamed, int64_t place, struct json_object *block,
                         struct buf *chunks)
{
    if (!str_eq(json_text(json_member(block, "type", NULL)), STR("tool_use")))
        return chunks_add_text(streamed, json_member(block, "text", NULL), chunks);
    chunks_begin_call(streamed, place, json_text(json_member(block, "id", NULL)),
                      json_text(json_member(block, "name", NULL)), NULL, chunks);
    return true;
}

static bool stream_delta(struct streamed *streamed, int64_t place, struct json_object *delta,
                         struct buf *chunks)
{
    struct str type = json_text(json_member(delta, "type", NULL));
    if (str_eq(type, STR("text_delta")))
        return chunks_add_text(streamed, json_member(delta, "text", NULL), chunks);
    if (str_eq(type, STR("thinking_delta")))
        return chunks_add_reasoning(streamed, json_member(delta, "thinking", NULL), chunks);
    if (str_eq(type, STR("input_json_delta")))
        return chunks_add_arguments(streamed, place,
                                    json_text(json_member(delta, "partial_json", NULL)), chunks);
    return false;
}

/* The last but one event: why it ended, and the final counts. */
static bool stream_message_delta(struct streamed *streamed, struct json_object *data,
                                 struct buf *chunks)
{
    struct json_object *delta = json_member(data, "delta", NULL);
    struct str reason = json_text(json_member(delta, "stop_reason", NULL));
    note_usage(json_member(data, "usage", NULL), &streamed->usage);
    if (reason.at)
        chunks_finish(streamed,
                      chat_finish_reason(reasons, sizeof reasons / sizeof *reasons, reason),
                      chunks);
    return reason.at;
}

static enum event_kind read_event(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks)
{
    struct str type = json_text(json_member(data, "type", NULL));
    struct json_object *message = json_member(data, "message", NULL);
    int64_t place = json_int_or(json_member(data, "index", NULL), 0);
    bool said = false;
    if (str_eq(type, STR("message_stop")))
        return EVENT_END;
    if (str_eq(type, STR("message_start"))) {
        streamed_note_names(streamed, answer_name(message, "id"), answer_name(message, "model"));
        note_usage(json_member(message, "usage", NULL), &streamed->usage);
    } else if (str_eq(type, STR("content_block_start"))) {
        said = stream_block(streamed, place, json_member(data, "content_block", NULL), chunks);
    } else if (str_eq(type, STR("content_block_delta"))) {
        said = stream_delta(streamed, place, json_member(data, "delta", NULL), chunks);
    } else if (str_eq(type, STR("content_block_stop"))) {
        said = chunks_end_call(streamed, place, chunks);
    } else if (str_eq(type, STR("message_delta"))) {
        said = stream_message_delta(streamed, data, chunks);
    }
    return said ? EVENT_CONTENT : EVENT_SILENT;
}

static void write_failure(const struct stream_failure *failure, struct buf *events)
{
    buf_puts(events, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\","
                     "\"message\":");
    json_write_string(events, failure->message);
    buf_puts(events, "}}\n\n");
}

/* ---- errors */

/* A limit on spending comes as a request's fault, or as one asked too often. */
static bool is_about_money(struct json_object *error)
{
    static const char *const codes[] = {"enforced_spend_limit_reached",
                                        "contract_spend_limit_reached", "organization_on_hold"};
    struct str code =
        json_text(json_member(json_member(error, "details", NULL), "error_code", NULL));
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (str_eq(code, str_of(codes[i])))
            return true;
    return false;
}

static enum provider_fault read_error(const struct upstream_reply *reply, struct arena *arena,
                                      struct refusal *refusal)
{
    struct json_object *parsed = NULL;
    struct error ignored;
    enum provider_fault fault = provider_fault_of(reply->status);
    if (!json_read(buf_view(&reply->body), &parsed, &ignored))
        return fault;
    struct json_object *error = json_member(parsed, "error", NULL);
    refusal->said = arena_copy(arena, json_text(json_member(error, "message", NULL)));
    if ((fault == FAULT_REQUEST || fault == FAULT_LATER) && is_about_money(error))
        fault = FAULT_CREDENTIAL;
    json_object_put(parsed);
    return fault;
}

const struct provider provider_anthropic = {
    .build = build,
    .read_answer = read_answer,
    .read_event = read_event,
    .write_failure = write_failure,
    .read_error = read_error,
};
