/* Time zones by their names in the system's zone files. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/day_time.h"
#include "shared/base/error.h"
#include "shared/base/months.h"

struct zone {
    struct months months;
    struct zone_offsets offsets;
};

/* Works out the months and the offsets of a zone such as "Europe/Berlin"; they live in `arena`.
 * "UTC" needs no file. For a process of one thread: TZ is another one meanwhile. */
bool zone_read(const char *name, struct arena *arena, struct zone *zone, struct error *error)
    __attribute__((warn_unused_result));
