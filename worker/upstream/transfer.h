/* One HTTP exchange with a provider, on the worker's loop. The interface is narrow on purpose: what
 * stands behind it (libcurl now) can be replaced. Nothing here knows of providers or endpoints.
 *
 * Names of hosts are looked up outside of transfers (resolve.h): a transfer whose host is not known
 * yet waits for its addresses, which counts as connecting.
 *
 * Redirects are never followed, TLS is always verified, no proxy or credential comes from the
 * environment, `Accept-Encoding: identity` is always sent. */
#pragma once

#include "shared/base/str.h"

#include <stdint.h>
#include <uv.h>

struct resolve_source;
struct transfer;
struct transfer_pool;

struct transfer_settings {
    int64_t connect_timeout_ms; /* the name's look-up, the connection and its TLS together */
    int64_t keepalive;          /* idle connections kept per host */
    unsigned hosts;             /* how many hosts are expected, for the size of the cache */
    const char *ca_file;        /* NULL = the system's; must outlive the pool */
    const struct resolve_source *names; /* NULL = the system's; must outlive the pool */
};

struct transfer_header {
    struct str name, value;
};

/* A POST. Everything may go after transfer_start but `body`, which must live until `done`. */
struct transfer_request {
    const char *url;
    const struct transfer_header *headers;
    size_t headers_count;
    struct str body;
    int64_t timeout_ms;            /* from now to the last byte */
    int64_t first_byte_timeout_ms; /* from now to the end of the answer's head */
    int64_t idle_timeout_ms;       /* between two pieces of the body; 0 = no limit */
    size_t max_response;           /* bytes of the body */
};

enum transfer_result {
    TRANSFER_OK,              /* an answer of any status, complete */
    TRANSFER_UNREACHABLE,     /* no such host, connection refused */
    TRANSFER_CONNECT_TIMEOUT, /* host not found or connection not made in time */
    TRANSFER_TLS_FAILED,      /* handshake or certificate */
    TRANSFER_NO_FIRST_BYTE,   /* first_byte_timeout */
    TRANSFER_IDLE,            /* idle_timeout */
    TRANSFER_TIMEOUT,         /* timeout */
    TRANSFER_BROKEN,          /* closed or reset before the answer began */
    TRANSFER_CUT_OFF,         /* closed or reset before it was complete */
    TRANSFER_NOT_HTTP,        /* what came is not an HTTP answer */
    TRANSFER_TOO_LARGE,       /* more than max_response, or a head beyond 64 KiB */
};

struct transfer_events {
    /* The final answer's status line (1xx are not told). */
    void (*head)(void *context, int status);
    /* One header of it; the name as sent. */
    void (*header)(void *context, struct str name, struct str value);
    /* A piece of the body. */
    void (*data)(void *context, struct str bytes);
    /* What came together has been told. May be NULL. */
    void (*batch)(void *context);
    /* The end, once; the transfer is gone after it. `detail` is a sentence for the log and never
     * holds a header or the body. */
    void (*done)(void *context, enum transfer_result result, const char *detail);
};

struct transfer_pool *transfer_pool_new(uv_loop_t *loop, const struct transfer_settings *settings);

/* Transfers to this URL's host are to come: finds out where it is. */
void transfer_pool_expect(struct transfer_pool *pool, const char *url);

/* Callbacks come from the loop, never from inside this call. */
struct transfer *transfer_start(struct transfer_pool *pool, const struct transfer_request *request,
                                const struct transfer_events *events, void *context);
/* Ends it at once, its connection is closed; no callback follows. The caller's pointer is cleared.
 */
void transfer_cancel(struct transfer **transfer);
/* No more of the body until it is resumed, beyond what has come already; a pause is not idle time.
 * Call neither from within `head`, `header` or `data`. */
void transfer_pause(struct transfer *transfer);
void transfer_resume(struct transfer *transfer);
/* Its answer is complete, though the provider has not said so yet: it gets a second to do so, for
 * its connection to be kept. No callback follows, the body may go. The caller's pointer is cleared.
 */
void transfer_release(struct transfer **transfer);
/* To be called at times, from the loop: gives memory back that a rush has taken. */
void transfer_pool_tend(struct transfer_pool *pool);
/* Transfers under way. */
unsigned transfer_pool_running(const struct transfer_pool *pool);
