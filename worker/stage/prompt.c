/* The pinned prompt: the system prompt goes first, the rendered user prompt takes the place of the
 * last user message (contract: Request body). */
#include "worker/stage/stage.h"

#include "worker/provider/chat.h"

static struct json_object *rendered(struct exchange *ex, const struct template *template,
                                    const char *role)
{
    struct error error;
    struct buf text = {0};
    struct json_object *message = NULL;
    if (template_render(template, &ex->input, &text, &error))
        message = chat_new_message(role, buf_view(&text));
    else
        exchange_fail(ex, API_template_value_missing, "The prompt is incomplete: %s.",
                      error.message);
    buf_free(&text);
    return message;
}

/* Images, sounds and files of a message stay behind the text that replaces its own. */
static void keep_other_parts(struct json_object *message, struct json_object *content)
{
    if (!json_object_is_type(content, json_type_array))
        return;
    struct json_object *parts = json_object_new_array(), *first = json_object_new_object();
    json_object_object_add(first, "type", json_object_new_string("text"));
    json_object_object_add(first, "text", json_object_get(json_member(message, "content", NULL)));
    json_object_array_add(parts, first);
    for (size_t i = 0; i < json_object_array_length(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i);
        if (!str_eq(json_text(json_member(part, "type", NULL)), STR("text")))
            json_object_array_add(parts, json_object_get(part));
    }
    if (json_object_array_length(parts) > 1)
        json_object_object_add(message, "content", parts);
    else
        json_object_put(parts);
}

static bool put_user_prompt(struct exchange *ex)
{
    struct json_object *message = rendered(ex, ex->endpoint->user_prompt, "user");
    if (!message)
        return false;
    for (size_t i = json_object_array_length(ex->messages); i-- > 0;) {
        struct json_object *old = json_object_array_get_idx(ex->messages, i);
        if (str_eq(json_text(json_member(old, "role", NULL)), STR("user"))) {
            keep_other_parts(message, json_member(old, "content", NULL));
            json_object_array_put_idx(ex->messages, i, message);
            return true;
        }
    }
    json_object_array_add(ex->messages, message);
    return true;
}

static bool put_system_prompt(struct exchange *ex)
{
    struct json_object *message = rendered(ex, ex->endpoint->system_prompt, "system");
    if (!message)
        return false;
    struct json_object *all = json_object_new_array();
    json_object_array_add(all, message);
    chat_add_from(all, ex->messages, 0);
    json_object_put(ex->messages);
    ex->messages = all;
    return true;
}

enum stage_result stage_prompt(struct exchange *ex)
{
    if (ex->endpoint->user_prompt && !put_user_prompt(ex))
        return STAGE_DONE;
    if (ex->endpoint->system_prompt && !put_system_prompt(ex))
        return STAGE_DONE;
    return STAGE_NEXT;
}
