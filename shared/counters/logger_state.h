/* What the logger publishes about itself in the counters file, for `db status` and metrics, and
 * what a reload tells it. Each word is for itself: two read one after the other may be of different
 * moments. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

enum logger_store { LOGGER_STORE_UNKNOWN, LOGGER_STORE_OK, LOGGER_STORE_AWAY };

struct logger_state {
    _Atomic int64_t retention_ms; /* by the master, of the newest configuration that serves: rows
                                     are kept so long; 0 = not known yet */
    _Atomic int64_t heartbeat_ms; /* monotonic; once a second */
    _Atomic int64_t reached_for;  /* the master_pid in whose time the store was reached first */
    _Atomic int32_t store;        /* enum logger_store */
    _Atomic int32_t store_reason; /* why it is away: a number of master/store/reasons.def */
    _Atomic int64_t store_since_wall_ms; /* since when it is so */
    _Atomic int64_t disk_full_wall_ms;   /* since when the spool takes nothing; 0 = it does */
    _Atomic int64_t oldest_wall_ms;      /* the first request not in the store; 0 = none */
    _Atomic uint64_t spool_segments;
    _Atomic uint64_t spool_pending_bytes; /* in the spool, not in the store */
    _Atomic uint64_t rejected;            /* files in STATE_DIR/rejected */
};
