#include "worker/answer_usage.h"

#include "shared/base/clock.h"

#include <stdlib.h>

static void write_usd(struct buf *out, const char *name, int64_t nano_usd)
{
    buf_printf(out, ",\"%s\":", name);
    if (nano_usd == CAP_UNLIMITED)
        buf_puts(out, "null");
    else
        usd_write(out, nano_usd > 0 ? nano_usd : 0);
}

static void write_window(const struct exchange *ex, const struct shm_account *account, bool hourly,
                         struct buf *out)
{
    struct rate_limit limit;
    buf_printf(out, ",\"%s\":", hourly ? "per_hour" : "per_minute");
    if (!rate_look(account, hourly, clock_now_us(), ex->services->counters->header->clock_offset_us,
                   &limit)) {
        buf_puts(out, "null");
        return;
    }
    buf_printf(out, "{\"limit\":%lld,\"remaining\":%lld,\"reset_s\":%lld}", (long long)limit.cap,
               (long long)limit.remaining, (long long)limit.reset_s);
}

/* What is reserved, by account. */
struct reserved {
    int64_t *sums;
    uint32_t count;
};

/* Members of an object that has begun. */
static void write_account(const struct exchange *ex, const struct reserved *all, uint32_t number,
                          struct buf *out)
{
    const struct counters *counters = ex->services->counters;
    const struct shm_account *account = &counters->accounts[number];
    uint32_t month = ex->entry->month;
    int64_t reserved = number < all->count ? all->sums[number] : 0;
    write_usd(out, "spent_usd", spend_amount(&account->spend, month) - reserved);
    write_usd(out, "reserved_usd", reserved);
    write_usd(out, "cap_usd", atomic_load(&account->caps[CAP_MONTHLY_NANO_USD]));
    write_window(ex, account, false, out);
    write_window(ex, account, true, out);
}

static bool uses(const struct config_endpoint *endpoint, const struct config_credential *credential)
{
    bool found = endpoint->target.credential == credential;
    for (size_t i = 0; i < endpoint->failover_count; i++)
        found = found || endpoint->failover[i].credential == credential;
    for (size_t i = 0; i < endpoint->rules_count; i++)
        found = found || endpoint->rules[i].target.credential == credential;
    return found;
}

static bool may_use(const struct exchange *ex, const struct config_credential *credential)
{
    for (size_t i = 0; i < ex->project->endpoints_count; i++) {
        const struct config_endpoint *endpoint = &ex->project->endpoints[i];
        if (endpoint->active && token_allows(ex->token, endpoint) && uses(endpoint, credential))
            return true;
    }
    return false;
}

/* Those that the token's endpoints are answered with. */
static void write_credentials(const struct exchange *ex, struct buf *out)
{
    const struct config *config = ex->services->config;
    bool any = false;
    for (size_t i = 0; i < config->credentials_count; i++) {
        const struct config_credential *credential = &config->credentials[i];
        const struct shm_account *account = &ex->services->counters->accounts[credential->account];
        if (!may_use(ex, credential))
            continue;
        buf_printf(out, "%s{\"name\":\"%s\",\"provider\":\"%s\",\"state\":\"%s\"}", any ? "," : "",
                   credential->name, provider_name(credential->provider),
                   breaker_state_name(breaker_look(&account->breaker, ex->services->generation)));
        any = true;
    }
}

void answer_usage(const struct exchange *ex, struct buf *out)
{
    char month[MONTH_SIZE];
    bool any = false;
    struct reserved reserved;
    reserved.sums = ledger_reserved_all(ex->services->counters, ex->entry->month, &reserved.count);
    buf_printf(out, "{\"object\":\"usage\",\"month\":\"%s\",\"project\":{\"name\":",
               month_name(&ex->services->config->store.months, ex->created_wall_ms, month));
    json_write_string(out, str_of(ex->project->title));
    write_account(ex, &reserved, ex->project->account, out);
    buf_puts(out, "},\"token\":{\"name\":");
    json_write_string(out, token_name(ex->token));
    write_account(ex, &reserved, ex->token->account, out);
    buf_puts(out, "},\"endpoints\":[");
    for (size_t i = 0; i < ex->project->endpoints_count; i++) {
        const struct config_endpoint *endpoint = &ex->project->endpoints[i];
        if (!endpoint->active || !token_allows(ex->token, endpoint))
            continue;
        buf_printf(out, "%s{\"id\":\"%s\"", any ? "," : "", endpoint->slug);
        write_account(ex, &reserved, endpoint->account, out);
        buf_putc(out, '}');
        any = true;
    }
    buf_puts(out, "],\"credentials\":[");
    write_credentials(ex, out);
    buf_puts(out, "]}");
    free(reserved.sums);
}
