/* A configuration finds its accounts in the counters file. */
#pragma once

#include "shared/config.h"
#include "shared/counters/accounts.h"

/* Claims an account for everything that is counted and notes the numbers in `config`. Frees those
 * that no generation from `oldest` on has. False when there is no room for them. */
bool accounts_adopt(struct config *config, struct counters *counters, int64_t generation,
                    int64_t oldest, struct error *error) __attribute__((warn_unused_result));
/* The same for tokens that join `generation` and older ones, which serve already: their caps hold
 * at once. Frees nothing. */
bool accounts_adopt_tokens(struct config_token *tokens, size_t count, struct counters *counters,
                           int64_t generation, struct error *error)
    __attribute__((warn_unused_result));
/* The configuration is about to serve: its caps hold for every generation from now on. */
void accounts_enforce(struct config *config, struct counters *counters);
