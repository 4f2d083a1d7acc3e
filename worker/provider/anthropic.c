/* Anthropic's messages, version 2023-06-01. Source: the request and response types of the official
 * SDK, and its documentation. */
#include "worker/provider/provider.h"

#include "shared/base/json.h"

#include <math.h>

static const char version_header[] = "anthropic-version";

/* ---- the conversation: roles take turns, what follows in the same role is one message */

struct turns {
    struct json_object *all;    /* the messages */
    struct json_object *blocks; /* of the last one; part of `all` */
    const char *role;
    struct buf system;
    struct error *error;
};

static struct json_object *text_of(const char *text)
{
    return json_object_new_string(text);
}

static struct json_object *slice_of(struct str text)
{
    return json_object_new_string_len(text.at, (int)text.len);
}

static struct json_object *block_of(const char *type)
{
    struct json_object *block = json_object_new_object();
    json_object_object_add(block, "type", text_of(type));
    return block;
}

static void add_block(struct turns *turns, const char *role, struct json_object *block)
{
    if (!turns->role || strcmp(turns->role, role) != 0) {
        struct json_object *message = json_object_new_object();
        turns->blocks = json_object_new_array();
        turns->role = role;
        json_object_object_add(message, "role", text_of(role));
        json_object_object_add(message, "content", turns->blocks);
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
    json_object_object_add(block, "text", slice_of(text));
    add_block(turns, role, block);
}

/* "data:image/png;base64,AAAA" is taken apart; another URL is the provider's to fetch. */
static struct json_object *source_of(struct str url)
{
    struct json_object *source;
    struct str rest = url, scheme = str_split(&rest, ':');
    if (!str_eq_nocase(scheme, STR("data"))) {
        source = block_of("url");
        json_object_object_add(source, "url", slice_of(url));
        return source;
    }
    struct str head = str_split(&rest, ','), type = str_split(&head, ';');
    source = block_of("base64");
    json_object_object_add(source, "media_type", slice_of(type));
    json_object_object_add(source, "data", slice_of(rest));
    return source;
}

static bool add_part(struct turns *turns, const char *role, struct json_object *part)
{
    struct str type = json_text(json_member(part, "type", NULL));
    struct json_object *image = json_member(part, "image_url", NULL);
    if (str_eq(type, STR("text")) || str_eq(type, STR("refusal"))) {
        add_text(turns, role,
                 json_text(json_member(part, (type.len == 4) ? "text" : "refusal", NULL)));
        return true;
    }
    struct str url = json_text(
        json_object_is_type(image, json_type_object) ? json_member(image, "url", NULL) : image);
    if (!str_eq(type, STR("image_url")) || !url.at)
        return error_set(turns->error, "the provider takes no part of type %.*s",
                         (int)(type.len < 32 ? type.len : 32), type.at);
    struct json_object *block = block_of("image");
    json_object_object_add(block, "source", source_of(url));
    add_block(turns, role, block);
    return true;
}

static bool add_content(struct turns *turns, const char *role, struct json_object *content)
{
    if (!json_object_is_type(content, json_type_array)) {
        add_text(turns, role, json_text(content));
        return true;
    }
    for (size_t i = 0; i < json_object_array_length(content); i++)
        if (!add_part(turns, role, json_object_array_get_idx(content, i)))
            return false;
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
    struct json_object *text = slice_of(buf_view(&clean));
    buf_free(&clean);
    return text;
}

/* OpenAI's arguments are the text of an object, or nothing. */
static bool read_arguments(struct str text, struct json_object **arguments)
{
    struct error ignored;
    *arguments = NULL;
    if (str_trim(text).len == 0) {
        *arguments = json_object_new_object();
        return true;
    }
    if (json_read(text, arguments, &ignored) && json_object_is_type(*arguments, json_type_object))
        return true;
    json_object_put(*arguments);
    return false;
}

static bool add_call(struct turns *turns, struct json_object *call)
{
    struct json_object *function = json_member(call, "function", NULL), *arguments;
    struct str name = json_text(json_member(function, "name", NULL));
    if (!read_arguments(json_text(json_member(function, "arguments", NULL)), &arguments))
        return error_set(turns->error, "the arguments of the tool call %.*s are no JSON object",
                         (int)(name.len < 64 ? name.len : 64), name.at);
    struct json_object *block = block_of("tool_use");
    json_object_object_add(block, "id", id_of(json_text(json_member(call, "id", NULL))));
    json_object_object_add(block, "name", slice_of(name));
    json_object_object_add(block, "input", arguments);
    add_block(turns, "assistant", block);
    return true;
}

static bool add_assistant(struct turns *turns, struct json_object *message)
{
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    if (!add_content(turns, "assistant", json_member(message, "content", NULL)))
        return false;
    size_t count =
        json_object_is_type(calls, json_type_array) ? json_object_array_length(calls) : 0;
    for (size_t i = 0; i < count; i++)
        if (!add_call(turns, json_object_array_get_idx(calls, i)))
            return false;
    return true;
}

/* The texts of a content, one behind the other. */
static void append_texts(struct json_object *content, struct buf *out)
{
    if (!json_object_is_type(content, json_type_array)) {
        buf_str(out, json_text(content));
        return;
    }
    for (size_t i = 0; i < json_object_array_length(content); i++)
        buf_str(out, json_text(json_member(json_object_array_get_idx(content, i), "text", NULL)));
}

static void add_result(struct turns *turns, struct json_object *message)
{
    struct json_object *block = block_of("tool_result");
    struct buf text = {0};
    append_texts(json_member(message, "content", NULL), &text);
    json_object_object_add(block, "tool_use_id",
                           id_of(json_text(json_member(message, "tool_call_id", NULL))));
    json_object_object_add(block, "content", slice_of(buf_view(&text)));
    buf_free(&text);
    add_block(turns, "user", block);
}

static bool add_message(struct turns *turns, struct json_object *message)
{
    struct str role = json_text(json_member(message, "role", NULL));
    if (str_eq(role, STR("system")) || str_eq(role, STR("developer"))) {
        buf_puts(&turns->system, turns->system.len ? "\n\n" : "");
        append_texts(json_member(message, "content", NULL), &turns->system);
        return true;
    }
    if (str_eq(role, STR("assistant")))
        return add_assistant(turns, message);
    if (str_eq(role, STR("user")))
        return add_content(turns, "user", json_member(message, "content", NULL));
    add_result(turns, message);
    return true;
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
    size_t count =
        json_object_is_type(tools, json_type_array) ? json_object_array_length(tools) : 0;
    for (size_t i = 0; i < count; i++)
        json_object_array_add(made, tool_of(json_object_array_get_idx(tools, i)));
    if (count > 0) {
        buf_puts(body, ",\"tools\":");
        json_write(body, made);
    }
    json_object_put(made);
}

static void write_tool_choice(struct json_object *choice, struct buf *body)
{
    struct str word = json_text(choice);
    struct json_object *function = json_member(choice, "function", NULL);
    if (!choice)
        return;
    buf_puts(body, ",\"tool_choice\":{\"type\":");
    if (str_eq(word, STR("none")) || str_eq(word, STR("auto"))) {
        json_write_string(body, word);
    } else if (!function) {
        buf_puts(body, "\"any\"");
    } else {
        buf_puts(body, "\"tool\",\"name\":");
        json_write_string(body, json_text(json_member(function, "name", NULL)));
    }
    buf_putc(body, '}');
}

/* ---- the request */

static void write_number(struct buf *body, const char *name, double value, double most)
{
    if (isnan(value))
        return;
    buf_printf(body, ",\"%s\":", name);
    json_write_double(body, value > most ? most : value);
}

/* The client's, else the endpoint's. */
static double number_of(struct json_object *given, double otherwise)
{
    return given ? json_object_get_double(given) : otherwise;
}

/* Older models take only one of the two: the temperature goes first. */
static void write_sampling(const struct completion_request *request, struct buf *body)
{
    struct json_object *const *values = request->parameters->values;
    double temperature = number_of(values[MEMBER_temperature], request->temperature);
    double top_p = number_of(values[MEMBER_top_p], request->top_p);
    write_number(body, "temperature", temperature, 1);
    if (isnan(temperature))
        write_number(body, "top_p", top_p, 1);
}

static void write_stop(struct json_object *stop, struct buf *body)
{
    bool wraps = !json_object_is_type(stop, json_type_array);
    if (!stop)
        return;
    buf_puts(body, wraps ? ",\"stop_sequences\":[" : ",\"stop_sequences\":");
    json_write(body, stop);
    buf_puts(body, wraps ? "]" : "");
}

static void write_user(struct json_object *user, struct buf *body)
{
    if (!user)
        return;
    buf_puts(body, ",\"metadata\":{\"user_id\":");
    json_write(body, user);
    buf_putc(body, '}');
}

static bool write_body(const struct completion_request *request, struct buf *body,
                       struct error *error)
{
    const struct config_target *target = request->target;
    struct json_object *const *values = request->parameters->values;
    struct turns turns = {.all = json_object_new_array(), .error = error};
    bool good = true;
    for (size_t i = 0; good && i < json_object_array_length(request->messages); i++)
        good = add_message(&turns, json_object_array_get_idx(request->messages, i));
    buf_puts(body, "{\"model\":");
    json_write_string(body, str_of(target->model));
    buf_printf(body, ",\"max_tokens\":%lld", (long long)request->max_tokens);
    if (turns.system.len > 0) {
        buf_puts(body, ",\"system\":");
        json_write_string(body, buf_view(&turns.system));
    }
    buf_puts(body, ",\"messages\":");
    json_write(body, turns.all);
    write_sampling(request, body);
    write_stop(values[MEMBER_stop], body);
    write_tools(values[MEMBER_tools], body);
    write_tool_choice(values[MEMBER_tool_choice], body);
    write_user(values[MEMBER_user], body);
    if (target->parameters)
        buf_printf(body, ",%s", target->parameters);
    buf_putc(body, '}');
    json_object_put(turns.all);
    buf_free(&turns.system);
    return good;
}

static void add_header(struct upstream_call *call, struct str name, struct str value)
{
    call->headers[call->headers_count++] = (struct call_header){name, value};
}

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_credential *credential = request->target->credential;
    bool says_version = false;
    call->url = arena_printf(arena, "%s/v1/messages", credential->base_url);
    add_header(call, STR("Content-Type"), STR("application/json"));
    if (credential->api_key)
        add_header(call, STR("x-api-key"), str_of(credential->api_key));
    for (size_t i = 0; i < credential->headers_count; i++) {
        struct str name = str_of(credential->headers[i].name);
        says_version = says_version || str_eq_nocase(name, str_of(version_header));
        add_header(call, name, str_of(credential->headers[i].value));
    }
    if (!says_version)
        add_header(call, str_of(version_header), STR("2023-06-01"));
    return write_body(request, &call->body, error);
}

/* ---- the answer */

static const char *finish_reason_of(struct str reason)
{
    static const struct {
        const char *said, *meant;
    } reasons[] = {
        {"end_turn", "stop"},
        {"stop_sequence", "stop"},
        {"pause_turn", "stop"},
        {"max_tokens", "length"},
        {"model_context_window_exceeded", "length"},
        {"tool_use", "tool_calls"},
        {"refusal", "content_filter"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (str_eq(reason, str_of(reasons[i].said)))
            return reasons[i].meant;
    return "stop";
}

/* What was read from the cache and written into it is not in input_tokens here. */
static void read_usage(struct json_object *usage, struct usage *out)
{
    if (!json_object_is_type(usage, json_type_object))
        return;
    struct json_object *details = json_member(usage, "output_tokens_details", NULL);
    out->reported = true;
    out->cached_tokens = usage_count(usage, "cache_read_input_tokens");
    out->cache_write_tokens = usage_count(usage, "cache_creation_input_tokens");
    out->prompt_tokens =
        usage_count(usage, "input_tokens") + out->cached_tokens + out->cache_write_tokens;
    out->completion_tokens = usage_count(usage, "output_tokens");
    out->total_tokens = out->prompt_tokens + out->completion_tokens;
    out->reasoning_tokens = usage_count(details, "thinking_tokens");
}

static struct json_object *call_of(struct json_object *block)
{
    struct json_object *call = json_object_new_object(), *function = json_object_new_object();
    struct json_object *input = json_member(block, "input", NULL);
    struct buf arguments = {0};
    if (input)
        json_write(&arguments, input);
    else
        buf_puts(&arguments, "{}");
    json_object_object_add(call, "id", json_object_get(json_member(block, "id", NULL)));
    json_object_object_add(call, "type", text_of("function"));
    json_object_object_add(function, "name", json_object_get(json_member(block, "name", NULL)));
    json_object_object_add(function, "arguments", slice_of(buf_view(&arguments)));
    json_object_object_add(call, "function", function);
    buf_free(&arguments);
    return call;
}

/* Thinking and what servers' tools did is passed over. */
static void read_blocks(struct json_object *blocks, struct json_object *answer, struct arena *arena,
                        struct completion *completion)
{
    struct json_object *calls = json_object_new_array();
    struct buf text = {0};
    bool any_text = false;
    for (size_t i = 0; i < json_object_array_length(blocks); i++) {
        struct json_object *block = json_object_array_get_idx(blocks, i);
        struct str type = json_text(json_member(block, "type", NULL));
        if (str_eq(type, STR("tool_use")))
            json_object_array_add(calls, call_of(block));
        if (!str_eq(type, STR("text")))
            continue;
        buf_str(&text, json_text(json_member(block, "text", NULL)));
        any_text = true;
    }
    bool any_calls = json_object_array_length(calls) > 0;
    if (any_text || !any_calls)
        completion->content = arena_copy(arena, buf_view(&text));
    if (any_calls)
        completion->tool_calls = calls;
    json_object_object_add(answer, "tool_calls", calls); /* lives as long as the answer */
    buf_free(&text);
}

static bool read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    struct error reason;
    if (!json_read(buf_view(&reply->body), &completion->parsed, &reason))
        return error_set(error, "the answer is not JSON: %s", reason.message);
    struct json_object *answer = completion->parsed;
    struct json_object *blocks = json_member(answer, "content", NULL);
    if (!json_object_is_type(blocks, json_type_array))
        return error_set(error, "the answer has no content");
    completion->id = answer_name(answer, "id");
    completion->model = answer_name(answer, "model");
    completion->finish_reason =
        finish_reason_of(json_text(json_member(answer, "stop_reason", NULL)));
    read_usage(json_member(answer, "usage", NULL), &completion->usage);
    read_blocks(blocks, answer, arena, completion);
    return true;
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
                                      struct str *said)
{
    struct json_object *parsed = NULL;
    struct error ignored;
    enum provider_fault fault = provider_fault_of(reply->status);
    if (!json_read(buf_view(&reply->body), &parsed, &ignored))
        return fault;
    struct json_object *error = json_member(parsed, "error", NULL);
    *said = arena_copy(arena, json_text(json_member(error, "message", NULL)));
    if ((fault == FAULT_REQUEST || fault == FAULT_LATER) && is_about_money(error))
        fault = FAULT_CREDENTIAL;
    json_object_put(parsed);
    return fault;
}

const struct provider provider_anthropic = {
    .build = build,
    .read_answer = read_answer,
    .read_error = read_error,
};
