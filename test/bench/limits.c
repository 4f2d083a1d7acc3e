/* What limits and budgets cost a request: four windows (minute and hour, of endpoint and token) and
 * two budgets, admitted, reserved, sent and settled. Run under callgrind, which counts the
 * instructions of `serve`.
 *
 *   bench-limits ACCOUNTS REQUESTS */
#include "shared/base/clock.h"
#include "shared/counters/rate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct shm_worker worker;
static struct shm_request request;

__attribute__((noinline)) void serve(const struct ledger *ledger, uint32_t endpoint, uint32_t token,
                                     int64_t now_us);

void serve(const struct ledger *ledger, uint32_t endpoint, uint32_t token, int64_t now_us)
{
    const struct rate_accounts accounts = {
        {&ledger->accounts[endpoint], &ledger->accounts[token], NULL}};
    const struct settlement settlement = {.cost_nano_usd = 4000, .basis = COST_REPORTED};
    struct rate_verdict verdict;
    request.endpoint = endpoint;
    request.token = token;
    rate_admit(&accounts, now_us, 0, &verdict);
    if (!verdict.admitted || ledger_reserve(ledger, &request, 10000) != BUDGETS)
        abort();
    request_set_state(&request, REQUEST_SENT);
    ledger_settle(ledger, &request, &settlement);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    size_t count = strtoul(argv[1], NULL, 10), requests = strtoul(argv[2], NULL, 10);
    struct shm_account *accounts = aligned_alloc(128, 2 * count * sizeof *accounts);
    if (!accounts)
        return 1;
    memset((void *)accounts, 0, 2 * count * sizeof *accounts);
    for (size_t i = 0; i < 2 * count; i++) {
        atomic_store(&accounts[i].caps[CAP_PER_MINUTE], 1000000000);
        atomic_store(&accounts[i].caps[CAP_PER_HOUR], 1000000000);
        atomic_store(&accounts[i].caps[CAP_MONTHLY_NANO_USD], INT64_C(1000000000000000));
    }
    const struct ledger ledger = {accounts, &worker, 1, 0};
    request.project = ACCOUNT_NONE;
    request.month = 323;
    request_set_state(&request, REQUEST_OPEN);
    /* A thousand a second, for as many seconds as it takes: buckets come and go. */
    for (size_t i = 0; i < requests; i++) {
        uint32_t endpoint = (uint32_t)(i * 7919 % count),
                 token = (uint32_t)(count + i * 31 % count);
        serve(&ledger, endpoint, token, INT64_C(1795000000000000) + (int64_t)i * 1000);
    }
    printf("%zu\n", requests);
    free((void *)accounts);
    return 0;
}
