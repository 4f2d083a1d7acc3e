/* The logger process: takes the frames of every worker slot's pipe into that slot's spool segment,
 * and commits the records from there into the store. Forked first, leaves last: when every pipe
 * has ended and everything is in the store (or the store is away and everything is in the spool).
 * SIGTERM and SIGINT mean nothing to it. */
#pragma once

#include "shared/config.h"
#include "shared/counters/shm.h"

struct logger_setup {
    const struct config *config;
    struct counters *counters;
    const int *pipes; /* read ends, non-blocking, one for each worker slot */
    unsigned pipes_count;
    int ready; /* write end: one byte is sent when the spool and store are open; or -1 */
};

_Noreturn void logger_main(const struct logger_setup *setup);
