#include "shared/counters/breaker.h"

enum { STATE_BITS = 2, COUNT_BITS = 20 };
#define COUNT_MAX ((UINT64_C(1) << COUNT_BITS) - 1)
#define WHICH_MAX ((UINT64_C(1) << (64 - 2 * COUNT_BITS)) - 1)

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = {"closed", "open", "probing", "refused"};
    return names[state];
}

static uint64_t pack(enum breaker_state state, int64_t since_ms)
{
    return (uint64_t)since_ms << STATE_BITS | state;
}

static enum breaker_state state_in(uint64_t packed)
{
    return (enum breaker_state)(packed & ((1u << STATE_BITS) - 1));
}

static int64_t since_in(uint64_t packed)
{
    return (int64_t)(packed >> STATE_BITS);
}

static bool is_refused(const struct shm_breaker *breaker, int64_t generation)
{
    int64_t refused = atomic_load_explicit(&breaker->refused_generation, memory_order_relaxed);
    return refused != 0 && refused >= generation;
}

enum breaker_state breaker_look(const struct shm_breaker *breaker, int64_t generation)
{
    if (is_refused(breaker, generation))
        return BREAKER_REFUSED;
    return state_in(atomic_load_explicit(&breaker->state, memory_order_relaxed));
}

bool breaker_allows(struct shm_breaker *breaker, int64_t generation,
                    const struct breaker_limits *limits, int64_t now_ms)
{
    uint64_t now = atomic_load_explicit(&breaker->state, memory_order_relaxed);
    if (is_refused(breaker, generation))
        return false;
    if (state_in(now) == BREAKER_CLOSED)
        return true;
    if (now_ms - since_in(now) < limits->probe_ms)
        return false;
    return atomic_compare_exchange_strong(&breaker->state, &now, pack(BREAKER_PROBING, now_ms));
}

/* --- the window: the half that goes on, and the one before --- */

struct tally {
    uint64_t which, calls, failed;
};

static struct tally unpack_half(uint64_t half)
{
    return (struct tally){half >> 2 * COUNT_BITS, half >> COUNT_BITS & COUNT_MAX, half & COUNT_MAX};
}

static uint64_t pack_half(const struct tally *tally)
{
    return tally->which << 2 * COUNT_BITS | tally->calls << COUNT_BITS | tally->failed;
}

/* Counts a call, and returns those of the window with it. */
static struct tally count(struct shm_breaker *breaker, const struct breaker_limits *limits,
                          int64_t now_ms, bool failed)
{
    uint64_t which = (uint64_t)(now_ms / ((limits->window_ms + 1) / 2));
    _Atomic uint64_t *place = &breaker->halves[which & 1];
    uint64_t seen = atomic_load_explicit(place, memory_order_relaxed);
    struct tally tally;
    do {
        tally = unpack_half(seen);
        if (tally.which != (which & WHICH_MAX))
            tally = (struct tally){.which = which & WHICH_MAX};
        if (tally.calls == COUNT_MAX)
            break;
        tally.calls++;
        tally.failed += failed;
    } while (!atomic_compare_exchange_weak_explicit(place, &seen, pack_half(&tally),
                                                    memory_order_relaxed, memory_order_relaxed));
    struct tally before =
        unpack_half(atomic_load_explicit(&breaker->halves[(which + 1) & 1], memory_order_relaxed));
    if (before.which == ((which - 1) & WHICH_MAX)) {
        tally.calls += before.calls;
        tally.failed += before.failed;
    }
    return tally;
}

/* A few calls say nothing about a rate. */
static bool is_too_many(const struct breaker_limits *limits, const struct tally *tally)
{
    uint64_t enough = 2 * (uint64_t)limits->failures;
    return tally->calls >= enough &&
           tally->failed * 100 >= (uint64_t)limits->error_rate * tally->calls;
}

static void forget_calls(struct shm_breaker *breaker)
{
    atomic_store_explicit(&breaker->failures, 0, memory_order_relaxed);
    for (int i = 0; i < 2; i++)
        atomic_store_explicit(&breaker->halves[i], 0, memory_order_relaxed);
}

/* --- how a call ended --- */

/* While it is open, calls that are made for want of another target change nothing: it would flap
 * with each of them. */
bool breaker_succeeded(struct shm_breaker *breaker, const struct breaker_limits *limits,
                       int64_t began_ms, int64_t now_ms)
{
    uint64_t now = atomic_load_explicit(&breaker->state, memory_order_relaxed);
    (void)count(breaker, limits, now_ms, false);
    if (atomic_load_explicit(&breaker->failures, memory_order_relaxed) != 0)
        atomic_store_explicit(&breaker->failures, 0, memory_order_relaxed);
    if (state_in(now) != BREAKER_PROBING || began_ms < since_in(now))
        return false;
    forget_calls(breaker);
    return atomic_compare_exchange_strong(&breaker->state, &now, pack(BREAKER_CLOSED, now_ms));
}

static bool is_due(const struct shm_breaker *breaker, const struct breaker_limits *limits,
                   const struct tally *tally)
{
    int64_t in_a_row = (int64_t)atomic_load_explicit(&breaker->failures, memory_order_relaxed);
    return in_a_row >= limits->failures || is_too_many(limits, tally);
}

bool breaker_failed(struct shm_breaker *breaker, const struct breaker_limits *limits,
                    int64_t began_ms, int64_t now_ms)
{
    uint64_t now = atomic_load_explicit(&breaker->state, memory_order_relaxed);
    struct tally tally = count(breaker, limits, now_ms, true);
    atomic_fetch_add_explicit(&breaker->failures, 1, memory_order_relaxed);
    if (began_ms < since_in(now) || state_in(now) == BREAKER_OPEN ||
        (state_in(now) == BREAKER_CLOSED && !is_due(breaker, limits, &tally)))
        return false;
    bool changed =
        atomic_compare_exchange_strong(&breaker->state, &now, pack(BREAKER_OPEN, now_ms));
    return changed && state_in(now) == BREAKER_CLOSED;
}

bool breaker_refuse(struct shm_breaker *breaker, int64_t generation)
{
    int64_t before = atomic_load(&breaker->refused_generation);
    while (before < generation)
        if (atomic_compare_exchange_weak(&breaker->refused_generation, &before, generation))
            return true;
    return false;
}

void breaker_reset(struct shm_breaker *breaker)
{
    forget_calls(breaker);
    atomic_store(&breaker->refused_generation, 0);
    atomic_store(&breaker->state, 0);
}
