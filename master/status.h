/* What `promptgate status` shows of a running gateway. */
#pragma once

#include "master/generation.h"
#include "shared/base/buf.h"

struct status_view {
    struct generation *const *generations; /* oldest first */
    unsigned generations_count;
    const struct process *logger, *keeper;
    const struct listeners *listeners;
    const struct slots *slots;
    const struct counters *counters;
    bool stopping;
};

/* Appends one JSON object. */
void status_write(const struct status_view *view, struct buf *out);
