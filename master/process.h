/* The master's children: forking them into their roles, and what is known of each place where one
 * belongs. */
#pragma once

#include "master/listener.h"
#include "shared/counters/shm.h"

#include <sys/types.h>

enum process_role { PROCESS_LOGGER, PROCESS_WORKER };

/* Everything the children inherit. The master keeps both ends of each pipe, so that a child can be
 * replaced; a child closes what its role doesn't use. */
struct inheritance {
    const struct config *config;
    struct counters *counters;
    struct listeners listeners;
    int (*log_pipes)[2]; /* one for each worker slot */
    unsigned log_pipes_count;
    int lifeline[2]; /* children hold the read end: its EOF says the master is gone */
    int ready[2];    /* each child writes one byte when it serves */
};

enum { PROCESS_DEATHS_KEPT = 10, PROCESS_DEATHS_WINDOW_MS = 10000 };

/* A place for one child. */
struct process {
    enum process_role role;
    unsigned index; /* of the workers */
    pid_t pid;      /* 0 = none lives */
    int64_t generation;
    int64_t deaths_ms[PROCESS_DEATHS_KEPT]; /* the latest ones, a ring */
    unsigned deaths;
    int64_t start_after_ms; /* monotonic: throttled until then */
};

/* Forks the child into its role; false with a reason when fork fails. Ten deaths within ten
 * seconds set `start_after_ms`; whether to wait for it is the caller's business. */
bool process_start(struct process *process, const struct inheritance *inheritance,
                   struct error *error) __attribute__((warn_unused_result));
/* Writes the obituary of a child that waitpid(2) returned, and frees its place. */
void process_ended(struct process *process, struct counters *counters, int wait_status);
/* "worker 0", "logger": for log lines. */
const char *process_name(const struct process *process, char text[32]);
