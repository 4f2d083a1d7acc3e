#include "shared/http/listening.h"

#include "shared/base/xalloc.h"

#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

union listener {
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t local;
};

static void free_listener(uv_handle_t *handle)
{
    free(handle);
}

void http_listen_end(uv_stream_t *listener)
{
    uv_close((uv_handle_t *)listener, free_listener);
}

static bool is_local(int fd)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    return getsockname(fd, (struct sockaddr *)&address, &size) == 0 && address.ss_family == AF_UNIX;
}

static int open_stream(uv_loop_t *loop, union listener *listener, int fd)
{
    if (is_local(fd)) {
        uv_pipe_init(loop, &listener->local, 0);
        return uv_pipe_open(&listener->local, fd);
    }
    uv_tcp_init(loop, &listener->tcp);
    return uv_tcp_open(&listener->tcp, fd);
}

uv_stream_t *http_listen(uv_loop_t *loop, int fd, int backlog, uv_connection_cb on_connection,
                         void *data, int *error)
{
    union listener *listener = xcalloc(1, sizeof *listener);
    *error = open_stream(loop, listener, fd);
    if (*error != 0)
        close(fd); /* no handle has it */
    listener->stream.data = data;
    if (*error == 0)
        *error = uv_listen(&listener->stream, backlog, on_connection);
    if (*error == 0)
        return &listener->stream;
    http_listen_end(&listener->stream);
    return NULL;
}
