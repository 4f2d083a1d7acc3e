/* Where requests are counted: rate windows and budgets, behind one table of functions. `shm` is
 * exact on one host; another driver may have to ask somebody else first, so every answer may come
 * later: COUNTED_LATER, and then `done` from the loop, once, unless it is cancelled. An answer that
 * is returned at once calls nothing. */
#pragma once

#include "shared/counters/ledger.h"
#include "shared/counters/rate.h"

enum counted { COUNTED_YES, COUNTED_NO, COUNTED_LATER };

typedef void counted_fn(void *context, enum counted answer);

struct counters_driver {
    /* Whether the request's endpoint, token and project let it in now; `verdict` tells more. */
    enum counted (*admit)(struct counters_driver *driver, const struct shm_request *request,
                          struct rate_verdict *verdict, counted_fn *done, void *context);
    /* As ledger_reserve: COUNTED_NO leaves in `refused` whose budget it doesn't fit into. */
    enum counted (*reserve)(struct counters_driver *driver, struct shm_request *request,
                            int64_t nano_usd, enum budget *refused, counted_fn *done,
                            void *context);
    /* These are done, whoever has to hear of it. */
    void (*release)(struct counters_driver *driver, struct shm_request *request);
    void (*settle)(struct counters_driver *driver, struct shm_request *request,
                   const struct settlement *settlement);
    /* Nobody waits for the answer to `context` any more. */
    void (*cancel)(struct counters_driver *driver, void *context);
    void (*free)(struct counters_driver *driver);
};

/* Of the process that has the slot. */
struct counters_driver *counters_shm_new(struct counters *counters, unsigned slot);
