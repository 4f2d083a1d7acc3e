/* Conversations that the gateway keeps (contract: Sessions). The turn begins when its own messages
 * are known, and is stored when its answer is, before the client has the end of it. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"
#include "worker/keeper_client.h"
#include "worker/pipeline.h"
#include "worker/provider/chat.h"
#include "worker/provider/estimate.h"

static void refuse(struct exchange *ex, enum keeper_refusal refusal)
{
    static const enum api_error codes[KEEPER_REFUSALS] = {
        [KEEPER_FORBIDDEN] = API_session_forbidden,
        [KEEPER_EXPIRED] = API_session_expired,
        [KEEPER_BUSY] = API_session_busy,
        [KEEPER_FULL] = API_session_full,
        [KEEPER_UNAVAILABLE] = API_sessions_unavailable,
    };
    exchange_fail(ex, codes[refusal], "%s", api_error_info(codes[refusal])->sentence);
    ex->failure.final = refusal == KEEPER_FULL;
}

static struct keeper_message message_for(const struct exchange *ex, enum keeper_type type)
{
    const struct config_session *limits = &ex->endpoint->session;
    return (struct keeper_message){
        .type = (uint8_t)type,
        .session = ex->session.id,
        .request = ex->id,
        .turn = ex->session.turns,
        .ttl_ms = limits->ttl_ms,
        .max_messages = limits->max_messages,
        .max_tokens = limits->max_tokens,
        .project = str_of(ex->project->name),
        .endpoint = str_of(ex->endpoint->slug),
        .token = token_name(ex->token),
    };
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

static int64_t tokens_of(struct json_object *messages)
{
    int64_t tokens = estimate_messages(messages);
    for (size_t i = 0; i < json_object_array_length(messages); i++)
        tokens += size_of_others(json_object_array_get_idx(messages, i)) / 4;
    return tokens;
}

/* --- the beginning --- */

/* What the client says, as it goes up; the pinned system prompt is not a part of it. */
static struct json_object *own_messages(const struct exchange *ex)
{
    struct json_object *own = json_object_new_array();
    chat_add_from(own, ex->messages, ex->endpoint->system_prompt ? 1 : 0);
    return own;
}

static bool read_history(struct str body, struct json_object **history)
{
    struct buf text = {0};
    struct error error;
    buf_printf(&text, "[%.*s]", STR_ARG(body));
    bool good = json_read(buf_view(&text), history, &error);
    buf_free(&text);
    return good;
}

/* Behind the pinned system prompt, before what is said now. */
static void put_history(struct exchange *ex, struct json_object *history)
{
    struct json_object *all = json_object_new_array();
    if (ex->endpoint->system_prompt)
        json_object_array_add(all, json_object_get(json_object_array_get_idx(ex->messages, 0)));
    chat_add_from(all, history, 0);
    chat_add_from(all, ex->session.said, 0);
    json_object_put(ex->messages);
    ex->messages = all;
}

static void take_begun(struct exchange *ex, const struct keeper_message *begun)
{
    struct json_object *history = NULL;
    struct keeper_message asked = message_for(ex, KEEPER_BEGIN);
    ex->session.id = begun->session;
    ex->session.turns = begun->turn;
    keeper_open(ex->services->keeper, &ex->session.turn, &begun->session, &asked);
    if (read_history(begun->body, &history))
        put_history(ex, history);
    else
        refuse(ex, KEEPER_UNAVAILABLE);
    json_object_put(history);
}

static void on_begun(void *context, const struct keeper_message *answer)
{
    struct exchange *ex = context;
    ex->waited_us += clock_now_us() - ex->session.asked_us;
    if (answer->type == KEEPER_BEGUN)
        take_begun(ex, answer);
    else
        refuse(ex, (enum keeper_refusal)answer->refusal);
    exchange_resume(ex);
}

enum stage_result stage_session(struct exchange *ex)
{
    struct session_state *session = &ex->session;
    if (!session->wanted)
        return STAGE_NEXT;
    session->said = own_messages(ex);
    struct keeper_message asked = message_for(ex, KEEPER_BEGIN);
    asked.messages = (int64_t)json_object_array_length(session->said);
    asked.tokens = tokens_of(session->said);
    session->asked_us = clock_now_us();
    keeper_ask(ex->services->keeper, &session->call, &asked, on_begun, ex);
    return STAGE_WAIT;
}

/* --- the end --- */

static void put_messages(struct buf *body, struct json_object *messages)
{
    for (size_t i = 0; i < json_object_array_length(messages); i++) {
        buf_puts(body, i ? "," : "");
        json_write(body, json_object_array_get_idx(messages, i));
    }
}

static struct json_object *answer_of(const struct exchange *ex)
{
    const struct completion *said = &ex->completion;
    struct json_object *message = json_object_new_object();
    json_object_object_add(message, "role", json_object_new_string("assistant"));
    json_object_object_add(
        message, "content",
        said->content.at ? json_object_new_string_len(said->content.at, (int)said->content.len)
                         : NULL);
    if (said->tool_calls)
        json_object_object_add(message, "tool_calls", json_object_get(said->tool_calls));
    return message;
}

static void on_committed(void *context, const struct keeper_message *answer)
{
    struct exchange *ex = context;
    ex->waited_us += clock_now_us() - ex->session.asked_us;
    keeper_close(ex->services->keeper, &ex->session.turn, false);
    if (answer->type != KEEPER_COMMITTED)
        refuse(ex, (enum keeper_refusal)answer->refusal);
    exchange_resume(ex);
}

enum stage_result stage_remember(struct exchange *ex)
{
    struct session_state *session = &ex->session;
    if (!session->turn.open)
        return STAGE_NEXT;
    struct json_object *said = session->said, *answer = answer_of(ex);
    struct keeper_message asked = message_for(ex, KEEPER_COMMIT);
    struct buf body = {0};
    json_object_array_add(said, answer);
    put_messages(&body, said);
    asked.body = buf_view(&body);
    asked.messages = (int64_t)json_object_array_length(said);
    asked.tokens = tokens_of(said);
    session->asked_us = clock_now_us();
    keeper_ask(ex->services->keeper, &session->call, &asked, on_committed, ex);
    buf_free(&body);
    return STAGE_WAIT;
}

void session_give_up(struct exchange *ex)
{
    if (ex->session.turn.open)
        keeper_close(ex->services->keeper, &ex->session.turn, true);
}
