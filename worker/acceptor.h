/* Which of the listening sockets a worker accepts from: those that are its own by number, and, as
 * the master's table of owners says, those of a neighbour that is not there; none while it has
 * hardly a descriptor left. */
#pragma once

#include "worker/worker.h"

#include <uv.h>

struct acceptor;

/* Accepts from the worker's own sockets at once if its generation serves already; `accepted` is
 * called for each connection that waits. NULL when one of them can't be listened on. */
struct acceptor *acceptor_new(uv_loop_t *loop, const struct worker_setup *setup,
                              void (*accepted)(void *context, uv_stream_t *listener,
                                               const struct worker_socket *socket),
                              void *context);
/* Follows the table of owners, once the worker's generation serves; call it on each heartbeat. */
void acceptor_follow_owners(struct acceptor *acceptor);
/* Accepts nothing any more. */
void acceptor_stop(struct acceptor *acceptor);
