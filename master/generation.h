/* A generation: the workers that serve one configuration.
 *
 *   STARTING ── all its workers are ready ──> SERVING ── a newer one serves ──> RETIRING ──> gone
 *       └────── one of them died first, or it took too long ──> FAILED ──> gone
 *
 * At most one starts and one serves at a time. */
#pragma once

#include "master/process.h"
#include "shared/token_table.h"

enum generation_state {
    GENERATION_STARTING,
    GENERATION_SERVING,
    GENERATION_RETIRING,
    GENERATION_FAILED,
};

enum { GENERATIONS_MAX = 4, GENERATION_START_MS = 30000, GENERATION_GRACE_MS = 2000 };

struct generation {
    int64_t number;
    enum generation_state state;
    struct config *config;      /* owned */
    struct token_table *tokens; /* owned */
    uint32_t accounts;          /* how many each of its workers has mapped; UINT32_MAX = none is
                                   forked yet */
    struct process *workers;
    unsigned count;
    int64_t began_ms;
    int64_t serving_since_ms;
    bool announced;        /* that it serves */
    int64_t kill_after_ms; /* once retiring, failed or stopping */
};

/* Takes over the configuration and the tokens. Nothing is started yet. */
struct generation *generation_new(int64_t number, struct config *config,
                                  struct token_table *tokens);
/* Every worker is gone; the caller's pointer becomes NULL. */
void generation_free(struct generation **generation);
/* Starts the workers that are missing and may be started (a dead one of a retiring or failed
 * generation is not missed). */
void generation_start_missing(struct generation *generation, struct inheritance *inheritance);
unsigned generation_living(const struct generation *generation);
bool generation_is_ready(const struct generation *generation, const struct counters *counters);
struct process *generation_find(struct generation *generation, pid_t pid);
/* Asks its workers to leave: SIGHUP (a newer one serves) or SIGTERM (the gateway stops). After
 * `timeout_ms` they do so by themselves; a little later generation_tend kills. */
void generation_dismiss(struct generation *generation, enum generation_state state, int number,
                        int64_t timeout_ms);
/* Watches heartbeats and keeps the time of those that were dismissed. */
void generation_tend(struct generation *generation, const struct counters *counters);
/* Publishes which worker is to accept from which of `sockets` sockets: its own each, and where a
 * worker has not been ready for a second, or has hung that long, the next one that serves. */
void generation_publish_owners(const struct generation *generation, unsigned sockets,
                               struct counters *counters);
