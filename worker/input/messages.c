#include "worker/input/input.h"

/* "messages[2].content[0].type must be …" */
static bool bad(struct exchange *ex, const char *place, const char *what)
{
    exchange_fail_at(ex, API_invalid_request, place, "%s %s.", place, what);
    return false;
}

static bool is_text(struct json_object *value)
{
    return json_object_is_type(value, json_type_string);
}

static bool is_role(struct str role, const char *name)
{
    return str_eq(role, str_of(name));
}

/* ---- parts of a content */

/* Each type of part with the member that holds it, and what that must have. Source: OpenAI's SDK.
 */
static const struct part_type {
    const char *type;
    const char *object; /* NULL: the text is in the part itself */
    const char *member; /* a string that must be there; NULL = none in particular */
} part_types[] = {
    {"text", NULL, "text"},
    {"refusal", NULL, "refusal"},
    {"image_url", "image_url", "url"},
    {"input_audio", "input_audio", "data"},
    {"file", "file", NULL},
};

static const struct part_type *part_type_named(struct str type)
{
    for (size_t i = 0; i < sizeof part_types / sizeof *part_types; i++)
        if (is_role(type, part_types[i].type))
            return &part_types[i];
    return NULL;
}

static bool check_part(struct exchange *ex, struct json_object *part, const char *place)
{
    struct arena *arena = &ex->arena;
    if (!json_object_is_type(part, json_type_object))
        return bad(ex, place, "must be an object");
    const struct part_type *type = part_type_named(json_text(json_member(part, "type", NULL)));
    if (!type)
        return bad(ex, arena_printf(arena, "%s.type", place),
                   "must be text, image_url, input_audio, file or refusal");
    struct json_object *holder = part;
    if (type->object) {
        holder = json_member(part, type->object, NULL);
        place = arena_printf(arena, "%s.%s", place, type->object);
        if (!json_object_is_type(holder, json_type_object))
            return bad(ex, place, "must be an object");
    }
    if (type->member && !is_text(json_member(holder, type->member, NULL)))
        return bad(ex, arena_printf(arena, "%s.%s", place, type->member), "must be a string");
    return true;
}

static bool check_content(struct exchange *ex, struct json_object *content, size_t index,
                          bool may_lack)
{
    const char *place = arena_printf(&ex->arena, "messages[%zu].content", index);
    if (is_text(content) || (!content && may_lack))
        return true;
    if (!json_object_is_type(content, json_type_array))
        return bad(ex, place, "must be a string or a list of parts");
    if (json_object_array_length(content) == 0)
        return bad(ex, place, "must have at least one part");
    for (size_t i = 0; i < json_object_array_length(content); i++)
        if (!check_part(ex, json_object_array_get_idx(content, i),
                        arena_printf(&ex->arena, "%s[%zu]", place, i)))
            return false;
    return true;
}

/* ---- tool calls and their results */

static bool check_tool_call(struct exchange *ex, struct json_object *call, const char *place)
{
    struct arena *arena = &ex->arena;
    struct json_object *function = json_member(call, "function", NULL);
    bool is_custom = is_role(json_text(json_member(call, "type", NULL)), "custom");
    if (!json_object_is_type(call, json_type_object))
        return bad(ex, place, "must be an object");
    if (!is_text(json_member(call, "id", NULL)))
        return bad(ex, arena_printf(arena, "%s.id", place), "must be a string");
    if (is_custom)
        return true;
    if (!is_text(json_member(function, "name", NULL)))
        return bad(ex, arena_printf(arena, "%s.function.name", place), "must be a string");
    if (!is_text(json_member(function, "arguments", NULL)))
        return bad(ex, arena_printf(arena, "%s.function.arguments", place), "must be a string");
    return true;
}

static bool check_tool_calls(struct exchange *ex, struct json_object *calls, size_t index)
{
    const char *place = arena_printf(&ex->arena, "messages[%zu].tool_calls", index);
    if (!calls)
        return true;
    if (!json_object_is_type(calls, json_type_array))
        return bad(ex, place, "must be a list");
    for (size_t i = 0; i < json_object_array_length(calls); i++)
        if (!check_tool_call(ex, json_object_array_get_idx(calls, i),
                             arena_printf(&ex->arena, "%s[%zu]", place, i)))
            return false;
    return true;
}

/* ---- a message */

static bool refuse_system(struct exchange *ex, struct str role, size_t index)
{
    exchange_fail_at(ex, API_system_message_not_allowed,
                     arena_printf(&ex->arena, "messages[%zu].role", index),
                     "Endpoint %s pins the system prompt; send no %.*s message.",
                     ex->endpoint->slug, STR_ARG(role));
    return false;
}

static bool check_message(struct exchange *ex, struct json_object *message, size_t index)
{
    const char *place = arena_printf(&ex->arena, "messages[%zu]", index);
    if (!json_object_is_type(message, json_type_object))
        return bad(ex, place, "must be an object");
    struct str role = json_text(json_member(message, "role", NULL));
    bool is_system = is_role(role, "system") || is_role(role, "developer");
    bool is_assistant = is_role(role, "assistant"), is_tool = is_role(role, "tool");
    if (!is_system && !is_assistant && !is_role(role, "user") && !is_tool)
        return bad(ex, arena_printf(&ex->arena, "%s.role", place),
                   "must be system, developer, user, assistant or tool");
    if (is_system && ex->endpoint->system_prompt)
        return refuse_system(ex, role, index);
    if (is_tool && !is_text(json_member(message, "tool_call_id", NULL)))
        return bad(ex, arena_printf(&ex->arena, "%s.tool_call_id", place), "must be a string");
    if (is_assistant && !check_tool_calls(ex, json_member(message, "tool_calls", NULL), index))
        return false;
    return check_content(ex, json_member(message, "content", NULL), index, is_assistant);
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

bool input_take_messages(struct exchange *ex, struct json_object *messages)
{
    if (!json_object_is_type(messages, json_type_array) || json_object_array_length(messages) == 0)
        return input_bad(ex, "messages", "a list of at least one message");
    struct json_object *last = NULL;
    for (size_t i = 0; i < json_object_array_length(messages); i++) {
        struct json_object *message = json_object_array_get_idx(messages, i);
        if (!check_message(ex, message, i))
            return false;
        json_object_array_add(ex->messages, json_object_get(message));
        if (is_role(json_text(json_member(message, "role", NULL)), "user"))
            last = json_member(message, "content", NULL);
    }
    if (last)
        ex->input.text = message_text(ex, last);
    if (ex->input.text.at || !ex->endpoint->user_prompt)
        return true;
    exchange_fail_at(ex, API_input_missing, "messages",
                     "messages has no user message to be put into the prompt.");
    return false;
}
