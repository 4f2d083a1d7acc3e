#include "shared/counters/rate.h"

enum { WINDOWS = 2 * BUDGETS };
enum { SECOND_US = 1000000, MINUTE_US = 60 * SECOND_US };

/* The clock, in the buckets of either kind of window. */
struct moment {
    int64_t clock_us;
    uint32_t second, minute;
};

static struct moment moment_of(int64_t now_us, int64_t offset_us)
{
    struct moment moment = {.clock_us = now_us + offset_us};
    moment.second = (uint32_t)(moment.clock_us / SECOND_US);
    moment.minute = moment.second / 60;
    return moment;
}

/* One that has a cap, and how it stands. */
struct limited {
    struct window window;
    struct window_state state;
    int64_t cap;
    enum budget of;
    bool hourly;
};

static int64_t cap_of(const struct shm_account *account, enum account_cap cap)
{
    return atomic_load_explicit(&account->caps[cap], memory_order_relaxed);
}

static bool get_limited(struct shm_account *account, enum budget of, bool hourly,
                        struct limited *one)
{
    int64_t cap = cap_of(account, hourly ? CAP_PER_HOUR : CAP_PER_MINUTE);
    if (cap == CAP_UNLIMITED)
        return false;
    one->window = window_of(hourly ? &account->hour : &account->minute);
    one->cap = cap;
    one->of = of;
    one->hourly = hourly;
    return true;
}

static unsigned find_limited(const struct rate_accounts *accounts, struct limited limited[WINDOWS])
{
    unsigned count = 0;
    for (enum budget of = 0; of < BUDGETS; of++) {
        struct shm_account *account = accounts->of[of];
        if (!account)
            continue;
        count += get_limited(account, of, false, &limited[count]);
        count += get_limited(account, of, true, &limited[count]);
    }
    return count;
}

static uint32_t now_of(const struct limited *one, const struct moment *moment)
{
    return one->hourly ? moment->minute : moment->second;
}

/* Whole seconds until a bucket begins, at least one. */
static int64_t seconds_until(const struct limited *one, uint32_t bucket,
                             const struct moment *moment)
{
    int64_t us = (int64_t)bucket * (one->hourly ? MINUTE_US : SECOND_US) - moment->clock_us;
    int64_t seconds = (us + SECOND_US - 1) / SECOND_US;
    return seconds > 1 ? seconds : 1;
}

static struct rate_limit told(const struct limited *one, const struct moment *moment)
{
    int64_t remaining = one->cap - (int64_t)one->state.used;
    uint32_t empty = one->state.bucket + WINDOW_SPAN + 1;
    return (struct rate_limit){one->of, one->hourly, one->cap, remaining > 0 ? remaining : 0,
                               one->state.used > 0 ? seconds_until(one, empty, moment) : 0};
}

/* Looks at all: those that refuse say when they wouldn't any more. */
static bool look_at_all(struct limited *limited, unsigned count, const struct moment *moment,
                        struct rate_verdict *verdict)
{
    for (unsigned i = 0; i < count; i++) {
        struct limited *one = &limited[i];
        if (window_look(&one->window, (uint64_t)one->cap, now_of(one, moment), &one->state))
            continue;
        int64_t wait_s = seconds_until(one, one->state.free_at, moment);
        if (wait_s <= verdict->retry_after_s)
            continue;
        verdict->retry_after_s = wait_s;
        verdict->tightest = told(one, moment);
    }
    return verdict->retry_after_s == 0;
}

/* In fixed order; whoever comes later into one that another has filled gives the others back. */
static bool take_all(struct limited *limited, unsigned count, const struct moment *moment,
                     struct rate_verdict *verdict)
{
    for (unsigned i = 0; i < count; i++) {
        struct limited *one = &limited[i];
        if (window_take(&one->window, (uint64_t)one->cap, now_of(one, moment), &one->state))
            continue;
        verdict->retry_after_s = seconds_until(one, one->state.free_at, moment);
        verdict->tightest = told(one, moment);
        while (i-- > 0)
            (void)window_undo(&limited[i].window, limited[i].state.bucket);
        return false;
    }
    return true;
}

static int64_t remaining_of(const struct limited *one)
{
    return one->cap - (int64_t)one->state.used;
}

static void tell_tightest(const struct limited *limited, unsigned count,
                          const struct moment *moment, struct rate_verdict *verdict)
{
    const struct limited *tightest = limited;
    for (unsigned i = 0; i < count; i++) {
        const struct limited *one = &limited[i];
        if (remaining_of(one) < remaining_of(tightest))
            tightest = one;
        if (one->hourly || one->state.bucket <= moment->second)
            continue;
        /* Another process's clock was ahead: it counts when that second begins. */
        int64_t wait_us = (int64_t)one->state.bucket * SECOND_US - moment->clock_us;
        if (wait_us > verdict->wait_us)
            verdict->wait_us = wait_us;
    }
    if (count > 0)
        verdict->tightest = told(tightest, moment);
}

void rate_admit(const struct rate_accounts *accounts, int64_t now_us, int64_t offset_us,
                struct rate_verdict *verdict)
{
    struct limited limited[WINDOWS];
    unsigned count = find_limited(accounts, limited);
    *verdict = (struct rate_verdict){.limited = count > 0};
    const struct moment moment = moment_of(now_us, offset_us);
    verdict->admitted =
        look_at_all(limited, count, &moment, verdict) && take_all(limited, count, &moment, verdict);
    if (verdict->admitted)
        tell_tightest(limited, count, &moment, verdict);
}

bool rate_look(const struct shm_account *account, bool hourly, int64_t now_us, int64_t offset_us,
               struct rate_limit *limit)
{
    struct limited one;
    const struct moment moment = moment_of(now_us, offset_us);
    if (!get_limited((struct shm_account *)(uintptr_t)account, BUDGET_ENDPOINT, hourly, &one))
        return false;
    uint32_t now = now_of(&one, &moment);
    one.state = (struct window_state){.bucket = now, .used = window_used(&one.window, now)};
    *limit = told(&one, &moment);
    return true;
}
