#include "shared/base/day_time.h"

static int64_t offset_ms_at(const struct zone_offsets *offsets, int64_t wall_ms)
{
    size_t low = 0, high = offsets->count;
    if (offsets->count == 0)
        return 0;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (offsets->changes[middle].wall_ms <= wall_ms)
            low = middle;
        else
            high = middle;
    }
    return (int64_t)offsets->changes[low].offset_s * 1000;
}

int minute_of_day(const struct zone_offsets *offsets, int64_t wall_ms)
{
    enum { MINUTE_MS = 60 * 1000, DAY_MINUTES = 24 * 60 };
    int64_t local_ms = wall_ms + offset_ms_at(offsets, wall_ms);
    int64_t minute = local_ms >= 0 ? local_ms / MINUTE_MS : (local_ms - MINUTE_MS + 1) / MINUTE_MS;
    int in_day = (int)(minute % DAY_MINUTES);
    return in_day < 0 ? in_day + DAY_MINUTES : in_day;
}
