#include "master/keeper/trouble.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"

enum { AGAIN_MS = 60000 };

static int64_t said_ms; /* monotonic; 0 = all is well */
static _Atomic int64_t *published;

void trouble_publish(_Atomic int64_t *since_ms)
{
    published = since_ms;
    atomic_store(published, 0);
}

void trouble_say(const struct error *error)
{
    int64_t now_ms = clock_now_ms();
    if (published && atomic_load(published) == 0)
        atomic_store(published, clock_wall_ms());
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
    if (published)
        atomic_store(published, 0);
}
