#include "shared/base/months.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

/* The last place whose start isn't after `wall_ms`, which the table must cover. */
static size_t place_of(const int64_t *starts, int64_t wall_ms)
{
    size_t low = 0, high = MONTHS_COUNT;
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (starts[middle] <= wall_ms)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static char *utc_name(int64_t wall_ms, char text[MONTH_SIZE])
{
    char time[CLOCK_RFC3339_SIZE];
    memcpy(text, clock_rfc3339(wall_ms, time), 7);
    text[7] = '\0';
    return text;
}

static uint32_t utc_number(int64_t wall_ms)
{
    struct tm tm;
    time_t seconds = (time_t)(wall_ms / 1000);
    if (!gmtime_r(&seconds, &tm) || tm.tm_year + 1900 < MONTHS_FIRST_YEAR)
        return 0;
    return (uint32_t)((tm.tm_year + 1900 - MONTHS_FIRST_YEAR) * 12 + tm.tm_mon + 1);
}

uint32_t month_number(const struct months *months, int64_t wall_ms)
{
    const int64_t *starts = months->starts;
    if (!starts || wall_ms < starts[0] || wall_ms >= starts[MONTHS_COUNT])
        return utc_number(wall_ms);
    return (uint32_t)place_of(starts, wall_ms) + 1;
}

char *month_name(const struct months *months, int64_t wall_ms, char text[MONTH_SIZE])
{
    const int64_t *starts = months->starts;
    if (!starts || wall_ms < starts[0] || wall_ms >= starts[MONTHS_COUNT])
        return utc_name(wall_ms, text);
    unsigned place = (unsigned)place_of(starts, wall_ms);
    snprintf(text, MONTH_SIZE, "%04u-%02u", MONTHS_FIRST_YEAR + place / 12, place % 12 + 1);
    return text;
}
