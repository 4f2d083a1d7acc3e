/* The secret that keys of TLS session tickets are derived from: made once by the master, so that
 * all its workers of all generations take each other's tickets. */
#pragma once

#include "shared/base/secret_memory.h"

#include <stdint.h>

/* A copy in `memory`, for a configuration whose workers need it; NULL when that is full. */
const uint8_t *ticket_secret_copy(struct secret_memory *memory);
