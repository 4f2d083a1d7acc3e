/* When the counters file was made anew, after a reboot or because it was lost: before the first
 * request, each account gets what its month has cost so far, by the store or by the image of the
 * accounts, whichever says more. */
#pragma once

#include "shared/config.h"
#include "shared/counters/shm.h"

/* The spool is in the store. False when the store cannot be read: to be tried again. */
bool cold_start(const struct config *config, struct counters *counters, struct error *error)
    __attribute__((warn_unused_result));
