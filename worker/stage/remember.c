/* What is to outlive the request is stored before the client has the end of its answer: the turn of
 * a conversation, the answer for an Idempotency-Key's next requests; both or neither. */
#include "worker/stage/stage.h"

#include "worker/answer.h"
#include "worker/pipeline.h"
#include "worker/provider/chat.h"
#include "worker/remember.h"

/* A refusal is what it said, in a place that every provider takes. */
static struct json_object *answer_of(const struct exchange *ex)
{
    const struct completion *said = &ex->completion;
    struct str text = said->content.at ? said->content : said->refusal;
    struct json_object *message = json_object_new_object();
    json_object_object_add(message, "role", json_object_new_string("assistant"));
    json_object_object_add(message, "content",
                           text.at ? json_object_new_string_len(text.at, (int)text.len) : NULL);
    if (said->tool_calls)
        json_object_object_add(message, "tool_calls", json_object_get(said->tool_calls));
    return message;
}

static void add_turn(struct exchange *ex, struct keeper_message *asked, struct buf *body)
{
    struct json_object *said = ex->session.said;
    json_object_array_add(said, answer_of(ex));
    for (size_t i = 0; i < json_object_array_length(said); i++) {
        if (i > 0)
            buf_putc(body, ',');
        json_write(body, json_object_array_get_idx(said, i));
    }
    asked->body = buf_view(body);
    asked->messages = (int64_t)json_object_array_length(said);
    asked->tokens = remember_tokens(said);
}

/* ---- the answer, as it goes out and as it will again */

static void add_reply(struct exchange *ex, struct keeper_message *asked)
{
    struct repeat_state *repeat = &ex->repeat;
    struct buf body = {0};
    struct kept_reply reply = {.kind = KEPT_JSON,
                               .session = ex->session.id,
                               .decision =
                                   str_of(ex->chain.rule ? ex->chain.rule->rule.decision : NULL)};
    if (ex->relay.asked)
        reply.kind = (uint8_t)relay_again(ex, &body);
    else
        answer_success(ex, &body);
    reply.body = buf_view(&body);
    kept_reply_write(&reply, &repeat->frame);
    buf_free(&body);
    asked->answer = buf_view(&repeat->frame);
}

static void close_both(struct exchange *ex, bool abort)
{
    keeper_close(ex->services->keeper, &ex->repeat.hold, abort);
    keeper_close(ex->services->keeper, &ex->session.turn, abort);
}

/* Nobody but the keeper gives the same key to two requests; it may have had to, when another
 * worker could not say in time that it held it. Whose answer was stored first is the key's. */
static void take_kept(struct exchange *ex, struct str kept)
{
    if (ex->relay.begun)
        remember_refuse(ex, KEEPER_IN_PROGRESS);
    else
        remember_replay(ex, kept);
}

static void on_committed(void *context, const struct keeper_message *answer)
{
    struct exchange *ex = context;
    close_both(ex, answer->type == KEEPER_REFUSED);
    if (answer->type == KEEPER_KEPT)
        take_kept(ex, answer->answer);
    else if (answer->type != KEEPER_COMMITTED)
        remember_refuse(ex, (enum keeper_refusal)answer->refusal);
    else if (ex->repeat.wanted && !ex->relay.asked)
        ex->repeat.answered = kept_reply_read(buf_view(&ex->repeat.frame), &ex->repeat.reply);
    exchange_resume(ex);
}

/* What of it the keeper waits for. */
static unsigned open_of(const struct exchange *ex)
{
    return (ex->session.turn.open ? ABOUT_TURN : 0U) | (ex->repeat.hold.open ? ABOUT_KEY : 0U);
}

enum stage_result stage_remember(struct exchange *ex)
{
    struct buf body = {0};
    unsigned open = open_of(ex);
    if (!open)
        return STAGE_NEXT;
    struct keeper_message asked = remember_message(ex, KEEPER_COMMIT, open);
    if (open & ABOUT_TURN)
        add_turn(ex, &asked, &body);
    if (open & ABOUT_KEY)
        add_reply(ex, &asked);
    exchange_ask(ex, &asked, on_committed);
    buf_free(&body);
    return STAGE_WAIT;
}

/* ---- the end that is none */

static void on_aborted(void *context, const struct keeper_message *answer)
{
    struct exchange *ex = context;
    close_both(ex, answer->type != KEEPER_ABORTED);
    exchange_resume(ex);
}

enum stage_result stage_let_go(struct exchange *ex)
{
    unsigned open = open_of(ex);
    if (!open)
        return STAGE_NEXT;
    if (ex->client_gone) { /* nobody waits for it */
        close_both(ex, true);
        return STAGE_NEXT;
    }
    struct keeper_message asked = remember_message(ex, KEEPER_ABORT, open);
    exchange_ask(ex, &asked, on_aborted);
    return STAGE_WAIT;
}
