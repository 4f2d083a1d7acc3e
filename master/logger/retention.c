#include "master/logger/retention.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"

#include <inttypes.h>

enum {
    ROWS_MOST = 512, /* as many as a batch has */
    ROWS_FEWEST = 16,
    SLOW_MS = 20,
    QUICK_MS = 5,
    PAUSE_MS = 10,   /* between two slices, at least */
    PAUSES = 3,      /* and so many times as long as a slice took */
    ROUND_MS = 5000, /* between two rounds; one that finds nothing writes nothing */
};

void retention_init(struct retention *retention)
{
    *retention = (struct retention){.expiry.rows_max = ROWS_MOST};
}

void retention_begin(struct retention *retention, int64_t keep_ms)
{
    retention->expiry.before_wall_ms = clock_wall_ms() - keep_ms;
    retention->began_ms = clock_now_ms();
}

static void adapt(struct retention *retention, int64_t took_ms)
{
    size_t rows = retention->expiry.rows_max;
    if (took_ms > SLOW_MS && rows > ROWS_FEWEST)
        rows /= 2;
    else if (took_ms < QUICK_MS && rows < ROWS_MOST)
        rows *= 2;
    retention->expiry.rows_max = rows;
}

/* A few rows get too old all the time; many do after an outage, or with a new configuration. */
static void tell_round(struct retention *retention)
{
    char before[CLOCK_RFC3339_SIZE];
    if (retention->rows > ROWS_MOST)
        log_info("old rows deleted: %" PRIu64 ", from before %s", retention->rows,
                 clock_rfc3339(retention->expiry.before_wall_ms, before));
    retention->rows = 0;
}

int64_t retention_end(struct retention *retention, bool done)
{
    int64_t took_ms = clock_now_ms() - retention->began_ms;
    if (done)
        retention->rows += retention->expiry.rows;
    adapt(retention, took_ms);
    if (done && retention->expiry.more)
        return PAUSES * took_ms > PAUSE_MS ? PAUSES * took_ms : PAUSE_MS;
    tell_round(retention);
    return ROUND_MS;
}
