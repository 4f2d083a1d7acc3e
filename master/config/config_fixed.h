/* The keys that a running gateway cannot change (keys.def: not reloadable). */
#pragma once

#include "shared/base/buf.h"
#include "shared/config.h"

/* The first key whose value differs between the two configurations and may not; NULL when there is
 * none. */
const char *config_fixed_difference(const struct config *old, const struct config *new);
/* Appends a text by which config_fixed_differs finds such a key in another process: a line for
 * each, with a hash in the place of the value, which may be a password. */
void config_fixed_write(const struct config *config, struct buf *text);
/* As config_fixed_difference, against what was written of the old one. A key that the writer did
 * not know counts as the same. */
const char *config_fixed_differs(struct str written, const struct config *new);
