/* Time. Durations and deadlines use the monotonic clock; `wall` is for what people read.
 * A test replaces both sources. */
#pragma once

#include <stdint.h>

int64_t clock_now_ms(void);
int64_t clock_now_us(void);
/* Unix time in milliseconds, UTC. */
int64_t clock_wall_ms(void);

struct clock_source {
    int64_t (*now_us)(void);
    int64_t (*wall_ms)(void);
};

/* NULL puts the real clocks back. The source must outlive its use. */
void clock_set_source(const struct clock_source *source);

enum { CLOCK_RFC3339_SIZE = 25 };
/* "2026-11-23T11:15:16.042Z" of a Unix time in milliseconds. Returns `text`. */
char *clock_rfc3339(int64_t wall_ms, char text[CLOCK_RFC3339_SIZE]);
