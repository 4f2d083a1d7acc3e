/* The column `attempts`: JSON, one object for each try at a target. */
#pragma once

#include "shared/base/buf.h"

#include <stdint.h>

struct attempt_row {
    struct str provider, model, credential;
    struct str status; /* as the row's */
    int http_status;   /* the provider's; 0 = none came */
    int64_t ms, prompt_tokens, completion_tokens;
    int64_t cost_nano_usd; /* ATTEMPT_NO_COST = it has none */
    struct str error;      /* absent = none */
    unsigned tries;        /* more than 1: it stands for so many together */
};

#define ATTEMPT_NO_COST INT64_MIN

void attempts_write(struct buf *out, const struct attempt_row *attempts, size_t count);
