/* Between the HTTP server and the pipeline: routes heads, answers what needs no pipeline. */
#pragma once

#include "worker/exchange.h"

/* The callbacks for http_server_init; their context is the worker's `struct frontend`. */
extern const struct http_events frontend_events;

struct frontend {
    struct services *services;
    const struct http_server *server;
    bool draining;                   /* /readyz answers 503 */
    bool refusing;                   /* and so does everything else, but /healthz */
    void (*all_idle)(void *context); /* http_events.idle */
    void *context;
};
