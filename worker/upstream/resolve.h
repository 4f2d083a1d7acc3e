/* The addresses of host names, looked up outside of any request and kept. A look-up may hang for
 * half a minute: it does so in a thread of libuv's pool, holds up nobody whose addresses are known,
 * and who waits for it can leave at any time.
 *
 * A host is looked up when it is first named, and again about once a minute while it is used, else
 * every ten minutes. A look-up that fails leaves the last addresses as they are. At most two are
 * under way at once, one of each host, and at most one of them that nobody waits for: a name server
 * that never answers gets no more threads. */
#pragma once

#include "shared/base/str.h"

#include <netdb.h>
#include <uv.h>

struct resolve_cache;
struct resolve_host; /* lives as long as its cache, and that as long as its process */

/* Where addresses come from: begins a look-up, which leads to one call of resolve_answer, from the
 * loop and never from inside. */
struct resolve_source {
    void (*look_up)(void *context, const char *name, struct resolve_host *host);
    void *context;
};

/* `status` as uv_getaddrinfo gives it; `found` stays the caller's. */
void resolve_answer(struct resolve_host *host, int status, const struct addrinfo *found);

/* Without a source (NULL): getaddrinfo. It must outlive the cache. */
struct resolve_cache *resolve_cache_new(uv_loop_t *loop, const struct resolve_source *source);
/* Begins the look-ups that are due by the clock. A timer does so once a second. */
void resolve_refresh(struct resolve_cache *cache);

/* The host of this name, from now on kept. NULL when there is nothing to look up: an IP address
 * (version 6 in brackets, as in a URL), and "localhost", whose addresses libcurl knows. */
struct resolve_host *resolve_host(struct resolve_cache *cache, struct str name);
/* Its addresses as CURLOPT_RESOLVE takes them, the best first: "192.0.2.1,[2001:db8::1]". NULL when
 * none are known yet. Valid until the loop turns. */
const char *resolve_addresses(struct resolve_host *host);

/* One who waits for the first addresses. All zero is nobody. */
struct resolve_wait {
    struct resolve_wait *next, *previous; /* the cache's own */
    /* Once, from the loop: the addresses are there, or (false) no such host exists. While look-ups
     * fail for other reasons, it waits on: how long is the waiter's to decide. */
    void (*done)(struct resolve_wait *wait, bool exists);
};

void resolve_wait(struct resolve_host *host, struct resolve_wait *wait);
/* No callback follows; does no harm to one who doesn't wait. */
void resolve_leave(struct resolve_wait *wait);
