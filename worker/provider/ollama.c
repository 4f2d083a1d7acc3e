/* Ollama's own /api/chat. Source: the request and response types of the official client, and the
 * server's. */
#include "worker/provider/chat.h"
#include "worker/provider/chunks.h"

/* ---- the request */

/* A content is one text; images stand beside it, as data. */
static bool put_content(struct json_object *made, struct json_object *content, struct error *error)
{
    struct json_object *images = NULL;
    struct buf text = {0};
    bool good = true;
    for (size_t i = 0; good && i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        struct str type, base64;
        if (part.kind == CHAT_TEXT) {
            buf_str(&text, part.text);
        } else if (part.kind == CHAT_IMAGE && chat_read_data_url(part.text, &type, &base64)) {
            images = images ? images : json_object_new_array();
            json_object_array_add(images, chat_string(base64));
        } else {
            good = chat_refuse_part(&part, error);
        }
    }
    chat_put(made, "content", chat_string(buf_view(&text)));
    chat_put(made, "images", images);
    buf_free(&text);
    return good;
}

static bool put_calls(struct json_object *made, struct json_object *calls, struct error *error)
{
    struct json_object *list = json_object_new_array();
    if (chat_count(calls) > 0)
        chat_put(made, "tool_calls", json_object_get(list));
    bool good = true;
    for (size_t i = 0; good && i < chat_count(calls); i++) {
        struct chat_call read;
        good = chat_read_call(json_object_array_get_idx(calls, i), &read, error);
        if (!good)
            break;
        struct json_object *call = json_object_new_object(), *function = json_object_new_object();
        chat_put_string(call, "id", read.id);
        chat_put_string(function, "name", read.name);
        chat_put(function, "arguments", read.arguments);
        chat_put(call, "function", function);
        json_object_array_add(list, call);
    }
    json_object_put(list);
    return good;
}

static bool add_message(struct json_object *list, struct json_object *messages,
                        struct json_object *message, struct error *error)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    struct json_object *made = json_object_new_object();
    enum chat_role role = chat_role_of(message);
    struct str id = json_text(json_member(message, "tool_call_id", NULL));
    json_object_array_add(list, made);
    chat_put_string(made, "role", str_of(roles[role]));
    if (role == CHAT_TOOL) {
        chat_put_string(made, "tool_name", chat_called_name(messages, id));
        chat_put_string(made, "tool_call_id", id);
    }
    return put_content(made, json_member(message, "content", NULL), error) &&
           put_calls(made, json_member(message, "tool_calls", NULL), error);
}

static struct json_object *options_of(const struct completion_request *request)
{
    struct json_object *const *values = request->parameters->values;
    struct json_object *made = json_object_new_object();
    if (request->max_tokens > 0)
        chat_put(made, "num_predict", json_object_new_int64(request->max_tokens));
    chat_put_number(made, "temperature",
                    chat_number(values[MEMBER_temperature], request->temperature, 0, 2));
    chat_put_number(made, "top_p", chat_number(values[MEMBER_top_p], request->top_p, 0, 1));
    chat_put(made, "stop", chat_stop_list(values[MEMBER_stop]));
    chat_put(made, "seed", json_object_get(values[MEMBER_seed]));
    chat_put(made, "frequency_penalty", json_object_get(values[MEMBER_frequency_penalty]));
    chat_put(made, "presence_penalty", json_object_get(values[MEMBER_presence_penalty]));
    return made;
}

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_target *target = request->target;
    const struct config_credential *credential = target->credential;
    struct json_object *body = json_object_new_object(), *list = json_object_new_array();
    call->url = arena_printf(arena, "%s/api/chat", credential->base_url);
    call_add_bearer(call, request, arena);
    chat_put_string(body, "model", str_of(target->model));
    chat_put(body, "messages", list);
    chat_put(body, "stream", json_object_new_boolean(request->streams));
    bool good = true;
    for (size_t i = 0; good && i < json_object_array_length(request->messages); i++)
        good = add_message(list, request->messages, json_object_array_get_idx(request->messages, i),
                           error);
    chat_put(body, "tools", json_object_get(request->parameters->values[MEMBER_tools]));
    chat_put(body, "format", chat_read(request->output.native));
    chat_put(body, "options", options_of(request));
    if (good)
        chat_write_body(body, target->parameters, &call->body);
    json_object_put(body);
    return good;
}

/* ---- the answer */

static const struct chat_reason reasons[] = {
    {"stop", "stop"}, {"length", "length"}, {"load", "stop"}, {"unload", "stop"}};

static void read_message(struct json_object *message, struct str answer_id,
                         struct completion *completion, struct arena *arena)
{
    struct json_object *said = json_member(message, "tool_calls", NULL);
    struct json_object *calls = json_object_new_array();
    struct buf text = {0};
    for (size_t i = 0; i < chat_count(said); i++) {
        struct json_object *call = json_object_array_get_idx(said, i);
        struct json_object *function = json_member(call, "function", NULL);
        json_object_array_add(calls, chat_new_call(json_text(json_member(call, "id", NULL)),
                                                   json_text(json_member(function, "name", NULL)),
                                                   json_member(function, "arguments", NULL),
                                                   answer_id, i));
    }
    buf_str(&text, json_text(json_member(message, "content", NULL)));
    chat_complete(completion, &text, calls, arena);
    buf_free(&text);
}

/* Those of an answer's last line, too. */
static const char *reason_of(struct json_object *answer, bool any_calls)
{
    const char *meant = chat_finish_reason(reasons, sizeof reasons / sizeof *reasons,
                                           json_text(json_member(answer, "done_reason", NULL)));
    return any_calls && strcmp(meant, "stop") == 0 ? "tool_calls" : meant;
}

static void read_usage(struct json_object *answer, struct usage *usage)
{
    if (json_member(answer, "eval_count", NULL))
        chat_set_usage(usage, usage_count(answer, "prompt_eval_count"),
                       usage_count(answer, "eval_count"));
}

static bool read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    if (!chat_read_object(reply, completion, error))
        return false;
    struct json_object *answer = completion->parsed;
    struct json_object *message = json_member(answer, "message", NULL);
    if (json_member(answer, "error", NULL))
        return error_set(error, "the model failed");
    if (!json_object_is_type(message, json_type_object))
        return error_set(error, "the answer has no message");
    completion->model = answer_name(answer, "model");
    read_usage(answer, &completion->usage);
    read_message(message, json_text(json_member(answer, "created_at", NULL)), completion, arena);
    completion->finish_reason = reason_of(answer, completion->tool_calls != NULL);
    return true;
}

/* ---- a streamed answer: calls come as a whole, the last line has the usage */

static enum event_kind read_event(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks)
{
    struct json_object *message = json_member(data, "message", NULL);
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    size_t before = chunks->len;
    streamed_note_names(streamed, STR_ABSENT, answer_name(data, "model"));
    (void)chunks_add_reasoning(streamed, json_member(message, "thinking", NULL), chunks);
    (void)chunks_add_text(streamed, json_member(message, "content", NULL), chunks);
    for (size_t i = 0; i < chat_count(calls); i++) {
        struct json_object *call = json_object_array_get_idx(calls, i);
        struct json_object *function = json_member(call, "function", NULL);
        chunks_add_call(streamed, json_text(json_member(call, "id", NULL)),
                        json_text(json_member(function, "name", NULL)),
                        json_member(function, "arguments", NULL), NULL, chunks);
    }
    read_usage(data, &streamed->usage);
    bool done = json_object_get_boolean(json_member(data, "done", NULL));
    if (done)
        chunks_finish(streamed, reason_of(data, streamed->calls_count > 0), chunks);
    return done || chunks->len > before ? EVENT_CONTENT : EVENT_SILENT;
}

static void write_failure(const struct stream_failure *failure, struct buf *events)
{
    buf_puts(events, "{\"error\":");
    json_write_string(events, failure->message);
    buf_puts(events, "}\n");
}

/* `{"error":"…"}` */
static enum provider_fault read_error(const struct upstream_reply *reply, struct arena *arena,
                                      struct refusal *refusal)
{
    struct json_object *parsed = NULL;
    struct error ignored;
    if (json_read(buf_view(&reply->body), &parsed, &ignored))
        refusal->said = arena_copy(arena, json_text(json_member(parsed, "error", NULL)));
    json_object_put(parsed);
    return provider_fault_of(reply->status);
}

const struct provider provider_ollama = {
    .build = build,
    .read_answer = read_answer,
    .read_event = read_event,
    .write_failure = write_failure,
    .read_error = read_error,
};
