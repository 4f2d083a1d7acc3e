#include "master/logger/cold_start.h"

#include "master/logger/spend_image.h"
#include "master/store/store.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"

struct totals {
    const struct config *config;
    struct counters *counters;
    uint32_t month;
    const struct config_project *project; /* whose rows are being added up */
    int64_t project_nano_usd;
};

static void raise_to(const struct totals *totals, uint32_t account, int64_t nano_usd)
{
    if (nano_usd > 0)
        spend_raise(&totals->counters->accounts[account].spend, totals->month, nano_usd);
}

static const struct config_project *project_named(const struct config *config, struct str name)
{
    for (size_t i = 0; i < config->projects_count; i++)
        if (str_eq(str_of(config->projects[i].name), name))
            return &config->projects[i];
    return NULL;
}

/* Of one project, endpoint by endpoint: those that the configuration has lost count in it, too. */
static bool add_endpoint(void *context, const struct store_spend *spend)
{
    struct totals *totals = context;
    if (!totals->project || !str_eq(spend->group, str_of(totals->project->name)))
        return true;
    const struct config_endpoint *endpoint = config_endpoint(totals->project, spend->name);
    totals->project_nano_usd += spend->cost_nano_usd;
    if (endpoint)
        raise_to(totals, endpoint->account, spend->cost_nano_usd);
    return true;
}

static bool add_token(void *context, const struct store_spend *spend)
{
    const struct totals *totals = context;
    if (!project_named(totals->config, spend->group))
        return true;
    for (size_t i = 0; i < totals->config->tokens_count; i++) {
        const struct config_token *token = &totals->config->tokens[i];
        if (str_eq(str_of(token->name), spend->name))
            raise_to(totals, token->account, spend->cost_nano_usd);
    }
    return true;
}

static bool add_up(struct totals *totals, struct store *store, const char *month,
                   struct error *error)
{
    for (size_t i = 0; i < totals->config->projects_count; i++) {
        totals->project = &totals->config->projects[i];
        totals->project_nano_usd = 0;
        if (!store_spend(store, month, STORE_BY_ENDPOINT, add_endpoint, totals, error))
            return false;
        raise_to(totals, totals->project->account, totals->project_nano_usd);
    }
    return store_spend(store, month, STORE_BY_TOKEN, add_token, totals, error);
}

bool cold_start(const struct config *config, struct counters *counters, struct error *error)
{
    char month[MONTH_SIZE];
    int64_t now_ms = clock_wall_ms();
    struct totals totals = {.config = config,
                            .counters = counters,
                            .month = month_number(&config->store.months, now_ms)};
    struct store *store = NULL;
    struct error damaged;
    month_name(&config->store.months, now_ms, month);
    if (!store_open_reader(&config->store, &store, error))
        return false;
    bool good = add_up(&totals, store, month, error);
    store_close(&store);
    if (!good)
        return false;
    if (!spend_image_restore(config->state_dir, counters, &damaged))
        log_error("%s: the month's budgets begin with what the store says", damaged.message);
    STEP(cold_start_done);
    atomic_store(&counters->header->cold, 0);
    log_info("a new counters file: the budgets of %s begin with what was spent", month);
    return true;
}
