/* A client connection: HTTP/1.1 on a transport, one request at a time, strict (RFC 9112).
 *
 *   head arrives ── events.head ──┬─ http_read_body ── events.body ── http_respond ── next request
 *                                 └─ http_respond (unread body: the connection closes after it)
 *   in place of http_respond: http_stream_begin, then any http_stream_write, then http_stream_end
 *   anything unreadable ── events.refused ── http_respond, then the connection closes
 *   the client leaves while a request is open ── events.gone (nothing can be sent any more)
 *
 * The application answers every head and every refusal exactly once, at once or later, unless
 * `gone` came first. After `refused` for a request that was told by events.head, it is that one
 * answer that is owed. Everything happens on the loop's thread.
 *
 * Bytes behind the open request are kept and served after its answer is in the kernel, in order;
 * above max_header + 1 MiB of them reading pauses (hangup.h: then a client that leaves is seen as
 * long as the kernel has room for what it sends). */
#pragma once

#include "shared/base/buf.h"
#include "shared/http/api_error.h"
#include "shared/http/transport.h"

#include <uv.h>

struct http_limits {
    size_t max_header;         /* bytes of request line and headers */
    size_t max_body;           /* bytes, after chunked decoding */
    int64_t header_timeout_ms; /* from a request's first byte to the end of its head */
    int64_t body_timeout_ms;   /* from the head's end to the body's */
    int64_t idle_timeout_ms;   /* before the first request and between requests */
    size_t max_connections;    /* those above it are answered `overloaded`; 0 = no limit */
    int64_t write_timeout_ms;  /* without progress while an answer is being sent; it may last twice
                                  that until the connection is cut */
};

struct http_header {
    struct str name; /* lower-cased */
    struct str value;
};

struct http_connection;

/* Valid from events.head until the answer was given or `gone` came. */
struct http_request {
    struct str method; /* as sent: "POST" */
    struct str target; /* as sent: "/api/x?y" */
    struct str path;   /* target up to '?' */
    struct str query;  /* behind '?'; absent without one */
    const struct http_header *headers;
    size_t headers_count;
    int minor_version;     /* 0 or 1 */
    bool has_body;         /* the head announces one, even if empty */
    struct str body;       /* whole, from events.body on */
    uint64_t bytes_in;     /* head and body as they came over the wire so far */
    int64_t began_us;      /* monotonic: the first byte */
    const char *client_ip; /* of the peer; "unix" on a UNIX socket */
};

struct http_events {
    void (*head)(void *context, struct http_connection *connection, struct http_request *request);
    void (*body)(struct http_connection *connection, struct http_request *request);
    /* `request` is NULL when the head itself is unreadable or was not read, else the request whose
     * body is (events.head was called for it). `reason` is one of bad_http, headers_too_large,
     * request_timeout, body_too_large, overloaded; `detail` a sentence for the client. */
    void (*refused)(void *context, struct http_connection *connection, struct http_request *request,
                    enum api_error reason, const char *detail);
    /* An open request's client is gone, also while its answer is streamed; `request` is NULL for a
     * refusal that had none. The request is invalid after this call, and so is the connection. A
     * client that only ended its own side counts. */
    void (*gone)(struct http_connection *connection, struct http_request *request);
    /* http_server_retire or _drain was called and no connection is left. */
    void (*idle)(void *context);
    /* All that http_stream_write took is in the kernel, after it had said that some was not. May be
     * NULL where nothing is streamed. */
    void (*writable)(struct http_connection *connection, struct http_request *request);
};

struct http_response {
    int status;
    struct str headers; /* whole lines, each ending in CRLF; not Content-Length, Connection,
                           Keep-Alive, Date: those are added */
    struct str body;
    bool close; /* the connection ends after this answer */
};

struct http_server {
    uv_loop_t *loop;
    struct http_limits limits;
    const struct http_events *events;
    void *context;
    /* private */
    struct http_connection *connections;
    size_t connections_count;
    struct buf answer; /* being written; no call keeps anything in it */
    bool closes;       /* after each answer */
    bool draining;
    bool told_idle;
};

void http_server_init(struct http_server *server, uv_loop_t *loop, const struct http_limits *limits,
                      const struct http_events *events, void *context);
struct tls_server;

/* From a listener's connection callback: takes the connection that waits there, as TLS unless `tls`
 * is NULL. Nothing happens when it is gone already or no descriptor is left. */
void http_server_accept(struct http_server *server, uv_stream_t *listener, struct tls_server *tls);
/* Serves any transport, whose `events` and `context` this sets; it is the server's from here on. */
void http_server_take(struct http_server *server, struct transport *transport);
/* From now on each answer carries `Connection: close`, and its connection ends; one that is idle
 * stays until its idle timeout, for its client may be about to send. New ones are still taken. */
void http_server_close_after_answers(struct http_server *server);
/* The same, without new ones: `idle` is called once when no connection is left (at once if so). */
void http_server_retire(struct http_server *server);
/* The same, and connections without an open request and without a byte of one are closed. */
void http_server_drain(struct http_server *server);

/* For the application's own data, one pointer per connection, NULL at each new head and at a
 * refusal without one. */
void http_set_data(struct http_connection *connection, void *data);
void *http_data(const struct http_connection *connection);

/* Of the peer; "unix" on a UNIX socket. */
const char *http_client_ip(const struct http_connection *connection);

/* Reads the body (also when there is none: `body` then comes with an empty one). events.body or
 * events.refused follows, from the loop or from within this call. */
void http_read_body(struct http_connection *connection);
/* Sends the answer; headers and body are copied. Returns the bytes of the whole answer, 0 when none
 * is owed (after `gone`). A HEAD request gets the head alone. No event comes from within it. The
 * request is invalid afterwards. */
size_t http_respond(struct http_connection *connection, const struct http_response *response);
/* Begins an answer whose body comes in pieces, of which `body` is the first (it may be empty):
 * chunked, or up to the connection's end for HTTP/1.0. False when none is owed. The request stays
 * valid until the end. */
bool http_stream_begin(struct http_connection *connection, const struct http_response *response);
/* Sends a piece; it is copied as far as the kernel doesn't take it at once. Returns how many bytes
 * are not in the kernel yet: more than 0 = `writable` will tell. No event comes from within it. */
size_t http_stream_write(struct http_connection *connection, struct str piece);
/* The body is complete with this last piece (it may be empty). Returns the bytes of the whole
 * answer. The request is invalid then. */
size_t http_stream_end(struct http_connection *connection, struct str piece);
/* How many bytes of the answer are not in the kernel yet. */
size_t http_stream_pending(const struct http_connection *connection);
/* It can't be completed: the connection is cut, so that the client sees that something is missing.
 * The request is invalid then; no `gone` comes. */
void http_stream_abort(struct http_connection *connection);
/* The value of the first header with this lower-case name; absent when there is none. */
struct str http_header(const struct http_request *request, const char *name);
/* How many headers have this name. */
size_t http_header_count(const struct http_request *request, const char *name);
const char *http_reason(int status);
