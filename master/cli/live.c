#include "master/cli/live.h"

#include "master/config/runtime_dir.h"
#include "shared/base/buf.h"

#include <stdlib.h>

bool live_open(const char *config_dir, struct counters *counters)
{
    struct buf path = {0};
    struct error error;
    config_find_runtime_dir(config_dir, &path);
    buf_puts(&path, "/counters");
    bool opened = counters_open(counters, buf_cstr(&path), &error);
    buf_free(&path);
    return opened;
}

struct live_reserved live_reserved(const struct counters *counters, uint32_t month)
{
    struct live_reserved reserved = {.month = month};
    reserved.sums = ledger_reserved_all(counters, month, &reserved.count);
    return reserved;
}

void live_reserved_free(struct live_reserved *reserved)
{
    free(reserved->sums);
    *reserved = (struct live_reserved){0};
}

struct live_money live_money(const struct counters *counters, const struct live_reserved *reserved,
                             uint32_t account)
{
    const struct shm_account *one = &counters->accounts[account];
    int64_t held = account < reserved->count ? reserved->sums[account] : 0;
    int64_t spent = spend_amount(&one->spend, reserved->month) - held;
    return (struct live_money){spent > 0 ? spent : 0, held,
                               atomic_load(&one->caps[CAP_MONTHLY_NANO_USD])};
}

uint32_t live_find(const struct counters *counters, enum account_kind kind, struct str name,
                   struct str project)
{
    uint32_t count = atomic_load(&counters->header->accounts);
    for (uint32_t i = 0; i < count; i++) {
        const struct shm_account *account = &counters->accounts[i];
        if (atomic_load(&account->key) != 0 && atomic_load(&account->kind) == (uint32_t)kind &&
            str_eq(account_label(counters, i, 0), name) &&
            str_eq(account_label(counters, i, 1), project))
            return i;
    }
    return ACCOUNT_NONE;
}
