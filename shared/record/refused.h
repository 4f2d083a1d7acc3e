/* Requests that failed before their token was accepted, counted: a row of gateway_refused. */
#pragma once

#include "shared/base/str.h"

#include <stdint.h>

struct refused {
    int64_t minute_wall_ms; /* its beginning */
    struct str code;        /* what was answered: "unauthorized", … */
    struct str network;     /* the client's /24 or /64, "unix", "other" */
    struct str host;
    int64_t count;
};
