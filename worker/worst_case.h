/* The most that a call can cost: what is reserved before it is made. */
#pragma once

#include "worker/exchange.h"

struct fitted;

struct worst_case {
    bool bounded; /* else there is no most: `why` says what has none */
    const char *why;
    int64_t prompt_tokens, completion_tokens;
    int64_t nano_usd; /* 0 where the model has no price */
};

/* Of the call that was built for the target into `body`. A tokenizer that works on bytes makes no
 * more tokens of a text than it has bytes; what bytes don't show is in models.yaml. */
struct worst_case worst_case_of(const struct fitted *fitted, struct str body);
