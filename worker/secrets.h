/* What a provider repeats of its credential must not reach a client or a row. */
#pragma once

#include "shared/config.h"

/* At most `max` bytes of `said`, cut between characters, with "[key]" in place of each secret of
 * the credential. Points into `said` when there is none, else a copy in `arena`. */
struct str without_secrets(const struct config_credential *credential, struct str said, size_t max,
                           struct arena *arena);
