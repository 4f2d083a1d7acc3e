/* The byte stream under one client connection: plain TCP or a UNIX socket, TLS behind the same
 * functions. Everything happens on the loop's thread; callbacks come from the loop, never from
 * inside a call of this interface. The process must ignore SIGPIPE. */
#pragma once

#include "shared/base/str.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <uv.h>

struct transport;

struct transport_events {
    /* A handshake is over, without which nothing is read; never of a transport without one. */
    void (*opened)(void *context);
    /* Bytes came; valid during the call. */
    void (*read)(void *context, const char *bytes, size_t len);
    /* The peer sent its end (error 0), or the connection broke (a negative libuv error). No more
     * reads follow. */
    void (*end)(void *context, int error);
    /* All that write took is in the kernel (error 0), or the connection broke. */
    void (*drained)(void *context, int error);
    /* The last callback, after transport_close: the memory of `context` may go. */
    void (*closed)(void *context);
};

struct transport_class {
    bool shakes_hands; /* `opened` will come */
    void (*read_start)(struct transport *transport);
    void (*read_stop)(struct transport *transport);
    /* Writes the bytes, which the transport copies as far as the kernel doesn't take them at once.
     * Returns true when everything is in the kernel already (no `drained` follows), false when the
     * rest is on its way and `drained` will tell. */
    bool (*write)(struct transport *transport, const char *bytes, size_t len);
    /* Bytes written and not yet in the kernel. */
    size_t (*pending)(const struct transport *transport);
    /* Sends our end of the stream after all that was written, reading goes on. Once. */
    void (*shutdown)(struct transport *transport);
    /* Ends it at once, with a reset when not all is written; `closed` follows. */
    void (*close)(struct transport *transport);
    /* Of a UNIX socket only the family is told. */
    int (*peer)(const struct transport *transport, struct sockaddr_storage *address);
    /* The socket's, to be watched and not to be used. */
    int (*descriptor)(const struct transport *transport);
};

struct transport {
    const struct transport_class *class;
    const struct transport_events *events;
    void *context;
};

/* Accepts one connection, TCP or UNIX, from `listener` (call it from its connection callback).
 * Returns NULL and sets *error to a negative libuv error when there is none. `events` and `context`
 * may be NULL until the first read_start. */
struct transport *transport_plain_accept(uv_stream_t *listener,
                                         const struct transport_events *events, void *context,
                                         int *error);
