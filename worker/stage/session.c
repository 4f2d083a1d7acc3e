/* Conversations that the gateway keeps (contract: Sessions). The turn begins when its own messages
 * are known; the stage remember stores it. */
#include "worker/stage/stage.h"

#include "worker/pipeline.h"
#include "worker/provider/chat.h"
#include "worker/remember.h"

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
    ex->session.id = begun->session;
    ex->session.turns = begun->turn;
    struct keeper_message turn = remember_message(ex, KEEPER_ANNOUNCE, ABOUT_TURN);
    keeper_open(ex->services->keeper, &ex->session.turn, &turn);
    if (read_history(begun->body, &history))
        put_history(ex, history);
    else
        remember_refuse(ex, KEEPER_UNAVAILABLE);
    json_object_put(history);
}

static void on_begun(void *context, const struct keeper_message *answer)
{
    struct exchange *ex = context;
    if (answer->type == KEEPER_BEGUN)
        take_begun(ex, answer);
    else
        remember_refuse(ex, (enum keeper_refusal)answer->refusal);
    exchange_resume(ex);
}

enum stage_result stage_session(struct exchange *ex)
{
    struct session_state *session = &ex->session;
    if (!session->wanted)
        return STAGE_NEXT;
    session->said = own_messages(ex);
    struct keeper_message asked = remember_message(ex, KEEPER_BEGIN, ABOUT_TURN);
    asked.messages = (int64_t)json_object_array_length(session->said);
    asked.tokens = remember_tokens(session->said);
    exchange_ask(ex, &asked, on_begun);
    return STAGE_WAIT;
}
