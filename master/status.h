/* What `promptgate status` tells, as JSON. */
#pragma once

#include "shared/base/buf.h"

#include <stdint.h>
#include <sys/types.h>

struct status_process {
    const char *role; /* "worker", "logger" */
    int64_t index;    /* among its generation's workers; -1 = it has none */
    int64_t slot;     /* -1 = none */
    pid_t pid;        /* 0 = none lives, one is to be started */
    int64_t generation;
    const char *state;    /* "starting", "ready", "draining", … */
    int64_t heartbeat_ms; /* since the last one; -1 = it gives none */
    uint64_t requests;    /* accepted since its start */
    uint64_t in_flight;
};

struct status {
    const char *state; /* of the gateway: "starting", "serving", "reloading", "stopping" */
    pid_t pid;
    int64_t started_wall_ms;
    const char *config;         /* the directory */
    int64_t generation;         /* the newest that serves; 0 = none yet */
    int64_t generations;        /* alive */
    const char *const *listens; /* addresses as they are listened on */
    size_t listens_count;
    uint64_t logged_rows;
    const struct status_process *processes;
    size_t processes_count;
};

/* One object and a newline. */
void status_write(struct buf *out, const struct status *status);
