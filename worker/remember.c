#include "worker/remember.h"

#include "worker/provider/chat.h"
#include "worker/provider/estimate.h"

static struct str hash_of(const uint8_t *hash)
{
    return (struct str){(const char *)hash, KEEPER_HASH_BYTES};
}

struct keeper_message remember_message(const struct exchange *ex, enum keeper_type type,
                                       unsigned about)
{
    const struct config_session *limits = &ex->endpoint->session;
    bool key = about & ABOUT_KEY;
    return (struct keeper_message){
        .type = (uint8_t)type,
        .session = about & ABOUT_TURN ? ex->session.id : (struct uuid){0},
        .request = ex->id,
        .turn = ex->session.turns,
        .ttl_ms = limits->ttl_ms,
        .max_messages = limits->max_messages,
        .max_tokens = limits->max_tokens,
        .project = str_of(ex->project->name),
        .endpoint = str_of(ex->endpoint->slug),
        .token = token_name(ex->token),
        .key = key ? hash_of(ex->repeat.key) : STR(""),
        .content = key ? hash_of(ex->repeat.content) : STR(""),
    };
}

static void fail_full(struct exchange *ex)
{
    const struct config_session *limits = &ex->endpoint->session;
    exchange_fail(ex, API_session_full,
                  "The session has no room for this turn: it may have %lld messages, and about "
                  "%lld tokens. Open a new one, or say less.",
                  (long long)limits->max_messages, (long long)limits->max_tokens);
}

void remember_refuse(struct exchange *ex, enum keeper_refusal refusal)
{
    static const enum api_error codes[KEEPER_REFUSALS] = {
        [KEEPER_FORBIDDEN] = API_session_forbidden,
        [KEEPER_EXPIRED] = API_session_expired,
        [KEEPER_BUSY] = API_session_busy,
        [KEEPER_UNAVAILABLE] = API_sessions_unavailable,
        [KEEPER_IN_PROGRESS] = API_idempotency_in_progress,
        [KEEPER_MISMATCH] = API_idempotency_mismatch,
    };
    if (refusal == KEEPER_FULL)
        fail_full(ex);
    else
        exchange_fail(ex, codes[refusal], "%s", api_error_info(codes[refusal])->sentence);
    ex->failure.final = refusal == KEEPER_FULL || refusal == KEEPER_MISMATCH;
}

void remember_replay(struct exchange *ex, struct str kept)
{
    struct repeat_state *repeat = &ex->repeat;
    buf_clear(&repeat->frame);
    buf_str(&repeat->frame, kept);
    if (!kept_reply_read(buf_view(&repeat->frame), &repeat->reply)) {
        remember_refuse(ex, KEEPER_UNAVAILABLE);
        return;
    }
    repeat->answered = repeat->replayed = true;
    ex->session.id = repeat->reply.session;
}

/* What is no text is stored, too: images, and calls of tools. */
static int64_t size_of_others(struct json_object *message)
{
    struct json_object *content = json_member(message, "content", NULL);
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    struct buf text = {0};
    if (calls)
        json_write(&text, calls);
    for (size_t i = 0; i < chat_count(content); i++) {
        struct json_object *part = json_object_array_get_idx(content, i);
        if (!str_eq(json_text(json_member(part, "type", NULL)), STR("text")))
            json_write(&text, part);
    }
    int64_t size = (int64_t)text.len;
    buf_free(&text);
    return size;
}

int64_t remember_tokens(struct json_object *messages)
{
    int64_t tokens = estimate_messages(messages);
    for (size_t i = 0; i < json_object_array_length(messages); i++)
        tokens += size_of_others(json_object_array_get_idx(messages, i)) / 4;
    return tokens;
}
