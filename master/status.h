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
    pid_t upgrading; /* the new master, while an upgrade is under way; 0 = none */
    pid_t replaces;  /* the earlier one, while its workers drain; 0 = none */
};

/* Appends one JSON object. */
void status_write(const struct status_view *view, struct buf *out);
