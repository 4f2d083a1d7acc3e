/* Gemini's generateContent, version v1beta. Source: the request and response types of the official
 * SDK, and its documentation. Unknown members of a request are refused there, so only known ones
 * are sent. */
#include "worker/provider/chat.h"
#include "worker/provider/chunks.h"

#include <math.h>
#include <stdlib.h>

/* ---- the conversation: what follows in the same role is one content */

struct contents {
    struct json_object *all, *parts; /* parts: of the last one */
    const char *role;
    struct json_object *messages;
    struct error *error;
};

static void add_part(struct contents *contents, const char *role, struct json_object *part)
{
    if (!contents->role || strcmp(contents->role, role) != 0) {
        struct json_object *content = json_object_new_object();
        contents->parts = json_object_new_array();
        contents->role = role;
        chat_put_string(content, "role", str_of(role));
        chat_put(content, "parts", contents->parts);
        json_object_array_add(contents->all, content);
    }
    json_object_array_add(contents->parts, part);
}

static struct json_object *text_part(struct str text)
{
    struct json_object *part = json_object_new_object();
    chat_put_string(part, "text", text);
    return part;
}

static bool add_image(struct contents *contents, const char *role, const struct chat_part *image)
{
    struct json_object *part = json_object_new_object(), *data = json_object_new_object();
    struct str type, base64;
    chat_put(part, "inlineData", data);
    if (!chat_read_data_url(image->text, &type, &base64)) {
        json_object_put(part);
        return chat_refuse_part(image, contents->error);
    }
    chat_put_string(data, "mimeType", type);
    chat_put_string(data, "data", base64);
    add_part(contents, role, part);
    return true;
}

static bool add_content(struct contents *contents, const char *role, struct json_object *content)
{
    for (size_t i = 0; i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        if (part.kind == CHAT_OTHER)
            return chat_refuse_part(&part, contents->error);
        if (part.kind == CHAT_IMAGE && !add_image(contents, role, &part))
            return false;
        if (part.kind == CHAT_TEXT && part.text.len > 0)
            add_part(contents, role, text_part(part.text));
    }
    return true;
}

/* A thought's signature comes back from clients where Gemini's own OpenAI interface puts it. */
static struct json_object *signature_of(struct json_object *call)
{
    struct json_object *extra = json_member(call, "extra_content", NULL);
    return json_member(json_member(extra, "google", NULL), "thought_signature", NULL);
}

static bool add_call(struct contents *contents, struct json_object *call)
{
    struct chat_call read;
    if (!chat_read_call(call, &read, contents->error))
        return false;
    struct json_object *part = json_object_new_object(), *made = json_object_new_object();
    chat_put_string(made, "id", read.id);
    chat_put_string(made, "name", read.name);
    chat_put(made, "args", read.arguments);
    chat_put(part, "functionCall", made);
    chat_put(part, "thoughtSignature", json_object_get(signature_of(call)));
    add_part(contents, "model", part);
    return true;
}

static bool add_assistant(struct contents *contents, struct json_object *message)
{
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    if (!add_content(contents, "model", json_member(message, "content", NULL)))
        return false;
    for (size_t i = 0; i < chat_count(calls); i++)
        if (!add_call(contents, json_object_array_get_idx(calls, i)))
            return false;
    return true;
}

/* A result names its function, and is an object. */
static void add_result(struct contents *contents, struct json_object *message)
{
    struct str id = json_text(json_member(message, "tool_call_id", NULL));
    struct json_object *part = json_object_new_object(), *made = json_object_new_object();
    struct json_object *response = json_object_new_object();
    struct buf text = {0};
    chat_append_texts(json_member(message, "content", NULL), &text);
    chat_put(response, "output", chat_string(buf_view(&text)));
    chat_put_string(made, "id", id);
    chat_put_string(made, "name", chat_called_name(contents->messages, id));
    chat_put(made, "response", response);
    chat_put(part, "functionResponse", made);
    buf_free(&text);
    add_part(contents, "user", part);
}

static bool add_message(struct contents *contents, struct json_object *message)
{
    switch (chat_role_of(message)) {
    case CHAT_SYSTEM:
        return true;
    case CHAT_USER:
        return add_content(contents, "user", json_member(message, "content", NULL));
    case CHAT_ASSISTANT:
        return add_assistant(contents, message);
    default:
        add_result(contents, message);
        return true;
    }
}

static bool put_messages(struct json_object *body, struct json_object *messages,
                         struct error *error)
{
    struct contents contents = {
        .all = json_object_new_array(), .messages = messages, .error = error};
    struct buf system = {0};
    chat_put(body, "contents", contents.all);
    chat_append_system(messages, &system);
    if (system.len > 0) {
        struct json_object *instruction = json_object_new_object();
        struct json_object *parts = json_object_new_array();
        json_object_array_add(parts, text_part(buf_view(&system)));
        chat_put(instruction, "parts", parts);
        chat_put(body, "systemInstruction", instruction);
    }
    buf_free(&system);
    for (size_t i = 0; i < json_object_array_length(messages); i++)
        if (!add_message(&contents, json_object_array_get_idx(messages, i)))
            return false;
    if (json_object_array_length(contents.all) == 0)
        return error_set(error, "the conversation has no text but the system's");
    return true;
}

/* ---- tools */

static struct json_object *declaration_of(struct json_object *tool)
{
    struct json_object *function = json_member(tool, "function", NULL);
    struct json_object *made = json_object_new_object();
    chat_put_string(made, "name", json_text(json_member(function, "name", NULL)));
    chat_put_string(made, "description", json_text(json_member(function, "description", NULL)));
    chat_put(made, "parametersJsonSchema",
             json_object_get(json_member(function, "parameters", NULL)));
    return made;
}

static void put_tools(struct json_object *body, struct json_object *tools)
{
    if (chat_count(tools) == 0)
        return;
    struct json_object *list = json_object_new_array(), *entry = json_object_new_object();
    struct json_object *declarations = json_object_new_array();
    for (size_t i = 0; i < chat_count(tools); i++)
        json_object_array_add(declarations, declaration_of(json_object_array_get_idx(tools, i)));
    chat_put(entry, "functionDeclarations", declarations);
    json_object_array_add(list, entry);
    chat_put(body, "tools", list);
}

static void put_tool_choice(struct json_object *body, struct json_object *tool_choice)
{
    static const char *const modes[] = {NULL, "AUTO", "NONE", "ANY", "ANY"};
    struct str name;
    enum chat_choice choice = chat_choice_of(tool_choice, &name);
    if (choice == CHAT_CHOICE_UNSAID)
        return;
    struct json_object *config = json_object_new_object(), *calling = json_object_new_object();
    chat_put_string(calling, "mode", str_of(modes[choice]));
    if (choice == CHAT_NAMED) {
        struct json_object *allowed = json_object_new_array();
        json_object_array_add(allowed, chat_string(name));
        chat_put(calling, "allowedFunctionNames", allowed);
    }
    chat_put(config, "functionCallingConfig", calling);
    chat_put(body, "toolConfig", config);
}

/* ---- the request */

static struct json_object *generation_of(const struct completion_request *request)
{
    struct json_object *const *values = request->parameters->values;
    struct json_object *made = json_object_new_object();
    if (request->max_tokens > 0)
        chat_put(made, "maxOutputTokens", json_object_new_int64(request->max_tokens));
    chat_put_number(made, "temperature",
                    chat_number(values[MEMBER_temperature], request->temperature, 0, 2));
    chat_put_number(made, "topP", chat_number(values[MEMBER_top_p], request->top_p, 0, 1));
    chat_put(made, "stopSequences", chat_stop_list(values[MEMBER_stop]));
    chat_put(made, "seed", json_object_get(values[MEMBER_seed]));
    chat_put(made, "frequencyPenalty", json_object_get(values[MEMBER_frequency_penalty]));
    chat_put(made, "presencePenalty", json_object_get(values[MEMBER_presence_penalty]));
    chat_put(made, "candidateCount", json_object_new_int(1)); /* more would be billed */
    if (request->output.native) {
        chat_put_string(made, "responseMimeType", STR("application/json"));
        chat_put(made, "responseJsonSchema", chat_read(request->output.native));
    }
    return made;
}

/* A model's name is a part of the path; those of tuned ones have slashes. */
static struct str path_of(const char *model, struct arena *arena)
{
    static const char plain[] = "-_.~/:@";
    struct buf path = {0};
    for (const char *c = model; *c; c++) {
        bool good = (*c >= '0' && *c <= '9') || (*c >= 'a' && *c <= 'z') ||
                    (*c >= 'A' && *c <= 'Z') || strchr(plain, *c);
        if (good)
            buf_putc(&path, *c);
        else
            buf_printf(&path, "%%%02X", (unsigned char)*c);
    }
    struct str copy = arena_copy(arena, buf_view(&path));
    buf_free(&path);
    return copy;
}

static bool build(const struct completion_request *request, struct arena *arena,
                  struct upstream_call *call, struct error *error)
{
    const struct config_target *target = request->target;
    const struct config_credential *credential = target->credential;
    struct json_object *body = json_object_new_object();
    call->url = arena_printf(
        arena, "%s/v1beta/models/%s:%s", credential->base_url, path_of(target->model, arena).at,
        request->streams ? "streamGenerateContent?alt=sse" : "generateContent");
    call_add_headers(call, request, STR("x-goog-api-key"), str_of(credential->api_key));
    bool good = put_messages(body, request->messages, error);
    put_tools(body, request->parameters->values[MEMBER_tools]);
    put_tool_choice(body, request->parameters->values[MEMBER_tool_choice]);
    chat_put(body, "generationConfig", generation_of(request));
    if (good)
        chat_write_body(body, target->parameters, &call->body);
    json_object_put(body);
    return good;
}

/* ---- the answer */

static const struct chat_reason reasons[] = {
    {"STOP", "stop"},
    {"OTHER", "stop"},
    {"MAX_TOKENS", "length"},
    {"CONTINUATION", "length"},
    {"SAFETY", "content_filter"},
    {"RECITATION", "content_filter"},
    {"LANGUAGE", "content_filter"},
    {"BLOCKLIST", "content_filter"},
    {"PROHIBITED_CONTENT", "content_filter"},
    {"SPII", "content_filter"},
    {"IMAGE_SAFETY", "content_filter"},
    {"IMAGE_PROHIBITED_CONTENT", "content_filter"},
    {"IMAGE_RECITATION", "content_filter"},
    {"IMAGE_OTHER", "content_filter"},
    {"MALFORMED_FUNCTION_CALL", NULL},
    {"UNEXPECTED_TOOL_CALL", NULL},
    {"TOO_MANY_TOOL_CALLS", NULL},
    {"MALFORMED_RESPONSE", NULL},
};

static void read_usage(struct json_object *said, struct usage *usage)
{
    if (!json_object_is_type(said, json_type_object))
        return;
    usage->reasoning_tokens = usage_count(said, "thoughtsTokenCount");
    usage->cached_tokens = usage_count(said, "cachedContentTokenCount");
    chat_set_usage(
        usage, usage_count(said, "promptTokenCount") + usage_count(said, "toolUsePromptTokenCount"),
        usage_count(said, "candidatesTokenCount") + usage->reasoning_tokens);
}

/* Where Gemini's own OpenAI interface puts a thought's signature; NULL without one. */
static struct json_object *extra_of(struct json_object *part)
{
    struct json_object *signature = json_member(part, "thoughtSignature", NULL);
    if (!signature)
        return NULL;
    struct json_object *extra = json_object_new_object(), *google = json_object_new_object();
    chat_put(google, "thought_signature", json_object_get(signature));
    chat_put(extra, "google", google);
    return extra;
}

static struct json_object *call_of(struct json_object *part, struct str answer_id, size_t place)
{
    struct json_object *said = json_member(part, "functionCall", NULL);
    struct json_object *call = chat_new_call(json_text(json_member(said, "id", NULL)),
                                             json_text(json_member(said, "name", NULL)),
                                             json_member(said, "args", NULL), answer_id, place);
    chat_put(call, "extra_content", extra_of(part));
    return call;
}

/* Thoughts are passed over. */
static void read_parts(struct json_object *parts, struct completion *completion,
                       struct arena *arena)
{
    struct json_object *calls = json_object_new_array();
    struct buf text = {0};
    for (size_t i = 0; i < chat_count(parts); i++) {
        struct json_object *part = json_object_array_get_idx(parts, i);
        if (json_object_get_boolean(json_member(part, "thought", NULL)))
            continue;
        if (json_member(part, "functionCall", NULL))
            json_object_array_add(calls,
                                  call_of(part, completion->id, json_object_array_length(calls)));
        buf_str(&text, json_text(json_member(part, "text", NULL)));
    }
    chat_complete(completion, &text, calls, arena);
    buf_free(&text);
}

static bool read_answer(const struct upstream_reply *reply, struct arena *arena,
                        struct completion *completion, struct error *error)
{
    if (!chat_read_object(reply, completion, error))
        return false;
    struct json_object *answer = completion->parsed;
    struct json_object *candidates = json_member(answer, "candidates", NULL);
    struct json_object *blocked =
        json_member(json_member(answer, "promptFeedback", NULL), "blockReason", NULL);
    if (chat_count(candidates) == 0 && !blocked)
        return error_set(error, "the answer has no candidates");
    struct json_object *candidate =
        chat_count(candidates) ? json_object_array_get_idx(candidates, 0) : NULL;
    struct str reason = json_text(json_member(candidate, "finishReason", NULL));
    completion->id = answer_name(answer, "responseId");
    completion->model = answer_name(answer, "modelVersion");
    read_usage(json_member(answer, "usageMetadata", NULL), &completion->usage);
    read_parts(json_member(json_member(candidate, "content", NULL), "parts", NULL), completion,
               arena);
    completion->finish_reason =
        candidate ? chat_finish_reason(reasons, sizeof reasons / sizeof *reasons, reason)
                  : "content_filter";
    if (!completion->finish_reason)
        return error_set(error, "the model failed (%.*s)", STR_ARG(reason));
    if (completion->tool_calls && strcmp(completion->finish_reason, "stop") == 0)
        completion->finish_reason = "tool_calls";
    return true;
}

/* ---- a streamed answer: each event is a whole one, the last usage counts */

static void stream_part(struct streamed *streamed, struct json_object *part, struct buf *chunks)
{
    struct json_object *said = json_member(part, "functionCall", NULL);
    struct json_object *text = json_member(part, "text", NULL);
    if (json_object_get_boolean(json_member(part, "thought", NULL)))
        (void)chunks_add_reasoning(streamed, text, chunks);
    else
        (void)chunks_add_text(streamed, text, chunks);
    if (!said)
        return;
    struct json_object *extra = extra_of(part);
    chunks_add_call(streamed, json_text(json_member(said, "id", NULL)),
                    json_text(json_member(said, "name", NULL)), json_member(said, "args", NULL),
                    extra, chunks);
    json_object_put(extra);
}

static enum event_kind stream_end(struct streamed *streamed, struct str reason, struct buf *chunks)
{
    const char *meant = chat_finish_reason(reasons, sizeof reasons / sizeof *reasons, reason);
    if (!meant)
        return streamed_fail(streamed, reason);
    bool calls = streamed->calls_count > 0 && strcmp(meant, "stop") == 0;
    chunks_finish(streamed, calls ? "tool_calls" : meant, chunks);
    return EVENT_CONTENT;
}

static enum event_kind read_event(struct streamed *streamed, struct json_object *data,
                                  struct buf *chunks)
{
    struct json_object *candidates = json_member(data, "candidates", NULL);
    struct json_object *candidate =
        chat_count(candidates) ? json_object_array_get_idx(candidates, 0) : NULL;
    struct json_object *parts = json_member(json_member(candidate, "content", NULL), "parts", NULL);
    struct str reason = json_text(json_member(candidate, "finishReason", NULL));
    size_t before = chunks->len;
    streamed_note_names(streamed, answer_name(data, "responseId"),
                        answer_name(data, "modelVersion"));
    read_usage(json_member(data, "usageMetadata", NULL), &streamed->usage);
    for (size_t i = 0; i < chat_count(parts); i++)
        stream_part(streamed, json_object_array_get_idx(parts, i), chunks);
    if (!candidate && json_member(json_member(data, "promptFeedback", NULL), "blockReason", NULL))
        reason = STR("SAFETY");
    if (reason.at)
        return stream_end(streamed, reason, chunks);
    return chunks->len > before ? EVENT_CONTENT : EVENT_SILENT;
}

static void write_failure(const struct stream_failure *failure, struct buf *events)
{
    buf_printf(events, "data: {\"error\":{\"code\":%d,\"message\":", failure->status);
    json_write_string(events, failure->message);
    buf_printf(events, ",\"status\":\"%s\"}}\n\n",
               failure->status == 504 ? "DEADLINE_EXCEEDED" : "UNAVAILABLE");
}

/* ---- errors */

/* A key that is not one, or an account without billing, comes as a request's fault; a day's quota
 * that is used up as one of a minute. */
static bool is_of_the_key(struct json_object *error, enum provider_fault fault)
{
    struct json_object *details = json_member(error, "details", NULL);
    if (fault == FAULT_REQUEST &&
        str_eq(json_text(json_member(error, "status", NULL)), STR("FAILED_PRECONDITION")))
        return true;
    for (size_t i = 0; i < chat_count(details); i++) {
        struct json_object *detail = json_object_array_get_idx(details, i);
        struct json_object *violations = json_member(detail, "violations", NULL);
        if (fault == FAULT_REQUEST &&
            str_eq(json_text(json_member(detail, "reason", NULL)), STR("API_KEY_INVALID")))
            return true;
        for (size_t j = 0; fault == FAULT_LATER && j < chat_count(violations); j++) {
            struct json_object *violation = json_object_array_get_idx(violations, j);
            struct str quota = json_text(json_member(violation, "quotaId", NULL));
            if (quota.at && strstr(quota.at, "PerDay"))
                return true;
        }
    }
    return false;
}

/* A detail says "retryDelay": "45.8s"; there is no header for it. */
static int64_t wait_of(struct json_object *error)
{
    enum { LONGEST_S = 86400 };
    struct json_object *details = json_member(error, "details", NULL);
    for (size_t i = 0; i < chat_count(details); i++) {
        struct json_object *detail = json_object_array_get_idx(details, i);
        struct str delay = json_text(json_member(detail, "retryDelay", NULL));
        double seconds = delay.at ? strtod(delay.at, NULL) : 0;
        if (seconds > 0)
            return (int64_t)((seconds < LONGEST_S ? seconds : LONGEST_S) * 1000) + 1;
    }
    return 0;
}

/* `{"error":{…}}`, or a list with one of them. */
static enum provider_fault read_error(const struct upstream_reply *reply, struct arena *arena,
                                      struct refusal *refusal)
{
    struct json_object *parsed = NULL;
    struct error ignored;
    enum provider_fault fault = provider_fault_of(reply->status);
    if (!json_read(buf_view(&reply->body), &parsed, &ignored))
        return fault;
    struct json_object *outer = chat_count(parsed) ? json_object_array_get_idx(parsed, 0) : parsed;
    struct json_object *error = json_member(outer, "error", NULL);
    refusal->said = arena_copy(arena, json_text(json_member(error, "message", NULL)));
    refusal->wait_ms = wait_of(error);
    if (is_of_the_key(error, fault))
        fault = FAULT_CREDENTIAL;
    json_object_put(parsed);
    return fault;
}

const struct provider provider_gemini = {
    .build = build,
    .read_answer = read_answer,
    .read_event = read_event,
    .write_failure = write_failure,
    .read_error = read_error,
};
