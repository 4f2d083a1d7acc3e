#include "master/cli/live.h"

#include "master/config/runtime_dir.h"
#include "shared/base/buf.h"

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

struct live_money live_money(const struct counters *counters, uint32_t account, uint32_t month)
{
    const struct shm_account *one = &counters->accounts[account];
    int64_t reserved = ledger_reserved(counters, account, month);
    int64_t spent = spend_amount(&one->spend, month) - reserved;
    return (struct live_money){spent > 0 ? spent : 0, reserved,
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
