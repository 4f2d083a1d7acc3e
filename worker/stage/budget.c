/* What the call may cost at most is reserved before it is made (architecture: Worst case, Waiting).
 * The call is built here, for its bytes are what bounds its tokens. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"
#include "worker/budget_queue.h"
#include "worker/fit.h"
#include "worker/pipeline.h"
#include "worker/provider/estimate.h"
#include "worker/worst_case.h"

/* --- the endpoint's cap of one request --- */

/* A policy about sizes, by the estimate; where only the answer is too long, a shorter one is asked
 * for. */
static bool hold_token_cap(struct exchange *ex)
{
    int64_t cap = ex->endpoint->request_tokens;
    int64_t *most = &ex->fitted.request.max_tokens;
    if (cap == 0)
        return true;
    int64_t input = estimate_messages(ex->fitted.request.messages);
    if (input >= cap) {
        exchange_fail(ex, API_token_cap_exceeded,
                      "The request has about %lld tokens; with an answer at most %lld may be used.",
                      (long long)input, (long long)cap);
        return false;
    }
    if (*most != 0 && input + *most <= cap)
        return true;
    bool asked = ex->parameters.max_tokens > 0;
    *most = cap - input;
    if (asked)
        fit_leave_out(ex, "max_tokens");
    return true;
}

/* --- refusals --- */

static const char *const owners[BUDGETS] = {"endpoint", "token", "project"};

static uint32_t account_of(const struct shm_request *entry, enum budget budget)
{
    const uint32_t accounts[BUDGETS] = {entry->endpoint, entry->token, entry->project};
    return accounts[budget];
}

static int64_t cap_of(const struct exchange *ex, enum budget budget)
{
    const struct counters *counters = ex->services->counters;
    uint32_t account = account_of(ex->entry, budget);
    return account == ACCOUNT_NONE
               ? CAP_UNLIMITED
               : atomic_load_explicit(&counters->accounts[account].caps[CAP_MONTHLY_NANO_USD],
                                      memory_order_relaxed);
}

static bool has_a_budget(const struct exchange *ex)
{
    for (int i = 0; i < BUDGETS; i++)
        if (cap_of(ex, (enum budget)i) != CAP_UNLIMITED)
            return true;
    return false;
}

/* Whoever reserves or settles on an account leaves a tag of its own, so while the tag is the same,
 * so is what is reserved: a budget that is used up is refused without a look at every request in
 * flight. */
static bool is_known(const struct spend_seen *now, const struct spend_seen *seen)
{
    return now->tag.operation != 0 && seen->account == now->account && seen->month == now->month &&
           spend_tag_equals(seen->tag, now->tag);
}

/* Two looks at what is committed must agree, or a reservation made in between would be taken for
 * money that is gone. */
bool budget_look(const struct exchange *ex, enum budget budget, struct budget_standing *standing)
{
    enum { LOOKS = 8 };
    const struct counters *counters = ex->services->counters;
    uint32_t account = account_of(ex->entry, budget), month = ex->entry->month;
    const struct shm_spend *spend = &counters->accounts[account].spend;
    struct spend_seen *seen = &ex->services->spend_seen[account % SPEND_SEEN];
    standing->cap = cap_of(ex, budget);
    for (int i = 0; i < LOOKS; i++) {
        bool exact = true;
        struct spend_seen now = {.account = account, .month = month};
        struct spend_tag after;
        int64_t committed = spend_amount_by(spend, month, &now.tag);
        now.reserved = is_known(&now, seen) ? seen->reserved
                                            : ledger_reserved(counters, account, month, &exact);
        standing->reserved = now.reserved;
        standing->spent = committed - now.reserved;
        (void)spend_amount_by(spend, month, &after);
        if (!spend_tag_equals(now.tag, after))
            continue;
        if (exact)
            *seen = now;
        return true;
    }
    return false;
}

static void refuse(struct exchange *ex, enum budget budget, const struct budget_standing *standing)
{
    exchange_fail(ex, API_budget_exceeded,
                  "The monthly budget of the %s has no room for this request, which may cost up to "
                  "%lld.%09lld USD.",
                  owners[budget], (long long)(ex->worst_nano_usd / 1000000000),
                  (long long)(ex->worst_nano_usd % 1000000000));
    ex->failure.scope = owners[budget];
    ex->failure.budget =
        (struct failed_budget){true, standing->spent, standing->reserved, standing->cap};
}

static enum budget_answer on_no_room(struct exchange *ex, enum budget budget, bool last)
{
    struct budget_standing standing;
    bool sure = budget_look(ex, budget, &standing);
    bool fits_later = !sure || standing.spent + ex->worst_nano_usd <= standing.cap;
    ex->waits_for = account_of(ex->entry, budget);
    if (fits_later && !last)
        return BUDGET_WAITS;
    refuse(ex, budget, &standing);
    chain_give_up(ex);
    return BUDGET_REFUSED;
}

/* --- reserving --- */

/* Between attempts no longer than the whole may take. */
static int64_t longest_wait_ms(const struct exchange *ex)
{
    int64_t wait_ms = ex->services->config->budget_wait_ms, rest_ms = chain_rest_ms(ex);
    return rest_ms >= 0 && rest_ms < wait_ms ? rest_ms : wait_ms;
}

static void on_reserved(void *context, enum counted answer)
{
    struct exchange *ex = context;
    struct budget_queue *queue = ex->services->waiting;
    int64_t wait_ms = longest_wait_ms(ex);
    bool last = wait_ms == 0 || budget_queue_is_late(ex);
    ex->counting = false;
    if (answer == COUNTED_NO && on_no_room(ex, ex->refused_budget, last) == BUDGET_WAITS) {
        budget_queue_join(queue, ex, wait_ms);
        return;
    }
    budget_queue_leave(queue, ex);
    exchange_resume(ex);
}

enum budget_answer budget_try(struct exchange *ex, bool last)
{
    struct counters_driver *driver = ex->services->counting;
    enum counted answer = driver->reserve(driver, ex->entry, ex->worst_nano_usd,
                                          &ex->refused_budget, on_reserved, ex);
    if (answer == COUNTED_YES)
        return BUDGET_HELD;
    ex->counting = answer == COUNTED_LATER;
    return ex->counting ? BUDGET_WAITS : on_no_room(ex, ex->refused_budget, last);
}

static enum stage_result reserve(struct exchange *ex)
{
    struct budget_queue *queue = ex->services->waiting;
    int64_t wait_ms = longest_wait_ms(ex);
    enum budget_answer answer = BUDGET_WAITS;
    ex->waits_for = budget_queue_shared(queue, ex);
    if (ex->waits_for == ACCOUNT_NONE || wait_ms == 0)
        answer = budget_try(ex, wait_ms == 0);
    if (answer == BUDGET_HELD)
        return STAGE_NEXT;
    if (answer == BUDGET_REFUSED)
        return STAGE_DONE;
    if (!ex->counting)
        budget_queue_join(queue, ex, wait_ms);
    return STAGE_WAIT;
}

bool budget_prepare(struct exchange *ex)
{
    struct error error;
    const struct config_target *target = chain_target(ex);
    const struct provider *provider = provider_of(target->provider, target->known.api);
    ex->target = target;
    exchange_ignore_input_only(ex);
    fit_request(ex, target, &ex->fitted);
    if (!hold_token_cap(ex))
        return false;
    buf_clear(&ex->call.body);
    ex->call.headers_count = 0;
    if (!provider->build(&ex->fitted.request, &ex->arena, &ex->call, &error)) {
        exchange_fail_at(ex, API_parameter_unsupported, "messages", "%s", error.message);
        return false;
    }
    struct worst_case worst = worst_case_of(&ex->fitted, buf_view(&ex->call.body));
    if (!worst.bounded && has_a_budget(ex)) {
        exchange_fail(ex, API_unbounded_input,
                      "The request has no most that it can cost, which its budget needs: it holds "
                      "%s.",
                      worst.why);
        return false;
    }
    ex->worst_nano_usd = worst.nano_usd;
    ex->worst_prompt_tokens = worst.prompt_tokens;
    return true;
}

/* A target that can't be asked this is passed over. */
enum stage_result stage_budget(struct exchange *ex)
{
    while (!budget_prepare(ex))
        if (!chain_pass_over(ex))
            return STAGE_DONE;
    ex->budget_began_us = clock_now_us();
    return reserve(ex);
}
