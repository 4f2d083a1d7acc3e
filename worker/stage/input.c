/* What the client says: the conversation, the input value, the client's parameters; everything
 * else in the body is named in meta.ignored (contract: Request body). */
#include "worker/stage/stage.h"

#include "worker/input/input.h"

static struct json_object *get(const struct exchange *ex, const char *name)
{
    return json_member(ex->body, name, NULL);
}

/* What a member means on this endpoint: a parameter of OpenAI's that clients may not set is the
 * payload's, as far as there is one. */
static enum member_use use_of(const struct exchange *ex, enum member member)
{
    enum member_use use = member_use(member);
    bool is_set = member != MEMBER_NONE && (ex->endpoint->client_parameters & MEMBER_BIT(member));
    if (use == MEMBER_PINNED)
        return is_set ? MEMBER_CLIENT : MEMBER_PAYLOAD;
    return use;
}

/* --- control members --- */

static bool check_stream(struct exchange *ex)
{
    struct json_object *stream = get(ex, "stream");
    if (stream && !json_object_is_type(stream, json_type_boolean))
        exchange_fail_at(ex, API_invalid_request, "stream", "stream must be true or false.");
    else if (json_object_get_boolean(stream) && !ex->endpoint->streams)
        exchange_fail_at(ex, API_streaming_disabled, "stream",
                         "Streaming is not enabled on endpoint %s.", ex->endpoint->slug);
    ex->relay.asked = json_object_get_boolean(stream);
    ex->relay.native =
        ex->route.kind == ROUTE_ENDPOINT && ex->endpoint->stream_format == STREAM_NATIVE;
    return ex->failure.code == API_OK;
}

static bool check_stream_options(struct exchange *ex)
{
    struct json_object *options = get(ex, "stream_options");
    struct json_object *usage = json_member(options, "include_usage", NULL);
    if (options && !json_object_is_type(options, json_type_object))
        return input_bad(ex, "stream_options", "an object");
    if (usage && !json_object_is_type(usage, json_type_boolean))
        return input_bad(ex, "stream_options.include_usage", "true or false");
    ex->relay.wants_usage = json_object_get_boolean(usage);
    return true;
}

/* Null asks for no session; the header works in place of the member. */
static bool check_session(struct exchange *ex)
{
    bool present;
    struct json_object *member = json_member(ex->body, "session_id", &present);
    struct str header = http_header(ex->request, "x-session-id");
    struct str id = present ? json_text(member) : header;
    if (!ex->endpoint->session.on && (member || header.at)) {
        exchange_fail_at(ex, API_parameter_unsupported, "session_id",
                         "Endpoint %s keeps no sessions.", ex->endpoint->slug);
        return false;
    }
    if (member && !id.at)
        return input_bad(ex, "session_id", "a session's id, or null");
    ex->session.wanted = ex->endpoint->session.on && (member || !present);
    bool is_id = !id.at || (uuid_parse(id, &ex->session.id) && !uuid_is_nil(&ex->session.id));
    if (!is_id)
        exchange_fail_at(ex, API_session_forbidden, "session_id", "%s",
                         api_error_info(API_session_forbidden)->sentence);
    return ex->failure.code == API_OK;
}

/* --- the conversation --- */

/* A string as it is, any other value as compact JSON. */
static void add_user_message(struct exchange *ex, struct str text)
{
    struct json_object *message = json_object_new_object();
    json_object_object_add(message, "role", json_object_new_string("user"));
    json_object_object_add(message, "content", json_object_new_string_len(text.at, (int)text.len));
    json_object_array_add(ex->messages, message);
}

static void take_value(struct exchange *ex, struct json_object *value)
{
    struct str text = json_text(value);
    if (text.at) {
        ex->input.text = text;
    } else {
        struct buf compact = {0};
        json_write(&compact, value);
        ex->input.value = value;
        ex->input.text = arena_copy(&ex->arena, buf_view(&compact));
        buf_free(&compact);
    }
    add_user_message(ex, ex->input.text);
}

/* What is left of the body when control members and client parameters are taken out. */
static struct json_object *payload(struct exchange *ex)
{
    struct json_object *left = json_object_new_object();
    struct json_object_iterator it = json_object_iter_begin(ex->body);
    struct json_object_iterator end = json_object_iter_end(ex->body);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *name = json_object_iter_peek_name(&it);
        if (use_of(ex, member_named(str_of(name))) == MEMBER_PAYLOAD)
            json_object_object_add(left, name, json_object_get(json_object_iter_peek_value(&it)));
    }
    return left;
}

/* Nothing at all is enough where variables fill the prompt. */
static bool take_payload(struct exchange *ex)
{
    const struct config_endpoint *endpoint = ex->endpoint;
    if (!endpoint->user_prompt && endpoint->variables_count == 0 && !endpoint->input_schema) {
        exchange_fail(ex, API_input_missing, "The body has no messages, message or input.");
        return false;
    }
    ex->input_owned = payload(ex);
    bool filled = endpoint->user_prompt && endpoint->variables_count > 0;
    if (json_object_object_length(ex->input_owned) == 0 && !filled) {
        exchange_fail(ex, API_input_missing, "The body has no input for the prompt.");
        return false;
    }
    take_value(ex, ex->input_owned);
    return true;
}

static bool take_conversation(struct exchange *ex, const char **source)
{
    bool has_input;
    struct json_object *input = json_member(ex->body, "input", &has_input);
    struct json_object *message = get(ex, "message");
    ex->messages = json_object_new_array();
    if (get(ex, "messages")) {
        *source = "messages";
        return input_take_messages(ex, get(ex, "messages"));
    }
    if (message) {
        *source = "message";
        if (!json_object_is_type(message, json_type_string))
            return input_bad(ex, "message", "a string");
        take_value(ex, message);
        return true;
    }
    if (has_input) {
        *source = "input";
        take_value(ex, input);
        return true;
    }
    *source = NULL;
    return take_payload(ex);
}

/* --- what is not used --- */

/* `n` is 1 whether it is said or not. */
static bool is_harmless(const char *name, struct json_object *value)
{
    return strcmp(name, "n") == 0 && json_int_or(value, 0) == 1;
}

static bool is_ignored(const struct exchange *ex, const char *source, const char *name,
                       struct json_object *value)
{
    enum member member = member_named(str_of(name));
    switch (use_of(ex, member)) {
    case MEMBER_CONTROL:
        return ex->route.kind == ROUTE_ENDPOINT &&
               (member == MEMBER_model || member == MEMBER_endpoint);
    case MEMBER_CONVERSATION:
        return !source || strcmp(name, source) != 0;
    case MEMBER_CLIENT:
        return !(ex->endpoint->client_parameters & MEMBER_BIT(member));
    default:
        return source && !is_harmless(name, value) &&
               !input_is_variable(ex->endpoint, str_of(name));
    }
}

static void name_ignored(struct exchange *ex, const char *source)
{
    struct json_object_iterator it = json_object_iter_begin(ex->body);
    struct json_object_iterator end = json_object_iter_end(ex->body);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *name = json_object_iter_peek_name(&it);
        if (is_ignored(ex, source, name, json_object_iter_peek_value(&it)))
            exchange_ignore(ex, str_of(name));
    }
}

static bool check_choices(struct exchange *ex, const char *source)
{
    struct json_object *n = source ? get(ex, "n") : NULL;
    int64_t choices = json_int_or(n, n ? 0 : 1);
    if (choices < 1)
        (void)input_bad(ex, "n", "a positive integer");
    else if (choices > 1)
        exchange_fail_at(ex, API_parameter_unsupported, "n", "One answer is made; n must be 1.");
    return ex->failure.code == API_OK;
}

/* The endpoint's max_output_tokens is the ceiling; the client may only go below it. */
static void lower_max_tokens(struct exchange *ex)
{
    int64_t ceiling = ex->endpoint->target.max_output_tokens;
    int64_t *asked = &ex->parameters.max_tokens;
    if (*asked == 0 || ceiling == 0 || *asked <= ceiling)
        return;
    *asked = ceiling;
    exchange_ignore(ex, get(ex, "max_tokens") ? STR("max_tokens") : STR("max_completion_tokens"));
}

enum stage_result stage_input(struct exchange *ex)
{
    const char *source;
    if (!check_stream(ex) || !check_stream_options(ex) || !check_session(ex) ||
        !input_take_parameters(ex) || !take_conversation(ex, &source) ||
        !check_choices(ex, source) || !input_take_variables(ex, source ? NULL : ex->input_owned))
        return STAGE_DONE;
    lower_max_tokens(ex);
    name_ignored(ex, source);
    ex->input_ignored = ex->last_ignored;
    return STAGE_NEXT;
}
