/* The pool of worker slots: a slot (log pipe, shared counters) belongs to one process at a time. It
 * is used again only when its process is reaped and everything that process wrote is out of the
 * pipe. */
#pragma once

#include "shared/base/error.h"
#include "shared/counters/shm.h"

enum { SLOTS_PER_WORKER = 4 };

enum slot_state { SLOT_FREE, SLOT_TAKEN, SLOT_CLEANING };

struct slots {
    enum slot_state *states;
    int (*log_pipes)[2];
    unsigned count;
    struct counters *counters;
};

/* Makes the pipes. `counters` has `count` slots and outlives the pool. */
bool slots_open(struct slots *slots, unsigned count, struct counters *counters, struct error *error)
    __attribute__((warn_unused_result));
/* No process of a slot is left, and none will come: closes the ends that are written to, so that
 * the logger finds the pipes' end. */
void slots_end_pipes(struct slots *slots);
void slots_free(struct slots *slots);
/* How many can be taken now. */
unsigned slots_available(const struct slots *slots);
/* -1 when there is none. */
int slots_take(struct slots *slots);
/* Its process is reaped. */
void slots_leave(struct slots *slots, unsigned slot);
/* Call at each turn: frees the slots whose pipes have run empty. */
void slots_clean(struct slots *slots);
