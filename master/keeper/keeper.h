/* The keeper process: conversations of endpoints with `session`, and requests with an
 * Idempotency-Key. Workers connect to its socket, which the master holds, so that whoever comes
 * while there is no keeper waits for the next one. It ends by SIGTERM, when the workers are gone;
 * without a master, when the last of them is.
 *
 *   turns    which turns of conversations are open (hot: those in memory)
 *   holds    which keys have their first request in flight
 *   answers  what is kept for a key's next requests
 *   commits  what is to be stored of all that, together
 *   claim    on what this host has in hand, where the store is others' as well */
#pragma once

#include "shared/config.h"
#include "shared/counters/shm.h"

struct keeper_setup {
    const struct config *config;
    struct counters *counters;
    int socket;    /* listens already */
    int lifeline;  /* its end says that the master is gone */
    bool replaces; /* another one, whose peers have turns open */
};

_Noreturn void keeper_main(const struct keeper_setup *setup);
