#include "shared/counters/rate.h"

enum { WINDOWS = 2 * BUDGETS };
enum { SECOND_US = 1000000, MINUTE_US = 60 * SECOND_US };

/* One that has a cap, and how it stands. */
struct limited {
    struct window window;
    struct window_state state;
    int64_t cap, bucket_us;
    uint32_t now;
    enum budget of;
    bool hourly;
};

static int64_t cap_of(const struct shm_account *account, enum account_cap cap)
{
    return atomic_load_explicit(&account->caps[cap], memory_order_relaxed);
}

static bool get_limited(struct shm_account *account, enum budget of, bool hourly, int64_t clock_us,
                        struct limited *one)
{
    int64_t cap = account ? cap_of(account, hourly ? CAP_PER_HOUR : CAP_PER_MINUTE) : CAP_UNLIMITED;
    if (cap == CAP_UNLIMITED)
        return false;
    *one = (struct limited){
        .window = window_of(hourly ? &account->hour : &account->minute),
        .cap = cap,
        .bucket_us = hourly ? MINUTE_US : SECOND_US,
        .of = of,
        .hourly = hourly,
    };
    one->now = (uint32_t)(clock_us / one->bucket_us);
    return true;
}

static unsigned find_limited(const struct rate_accounts *accounts, int64_t clock_us,
                             struct limited limited[WINDOWS])
{
    unsigned count = 0;
    for (unsigned i = 0; i < WINDOWS; i++)
        count += get_limited(accounts->of[i / 2], (enum budget)(i / 2), i % 2, clock_us,
                             &limited[count]);
    return count;
}

/* Whole seconds until a bucket begins, at least one. */
static int64_t seconds_until(const struct limited *one, uint32_t bucket, int64_t clock_us)
{
    int64_t us = (int64_t)bucket * one->bucket_us - clock_us;
    int64_t seconds = (us + SECOND_US - 1) / SECOND_US;
    return seconds > 1 ? seconds : 1;
}

static struct rate_limit told(const struct limited *one, int64_t clock_us)
{
    int64_t remaining = one->cap - (int64_t)one->state.used;
    uint32_t empty = one->state.bucket + WINDOW_SPAN + 1;
    return (struct rate_limit){one->of, one->hourly, one->cap, remaining > 0 ? remaining : 0,
                               one->state.used > 0 ? seconds_until(one, empty, clock_us) : 0};
}

/* Looks at all: those that refuse say when they wouldn't any more. */
static bool look_at_all(struct limited *limited, unsigned count, int64_t clock_us,
                        struct rate_verdict *verdict)
{
    for (unsigned i = 0; i < count; i++) {
        struct limited *one = &limited[i];
        if (window_look(&one->window, (uint64_t)one->cap, one->now, &one->state))
            continue;
        int64_t wait_s = seconds_until(one, one->state.free_at, clock_us);
        if (wait_s <= verdict->retry_after_s)
            continue;
        verdict->retry_after_s = wait_s;
        verdict->tightest = told(one, clock_us);
    }
    return verdict->retry_after_s == 0;
}

/* In fixed order; whoever comes later into one that another has filled gives the others back. */
static bool take_all(struct limited *limited, unsigned count, int64_t clock_us,
                     struct rate_verdict *verdict)
{
    for (unsigned i = 0; i < count; i++) {
        struct limited *one = &limited[i];
        if (window_take(&one->window, (uint64_t)one->cap, one->now, &one->state))
            continue;
        verdict->retry_after_s = seconds_until(one, one->state.free_at, clock_us);
        verdict->tightest = told(one, clock_us);
        while (i-- > 0)
            (void)window_undo(&limited[i].window, limited[i].state.bucket);
        return false;
    }
    return true;
}

static void tell_tightest(const struct limited *limited, unsigned count, int64_t clock_us,
                          struct rate_verdict *verdict)
{
    for (unsigned i = 0; i < count; i++) {
        const struct limited *one = &limited[i];
        int64_t later_us = ((int64_t)one->state.bucket - one->now) * one->bucket_us;
        struct rate_limit limit = told(one, clock_us);
        if (i == 0 || limit.remaining < verdict->tightest.remaining)
            verdict->tightest = limit;
        if (!one->hourly && later_us > verdict->wait_us)
            verdict->wait_us = later_us - clock_us % SECOND_US;
    }
}

void rate_admit(const struct rate_accounts *accounts, int64_t now_us, int64_t offset_us,
                struct rate_verdict *verdict)
{
    struct limited limited[WINDOWS];
    int64_t clock_us = now_us + offset_us;
    unsigned count = find_limited(accounts, clock_us, limited);
    *verdict = (struct rate_verdict){.limited = count > 0};
    verdict->admitted = look_at_all(limited, count, clock_us, verdict) &&
                        take_all(limited, count, clock_us, verdict);
    if (verdict->admitted)
        tell_tightest(limited, count, clock_us, verdict);
}

bool rate_look(struct shm_account *account, bool hourly, int64_t now_us, int64_t offset_us,
               struct rate_limit *limit)
{
    struct limited one;
    int64_t clock_us = now_us + offset_us;
    if (!get_limited(account, BUDGET_ENDPOINT, hourly, clock_us, &one))
        return false;
    (void)window_look(&one.window, (uint64_t)one.cap, one.now, &one.state);
    *limit = told(&one, clock_us);
    return true;
}
