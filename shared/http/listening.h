/* A listening socket on the loop: TCP or UNIX, whichever the descriptor is. */
#pragma once

#include <uv.h>

/* Takes the descriptor of a bound socket over and listens; `on_connection` is called for each
 * connection that waits. Returns NULL and sets *error to a negative libuv error when that fails:
 * the descriptor is closed then. */
uv_stream_t *http_listen(uv_loop_t *loop, int fd, int backlog, uv_connection_cb on_connection,
                         void *data, int *error);
/* Accepts nothing any more; the memory goes on the loop's next turn. */
void http_listen_end(uv_stream_t *listener);
