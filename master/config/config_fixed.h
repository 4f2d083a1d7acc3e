/* The keys that a running gateway cannot change (keys.def: not reloadable). */
#pragma once

#include "shared/config.h"

/* The first key whose value differs between the two configurations and may not; NULL when there is
 * none. */
const char *config_fixed_difference(const struct config *old, const struct config *new);
