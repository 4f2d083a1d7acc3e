/* The time of day in a time zone whose changes were worked out beforehand, like months.h. */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* From this time on clocks are so far ahead of UTC. */
struct offset_change {
    int64_t wall_ms;
    int32_t offset_s;
};

/* All zero is UTC. The first change's offset also holds before it, the last one's ever after. */
struct zone_offsets {
    const struct offset_change *changes; /* by time */
    size_t count;
};

/* 0 at midnight, 1439 before the next. */
int minute_of_day(const struct zone_offsets *offsets, int64_t wall_ms);
