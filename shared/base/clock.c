#include "shared/base/clock.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

static int64_t real_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static int64_t real_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static const struct clock_source real_source = {real_now_us, real_wall_ms};
static const struct clock_source *current = &real_source;

void clock_set_source(const struct clock_source *source)
{
    current = source ? source : &real_source;
}

int64_t clock_now_us(void)
{
    return current->now_us();
}

int64_t clock_now_ms(void)
{
    return current->now_us() / 1000;
}

int64_t clock_wall_ms(void)
{
    return current->wall_ms();
}

char *clock_rfc3339(int64_t wall_ms, char text[CLOCK_RFC3339_SIZE])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    int ms = (int)(wall_ms % 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    struct tm parts;
    if (!gmtime_r(&seconds, &parts))
        memset(&parts, 0, sizeof parts);
    char whole[64];
    strftime(whole, sizeof whole, "%Y-%m-%dT%H:%M:%S", &parts);
    snprintf(text, CLOCK_RFC3339_SIZE, "%.19s.%03dZ", whole, ms);
    return text;
}
