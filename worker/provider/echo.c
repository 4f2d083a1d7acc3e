/* The built-in provider: needs no key and no network, answers from the prompt itself, in OpenAI's
 * shape, streams word by word. The model's name chooses what goes wrong, for trying failure paths:
 *
 *   echo                 the last user message back
 *   echo/slow            the same after two seconds
 *   echo/slow-MS         the same after MS milliseconds (at most ten minutes)
 *   echo/fail-STATUS     an error answer with this status (400 to 599)
 *   echo/invalid-json    status 200 and a body, or a stream, that is cut in the middle
 *   echo/no-choices      status 200 and an answer without a choice, no stream
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

/* What is said, and what it is said to have used. */
struct echoed {
    struct str text;
    const char *finish_reason;
    int64_t prompt_tokens, completion_tokens;
};

static void write_usage(const struct echoed *echoed, struct buf *out)
{
    buf_printf(out,
               ",\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
               "\"total_tokens\":%lld}}",
               (long long)echoed->prompt_tokens, (long long)echoed->completion_tokens,
               (long long)(echoed->prompt_tokens + echoed->completion_tokens));
}

static void write_whole(const struct completion_request *request, const struct echoed *echoed,
                        struct buf *out)
{
    buf_puts(out, "{\"id\":\"\",\"object\":\"chat.completion\",\"model\":");
    json_write_string(out, str_of(request->target->model));
    buf_puts(out, ",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":");
    json_write_string(out, echoed->text);
    buf_printf(out, "},\"finish_reason\":\"%s\"}]", echoed->finish_reason);
    write_usage(echoed, out);
}

static void begin_chunk(const struct completion_request *request, struct buf *out)
{
    buf_puts(out, "data: {\"id\":\"chatcmpl-echo\",\"object\":\"chat.completion.chunk\","
                  "\"created\":0,\"model\":");
    json_write_string(out, str_of(request->target->model));
    buf_puts(out, ",\"choices\":[");
}

static void write_delta(const struct completion_request *request, const char *member,
                        struct str text, struct buf *out)
{
    begin_chunk(request, out);
    buf_printf(out, "{\"index\":0,\"delta\":{\"%s\":", member);
    json_write_string(out, text);
    buf_puts(out, "},\"finish_reason\":null}]}\n\n");
}

/* A word and what follows it up to the next one. */
static struct str first_word(struct str text)
{
    size_t len = 0;
    while (len < text.len && text.at[len] != ' ')
        len++;
    while (len < text.len && text.at[len] == ' ')
        len++;
    return (struct str){text.at, len};
}

static void write_stream(const struct completion_request *request, const struct echoed *echoed,
                         struct buf *out)
{
    struct str rest = echoed->text;
    write_delta(request, "role", STR("assistant"), out);
    while (rest.len > 0) {
        struct str word = first_word(rest);
        write_delta(request, "content", word, out);
        rest = (struct str){rest.at + word.len, rest.len - word.len};
    }
    begin_chunk(request, out);
    buf_printf(out, "{\"index\":0,\"delta\":{},\"finish_reason\":\"%s\"}]}\n\n",
               echoed->finish_reason);
    begin_chunk(request, out);
    buf_putc(out, ']');
    write_usage(echoed, out);
    buf_puts(out, "\n\ndata: [DONE]\n\n");
}

static void write_answer(const struct completion_request *request, struct buf *out)
{
    struct buf text = {0};
    append_content(&text, last_user_content(request->messages));
    struct str whole = buf_view(&text), said = whole;
    if (request->max_tokens > 0)
        said = first_tokens(whole, request->max_tokens);
    const struct echoed echoed = {
        .text = said,
        .finish_reason = said.len < whole.len ? "length" : "stop",
        .prompt_tokens = estimate_messages(request->messages),
        .completion_tokens = estimate_text(said),
    };
    (request->streams ? write_stream : write_whole)(request, &echoed, out);
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
    if (request->streams)
        reply->content_type = STR("text/event-stream");
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
    .write_failure = openai_write_failure,
    .read_error = openai_read_error,
};
