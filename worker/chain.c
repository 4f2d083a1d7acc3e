#include "worker/chain.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "worker/exchange.h"
#include "worker/upstream/delay.h"

#include <sodium.h>
#include <stdlib.h>

/* --- what an end means --- */

enum move {
    MOVE_BACK,      /* that's it: to the client */
    MOVE_ON,        /* the next target */
    MOVE_AGAIN,     /* the same again, and on when it has had its tries */
    MOVE_WHEN_TOLD, /* likewise, where the provider says when; else the next target */
    MOVE_REPAIR,    /* the same is shown what is wrong, and on when it has had its turns */
};

/* What it tells of the credential. */
enum health { HEALTH_GOOD, HEALTH_BAD, HEALTH_REFUSED };

static const struct {
    enum move move;
    enum health health;
} meanings[END_COUNT] = {
    [END_ANSWERED] = {MOVE_BACK, HEALTH_GOOD},
    [END_REJECTED] = {MOVE_BACK, HEALTH_GOOD},
    [END_NO_MODEL] = {MOVE_ON, HEALTH_GOOD},
    [END_KEY_REFUSED] = {MOVE_ON, HEALTH_REFUSED},
    [END_LIMITED] = {MOVE_WHEN_TOLD, HEALTH_BAD},
    [END_FAILED] = {MOVE_AGAIN, HEALTH_BAD},
    [END_FAILED_FOR_GOOD] = {MOVE_ON, HEALTH_BAD},
    [END_UNREACHABLE] = {MOVE_AGAIN, HEALTH_BAD},
    [END_UNTRUSTED] = {MOVE_ON, HEALTH_BAD},
    [END_BROKEN] = {MOVE_AGAIN, HEALTH_BAD},
    [END_LATE] = {MOVE_ON, HEALTH_BAD},
    [END_UNUSABLE] = {MOVE_ON, HEALTH_BAD},
    [END_UNFIT] = {MOVE_REPAIR, HEALTH_GOOD},
    [END_DECLINED] = {MOVE_ON, HEALTH_GOOD},
};

/* The longest that a provider may ask to wait: whoever wants more is passed over. */
enum { LONGEST_WAIT_MS = 2000 };

/* --- targets --- */

unsigned chain_length(const struct exchange *ex)
{
    return 1 + (unsigned)ex->endpoint->failover_count;
}

static const struct config_target *target_at(const struct exchange *ex, unsigned place)
{
    if (place > 0)
        return &ex->endpoint->failover[place - 1];
    return ex->chain.rule ? &ex->chain.rule->target : &ex->endpoint->target;
}

const struct config_target *chain_target(const struct exchange *ex)
{
    return target_at(ex, ex->chain.place);
}

static struct breaker_limits limits_of(const struct exchange *ex)
{
    const struct config_breaker *breaker = &ex->services->config->upstream.breaker;
    return (struct breaker_limits){breaker->failures, breaker->error_rate, breaker->window_ms,
                                   breaker->probe_ms};
}

static struct shm_breaker *breaker_at(const struct exchange *ex, unsigned place)
{
    const struct config_credential *credential = target_at(ex, place)->credential;
    return &ex->services->counters->accounts[credential->account].breaker;
}

static bool is_closed(const struct exchange *ex, unsigned place)
{
    return breaker_look(breaker_at(ex, place), ex->services->generation) == BREAKER_CLOSED;
}

static bool was_tried(const struct exchange *ex, unsigned place)
{
    return ex->chain.tried >> place & 1;
}

/* A native stream that has begun goes on in its own kind. */
static bool speaks_the_same(const struct exchange *ex, unsigned place)
{
    const struct relay *relay = &ex->relay;
    return !relay->begun || !relay->native ||
           target_at(ex, place)->provider == chain_target(ex)->provider;
}

static bool may_try(struct exchange *ex, unsigned place)
{
    const struct breaker_limits limits = limits_of(ex);
    struct shm_breaker *breaker = breaker_at(ex, place);
    int64_t generation = ex->services->generation;
    if (was_tried(ex, place) || !speaks_the_same(ex, place))
        return false;
    if (!ex->chain.last_resort)
        return breaker_allows(breaker, generation, &limits, clock_now_ms());
    return ex->attempts == 0 || breaker_look(breaker, generation) != BREAKER_REFUSED;
}

static bool take_from(struct exchange *ex, unsigned place)
{
    struct chain *chain = &ex->chain;
    for (; place < chain_length(ex); place++) {
        if (!may_try(ex, place))
            continue;
        chain->place = place;
        chain->tried |= UINT64_C(1) << place;
        chain->tries = 0;
        chain->repairs = 0;
        ex->unfit = (struct failure){0};
        chain->share_until_us = 0;
        return true;
    }
    return false;
}

/* Those that were passed over have their turn when nobody else is left. */
static bool take_next(struct exchange *ex, unsigned place)
{
    struct chain *chain = &ex->chain;
    if (take_from(ex, place))
        return true;
    if (chain->last_resort)
        return false;
    chain->last_resort = true;
    return take_from(ex, 0);
}

void chain_begin(struct exchange *ex, const struct config_rule *rule)
{
    ex->chain.rule = rule;
    if (!take_next(ex, 0))
        abort(); /* without an attempt everybody has a turn */
}

/* --- time --- */

/* Targets that may still have a turn, with the one under way. */
static unsigned count_left(const struct exchange *ex)
{
    unsigned left = 1;
    for (unsigned i = 0; i < chain_length(ex); i++)
        left += !was_tried(ex, i) && (ex->chain.last_resort || is_closed(ex, i));
    return left;
}

int64_t chain_rest_ms(const struct exchange *ex)
{
    int64_t rest_us = ex->chain.until_us - clock_now_us();
    if (ex->chain.until_us == 0)
        return -1;
    return rest_us > 0 ? (rest_us + 999) / 1000 : 0;
}

/* A stream's share ends when it says something. */
int64_t chain_time_ms(struct exchange *ex)
{
    struct chain *chain = &ex->chain;
    int64_t now_us = clock_now_us();
    if (chain->until_us == 0)
        chain->until_us = now_us + target_at(ex, 0)->timeout_ms * 1000;
    int64_t rest_us = chain->until_us - now_us;
    if (chain->share_until_us == 0)
        chain->share_until_us = now_us + rest_us / count_left(ex);
    int64_t most_ms = (chain->share_until_us - now_us + 999) / 1000;
    int64_t own_ms = chain_target(ex)->timeout_ms;
    int64_t time_ms = most_ms < own_ms ? most_ms : own_ms;
    return time_ms > 0 ? time_ms : 1;
}

/* Half of it is left to chance, so that those who failed together don't come back together. */
static int64_t back_off_ms(unsigned tries)
{
    enum { FIRST_MS = 100, MOST_MS = 2000 };
    int64_t ms = tries < 5 ? FIRST_MS << tries : MOST_MS;
    ms = ms < MOST_MS ? ms : MOST_MS;
    return ms / 2 + randombytes_uniform((uint32_t)(ms / 2 + 1));
}

/* --- the row's attempts --- */

static void add_note(struct exchange *ex, const struct attempt_row *row)
{
    struct chain *chain = &ex->chain;
    struct attempt_note *note = arena_alloc(&ex->arena, sizeof *note);
    *note = (struct attempt_note){.row = *row};
    if (chain->last_note)
        chain->last_note->next = note;
    else
        chain->notes = note;
    chain->last_note = note;
    chain->notes_count++;
}

static struct attempt_row row_for(const struct exchange *ex, const struct config_target *target)
{
    return (struct attempt_row){
        .provider = str_of(provider_name(target->provider)),
        .model = str_of(target->model),
        .credential = str_of(target->credential->name),
        .status = exchange_status(ex),
        .cost_nano_usd = ATTEMPT_NO_COST,
    };
}

void chain_note(struct exchange *ex, int64_t cost_nano_usd, bool has_cost)
{
    const struct attempt *attempt = &ex->attempt;
    struct attempt_row row = row_for(ex, attempt->target);
    row.http_status = attempt->http_status;
    row.ms = (attempt->ended_us - attempt->began_us + 500) / 1000;
    row.prompt_tokens = ex->completion.usage.prompt_tokens;
    row.completion_tokens = ex->completion.usage.completion_tokens;
    row.error = attempt->error;
    if (has_cost)
        row.cost_nano_usd = cost_nano_usd;
    add_note(ex, &row);
}

/* A target that had its turn, and no attempt. */
static void note_passed_over(struct exchange *ex, unsigned place)
{
    struct attempt_row row = row_for(ex, target_at(ex, place));
    row.error = ex->failure.message;
    add_note(ex, &row);
}

/* --- what it tells of the credential --- */

static void note_failure(const struct exchange *ex)
{
    const struct config_credential *credential = ex->attempt.target->credential;
    const struct breaker_limits limits = limits_of(ex);
    if (breaker_failed(breaker_at(ex, ex->chain.place), &limits, ex->attempt.began_us / 1000,
                       clock_now_ms()))
        log_warning("credential %s (%s) fails too often and is left alone, but for a try every "
                    "%lld ms; last: %s, status %d",
                    credential->name, provider_name(credential->provider),
                    (long long)limits.probe_ms, api_error_info(ex->failure.code)->code,
                    ex->attempt.http_status);
}

static void note_success(const struct exchange *ex)
{
    const struct config_credential *credential = ex->attempt.target->credential;
    const struct breaker_limits limits = limits_of(ex);
    if (breaker_succeeded(breaker_at(ex, ex->chain.place), &limits, ex->attempt.began_us / 1000,
                          clock_now_ms()))
        log_info("credential %s (%s) works again", credential->name,
                 provider_name(credential->provider));
}

static void note_refusal(const struct exchange *ex)
{
    const struct config_credential *credential = ex->attempt.target->credential;
    if (breaker_refuse(breaker_at(ex, ex->chain.place), ex->services->generation))
        log_error("credential %s was refused by %s with status %d: it is left alone until the next "
                  "reload",
                  credential->name, provider_name(credential->provider), ex->attempt.http_status);
}

/* Whoever pays what is due mends that, and no reload. */
static bool is_out_of_money(const struct exchange *ex)
{
    return ex->attempt.http_status == 402 || ex->attempt.http_status == 429;
}

static void report(const struct exchange *ex, enum attempt_end end)
{
    enum health health = meanings[end].health;
    if (health == HEALTH_REFUSED && !is_out_of_money(ex))
        note_refusal(ex);
    else if (health != HEALTH_GOOD)
        note_failure(ex);
    else if (!ex->chain.heard)
        note_success(ex);
}

void chain_hear(struct exchange *ex)
{
    delay_cancel(&ex->chain.share);
    if (!ex->chain.heard)
        note_success(ex);
    ex->chain.heard = true;
}

/* --- the next one --- */

static void forget_failure(struct exchange *ex)
{
    ex->last_failure = ex->failure;
    ex->failure = (struct failure){0};
}

/* Whoever comes again after an attempt that was paid for pays twice. */
static void end_with_failure(struct exchange *ex)
{
    bool paid = request_sums(ex->entry)->cost_nano_usd > 0;
    if (api_error_info(ex->failure.code)->status == 502)
        ex->failure.final = ex->failure.final || paid;
}

void chain_give_up(struct exchange *ex)
{
    if (ex->attempts == 0)
        return;
    note_passed_over(ex, ex->chain.place);
    ex->failure = ex->last_failure;
    end_with_failure(ex);
}

bool chain_pass_over(struct exchange *ex)
{
    unsigned place = ex->chain.place;
    if (!take_next(ex, place + 1)) {
        chain_give_up(ex);
        return false;
    }
    note_passed_over(ex, place);
    ex->failure = (struct failure){0};
    return true;
}

/* Somebody else is more likely to answer than one who has failed too often. */
static bool tries_again(const struct exchange *ex, enum attempt_end end, int64_t *wait_ms)
{
    const struct chain *chain = &ex->chain;
    enum move move = meanings[end].move;
    int64_t told_ms = ex->attempt.wait_ms;
    bool may = move == MOVE_AGAIN || (move == MOVE_WHEN_TOLD && told_ms > 0);
    bool others = chain_length(ex) > 1;
    if (!may || chain->tries > (unsigned)ex->endpoint->retries || told_ms > LONGEST_WAIT_MS ||
        (others && !is_closed(ex, chain->place)))
        return false;
    int64_t ms = told_ms > 0 ? told_ms + randombytes_uniform(100) : back_off_ms(chain->tries - 1);
    if (clock_now_us() + ms * 1000 >= chain->share_until_us)
        return false;
    *wait_ms = ms;
    return true;
}

/* A turn more for the model, with its answer and what is wrong with it. */
static bool repairs(struct exchange *ex, enum attempt_end end)
{
    struct chain *chain = &ex->chain;
    if (meanings[end].move != MOVE_REPAIR ||
        chain->repairs >= (unsigned)ex->endpoint->output_repair ||
        clock_now_us() >= chain->share_until_us)
        return false;
    chain->repairs++;
    chain->tries = 0;
    ex->unfit = ex->failure;
    return true;
}

/* Once the client has got something of an answer, no other one can take its place. */
static bool is_over(const struct exchange *ex, enum attempt_end end)
{
    return meanings[end].move == MOVE_BACK || ex->client_gone || ex->relay.carries ||
           ex->relay.spoken || chain_rest_ms(ex) == 0;
}

bool chain_goes_on(struct exchange *ex, enum attempt_end end, int64_t *wait_ms)
{
    struct chain *chain = &ex->chain;
    chain->tries++;
    report(ex, end);
    delay_cancel(&chain->share);
    *wait_ms = 0;
    bool goes_on = !is_over(ex, end) && (repairs(ex, end) || tries_again(ex, end, wait_ms) ||
                                         take_next(ex, chain->place + 1));
    if (goes_on)
        forget_failure(ex);
    else
        end_with_failure(ex);
    return goes_on;
}

void chain_cancel(struct exchange *ex)
{
    delay_cancel(&ex->chain.pause);
    delay_cancel(&ex->chain.share);
}
