#include "worker/provider/chunks.h"

#include "shared/base/xalloc.h"
#include "worker/provider/chat.h"
#include "worker/provider/openai_glance.h"

#include <stdlib.h>

/* --- writing --- */

static void begin_chunk(const struct streamed *streamed, struct buf *chunks)
{
    buf_puts(chunks, "data: {\"id\":");
    json_write_string(chunks, streamed->id.len ? streamed->id : streamed->default_id);
    buf_printf(chunks, ",\"object\":\"chat.completion.chunk\",\"created\":%lld,\"model\":",
               (long long)streamed->created_s);
    json_write_string(chunks, streamed->model.len ? streamed->model : streamed->default_model);
    buf_puts(chunks, ",\"choices\":[");
}

static void begin_delta(const struct streamed *streamed, struct buf *chunks)
{
    begin_chunk(streamed, chunks);
    buf_puts(chunks, "{\"index\":0,\"delta\":{");
}

static void end_delta(const char *finish_reason, struct buf *chunks)
{
    buf_puts(chunks, "},\"finish_reason\":");
    json_write_string_or_null(chunks, str_of(finish_reason));
    buf_puts(chunks, "}]}\n\n");
}

/* The first chunk says whose words follow. */
static void write_role(struct streamed *streamed, struct buf *chunks)
{
    if (streamed->role_written)
        return;
    streamed->role_written = true;
    begin_delta(streamed, chunks);
    buf_puts(chunks, "\"role\":\"assistant\",\"content\":\"\"");
    end_delta(NULL, chunks);
}

static void write_text(struct streamed *streamed, const char *member, struct str text,
                       struct buf *chunks)
{
    if (!chunks)
        return;
    write_role(streamed, chunks);
    begin_delta(streamed, chunks);
    buf_printf(chunks, "\"%s\":", member);
    json_write_string(chunks, text);
    end_delta(NULL, chunks);
}

static void write_call(struct streamed *streamed, const struct streamed_call *call,
                       struct buf *chunks)
{
    if (!chunks)
        return;
    write_role(streamed, chunks);
    begin_delta(streamed, chunks);
    buf_printf(chunks, "\"tool_calls\":[{\"index\":%zu,\"id\":", (size_t)(call - streamed->calls));
    json_write_string(chunks, call->id);
    buf_puts(chunks, ",\"type\":\"function\",\"function\":{\"name\":");
    json_write_string(chunks, call->name);
    buf_puts(chunks, ",\"arguments\":\"\"}");
    if (call->extra) {
        buf_puts(chunks, ",\"extra_content\":");
        json_write(chunks, call->extra);
    }
    buf_puts(chunks, "}]");
    end_delta(NULL, chunks);
}

static void write_arguments(const struct streamed *streamed, const struct streamed_call *call,
                            struct str piece, struct buf *chunks)
{
    if (!chunks)
        return;
    begin_delta(streamed, chunks);
    buf_printf(chunks, "\"tool_calls\":[{\"index\":%zu,\"function\":{\"arguments\":",
               (size_t)(call - streamed->calls));
    json_write_string(chunks, piece);
    buf_puts(chunks, "}}]");
    end_delta(NULL, chunks);
}

void chunks_write_usage(const struct streamed *streamed, struct buf *chunks)
{
    const struct usage *usage = &streamed->usage;
    begin_chunk(streamed, chunks);
    buf_printf(chunks,
               "],\"usage\":{\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
               "\"total_tokens\":%lld,\"prompt_tokens_details\":{\"cached_tokens\":%lld},"
               "\"completion_tokens_details\":{\"reasoning_tokens\":%lld}}}\n\n",
               (long long)usage->prompt_tokens, (long long)usage->completion_tokens,
               (long long)usage->total_tokens, (long long)usage->cached_tokens,
               (long long)usage->reasoning_tokens);
}

void chunks_write(struct json_object *chunk, struct buf *chunks)
{
    buf_puts(chunks, "data: ");
    json_write(chunks, chunk);
    buf_puts(chunks, "\n\n");
}

void chunks_write_again(const struct streamed *streamed, bool usage, struct buf *chunks)
{
    struct streamed again = *streamed;
    again.role_written = false;
    write_role(&again, chunks);
    if (again.reasoning.len > 0)
        write_text(&again, "reasoning_content", buf_view(&again.reasoning), chunks);
    if (again.text.len > 0)
        write_text(&again, "content", buf_view(&again.text), chunks);
    if (again.refusal.len > 0)
        write_text(&again, "refusal", buf_view(&again.refusal), chunks);
    for (size_t i = 0; i < again.calls_count; i++) {
        write_call(&again, &again.calls[i], chunks);
        write_arguments(&again, &again.calls[i], buf_view(&again.calls[i].arguments), chunks);
    }
    begin_delta(&again, chunks);
    end_delta(again.finish_reason, chunks);
    if (usage && again.usage.reported)
        chunks_write_usage(&again, chunks);
}

/* --- collecting --- */

static struct streamed_call *call_at(const struct streamed *streamed, int64_t place)
{
    for (size_t i = streamed->calls_count; i > 0; i--)
        if (streamed->calls[i - 1].place == place)
            return &streamed->calls[i - 1];
    return NULL;
}

bool streamed_has_call(const struct streamed *streamed, int64_t place)
{
    return call_at(streamed, place) != NULL;
}

static bool count(struct streamed *streamed, struct json_object *text)
{
    size_t len = json_text(text).len;
    streamed->said_bytes += len;
    return len > 0;
}

bool chunks_add_text(struct streamed *streamed, struct json_object *text, struct buf *chunks)
{
    if (!count(streamed, text))
        return false;
    if (streamed->keeps_text)
        buf_str(&streamed->text, json_text(text));
    write_text(streamed, "content", json_text(text), chunks);
    return true;
}

bool chunks_add_refusal(struct streamed *streamed, struct json_object *text, struct buf *chunks)
{
    if (!count(streamed, text))
        return false;
    if (streamed->keeps_text)
        buf_str(&streamed->refusal, json_text(text));
    write_text(streamed, "refusal", json_text(text), chunks);
    return true;
}

bool chunks_add_reasoning(struct streamed *streamed, struct json_object *text, struct buf *chunks)
{
    if (!count(streamed, text))
        return false;
    if (streamed->keeps_text)
        buf_str(&streamed->reasoning, json_text(text));
    write_text(streamed, "reasoning_content", json_text(text), chunks);
    return true;
}

void chunks_begin_call(struct streamed *streamed, int64_t place, struct str id, struct str name,
                       struct json_object *extra, struct buf *chunks)
{
    size_t count = streamed->calls_count;
    struct buf made = {0};
    if (id.len == 0)
        chat_make_id(streamed->default_id, count, &made);
    streamed->calls = xrealloc(streamed->calls, (count + 1) * sizeof *streamed->calls);
    streamed->calls_count++;
    streamed->said_bytes += name.len;
    streamed->calls[count] = (struct streamed_call){
        .id = arena_copy(streamed->arena, made.len ? buf_view(&made) : id),
        .name = arena_copy(streamed->arena, name.at ? name : STR("")),
        .place = place,
        .extra = json_object_get(extra),
    };
    buf_free(&made);
    write_call(streamed, &streamed->calls[count], chunks);
}

bool chunks_add_arguments(struct streamed *streamed, int64_t place, struct str piece,
                          struct buf *chunks)
{
    struct streamed_call *call = call_at(streamed, place);
    if (!call || piece.len == 0)
        return false;
    call->has_arguments = true;
    streamed->said_bytes += piece.len;
    if (streamed->keeps_text)
        buf_str(&call->arguments, piece);
    write_arguments(streamed, call, piece, chunks);
    return true;
}

bool chunks_end_call(struct streamed *streamed, int64_t place, struct buf *chunks)
{
    const struct streamed_call *call = call_at(streamed, place);
    return call && !call->has_arguments && chunks_add_arguments(streamed, place, STR("{}"), chunks);
}

void chunks_add_call(struct streamed *streamed, struct str id, struct str name,
                     struct json_object *arguments, struct json_object *extra, struct buf *chunks)
{
    int64_t place = (int64_t)streamed->calls_count;
    struct buf text = {0};
    if (arguments)
        json_write(&text, arguments);
    chunks_begin_call(streamed, place, id, name, extra, chunks);
    (void)chunks_add_arguments(streamed, place, buf_view(&text), chunks);
    (void)chunks_end_call(streamed, place, chunks);
    buf_free(&text);
}

void chunks_finish(struct streamed *streamed, const char *reason, struct buf *chunks)
{
    streamed->finish_reason = reason;
    streamed->finish_due = chunks != NULL;
}

void chunks_write_finish(struct streamed *streamed, struct buf *chunks)
{
    if (!streamed->finish_due)
        return;
    streamed->finish_due = false;
    write_role(streamed, chunks);
    begin_delta(streamed, chunks);
    end_delta(streamed->finish_reason, chunks);
}

void streamed_note_names(struct streamed *streamed, struct str id, struct str model)
{
    if (!streamed->id.len)
        streamed->id = arena_copy(streamed->arena, id);
    if (!streamed->model.len)
        streamed->model = arena_copy(streamed->arena, model);
}

enum event_kind streamed_fail(struct streamed *streamed, struct str message)
{
    streamed->failure = arena_copy(streamed->arena, message);
    return EVENT_FAILED;
}

void streamed_free(struct streamed *streamed)
{
    for (size_t i = 0; i < streamed->calls_count; i++) {
        buf_free(&streamed->calls[i].arguments);
        json_object_put(streamed->calls[i].extra);
    }
    free(streamed->calls);
    buf_free(&streamed->text);
    buf_free(&streamed->refusal);
    buf_free(&streamed->reasoning);
    streamed->calls = NULL;
    streamed->calls_count = 0;
}

void streamed_complete(const struct streamed *streamed, struct completion *completion)
{
    struct json_object *calls = json_object_new_array();
    for (size_t i = 0; streamed->keeps_text && i < streamed->calls_count; i++) {
        const struct streamed_call *call = &streamed->calls[i];
        struct json_object *made = json_object_new_object();
        struct json_object *function = json_object_new_object();
        chat_put(made, "id", chat_string(call->id));
        chat_put_string(made, "type", STR("function"));
        chat_put(function, "name", chat_string(call->name));
        chat_put(function, "arguments", chat_string(buf_view(&call->arguments)));
        chat_put(made, "function", function);
        if (call->extra)
            chat_put(made, "extra_content", json_object_get(call->extra));
        json_object_array_add(calls, made);
    }
    json_object_put(completion->parsed);
    *completion = (struct completion){.parsed = json_object_new_object()};
    completion->id = streamed->id;
    completion->model = streamed->model;
    completion->finish_reason = streamed->finish_reason;
    chat_complete(completion, &streamed->text, calls, streamed->arena);
    if (streamed->refusal.len > 0)
        completion->refusal = arena_copy(streamed->arena, buf_view(&streamed->refusal));
    if (streamed->finish_reason)
        completion->usage = streamed->usage;
}

/* --- reading --- */

bool streamed_in_lines(enum provider_id provider)
{
    return provider == PROVIDER_OLLAMA;
}

bool streamed_is_openai(enum provider_id provider, enum model_api api)
{
    return provider_of(provider, api)->read_event == openai_read_event;
}

/* `{"error":{"message":…}}`, `{"error":"…"}`. */
static bool has_error(struct json_object *data, struct str *message)
{
    struct json_object *error = json_member(data, "error", NULL);
    *message = json_object_is_type(error, json_type_object)
                   ? json_text(json_member(error, "message", NULL))
                   : json_text(error);
    return error != NULL;
}

static enum event_kind refuse(struct streamed *streamed, struct str problem)
{
    streamed->unusable = true;
    return streamed_fail(streamed, problem);
}

/* The names have to be read once. */
static bool is_plain(struct streamed *streamed, struct str event, enum event_kind *kind)
{
    struct openai_glance seen = {.text = streamed->keeps_text ? &streamed->text : NULL};
    bool is_known = streamed->id.len > 0 && streamed->model.len > 0;
    if (!is_known || !streamed_is_openai(streamed->provider, streamed->api) ||
        !openai_glance(event, &seen))
        return false;
    streamed->said_bytes += seen.text_bytes;
    *kind = seen.text_bytes > 0 ? EVENT_CONTENT : EVENT_SILENT;
    return true;
}

enum event_kind streamed_read(struct streamed *streamed, struct str event, struct buf *chunks)
{
    struct json_object *data = NULL;
    struct error reason;
    struct str message;
    enum event_kind kind;
    if (!event.at)
        return EVENT_SILENT;
    if (str_starts(event, STR("[DONE]")))
        return EVENT_END;
    if (is_plain(streamed, event, &kind))
        return kind;
    if (!json_read(event, &data, &reason))
        return refuse(streamed, STR("an event is not JSON"));
    if (!json_object_is_type(data, json_type_object))
        kind = refuse(streamed, STR("an event is not a JSON object"));
    else if (has_error(data, &message))
        kind = streamed_fail(streamed, message);
    else
        kind = provider_of(streamed->provider, streamed->api)->read_event(streamed, data, chunks);
    json_object_put(data);
    return kind;
}
