#include "worker/provider/chat.h"

#include "shared/base/hash.h"

#include <math.h>

/* --- the request --- */

enum chat_role chat_role_of(struct json_object *message)
{
    struct str role = json_text(json_member(message, "role", NULL));
    if (str_eq(role, STR("system")) || str_eq(role, STR("developer")))
        return CHAT_SYSTEM;
    if (str_eq(role, STR("assistant")))
        return CHAT_ASSISTANT;
    return str_eq(role, STR("user")) ? CHAT_USER : CHAT_TOOL;
}

size_t chat_count(struct json_object *list)
{
    return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

struct json_object *chat_new_message(const char *role, struct str text)
{
    struct json_object *message = json_object_new_object();
    chat_put_string(message, "role", str_of(role));
    chat_put(message, "content", chat_string(text));
    return message;
}

void chat_add_from(struct json_object *list, struct json_object *more, size_t first)
{
    for (size_t i = first; i < json_object_array_length(more); i++)
        json_object_array_add(list, json_object_get(json_object_array_get_idx(more, i)));
}

size_t chat_count_parts(struct json_object *content)
{
    return json_object_is_type(content, json_type_string) ? 1 : chat_count(content);
}

struct chat_part chat_part_at(struct json_object *content, size_t i)
{
    if (json_object_is_type(content, json_type_string))
        return (struct chat_part){CHAT_TEXT, json_text(content)};
    struct json_object *part = json_object_array_get_idx(content, i);
    struct str type = json_text(json_member(part, "type", NULL));
    struct json_object *image = json_member(part, "image_url", NULL);
    if (str_eq(type, STR("text")))
        return (struct chat_part){CHAT_TEXT, json_text(json_member(part, "text", NULL))};
    if (str_eq(type, STR("refusal")))
        return (struct chat_part){CHAT_TEXT, json_text(json_member(part, "refusal", NULL))};
    struct str url = json_text(
        json_object_is_type(image, json_type_object) ? json_member(image, "url", NULL) : image);
    if (str_eq(type, STR("image_url")) && url.at)
        return (struct chat_part){CHAT_IMAGE, url};
    return (struct chat_part){CHAT_OTHER, type};
}

bool chat_refuse_part(const struct chat_part *part, struct error *error)
{
    enum { SHOWN = 32 };
    if (part->kind == CHAT_IMAGE)
        return error_set(error, "the provider takes no image by its URL: send its data");
    return error_set(error, "the provider takes no part of type %.*s",
                     (int)(part->text.len < SHOWN ? part->text.len : SHOWN), part->text.at);
}

void chat_append_texts(struct json_object *content, struct buf *out)
{
    for (size_t i = 0; i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        if (part.kind == CHAT_TEXT)
            buf_str(out, part.text);
    }
}

void chat_append_system(struct json_object *messages, struct buf *out)
{
    for (size_t i = 0; i < json_object_array_length(messages); i++) {
        struct json_object *message = json_object_array_get_idx(messages, i);
        if (chat_role_of(message) != CHAT_SYSTEM)
            continue;
        buf_puts(out, out->len ? "\n\n" : "");
        chat_append_texts(json_member(message, "content", NULL), out);
    }
}

bool chat_read_data_url(struct str url, struct str *type, struct str *base64)
{
    struct str rest = url, scheme = str_split(&rest, ':');
    if (!str_eq_nocase(scheme, STR("data")))
        return false;
    struct str head = str_split(&rest, ',');
    *type = str_split(&head, ';');
    *base64 = rest;
    return true;
}

/* OpenAI's arguments are the text of an object, or nothing. */
static struct json_object *read_arguments(struct str text)
{
    struct json_object *arguments = NULL;
    struct error ignored;
    if (str_trim_lines(text).len == 0)
        return json_object_new_object();
    if (json_read(text, &arguments, &ignored) && json_object_is_type(arguments, json_type_object))
        return arguments;
    json_object_put(arguments);
    return NULL;
}

bool chat_read_call(struct json_object *call, struct chat_call *read, struct error *error)
{
    enum { SHOWN = 64 };
    struct json_object *function = json_member(call, "function", NULL);
    read->id = json_text(json_member(call, "id", NULL));
    read->name = json_text(json_member(function, "name", NULL));
    read->arguments = read_arguments(json_text(json_member(function, "arguments", NULL)));
    if (!read->arguments)
        return error_set(error, "the arguments of the tool call %.*s are no JSON object",
                         (int)(read->name.len < SHOWN ? read->name.len : SHOWN), read->name.at);
    return true;
}

static struct str name_in(struct json_object *calls, struct str id)
{
    for (size_t i = 0; i < chat_count(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        if (str_eq(json_text(json_member(call, "id", NULL)), id))
            return json_text(json_member(json_member(call, "function", NULL), "name", NULL));
    }
    return STR_ABSENT;
}

struct str chat_called_name(struct json_object *messages, struct str id)
{
    struct str name = STR_ABSENT;
    for (size_t i = 0; !name.at && i < json_object_array_length(messages); i++)
        name = name_in(json_member(json_object_array_get_idx(messages, i), "tool_calls", NULL), id);
    return name;
}

enum chat_choice chat_choice_of(struct json_object *tool_choice, struct str *name)
{
    struct str word = json_text(tool_choice);
    *name = json_text(json_member(json_member(tool_choice, "function", NULL), "name", NULL));
    if (!tool_choice)
        return CHAT_CHOICE_UNSAID;
    if (name->at)
        return CHAT_NAMED;
    if (str_eq(word, STR("auto")))
        return CHAT_AUTO;
    return str_eq(word, STR("none")) ? CHAT_NONE : CHAT_REQUIRED;
}

double chat_number(struct json_object *given, double otherwise, double least, double most)
{
    double value = given ? json_object_get_double(given) : otherwise;
    if (isnan(value))
        return value;
    return value < least ? least : value > most ? most : value;
}

struct json_object *chat_stop_list(struct json_object *stop)
{
    if (!stop || json_object_is_type(stop, json_type_array))
        return json_object_get(stop);
    struct json_object *list = json_object_new_array_ext(1);
    json_object_array_add(list, json_object_get(stop));
    return list;
}

/* --- a body as an object --- */

struct json_object *chat_string(struct str text)
{
    return json_object_new_string_len(text.at ? text.at : "", (int)text.len);
}

void chat_put(struct json_object *object, const char *name, struct json_object *value)
{
    if (value)
        json_object_object_add(object, name, value);
}

void chat_put_string(struct json_object *object, const char *name, struct str text)
{
    if (text.at)
        json_object_object_add(object, name, chat_string(text));
}

void chat_put_number(struct json_object *object, const char *name, double value)
{
    if (!isnan(value))
        json_object_object_add(object, name, json_object_new_double(value));
}

struct json_object *chat_read(const char *text)
{
    struct json_object *value = NULL;
    struct error ignored;
    return text && json_read(str_of(text), &value, &ignored) ? value : NULL;
}

static void join(struct json_object *object, struct json_object *more)
{
    json_object_object_foreach(more, name, value)
    {
        bool present;
        struct json_object *own = json_member(object, name, &present);
        if (!present)
            json_object_object_add(object, name, json_object_get(value));
        else if (json_object_is_type(own, json_type_object) &&
                 json_object_is_type(value, json_type_object))
            join(own, value);
    }
}

void chat_write_body(struct json_object *body, const char *parameters, struct buf *out)
{
    struct json_object *more = NULL;
    struct buf text = {0};
    struct error ignored;
    if (parameters) {
        buf_printf(&text, "{%s}", parameters);
        if (json_read(buf_view(&text), &more, &ignored))
            join(body, more);
    }
    json_write(out, body);
    json_object_put(more);
    buf_free(&text);
}

/* --- the answer --- */

const char *chat_finish_reason(const struct chat_reason *reasons, size_t count, struct str said)
{
    for (size_t i = 0; i < count; i++)
        if (str_eq(said, str_of(reasons[i].said)))
            return reasons[i].meant;
    return "stop";
}

bool chat_read_object(const struct upstream_reply *reply, struct completion *completion,
                      struct error *error)
{
    struct error reason;
    if (!json_read(buf_view(&reply->body), &completion->parsed, &reason))
        return error_set(error, "the answer is not JSON: %s", reason.message);
    if (!json_object_is_type(completion->parsed, json_type_object))
        return error_set(error, "the answer is not a JSON object");
    return true;
}

void chat_make_id(struct str answer_id, size_t place, struct buf *id)
{
    enum { DIGITS = 24 };
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[SHA256_BYTES];
    struct buf seed = {0};
    buf_str(&seed, answer_id);
    buf_printf(&seed, "/%zu", place);
    sha256(buf_view(&seed), digest);
    buf_puts(id, "call_");
    for (size_t i = 0; i < DIGITS; i++)
        buf_putc(id, digits[digest[i] % 16]);
    buf_free(&seed);
}

struct json_object *chat_new_call(struct str id, struct str name, struct json_object *arguments,
                                  struct str answer_id, size_t place)
{
    struct json_object *call = json_object_new_object(), *function = json_object_new_object();
    struct buf made = {0}, text = {0};
    if (id.len == 0)
        chat_make_id(answer_id, place, &made);
    if (json_object_is_type(arguments, json_type_string) && json_text(arguments).len > 0)
        buf_str(&text, json_text(arguments));
    else if (arguments && !json_object_is_type(arguments, json_type_string))
        json_write(&text, arguments);
    else
        buf_puts(&text, "{}");
    chat_put_string(call, "id", made.len ? buf_view(&made) : id);
    chat_put_string(call, "type", STR("function"));
    chat_put_string(function, "name", name.at ? name : STR(""));
    chat_put_string(function, "arguments", buf_view(&text));
    chat_put(call, "function", function);
    buf_free(&made);
    buf_free(&text);
    return call;
}

void chat_complete(struct completion *completion, const struct buf *text, struct json_object *calls,
                   struct arena *arena)
{
    bool any_calls = json_object_array_length(calls) > 0;
    if (text->len > 0 || !any_calls) {
        struct str copy = arena_copy(arena, buf_view(text));
        completion->content = copy.at ? copy : STR("");
    }
    if (any_calls)
        completion->tool_calls = calls;
    /* lives as long as the answer */
    json_object_object_add(completion->parsed, "promptgate_tool_calls", calls);
}

void chat_set_usage(struct usage *usage, int64_t prompt, int64_t completion)
{
    usage->reported = true;
    usage->prompt_tokens = prompt;
    usage->completion_tokens = completion;
    usage->total_tokens = prompt + completion;
}
