#include "master/generation.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <signal.h>
#include <stdlib.h>

enum { NEIGHBOUR_AFTER_MS = 1000, FORK_RETRY_MS = 1000 };

struct generation *generation_new(int64_t number, struct config *config, struct token_table *tokens)
{
    struct generation *generation = xcalloc(1, sizeof *generation);
    generation->number = number;
    generation->config = config;
    generation->tokens = tokens;
    generation->accounts = UINT32_MAX;
    generation->count = (unsigned)config->workers;
    generation->began_ms = clock_now_ms();
    generation->workers = xcalloc(generation->count, sizeof *generation->workers);
    for (unsigned i = 0; i < generation->count; i++)
        generation->workers[i] = (struct process){
            .role = PROCESS_WORKER,
            .index = i,
            .of = generation->count,
            .generation = number,
            .config = config,
            .tokens = tokens,
            .slot = -1,
            .unready_since_ms = generation->began_ms,
        };
    return generation;
}

void generation_free(struct generation **place)
{
    struct generation *generation = *place;
    *place = NULL;
    config_free(&generation->config);
    token_table_free(&generation->tokens);
    free(generation->workers);
    free(generation);
}

void generation_start_missing(struct generation *generation, struct inheritance *inheritance)
{
    struct error error;
    int64_t now_ms = clock_now_ms();
    if (generation->kill_after_ms != 0)
        return;
    for (unsigned i = 0; i < generation->count; i++) {
        struct process *worker = &generation->workers[i];
        if (worker->pid != 0 || worker->start_after_ms > now_ms)
            continue;
        if (process_start(worker, inheritance, &error))
            continue;
        log_error("%s", error.message);
        worker->start_after_ms = now_ms + FORK_RETRY_MS;
    }
}

unsigned generation_living(const struct generation *generation)
{
    unsigned living = 0;
    for (unsigned i = 0; i < generation->count; i++)
        living += generation->workers[i].pid != 0;
    return living;
}

bool generation_is_ready(const struct generation *generation, const struct counters *counters)
{
    for (unsigned i = 0; i < generation->count; i++)
        if (!process_is_ready(&generation->workers[i], counters))
            return false;
    return true;
}

struct process *generation_find(struct generation *generation, pid_t pid)
{
    for (unsigned i = 0; i < generation->count; i++)
        if (generation->workers[i].pid == pid)
            return &generation->workers[i];
    return NULL;
}

static void signal_all(const struct generation *generation, int number)
{
    for (unsigned i = 0; i < generation->count; i++)
        if (generation->workers[i].pid > 0)
            kill(generation->workers[i].pid, number);
}

void generation_dismiss(struct generation *generation, enum generation_state state, int number,
                        int64_t timeout_ms)
{
    generation->state = state;
    generation->kill_after_ms = clock_now_ms() + timeout_ms + GENERATION_GRACE_MS;
    signal_all(generation, number);
}

void generation_tend(struct generation *generation, const struct counters *counters)
{
    for (unsigned i = 0; i < generation->count; i++)
        process_watch(&generation->workers[i], counters);
    if (generation->kill_after_ms != 0 && clock_now_ms() >= generation->kill_after_ms)
        signal_all(generation, SIGKILL);
}

/* Since when nobody has served in the worker's place, 0 = it does; the heartbeat of one that hangs
 * tells. */
static int64_t unserved_since_ms(const struct process *worker, const struct counters *counters)
{
    if (!process_is_ready(worker, counters))
        return worker->unready_since_ms ? worker->unready_since_ms : clock_now_ms();
    int64_t beat_ms = atomic_load(&counters->workers[worker->slot].heartbeat_ms);
    return clock_now_ms() - beat_ms >= NEIGHBOUR_AFTER_MS ? beat_ms : 0;
}

/* The first worker from `index` on that serves; `index` itself when none does. */
static unsigned stand_in(const struct generation *generation, unsigned index)
{
    for (unsigned i = 0; i < generation->count; i++) {
        unsigned next = (index + i) % generation->count;
        if (generation->workers[next].unready_since_ms == 0)
            return next;
    }
    return index;
}

void generation_publish_owners(const struct generation *generation, unsigned sockets,
                               struct counters *counters)
{
    int64_t now_ms = clock_now_ms();
    for (unsigned i = 0; i < generation->count; i++) {
        struct process *worker = &generation->workers[i];
        worker->unready_since_ms = unserved_since_ms(worker, counters);
    }
    for (unsigned j = 0; j < sockets; j++) {
        unsigned owner = j % generation->count;
        int64_t since_ms = generation->workers[owner].unready_since_ms;
        if (since_ms != 0 && now_ms - since_ms >= NEIGHBOUR_AFTER_MS)
            owner = stand_in(generation, owner);
        atomic_store(&counters->header->socket_owners[j], (int32_t)owner);
        STEP(owner_published);
    }
    atomic_store(&counters->header->serving_generation, generation->number);
}
