/* The spool as others see it, beside a logger that may be at work in it. */
#pragma once

#include "shared/base/error.h"

#include <stddef.h>
#include <stdint.h>

/* How far a segment is in the store. */
struct spool_committed_to {
    char *segment;
    uint64_t committed;
};

struct spool_depth {
    uint64_t segments;
    uint64_t pending_bytes; /* not committed */
    int64_t oldest_wall_ms; /* when the first request of those began; 0 = none */
};

/* A directory that isn't there is an empty spool. False when it can't be read. A segment without
 * an offset counts from its start. */
bool spool_look(const char *directory, const struct spool_committed_to *offsets,
                size_t offsets_count, struct spool_depth *depth, struct error *error)
    __attribute__((warn_unused_result));
