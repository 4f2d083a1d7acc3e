#include "shared/http/transport.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>

struct plain {
    struct transport transport;
    union {
        uv_handle_t handle;
        uv_stream_t stream;
        uv_tcp_t tcp;
        uv_pipe_t local;
    };
    uv_shutdown_t shutdown;
};

struct plain_write {
    uv_write_t request;
    char bytes[];
};

/* One loop per process, and libuv hands each buffer back before it asks for the next: so all
 * connections share one, and an idle one holds none. */
static char read_buffer[64 * 1024];

static struct plain *plain_of(struct transport *transport)
{
    return (struct plain *)transport;
}

static uv_stream_t *stream_of(struct plain *plain)
{
    return &plain->stream;
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle, (void)suggested;
    *buffer = uv_buf_init(read_buffer, sizeof read_buffer);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    struct transport *transport = stream->data;
    if (count > 0) {
        transport->events->read(transport->context, buffer->base, (size_t)count);
    } else if (count < 0) {
        uv_read_stop(stream);
        transport->events->end(transport->context, count == UV_EOF ? 0 : (int)count);
    }
}

static void plain_read_start(struct transport *transport)
{
    /* It fails for a closing handle alone, and then nobody waits for bytes. */
    uv_read_start(stream_of(plain_of(transport)), on_alloc, on_read);
}

static void plain_read_stop(struct transport *transport)
{
    uv_read_stop(stream_of(plain_of(transport)));
}

static void on_written(uv_write_t *request, int status)
{
    struct transport *transport = request->handle->data;
    uv_stream_t *stream = request->handle;
    free(request);
    if (uv_is_closing((uv_handle_t *)stream))
        return;
    if (status != 0 || uv_stream_get_write_queue_size(stream) == 0)
        transport->events->drained(transport->context, status);
}

static bool plain_write(struct transport *transport, const char *bytes, size_t len)
{
    uv_stream_t *stream = stream_of(plain_of(transport));
    size_t taken = 0;
    if (uv_stream_get_write_queue_size(stream) == 0) {
        uv_buf_t whole = uv_buf_init((char *)bytes, (unsigned)len);
        int written = uv_try_write(stream, &whole, 1);
        /* A broken connection is told by the queued write's callback. */
        taken = written > 0 ? (size_t)written : 0;
        if (taken == len)
            return true;
    }
    struct plain_write *rest = xmalloc(sizeof *rest + len - taken);
    memcpy(rest->bytes, bytes + taken, len - taken);
    uv_buf_t buffer = uv_buf_init(rest->bytes, (unsigned)(len - taken));
    if (uv_write(&rest->request, stream, &buffer, 1, on_written) != 0) {
        free(rest);
        /* The read side tells the end of a stream that can't be written any more. */
    }
    return false;
}

static size_t plain_pending(const struct transport *transport)
{
    const struct plain *plain = (const struct plain *)transport;
    return uv_stream_get_write_queue_size(&plain->stream);
}

static void on_shutdown(uv_shutdown_t *request, int status)
{
    (void)request, (void)status;
}

static void plain_shutdown(struct transport *transport)
{
    struct plain *plain = plain_of(transport);
    /* It fails when the connection is broken, which the read side tells. */
    uv_shutdown(&plain->shutdown, stream_of(plain), on_shutdown);
}

static void on_closed(uv_handle_t *handle)
{
    struct transport *transport = handle->data;
    if (transport->events)
        transport->events->closed(transport->context);
    free(transport);
}

static void plain_close(struct transport *transport)
{
    struct plain *plain = plain_of(transport);
    /* A client that did not read gets a reset, else the kernel would hold what it has of the answer
     * for as long as that client likes. */
    bool reset = plain->stream.type == UV_TCP && uv_stream_get_write_queue_size(&plain->stream) > 0;
    if (!reset || uv_tcp_close_reset(&plain->tcp, on_closed) != 0)
        uv_close(&plain->handle, on_closed);
}

static int plain_descriptor(const struct transport *transport)
{
    uv_os_fd_t descriptor = -1;
    (void)uv_fileno(&((const struct plain *)transport)->handle, &descriptor);
    return descriptor;
}

static int plain_peer(const struct transport *transport, struct sockaddr_storage *address)
{
    const struct plain *plain = (const struct plain *)transport;
    int len = sizeof *address;
    if (plain->stream.type == UV_NAMED_PIPE) {
        address->ss_family = AF_UNIX;
        return 0;
    }
    return uv_tcp_getpeername(&plain->tcp, (struct sockaddr *)address, &len);
}

static const struct transport_class plain_class = {
    .read_start = plain_read_start,
    .read_stop = plain_read_stop,
    .write = plain_write,
    .pending = plain_pending,
    .shutdown = plain_shutdown,
    .close = plain_close,
    .peer = plain_peer,
    .descriptor = plain_descriptor,
};

static int init_handle(struct plain *plain, const uv_stream_t *listener)
{
    if (listener->type == UV_TCP)
        return uv_tcp_init(listener->loop, &plain->tcp);
    if (listener->type == UV_NAMED_PIPE)
        return uv_pipe_init(listener->loop, &plain->local, 0);
    return UV_ENOTSUP;
}

struct transport *transport_plain_accept(uv_stream_t *listener,
                                         const struct transport_events *events, void *context,
                                         int *error)
{
    struct plain *plain = xcalloc(1, sizeof *plain);
    plain->transport.class = &plain_class;
    *error = init_handle(plain, listener);
    if (*error != 0) {
        free(plain);
        return NULL;
    }
    plain->handle.data = plain;
    *error = uv_accept(listener, stream_of(plain));
    if (*error != 0) {
        plain_close(&plain->transport);
        return NULL;
    }
    if (listener->type == UV_TCP)
        uv_tcp_nodelay(&plain->tcp, 1);
    plain->transport.events = events;
    plain->transport.context = context;
    return &plain->transport;
}
