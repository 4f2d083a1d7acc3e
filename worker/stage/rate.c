/* Whether the request comes at a time when its endpoint, token and project take one more. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"
#include "worker/pipeline.h"

static const char *scope_name(const struct rate_limit *limit)
{
    static const char *const names[BUDGETS][2] = {
        [BUDGET_ENDPOINT] = {"endpoint:minute", "endpoint:hour"},
        [BUDGET_TOKEN] = {"token:minute", "token:hour"},
        [BUDGET_PROJECT] = {"project:minute", "project:hour"},
    };
    return names[limit->of][limit->hourly];
}

static void refuse(struct exchange *ex)
{
    static const char *const owners[BUDGETS] = {"endpoint", "token", "project"};
    const struct rate_limit *limit = &ex->rate.tightest;
    exchange_fail(ex, API_rate_limited,
                  "The %s takes %lld requests %s; there is room for another in %lld s.",
                  owners[limit->of], (long long)limit->cap, limit->hourly ? "an hour" : "a minute",
                  (long long)ex->rate.retry_after_s);
    ex->failure.scope = scope_name(limit);
    ex->failure.retry_after_s = ex->rate.retry_after_s;
}

static void take(struct exchange *ex, enum counted answer)
{
    if (answer == COUNTED_NO)
        refuse(ex);
    else
        ex->admitted_wall_ms = clock_wall_ms() + ex->rate.wait_us / 1000;
}

static void on_answer(void *context, enum counted answer)
{
    struct exchange *ex = context;
    ex->counting = false;
    take(ex, answer);
    exchange_resume(ex);
}

enum stage_result stage_rate(struct exchange *ex)
{
    struct counters_driver *driver = ex->services->counting;
    enum counted answer = driver->admit(driver, ex->entry, &ex->rate, on_answer, ex);
    if (answer == COUNTED_LATER) {
        ex->counting = true;
        return STAGE_WAIT;
    }
    take(ex, answer);
    return answer == COUNTED_YES ? STAGE_NEXT : STAGE_DONE;
}
