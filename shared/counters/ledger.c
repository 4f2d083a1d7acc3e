#include "shared/counters/ledger.h"

#include "shared/base/step.h"
#include "shared/base/xalloc.h"

const char *cost_basis_name(enum cost_basis basis)
{
    static const char *const names[] = {"none", "reported", "bound", "worst_case"};
    return names[basis];
}

/* The other one of the sums is valid from now on. */
static void flip_state(struct shm_request *request, enum shm_request_state state)
{
    uint32_t flipped =
        (atomic_load_explicit(&request->state, memory_order_relaxed) & 0x100) ^ 0x100;
    atomic_store_explicit(&request->state, flipped | state, memory_order_release);
}

static struct shm_account *account_of(const struct ledger *ledger,
                                      const struct shm_request *request, unsigned budget)
{
    const uint32_t accounts[BUDGETS] = {request->endpoint, request->token, request->project};
    return accounts[budget] == ACCOUNT_NONE ? NULL : &ledger->accounts[accounts[budget]];
}

static struct spend_applied applied(const struct ledger *ledger)
{
    return (struct spend_applied){(char *)&ledger->workers[0].applied, sizeof *ledger->workers,
                                  ledger->workers_count};
}

/* The numbers of `count` operations from the one returned on. They are in the entry before the
 * first is begun: a number that nobody used is no harm, one that is used twice would be. */
static uint64_t take_numbers(const struct ledger *ledger, uint32_t count)
{
    _Atomic uint64_t *last = &ledger->workers[ledger->slot].operations;
    uint64_t before = atomic_load_explicit(last, memory_order_relaxed);
    atomic_store_explicit(last, before + count, memory_order_relaxed);
    STEP(ledger_numbers_taken);
    return before + 1;
}

static struct spend_tag adding_tag(const struct ledger *ledger, const struct shm_request *request,
                                   unsigned budget)
{
    return (struct spend_tag){ledger->slot, request->adding + budget};
}

static void add_to(const struct ledger *ledger, const struct shm_request *request, unsigned budget)
{
    const struct spend_applied applications = applied(ledger);
    struct shm_account *account = account_of(ledger, request, budget);
    if (!account)
        return;
    spend_add(&account->spend, &applications, request->month, adding_tag(ledger, request, budget),
              request->delta);
    STEP(ledger_added);
}

static void add_to_all(const struct ledger *ledger, const struct shm_request *request)
{
    for (unsigned i = 0; i < request->adding_count; i++)
        add_to(ledger, request, i);
}

/* The first `count` accounts have the reservation. */
static void give_back(const struct ledger *ledger, struct shm_request *request, uint32_t count)
{
    request->adding = take_numbers(ledger, count);
    request->adding_count = count;
    request->delta = -request->reserved;
    STEP(ledger_release_known);
    request_set_state(request, REQUEST_RELEASING);
    STEP(ledger_releasing);
    add_to_all(ledger, request);
    request_set_state(request, REQUEST_OPEN);
    STEP(ledger_released);
}

enum budget ledger_reserve(const struct ledger *ledger, struct shm_request *request,
                           int64_t nano_usd)
{
    const struct spend_applied applications = applied(ledger);
    request->reserving = take_numbers(ledger, BUDGETS);
    request->reserved = nano_usd;
    request_set_state(request, REQUEST_INTENT);
    STEP(ledger_intends);
    for (unsigned i = 0; i < BUDGETS; i++) {
        struct shm_account *account = account_of(ledger, request, i);
        if (!account)
            continue;
        int64_t cap =
            atomic_load_explicit(&account->caps[CAP_MONTHLY_NANO_USD], memory_order_relaxed);
        struct spend_tag tag = {ledger->slot, request->reserving + i};
        if (!spend_reserve(&account->spend, &applications, request->month, tag, nano_usd, cap)) {
            give_back(ledger, request, i);
            return (enum budget)i;
        }
        STEP(ledger_reserved);
    }
    request_set_state(request, REQUEST_HELD);
    STEP(ledger_held);
    return BUDGETS;
}

void ledger_release(const struct ledger *ledger, struct shm_request *request)
{
    give_back(ledger, request, BUDGETS);
}

static void add_usage(struct shm_usage *sum, const struct shm_usage *one)
{
    sum->prompt_tokens += one->prompt_tokens;
    sum->completion_tokens += one->completion_tokens;
    sum->total_tokens += one->total_tokens;
    sum->cached_tokens += one->cached_tokens;
    sum->cache_write_tokens += one->cache_write_tokens;
    sum->reasoning_tokens += one->reasoning_tokens;
}

/* Into the sums that are not valid yet. */
static void add_sums(struct shm_request *request, const struct settlement *settlement)
{
    const struct shm_sums *before = request_sums(request);
    struct shm_sums *sums = &request->sums[before == &request->sums[0]];
    *sums = *before;
    add_usage(&sums->usage, &settlement->usage);
    sums->upstream_us += settlement->upstream_us;
    if (__builtin_add_overflow(sums->cost_nano_usd, settlement->cost_nano_usd,
                               &sums->cost_nano_usd))
        sums->cost_nano_usd = INT64_MAX;
    if (settlement->basis > sums->basis)
        sums->basis = settlement->basis;
    sums->attempts++;
    sums->target = request->target;
}

void ledger_settle(const struct ledger *ledger, struct shm_request *request,
                   const struct settlement *settlement)
{
    add_sums(request, settlement);
    request->adding = take_numbers(ledger, BUDGETS);
    request->adding_count = BUDGETS;
    request->delta = settlement->cost_nano_usd - request->reserved;
    STEP(ledger_sums_known);
    flip_state(request, REQUEST_SETTLING);
    STEP(ledger_settling);
    add_to_all(ledger, request);
    request_set_state(request, REQUEST_OPEN);
    STEP(ledger_settled);
}

/* Between two states it is not known from here whether an account has changed yet: then rather too
 * much is said to be reserved than too little. */
static int64_t held_by(const struct shm_request *request)
{
    switch (request_state(request)) {
    case REQUEST_INTENT:
    case REQUEST_HELD:
    case REQUEST_SENT:
    case REQUEST_RELEASING:
        return request->reserved;
    case REQUEST_SETTLING:
        return request->delta < 0 ? -request->delta : 0;
    default:
        return 0;
    }
}

static bool is_of(const struct shm_request *request, uint32_t account)
{
    return request->endpoint == account || request->token == account || request->project == account;
}

typedef void held_fn(void *context, const struct shm_request *request, int64_t held);

/* Each entry that may have something reserved in the month. */
static void visit_held(const struct counters *counters, uint32_t month, held_fn *visit,
                       void *context)
{
    for (unsigned slot = 0; slot < counters->header->workers; slot++) {
        const struct shm_request *table = counters_requests(counters, slot);
        uint32_t count =
            atomic_load_explicit(&counters->workers[slot].entries, memory_order_relaxed);
        for (uint32_t i = 0; i < count; i++) {
            int64_t held = held_by(&table[i]);
            if (held > 0 && table[i].month == month)
                visit(context, &table[i], held);
        }
    }
}

struct one_account {
    uint32_t account;
    int64_t sum;
    bool exact;
};

static void add_to_one(void *context, const struct shm_request *request, int64_t held)
{
    struct one_account *one = context;
    enum shm_request_state state = request_state(request);
    if (!is_of(request, one->account))
        return;
    one->sum += held;
    one->exact = one->exact && (state == REQUEST_HELD || state == REQUEST_SENT);
}

int64_t ledger_reserved(const struct counters *counters, uint32_t account, uint32_t month,
                        bool *exact)
{
    struct one_account one = {.account = account, .exact = true};
    visit_held(counters, month, add_to_one, &one);
    *exact = one.exact;
    return one.sum;
}

struct all_accounts {
    int64_t *sums;
    uint32_t count;
};

static void add_to_each(void *context, const struct shm_request *request, int64_t held)
{
    const struct all_accounts *all = context;
    const uint32_t accounts[BUDGETS] = {request->endpoint, request->token, request->project};
    for (unsigned i = 0; i < BUDGETS; i++)
        if (accounts[i] < all->count)
            all->sums[accounts[i]] += held;
}

int64_t *ledger_reserved_all(const struct counters *counters, uint32_t month, uint32_t *count)
{
    struct all_accounts all = {.count = atomic_load(&counters->header->accounts)};
    all.sums = xcalloc(all.count + 1, sizeof *all.sums);
    visit_held(counters, month, add_to_each, &all);
    *count = all.count;
    return all.sums;
}

/* ---- of a slot whose process is dead ---- */

static bool has_happened(const struct ledger *ledger, const struct shm_request *request,
                         unsigned budget, uint64_t first)
{
    const struct spend_applied applications = applied(ledger);
    const struct shm_account *account = account_of(ledger, request, budget);
    const struct spend_tag tag = {ledger->slot, first + budget};
    return !account || spend_has_happened(&account->spend, &applications, request->month, tag);
}

/* A reservation is made account by account, so what has happened are the first ones. */
static uint32_t count_reserved(const struct ledger *ledger, const struct shm_request *request)
{
    uint32_t count = 0;
    while (count < BUDGETS && has_happened(ledger, request, count, request->reserving))
        count++;
    return count;
}

static void add_what_is_missing(const struct ledger *ledger, const struct shm_request *request)
{
    for (unsigned i = 0; i < request->adding_count; i++)
        if (!has_happened(ledger, request, i, request->adding))
            add_to(ledger, request, i);
}

void ledger_finish(const struct ledger *ledger, struct shm_request *request)
{
    switch (request_state(request)) {
    case REQUEST_INTENT:
        give_back(ledger, request, count_reserved(ledger, request));
        break;
    case REQUEST_RELEASING:
    case REQUEST_SETTLING:
        add_what_is_missing(ledger, request);
        request_set_state(request, REQUEST_OPEN);
        STEP(ledger_finished);
        break;
    default:
        break;
    }
}

void ledger_abandon(const struct ledger *ledger, struct shm_request *request)
{
    enum shm_request_state state = request_state(request);
    if (state == REQUEST_HELD)
        ledger_release(ledger, request);
    if (state != REQUEST_SENT)
        return;
    const struct settlement worst = {
        .cost_nano_usd = request->reserved,
        .basis = request->reserved > 0 ? COST_WORST_CASE : COST_NONE,
    };
    ledger_settle(ledger, request, &worst);
}
