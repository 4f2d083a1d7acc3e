/* Doing something in a throw-away child first: what crashes there, or hangs, takes no master down.
 */
#pragma once

#include "shared/base/buf.h"

#include <stdio.h>
#include <sys/types.h>

/* All zero is none. */
struct trial {
    pid_t child;      /* 0 = none is under way */
    int64_t began_ms; /* it is killed after half a minute */
    int report;       /* descriptor of what it says + 1; 0 = none */
    bool failed;      /* the last one that ended */
};

/* Runs in the child: whether it went well, and why not. */
typedef bool trial_fn(void *context, FILE *report);

/* False when no process could be made. */
bool trial_begin(struct trial *trial, trial_fn *run, void *context)
    __attribute__((warn_unused_result));
/* waitpid(2) returned a child that is none of the gateway's processes; nothing happens when it is
 * not the trial's. */
void trial_child_ended(struct trial *trial, pid_t pid, int wait_status);
/* Whether it is under way still; call it at each turn. */
bool trial_running(struct trial *trial);
/* Appends what it said. */
void trial_report(const struct trial *trial, struct buf *text);
/* Ends it, whether it is under way or not: all zero again. */
void trial_end(struct trial *trial);
