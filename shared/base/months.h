/* Calendar months in a time zone whose boundaries were worked out beforehand: no look-up of a
 * zone's rules where requests are counted. */
#pragma once

#include "shared/base/clock.h"

#include <stddef.h>
#include <stdint.h>

enum { MONTH_SIZE = 16, MONTHS_FIRST_YEAR = 2000, MONTHS_LAST_YEAR = 2099 };
enum { MONTHS_COUNT = (MONTHS_LAST_YEAR - MONTHS_FIRST_YEAR + 1) * 12 };

/* All zero is UTC. */
struct months {
    const int64_t *starts; /* Unix milliseconds: MONTHS_COUNT + 1 of them, from January of the first
                              year on; NULL = UTC. Times before and after are taken as UTC. */
};

/* 1 for January of the first year, and on; 0 before it. */
uint32_t month_number(const struct months *months, int64_t wall_ms);
/* "2026-09", the month that a time is in. Returns `text`. */
char *month_name(const struct months *months, int64_t wall_ms, char text[MONTH_SIZE]);
