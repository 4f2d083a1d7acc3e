/* What each account has spent and reserved this month, in STATE_DIR/spend: written every second
 * that something has changed, for the day that the counters file is gone. Whole or not there, and
 * checked by its CRC. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"
#include "shared/counters/shm.h"

/* The accounts' amounts as bytes of a file. */
void spend_image_take(const struct counters *counters, struct buf *image);
/* Replaces the file. May take as long as the disk does. */
bool spend_image_write(const char *state_dir, const struct buf *image, struct error *error)
    __attribute__((warn_unused_result));
/* Raises each account that the file has, and that is there, to what it says. A file that isn't
 * there raises nothing; false when it can't be read or trusted. */
bool spend_image_restore(const char *state_dir, struct counters *counters, struct error *error)
    __attribute__((warn_unused_result));
