/* Secrets as configuration names them: `env:NAME`, `file:PATH`, or the secret itself. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/error.h"

enum { SECRET_MAX_BYTES = 16 << 10 };

/* Opens `source` into memory of `arena`. A relative PATH starts at `directory`; one newline at a
 * file's end is left out. `*plain` tells that the source was the secret itself. Messages never hold
 * the secret. */
bool secret_open(const char *source, const char *directory, struct arena *arena,
                 const char **secret, bool *plain, struct error *error)
    __attribute__((warn_unused_result));
