#include "master/keeper/trouble.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"

enum { AGAIN_MS = 60000 };

static int64_t said_ms; /* monotonic; 0 = all is well */

void trouble_say(const struct error *error)
{
    int64_t now_ms = clock_now_ms();
    if (said_ms != 0 && now_ms - said_ms < AGAIN_MS)
        return;
    said_ms = now_ms;
    log_error("sessions: %s", error->message);
}

void trouble_over(void)
{
    if (said_ms != 0)
        log_info("sessions are stored again");
    said_ms = 0;
}
