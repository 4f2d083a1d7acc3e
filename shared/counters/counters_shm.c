#include "shared/counters/counters.h"

#include "shared/base/clock.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>

struct shm_driver {
    struct counters_driver driver;
    struct counters *counters;
    struct ledger ledger;
};

static struct shm_driver *shm_of(struct counters_driver *driver)
{
    return (struct shm_driver *)driver;
}

static struct shm_account *account_at(const struct counters *counters, uint32_t account)
{
    return account == ACCOUNT_NONE ? NULL : &counters->accounts[account];
}

static enum counted admit(struct counters_driver *driver, const struct shm_request *request,
                          struct rate_verdict *verdict, counted_fn *done, void *context)
{
    const struct counters *counters = shm_of(driver)->counters;
    const struct rate_accounts accounts = {{
        [BUDGET_ENDPOINT] = account_at(counters, request->endpoint),
        [BUDGET_TOKEN] = account_at(counters, request->token),
        [BUDGET_PROJECT] = account_at(counters, request->project),
    }};
    (void)done, (void)context;
    rate_admit(&accounts, clock_now_us(), counters->header->clock_offset_us, verdict);
    return verdict->admitted ? COUNTED_YES : COUNTED_NO;
}

static enum counted reserve(struct counters_driver *driver, struct shm_request *request,
                            int64_t nano_usd, enum budget *refused, counted_fn *done, void *context)
{
    (void)done, (void)context;
    *refused = ledger_reserve(&shm_of(driver)->ledger, request, nano_usd);
    return *refused == BUDGETS ? COUNTED_YES : COUNTED_NO;
}

static void release(struct counters_driver *driver, struct shm_request *request)
{
    ledger_release(&shm_of(driver)->ledger, request);
}

static void settle(struct counters_driver *driver, struct shm_request *request,
                   const struct settlement *settlement)
{
    ledger_settle(&shm_of(driver)->ledger, request, settlement);
}

static void cancel(struct counters_driver *driver, void *context)
{
    (void)driver, (void)context; /* nobody ever waits */
}

static void free_driver(struct counters_driver *driver)
{
    free(driver);
}

struct counters_driver *counters_shm_new(struct counters *counters, unsigned slot)
{
    struct shm_driver *shm = xcalloc(1, sizeof *shm);
    shm->driver = (struct counters_driver){admit, reserve, release, settle, cancel, free_driver};
    shm->counters = counters;
    shm->ledger = ledger_of(counters, slot);
    return &shm->driver;
}
