/* The rate limits of a request: the minute and hour windows of its endpoint, token and project. A
 * request that one of them refuses takes no room in any. */
#pragma once

#include "shared/counters/ledger.h"

/* A limit of one window, as clients are told. */
struct rate_limit {
    enum budget of;
    bool hourly;
    int64_t cap;
    int64_t remaining; /* for this one refused or admitted, behind it */
    int64_t reset_s;   /* until nothing of what is counted now counts any more */
};

struct rate_verdict {
    bool admitted;
    bool limited;               /* there is a limit at all */
    struct rate_limit tightest; /* the one that refuses longest, else with the least left */
    int64_t retry_after_s;      /* refused: then there is room, if nobody else takes it */
    int64_t wait_us;            /* admitted: how much later than `now_us` it counts */
};

/* What of an account's caps and windows a request meets. */
struct rate_accounts {
    struct shm_account *of[BUDGETS];
};

/* `now_us` is monotonic; `offset_us` makes it the clock that buckets are numbered by
 * (shm_header). */
void rate_admit(const struct rate_accounts *accounts, int64_t now_us, int64_t offset_us,
                struct rate_verdict *verdict);
/* The state without taking anything: for `GET usage`. False when there is no such limit. */
bool rate_look(const struct shm_account *account, bool hourly, int64_t now_us, int64_t offset_us,
               struct rate_limit *limit);
