/* The built-in provider: needs no key and no network, answers from the prompt itself, in OpenAI's
 * shape. The model's name chooses what goes wrong, for trying failure paths:
 *
 *   echo                 the last user message back
 *   echo/slow            the same after two seconds
 *   echo/slow-MS         the same after MS milliseconds (at most ten minutes)
 *   echo/fail-STATUS     an error answer with this status (400 to 599)
 *   echo/invalid-json    status 200 and a body that is cut in the middle
 *   echo/no-choices      status 200 and an answer without a choice
 *   echo/never           no answer: the time limit ends it
 * Any other model echoes. */
#include "worker/provider/estimate.h"
#include "worker/provider/provider.h"

#include "shared/base/json.h"

enum { SLOW_MS = 2000, SLOW_MAX_MS = 600000 };

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    (void)error;
    call->url = arena_strdup(arena, "echo:");
    openai_build_body(request, &call->body);
    return true;
}

/* Text parts one behind the other; other parts have no text. */
static void append_content(struct buf *out, struct json_object *content)
{
    if (!json_object_is_type(content, json_type_array)) {
        buf_str(out, json_text(content));
        return;
    }
    for (size_t i = 0; i < json_object_array_length(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i);
        buf_str(out, json_text(json_member(part, "text", NULL)));
    }
}

static struct json_object *last_user_content(struct json_object *messages)
{
    for (size_t i = json_object_array_length(messages); i-- > 0;) {
        struct json_object *message = json_object_array_get_idx(messages, i);
        if (str_eq(json_text(json_member(message, "role", NULL)), STR("user")))
            return json_member(message, "content", NULL);
    }
    return NULL;
}

/* At most `tokens` of it, cut between characters. */
static struct str first_tokens(struct str text, int64_t tokens)
{
    if ((uint64_t)tokens > text.len)
        return text;
    size_t left = (size_t)tokens * 4;
    for (size_t at = 0; at < text.len; at++) {
        bool begins = ((unsigned char)text.at[at] & 0xC0) != 0x80;
        if (begins && left-- == 0)
            return (struct str){text.at, at};
    }
    return text;
}

static void write_answer(const struct completion_request *request, struct buf *out)
{
    struct buf text = {0};
    append_content(&text, last_user_content(request->messages));
    struct str whole = buf_view(&text), answer = whole;
    if (request->max_tokens > 0)
        answer = first_tokens(whole, request->max_tokens);
    int64_t prompt = estimate_messages(request->messages), completion = estimate_text(answer);
    buf_puts(out, "{\"id\":\"\",\"object\":\"chat.completion\",\"model\":");
    json_write_string(out, str_of(request->target->model));
    buf_puts(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    json_write_string(out, answer);
    buf_printf(out, "},\"finish_reason\":\"%s\"}]", answer.len < whole.len ? "length" : "stop");
    buf_printf(out,
               ",\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
               "\"total_tokens\":%lld}}",
               (long long)prompt, (long long)completion, (long long)(prompt + completion));
    buf_free(&text);
}

static bool number_behind(struct str model, struct str prefix, unsigned long long *number)
{
    return str_starts(model, prefix) &&
           str_to_u64((struct str){model.at + prefix.len, model.len - prefix.len}, number);
}

static void write_failure(struct upstream_reply *reply, int status)
{
    reply->status = status;
    buf_printf(&reply->body,
               "{\"error\":{\"message\":\"echo was asked to fail with status %d\","
               "\"type\":\"echo_failure\",\"param\":null,\"code\":null}}",
               status);
}

static void answer(const struct completion_request *request, const struct upstream_call *call,
                   struct arena *arena, struct upstream_reply *reply)
{
    struct str model = str_of(request->target->model);
    unsigned long long number;
    (void)call;
    (void)arena;
    reply->content_type = STR("application/json");
    if (number_behind(model, STR("echo/fail-"), &number) && number >= 400 && number < 600) {
        write_failure(reply, (int)number);
        return;
    }
    reply->status = 200;
    if (str_eq(model, STR("echo/no-choices"))) {
        buf_puts(&reply->body, "{\"id\":\"\",\"object\":\"chat.completion\"}");
        return;
    }
    write_answer(request, &reply->body);
    if (str_eq(model, STR("echo/slow")))
        reply->delay_ms = SLOW_MS;
    else if (number_behind(model, STR("echo/slow-"), &number) && number <= SLOW_MAX_MS)
        reply->delay_ms = (int64_t)number;
    else if (str_eq(model, STR("echo/invalid-json")))
        reply->body.len /= 2;
    else if (str_eq(model, STR("echo/never")))
        reply->never = true;
}

const struct provider provider_echo = {
    .build = build,
    .answer = answer,
    .read_answer = openai_read_answer,
    .read_event = openai_read_event,
    .read_error = openai_read_error,
};
