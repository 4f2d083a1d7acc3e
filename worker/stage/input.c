/* What the client says: the conversation, the input value, the client's parameters; everything
 * else in the body is named in meta.ignored (contract: Request body). */
#include "worker/stage/stage.h"

/* What a member of the body is for. Those that are not listed are the payload. */
static const struct member {
    const char *name;
    enum { CONTROL, CONVERSATION, CLIENT } use;
} members[] = {
    {"stream", CONTROL},
    {"stream_options", CONTROL},
    {"session_id", CONTROL},
    {"endpoint", CONTROL},
    {"model", CONTROL},
    {"variables", CONTROL},
    {"messages", CONVERSATION},
    {"message", CONVERSATION},
    {"input", CONVERSATION},
    {"max_tokens", CLIENT},
    {"max_completion_tokens", CLIENT},
    {"stop", CLIENT},
    {"seed", CLIENT},
    {"tools", CLIENT},
    {"tool_choice", CLIENT},
    {"user", CLIENT},
};

static const struct member *member_named(const char *name)
{
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (strcmp(members[i].name, name) == 0)
            return &members[i];
    return NULL;
}

static struct json_object *get(const struct exchange *ex, const char *name)
{
    return json_member(ex->body, name, NULL);
}

/* --- control members --- */

static bool check_stream(struct exchange *ex)
{
    struct json_object *stream = get(ex, "stream");
    if (stream && !json_object_is_type(stream, json_type_boolean))
        exchange_fail_at(ex, API_invalid_request, "stream", "stream must be true or false.");
    else if (stream && json_object_get_boolean(stream))
        exchange_fail_at(ex, API_streaming_disabled, "stream",
                         "Streaming is not enabled on endpoint %s.", ex->endpoint->slug);
    return ex->failure.code == API_OK;
}

static bool check_session(struct exchange *ex)
{
    if (get(ex, "session_id") || http_header(ex->request, "x-session-id").at)
        exchange_fail_at(ex, API_parameter_unsupported, "session_id",
                         "Endpoint %s keeps no sessions.", ex->endpoint->slug);
    return ex->failure.code == API_OK;
}

/* A JSON pointer to the member (RFC 6901 section 3). */
static const char *variable_path(struct exchange *ex, const char *name)
{
    struct buf path = {0};
    buf_puts(&path, "/variables/");
    for (; *name; name++) {
        if (*name == '~' || *name == '/')
            buf_puts(&path, *name == '~' ? "~0" : "~1");
        else
            buf_putc(&path, *name);
    }
    struct str copy = arena_copy(&ex->arena, buf_view(&path));
    buf_free(&path);
    return copy.at;
}

enum { DETAILS_MAX = 100 }; /* an answer should not be larger than what it complains of */

/* No endpoint declares variables, so each one given is unknown. */
static bool check_variables(struct exchange *ex)
{
    struct json_object *variables = get(ex, "variables");
    if (!variables)
        return true;
    if (!json_object_is_type(variables, json_type_object)) {
        exchange_fail_at(ex, API_invalid_request, "variables", "variables must be an object.");
        return false;
    }
    struct json_object_iterator it = json_object_iter_begin(variables);
    struct json_object_iterator end = json_object_iter_end(variables);
    const struct api_detail **place = &ex->failure.details;
    for (int i = 0; i < DETAILS_MAX && !json_object_iter_equal(&it, &end); i++) {
        struct api_detail *detail = arena_alloc(&ex->arena, sizeof *detail);
        detail->path = variable_path(ex, json_object_iter_peek_name(&it));
        detail->keyword = "unknown";
        detail->message = "The endpoint declares no such variable.";
        *place = detail;
        place = (const struct api_detail **)(uintptr_t)&detail->next;
        json_object_iter_next(&it);
    }
    if (ex->failure.details)
        exchange_fail_at(ex, API_variables_invalid, "variables",
                         "Endpoint %s declares no variables.", ex->endpoint->slug);
    return ex->failure.code == API_OK;
}

/* --- client parameters --- */

static bool bad_parameter(struct exchange *ex, const char *name, const char *expected)
{
    exchange_fail_at(ex, API_invalid_request, name, "%s must be %s.", name, expected);
    return false;
}

static bool take_max_tokens(struct exchange *ex, const char *name)
{
    struct json_object *value = get(ex, name);
    if (!value)
        return true;
    int64_t tokens = json_int_or(value, 0);
    if (tokens <= 0)
        return bad_parameter(ex, name, "a positive integer");
    int64_t *lowest = &ex->parameters.max_tokens;
    if (*lowest == 0 || tokens < *lowest)
        *lowest = tokens;
    return true;
}

static bool is_stop(struct json_object *value)
{
    if (json_object_is_type(value, json_type_string))
        return true;
    if (!json_object_is_type(value, json_type_array) || json_object_array_length(value) == 0)
        return false;
    for (size_t i = 0; i < json_object_array_length(value); i++)
        if (!json_object_is_type(json_object_array_get_idx(value, i), json_type_string))
            return false;
    return true;
}

static bool take_parameters(struct exchange *ex)
{
    struct client_parameters *taken = &ex->parameters;
    taken->stop = get(ex, "stop");
    taken->seed = get(ex, "seed");
    taken->tools = get(ex, "tools");
    taken->tool_choice = get(ex, "tool_choice");
    taken->user = get(ex, "user");
    if (!take_max_tokens(ex, "max_tokens") || !take_max_tokens(ex, "max_completion_tokens"))
        return false;
    if (taken->stop && !is_stop(taken->stop))
        return bad_parameter(ex, "stop", "a string or a list of strings");
    if (taken->seed && !json_object_is_type(taken->seed, json_type_int))
        return bad_parameter(ex, "seed", "an integer");
    if (taken->tools && !json_object_is_type(taken->tools, json_type_array))
        return bad_parameter(ex, "tools", "a list");
    if (taken->user && !json_object_is_type(taken->user, json_type_string))
        return bad_parameter(ex, "user", "a string");
    return true;
}

/* --- the conversation --- */

static bool bad_message(struct exchange *ex, size_t index, const char *member, const char *what)
{
    char *place = arena_printf(&ex->arena, "messages[%zu]%s", index, member);
    exchange_fail_at(ex, API_invalid_request, place, "%s %s.", place, what);
    return false;
}

static bool is_role(struct str role, const char *name)
{
    return str_eq(role, str_of(name));
}

static bool check_message(struct exchange *ex, struct json_object *message, size_t index)
{
    if (!json_object_is_type(message, json_type_object))
        return bad_message(ex, index, "", "must be an object");
    struct str role = json_text(json_member(message, "role", NULL));
    struct json_object *content = json_member(message, "content", NULL);
    bool is_system = is_role(role, "system") || is_role(role, "developer");
    bool is_assistant = is_role(role, "assistant");
    if (!is_system && !is_assistant && !is_role(role, "user") && !is_role(role, "tool"))
        return bad_message(ex, index, ".role",
                           "must be system, developer, user, assistant or tool");
    if (is_system && ex->endpoint->system_prompt) {
        exchange_fail_at(ex, API_system_message_not_allowed,
                         arena_printf(&ex->arena, "messages[%zu].role", index),
                         "Endpoint %s pins the system prompt; send no %.*s message.",
                         ex->endpoint->slug, STR_ARG(role));
        return false;
    }
    bool is_given = json_object_is_type(content, json_type_string) ||
                    json_object_is_type(content, json_type_array);
    if (!is_given && (content || !is_assistant))
        return bad_message(ex, index, ".content", "must be a string or a list of parts");
    return true;
}

/* The text of a message; several text parts one behind the other. */
static struct str message_text(struct exchange *ex, struct json_object *content)
{
    struct str text = json_text(content);
    if (text.at || !json_object_is_type(content, json_type_array))
        return text;
    struct buf joined = {0};
    for (size_t i = 0; i < json_object_array_length(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i);
        buf_str(&joined, json_text(json_member(part, "text", NULL)));
    }
    text = arena_copy(&ex->arena, buf_view(&joined));
    buf_free(&joined);
    return text;
}

static bool take_messages(struct exchange *ex, struct json_object *messages)
{
    if (!json_object_is_type(messages, json_type_array) || json_object_array_length(messages) == 0)
        return bad_parameter(ex, "messages", "a list of at least one message");
    size_t count = json_object_array_length(messages);
    for (size_t i = 0; i < count; i++) {
        struct json_object *message = json_object_array_get_idx(messages, i);
        if (!check_message(ex, message, i))
            return false;
        json_object_array_add(ex->messages, json_object_get(message));
        if (is_role(json_text(json_member(message, "role", NULL)), "user"))
            ex->input.text = message_text(ex, json_member(message, "content", NULL));
    }
    if (!ex->input.text.at && ex->endpoint->user_prompt) {
        exchange_fail_at(ex, API_input_missing, "messages",
                         "messages has no user message to be put into the prompt.");
        return false;
    }
    return true;
}

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
        if (!member_named(name))
            json_object_object_add(left, name, json_object_get(json_object_iter_peek_value(&it)));
    }
    return left;
}

static bool take_conversation(struct exchange *ex, const char **source)
{
    bool has_input;
    struct json_object *input = json_member(ex->body, "input", &has_input);
    struct json_object *message = get(ex, "message");
    ex->messages = json_object_new_array();
    if (get(ex, "messages")) {
        *source = "messages";
        return take_messages(ex, get(ex, "messages"));
    }
    if (message) {
        *source = "message";
        if (!json_object_is_type(message, json_type_string))
            return bad_parameter(ex, "message", "a string");
        take_value(ex, message);
        return true;
    }
    if (has_input) {
        *source = "input";
        take_value(ex, input);
        return true;
    }
    *source = NULL;
    if (!ex->endpoint->user_prompt) {
        exchange_fail(ex, API_input_missing, "The body has no messages, message or input.");
        return false;
    }
    ex->input_owned = payload(ex);
    if (json_object_object_length(ex->input_owned) == 0) {
        exchange_fail(ex, API_input_missing, "The body has no input for the prompt.");
        return false;
    }
    take_value(ex, ex->input_owned);
    return true;
}

/* --- what is not used --- */

/* `n` is 1 whether it is said or not. */
static bool is_harmless(const char *name, struct json_object *value)
{
    return strcmp(name, "n") == 0 && json_int_or(value, 0) == 1;
}

static void name_ignored(struct exchange *ex, const char *source)
{
    struct json_object_iterator it = json_object_iter_begin(ex->body);
    struct json_object_iterator end = json_object_iter_end(ex->body);
    bool on_slug = ex->route.kind == ROUTE_ENDPOINT;
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *name = json_object_iter_peek_name(&it);
        const struct member *member = member_named(name);
        bool names_endpoint = strcmp(name, "model") == 0 || strcmp(name, "endpoint") == 0;
        bool ignored =
            member && member->use == CONVERSATION && (!source || strcmp(name, source) != 0);
        if (!member)
            ignored = source && !is_harmless(name, json_object_iter_peek_value(&it));
        if (ignored || (names_endpoint && on_slug))
            exchange_ignore(ex, str_of(name));
    }
}

static bool check_choices(struct exchange *ex, const char *source)
{
    struct json_object *n = source ? get(ex, "n") : NULL;
    int64_t choices = json_int_or(n, n ? 0 : 1);
    if (choices < 1)
        bad_parameter(ex, "n", "a positive integer");
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
    if (!check_stream(ex) || !check_session(ex) || !check_variables(ex) || !take_parameters(ex) ||
        !take_conversation(ex, &source) || !check_choices(ex, source))
        return STAGE_DONE;
    lower_max_tokens(ex);
    name_ignored(ex, source);
    return STAGE_NEXT;
}
