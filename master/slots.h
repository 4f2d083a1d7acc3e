/* The pool of worker slots: a slot (log pipe, shared counters, table of requests in flight) belongs
 * to one process at a time. It is used again only when its process is reaped, the rows of what that
 * process had in hand are written, and everything is out of the pipe. */
#pragma once

#include "shared/base/error.h"
#include "shared/counters/shm.h"

enum { SLOTS_PER_WORKER = 4 };

enum slot_state {
    SLOT_FREE,
    SLOT_TAKEN,
    SLOT_RECOVERING, /* rows of its dead process have to go into the pipe */
    SLOT_CLEANING,   /* they are in; it waits until the pipe is empty */
    SLOT_FOREIGN,    /* another master's, the one before or after this one */
};

struct slots {
    enum slot_state *states;
    int (*log_pipes)[2];
    unsigned count;
    bool alone; /* the other master starts nothing any more: what it gives up is free */
    struct counters *counters;
};

/* Makes the pipes of all slots that `counters` has; it outlives the pool. What an earlier gateway
 * had in hand is recovered first: such a slot is free a little later. */
bool slots_open(struct slots *slots, struct counters *counters, struct error *error)
    __attribute__((warn_unused_result));
/* The pool of a second master: pipes of another one, which has all slots but the `lent` ones. Their
 * lists are the pool's own from here on. */
void slots_adopt(struct slots *slots, struct counters *counters, int (*log_pipes)[2],
                 const bool *lent);
/* For that other master: lends all free slots but `kept`, which are told in `lent`, as long as the
 * pool. Returns how many. */
unsigned slots_lend(struct slots *slots, unsigned kept, bool *lent);
/* The second master is gone, and all its processes: its slots are this one's again, and what was in
 * hand there is recovered. */
void slots_take_back(struct slots *slots);
/* How many slots are another master's and in use; `ready`: whose workers accept. */
unsigned slots_foreign(const struct slots *slots, bool ready);
/* The other master is gone: a foreign slot whose process is gone, too, is this one's. Call at each
 * turn. */
void slots_adopt_orphans(struct slots *slots);
/* Kills what has foreign slots. */
void slots_kill_foreign(const struct slots *slots);
/* Rows of processes that are gone are on their way, or a process lives. */
bool slots_in_use(const struct slots *slots);
/* No process of a slot is left, and none will come: closes the ends that are written to, so that
 * the logger finds the pipes' end. */
void slots_end_pipes(struct slots *slots);
/* The logger has taken everything up to the pipes' end. */
void slots_emptied(struct slots *slots);
void slots_free(struct slots *slots);
/* How many can be taken now. */
unsigned slots_available(const struct slots *slots);
/* Rows are still to be written. */
bool slots_recovering(const struct slots *slots);
/* The oldest generation that had one of the slots which are not free; `newest` when there is
 * none. */
int64_t slots_oldest_generation(const struct slots *slots, int64_t newest);
/* -1 when there is none. */
int slots_take(struct slots *slots);
/* Its process is reaped. */
void slots_leave(struct slots *slots, unsigned slot);
/* Call at each turn: writes rows, and frees the slots whose pipes have run empty. */
void slots_clean(struct slots *slots);
