#include "worker/exchange.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"
#include "worker/budget_queue.h"
#include "worker/fit.h"
#include "worker/forwarded.h"
#include "worker/provider/estimate.h"
#include "worker/upstream/delay.h"
#include "worker/upstream/transfer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* What an ended exchange keeps for the next one: memory stays flat, steady load allocates little.
 */
enum { KEPT_EXCHANGES = 256, KEPT_BUFFER_BYTES = 64 * 1024 };

static struct exchange *take(struct services *services)
{
    struct exchange *ex = services->unused;
    if (!ex)
        return xcalloc(1, sizeof *ex);
    services->unused = ex->next_unused;
    spares_taken(&services->spares);
    ex->next_unused = NULL;
    return ex;
}

struct exchange *exchange_begin(struct services *services, struct http_connection *connection,
                                struct http_request *request)
{
    struct exchange *ex = take(services);
    ex->next = services->open;
    if (ex->next)
        ex->next->previous = ex;
    services->open = ex;
    services->open_count++;
    ex->services = services;
    ex->connection = connection;
    ex->request = request;
    ex->created_wall_ms = clock_wall_ms();
    ex->began_us = request->began_us;
    ex->id = uuid_v7(ex->created_wall_ms);
    uuid_format(&ex->id, ex->id_text);
    char text[IP_TEXT_SIZE];
    const char *client_ip = forwarded_client_ip(&services->config->http, request, text);
    ex->client_ip = arena_copy(&ex->arena, str_of(client_ip));
    ex->bytes_in = request->bytes_in;
    return ex;
}

static void keep_buffer(struct buf *buffer)
{
    if (buffer->cap > KEPT_BUFFER_BYTES)
        buf_free(buffer);
    buf_clear(buffer);
}

const struct provider *exchange_provider(const struct exchange *ex)
{
    const struct config_target *target = ex->attempt.target;
    return provider_of(target->provider, target->known.api);
}

void exchange_begin_attempt(struct exchange *ex, const struct config_target *target)
{
    ex->attempts++;
    ex->attempt = (struct attempt){.target = target, .began_us = clock_now_us()};
    buf_clear(&ex->reply.body);
    ex->reply = (struct upstream_reply){.provider = target->provider, .body = ex->reply.body};
    ex->retry_hints = (struct retry_hints){0};
    json_object_put(ex->completion.parsed);
    ex->completion = (struct completion){0};
    json_object_put(ex->output);
    ex->output = NULL;
    ex->output_checked = false;
    ex->chain.heard = false;
}

void exchange_end_attempt(struct exchange *ex)
{
    ex->attempt.http_status = ex->reply.status;
    ex->attempt.ended_us = clock_now_us();
    ex->upstream_us += ex->attempt.ended_us - ex->attempt.began_us;
}

static struct shm_usage usage_of(const struct usage *used)
{
    return (struct shm_usage){
        .prompt_tokens = used->prompt_tokens,
        .completion_tokens = used->completion_tokens,
        .total_tokens = used->total_tokens,
        .cached_tokens = used->cached_tokens,
        .cache_write_tokens = used->cache_write_tokens,
        .reasoning_tokens = used->reasoning_tokens,
    };
}

/* No more tokens can have been written than bytes came, unless the model bills unseen ones. What is
 * still under way when a stream is broken off comes on top: what the fastest models write until
 * they notice, and a little for calls' frames. */
static int64_t bound_of(const struct exchange *ex)
{
    enum { UNDER_WAY_TOKENS = 1024 };
    const struct config_model *model = &ex->target->known;
    int64_t tokens = ex->attempt.bill == BILL_SAID
                         ? (int64_t)ex->relay.streamed.said_bytes + UNDER_WAY_TOKENS
                         : (int64_t)ex->attempt.answer_bytes;
    int64_t most = model->reasons
                       ? ex->worst_nano_usd
                       : money_worst_cost(&model->prices, ex->worst_prompt_tokens, tokens);
    return most < ex->worst_nano_usd ? most : ex->worst_nano_usd;
}

static void price(const struct exchange *ex, struct settlement *settlement)
{
    const struct usage *used = &ex->completion.usage;
    const struct token_counts tokens = {used->prompt_tokens, used->completion_tokens,
                                        used->cached_tokens, used->cache_write_tokens};
    if (!ex->target->known.prices.known || ex->attempt.bill == BILL_NOTHING)
        return;
    if (used->reported) {
        settlement->basis = COST_REPORTED;
        settlement->cost_nano_usd = money_cost(&ex->target->known.prices, &tokens);
    } else if (ex->attempt.bill == BILL_BOUND || ex->attempt.bill == BILL_SAID) {
        settlement->basis = COST_BOUND;
        settlement->cost_nano_usd = bound_of(ex);
    } else {
        settlement->basis = COST_WORST_CASE;
        settlement->cost_nano_usd = ex->worst_nano_usd;
    }
}

/* The provider's documented maximum was wrong, or is not what models.yaml says: the whole bill
 * counts, and somebody has to look. */
static void alarm_excess(const struct exchange *ex, const struct settlement *settlement)
{
    if (settlement->cost_nano_usd <= ex->worst_nano_usd)
        return;
    atomic_fetch_add_explicit(&ex->services->counts->excesses, 1, memory_order_relaxed);
    log_error("request %s of %s/%s cost %lld nano-USD, more than the %lld that it could cost at "
              "most: models.yaml is wrong about %s",
              ex->id_text, ex->project->name, ex->endpoint->slug,
              (long long)settlement->cost_nano_usd, (long long)ex->worst_nano_usd,
              ex->target->model);
}

/* A provider that was held up may be far ahead of what it could send. */
static bool stops_here(const struct exchange *ex)
{
    const struct relay *relay = &ex->relay;
    return relay->started && relay->carries && !relay->held_up &&
           provider_stops_when_left(ex->attempt.target->provider);
}

void exchange_break_attempt(struct exchange *ex)
{
    struct usage *used = &ex->completion.usage;
    const struct streamed *streamed = &ex->relay.streamed;
    int64_t said = (int64_t)(streamed->said_bytes + 3) / 4;
    relay_collect(ex);
    if (used->reported)
        return;
    ex->attempt.bill = stops_here(ex) ? BILL_SAID : BILL_WORST;
    *used = streamed->usage;
    used->reported = false;
    used->estimated = true;
    if (used->prompt_tokens == 0)
        used->prompt_tokens = estimate_messages(ex->fitted.request.messages);
    if (used->completion_tokens < said)
        used->completion_tokens = said;
    used->total_tokens = used->prompt_tokens + used->completion_tokens;
}

void exchange_settle_attempt(struct exchange *ex)
{
    struct services *services = ex->services;
    struct settlement settlement = {
        .usage = usage_of(&ex->completion.usage),
        .upstream_us = ex->attempt.ended_us - ex->attempt.began_us,
    };
    price(ex, &settlement);
    alarm_excess(ex, &settlement);
    chain_note(ex, settlement.cost_nano_usd, settlement.basis != COST_NONE);
    ex->usage_known =
        ex->usage_known || ex->completion.usage.reported || ex->completion.usage.estimated;
    services->counting->settle(services->counting, ex->entry, &settlement);
    budget_queue_wake(services->waiting);
}

static void cancel_counting(struct exchange *ex)
{
    struct services *services = ex->services;
    budget_queue_leave(services->waiting, ex);
    if (ex->counting)
        services->counting->cancel(services->counting, ex);
    ex->counting = false;
    if (ex->entry && request_state(ex->entry) == REQUEST_HELD) {
        services->counting->release(services->counting, ex->entry);
        budget_queue_wake(services->waiting);
    }
}

void exchange_cancel(struct exchange *ex)
{
    bool under_way = ex->transfer || ex->delay;
    cancel_counting(ex);
    keeper_cancel(ex->services->keeper, &ex->keeper_call);
    chain_cancel(ex);
    transfer_cancel(&ex->transfer);
    delay_cancel(&ex->delay);
    if (!under_way)
        return;
    exchange_end_attempt(ex);
    exchange_break_attempt(ex);
    exchange_settle_attempt(ex);
}

static void leave_open(struct exchange *ex)
{
    if (ex->previous)
        ex->previous->next = ex->next;
    else
        ex->services->open = ex->next;
    if (ex->next)
        ex->next->previous = ex->previous;
    ex->services->open_count--;
}

static void free_exchange(struct exchange *ex)
{
    arena_free(&ex->arena);
    buf_free(&ex->call.body);
    buf_free(&ex->reply.body);
    free(ex);
}

void exchange_end(struct exchange *ex)
{
    leave_open(ex);
    struct services *services = ex->services;
    exchange_cancel(ex);
    keeper_close(services->keeper, &ex->repeat.hold, true);
    keeper_close(services->keeper, &ex->session.turn, true);
    buf_free(&ex->repeat.frame);
    json_object_put(ex->session.said);
    json_object_put(ex->body);
    json_object_put(ex->messages);
    fit_release(&ex->fitted);
    json_object_put(ex->input_owned);
    json_object_put(ex->completion.parsed);
    json_object_put(ex->output);
    keep_buffer(&ex->call.body);
    keep_buffer(&ex->reply.body);
    relay_release(ex);
    arena_reset(&ex->arena);
    struct exchange empty = {
        .arena = ex->arena, .call.body = ex->call.body, .reply.body = ex->reply.body};
    *ex = empty;
    if (services->spares.count < KEPT_EXCHANGES) {
        ex->next_unused = services->unused;
        services->unused = ex;
        spares_kept(&services->spares);
    } else {
        free_exchange(ex);
    }
    if (services->ended)
        services->ended(services->context);
}

static void free_kept(struct services *services, unsigned count)
{
    for (; count > 0; count--) {
        struct exchange *ex = services->unused;
        services->unused = ex->next_unused;
        free_exchange(ex);
    }
}

void exchange_tend(struct services *services)
{
    free_kept(services, spares_surplus(&services->spares));
}

void exchange_free_kept(struct services *services)
{
    free_kept(services, services->spares.count);
    services->spares = (struct spares){0};
}

void exchange_ask(struct exchange *ex, struct keeper_message *message,
                  void (*answered)(void *context, const struct keeper_message *answer))
{
    keeper_ask(ex->services->keeper, &ex->keeper_call, message, answered, ex);
}

bool exchange_has_session(const struct exchange *ex)
{
    return ex->session.wanted && !uuid_is_nil(&ex->session.id);
}

bool exchange_tells_session(const struct exchange *ex)
{
    return exchange_has_session(ex) && (ex->failure.code == API_OK || ex->session.turns > 0);
}

struct str exchange_status(const struct exchange *ex)
{
    if (ex->client_gone)
        return STR("client_closed");
    if (ex->repeat.replayed)
        return STR("replayed");
    return str_of(api_error_info(ex->failure.code)->code);
}

int64_t exchange_upstream_us(const struct exchange *ex, int64_t now_us)
{
    bool under_way = ex->attempt.began_us > 0 && ex->attempt.ended_us == 0;
    return ex->upstream_us + (under_way ? now_us - ex->attempt.began_us : 0);
}

int64_t exchange_gateway_us(const struct exchange *ex, int64_t now_us)
{
    int64_t body_wait_us = 0;
    if (ex->body_began_us > 0)
        body_wait_us = (ex->body_ended_us ? ex->body_ended_us : now_us) - ex->body_began_us;
    int64_t pause_us = ex->chain.pause_began_us ? now_us - ex->chain.pause_began_us : 0;
    int64_t own_us = now_us - ex->began_us - exchange_upstream_us(ex, now_us) - body_wait_us -
                     ex->waited_us - pause_us;
    return own_us > 0 ? own_us : 0;
}

static enum stage_result fail(struct exchange *ex, enum api_error code, const char *param,
                              const char *format, va_list args)
{
    char message[1024];
    if (ex->failure.code != API_OK)
        return STAGE_DONE;
    vsnprintf(message, sizeof message, format, args);
    ex->failure.code = code;
    ex->failure.message = arena_copy(&ex->arena, str_of(message));
    ex->failure.param = arena_copy(&ex->arena, str_of(param));
    return STAGE_DONE;
}

enum stage_result exchange_fail(struct exchange *ex, enum api_error code, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    enum stage_result result = fail(ex, code, NULL, format, args);
    va_end(args);
    return result;
}

enum stage_result exchange_fail_at(struct exchange *ex, enum api_error code, const char *param,
                                   const char *format, ...)
{
    va_list args;
    va_start(args, format);
    enum stage_result result = fail(ex, code, param, format, args);
    va_end(args);
    return result;
}

void exchange_ignore(struct exchange *ex, struct str name)
{
    struct name_list *ignored = arena_alloc(&ex->arena, sizeof *ignored);
    ignored->name = arena_copy(&ex->arena, name);
    if (ex->last_ignored)
        ex->last_ignored->next = ignored;
    else
        ex->ignored = ignored;
    ex->last_ignored = ignored;
}

void exchange_ignore_input_only(struct exchange *ex)
{
    ex->last_ignored = ex->input_ignored;
    if (ex->last_ignored)
        ex->last_ignored->next = NULL;
    else
        ex->ignored = NULL;
}
