/* What an answer's headers say about asking again: Retry-After (RFC 9110 10.2.3) and its finer
 * sister retry-after-ms, x-should-retry, and limits that are used up. Source: the vendors' SDKs and
 * their documentation of rate limits. */
#pragma once

#include "shared/base/str.h"

#include <stdint.h>

enum should_retry { SHOULD_RETRY_UNSAID, SHOULD_RETRY_YES, SHOULD_RETRY_NO };

/* A limit of the provider's, of requests or of tokens. */
struct retry_limit {
    bool used_up;
    int64_t reset_ms; /* from now; 0 = not said */
};

/* All zero = nothing was said. */
struct retry_hints {
    enum should_retry should_retry;
    int64_t after_ms_ms, after_ms; /* of retry-after-ms and Retry-After; 0 = not said */
    struct retry_limit requests, tokens;
};

/* Takes a header, whatever its name. `now_wall_ms`: some say a time of day. */
void retry_hints_note(struct retry_hints *hints, struct str name, struct str value,
                      int64_t now_wall_ms);
/* How long to wait; 0 = nothing was said. */
int64_t retry_hints_wait_ms(const struct retry_hints *hints);
