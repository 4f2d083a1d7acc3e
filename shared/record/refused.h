/* Requests that failed before their token was accepted, counted: a row of gateway_refused. They go
 * through the same pipes as the rows of gateway_logs; the first byte tells them apart. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"

#include <stdint.h>

struct refused {
    int64_t minute_wall_ms; /* its beginning */
    struct str code;        /* what was answered: "unauthorized", … */
    struct str network;     /* the client's /24 or /64, "unix", "other" */
    struct str host;
    int64_t count;
};

/* Is this encoded record one of these, and not a row? */
bool refused_marked(struct str bytes);
void refused_encode(const struct refused *refused, struct buf *out);
/* Texts point into `bytes`. False for bytes that refused_encode never wrote. */
bool refused_decode(struct str bytes, struct refused *refused, struct error *error)
    __attribute__((warn_unused_result));
