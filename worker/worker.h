/* A worker process: one libuv loop that serves clients. Forked by the master, leaves by _exit. */
#pragma once

#include "shared/config.h"
#include "shared/counters/shm.h"

struct worker_setup {
    const struct config *config;
    struct counters *counters;
    unsigned index; /* of `count` workers */
    unsigned count;
    unsigned slot; /* in the counters file */
    int64_t generation;
    const int *listeners; /* this worker's sockets, bound and listening */
    size_t listeners_count;
    int log_pipe; /* write end, non-blocking */
    int lifeline; /* read end: EOF means the master is gone */
    int ready;    /* write end: one byte is sent when the worker accepts connections */
};

/* Serves until SIGTERM or the lifeline ends, then drains and leaves with status 0. */
_Noreturn void worker_main(const struct worker_setup *setup);
