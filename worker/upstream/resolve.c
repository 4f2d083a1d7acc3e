#include "worker/upstream/resolve.h"

#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <arpa/inet.h>
#include <sodium.h>

enum {
    LOOK_UPS_MAX = 2,
    ADDRESSES_MAX = 16, /* more than can be tried in any connect_timeout */
    TICK_MS = 1000,
    REFRESH_MS = 60 * 1000, /* while it is used */
    UNUSED_REFRESH_MS = 10 * 60 * 1000,
    RETRY_MS = 10 * 1000,
    AWAITED_RETRY_MS = 500,
    SLOW_MS = 5000,
};

struct resolve_host {
    struct resolve_host *next;
    struct resolve_cache *cache;
    char *name;
    struct buf addresses; /* empty: none are known */
    bool under_way, used; /* used since the last look-up began */
    bool told_slow;
    unsigned failures;           /* since the last addresses came */
    int64_t began_ms;            /* the last look-up */
    int64_t due_ms;              /* the next one, when nobody waits */
    int64_t retry_ms;            /* the next one, when somebody does */
    struct resolve_wait waiting; /* a ring's head */
    uv_getaddrinfo_t request;
};

struct resolve_cache {
    uv_loop_t *loop;
    uv_timer_t tick;
    struct resolve_source source;
    struct resolve_host *hosts, **last;
};

/* --- who waits --- */

static void ring_init(struct resolve_wait *ring)
{
    ring->next = ring->previous = ring;
}

static bool ring_empty(const struct resolve_wait *ring)
{
    return ring->next == ring;
}

static void ring_append(struct resolve_wait *ring, struct resolve_wait *wait)
{
    wait->next = ring;
    wait->previous = ring->previous;
    ring->previous->next = wait;
    ring->previous = wait;
}

void resolve_leave(struct resolve_wait *wait)
{
    if (!wait->next)
        return;
    wait->next->previous = wait->previous;
    wait->previous->next = wait->next;
    wait->next = wait->previous = NULL;
}

/* Whoever is called may leave for others, and wait anew: those who were there before are on a ring
 * of their own meanwhile. */
static void call_waiting(struct resolve_host *host, bool exists)
{
    struct resolve_wait called;
    ring_init(&called);
    while (!ring_empty(&host->waiting)) {
        struct resolve_wait *wait = host->waiting.next;
        resolve_leave(wait);
        ring_append(&called, wait);
    }
    while (!ring_empty(&called)) {
        struct resolve_wait *wait = called.next;
        resolve_leave(wait);
        wait->done(wait, exists);
    }
}

/* --- when to look up --- */

/* Workers that began together shall not ask together. */
static int64_t jittered(int64_t ms)
{
    return ms * 3 / 4 + randombytes_uniform((uint32_t)ms / 2);
}

static bool awaited(const struct resolve_host *host)
{
    return !ring_empty(&host->waiting);
}

static bool due(const struct resolve_host *host, int64_t now_ms)
{
    if (host->under_way)
        return false;
    if (awaited(host))
        return now_ms >= host->retry_ms;
    return now_ms >= host->due_ms &&
           (host->used || host->addresses.len == 0 || now_ms >= host->began_ms + UNUSED_REFRESH_MS);
}

/* Those that somebody waits for go first, then those not asked for the longest time: one that hangs
 * every time keeps nobody from an answer that comes at once. */
static bool goes_before(const struct resolve_host *a, const struct resolve_host *b)
{
    if (awaited(a) != awaited(b))
        return awaited(a);
    return a->began_ms < b->began_ms;
}

static struct resolve_host *next_due(const struct resolve_cache *cache)
{
    struct resolve_host *best = NULL;
    int64_t now_ms = clock_now_ms();
    for (struct resolve_host *host = cache->hosts; host; host = host->next)
        if (due(host, now_ms) && (!best || goes_before(host, best)))
            best = host;
    return best;
}

static bool has_place(const struct resolve_cache *cache, const struct resolve_host *asking)
{
    unsigned under_way = 0, unawaited = 0;
    for (const struct resolve_host *host = cache->hosts; host; host = host->next) {
        under_way += host->under_way;
        unawaited += host->under_way && !awaited(host);
    }
    return under_way < LOOK_UPS_MAX && (awaited(asking) || unawaited == 0);
}

static void begin(struct resolve_host *host)
{
    host->under_way = true;
    host->used = host->told_slow = false;
    host->began_ms = clock_now_ms();
    host->cache->source.look_up(host->cache->source.context, host->name, host);
}

static void begin_due(struct resolve_cache *cache)
{
    struct resolve_host *host;
    while ((host = next_due(cache)) && has_place(cache, host))
        begin(host);
}

static void tell_slow(struct resolve_host *host)
{
    if (!host->under_way || host->told_slow || host->failures > 0 ||
        clock_now_ms() < host->began_ms + SLOW_MS)
        return;
    host->told_slow = true;
    log_warning("the name server has not answered for %d s: %s%s", SLOW_MS / 1000, host->name,
                host->addresses.len ? "; its last addresses stay in use" : "");
}

void resolve_refresh(struct resolve_cache *cache)
{
    for (struct resolve_host *host = cache->hosts; host; host = host->next)
        tell_slow(host);
    begin_due(cache);
}

static void on_tick(uv_timer_t *timer)
{
    resolve_refresh(timer->data);
}

/* --- what comes back --- */

static bool put_address(struct buf *list, const struct addrinfo *found)
{
    char text[INET6_ADDRSTRLEN];
    if (found->ai_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, found->ai_addr, sizeof v4);
        buf_puts(list, inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text));
        return true;
    }
    struct sockaddr_in6 v6;
    if (found->ai_family != AF_INET6)
        return false;
    memcpy(&v6, found->ai_addr, sizeof v6);
    if (v6.sin6_scope_id != 0) /* of one link: libcurl takes no such address */
        return false;
    buf_printf(list, "[%s]", inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text));
    return true;
}

static void write_addresses(struct buf *list, const struct addrinfo *found)
{
    for (unsigned count = 0; found && count < ADDRESSES_MAX; found = found->ai_next) {
        size_t before = list->len;
        if (before > 0)
            buf_putc(list, ',');
        if (put_address(list, found))
            count++;
        else
            list->len = before;
    }
}

static void keep(struct resolve_host *host, struct buf *addresses)
{
    if (host->failures > 0 || host->told_slow)
        log_info("%s is found now", host->name);
    if (!str_eq(buf_view(&host->addresses), buf_view(addresses)))
        log_debug("%s is at %s", host->name, buf_cstr(addresses));
    buf_free(&host->addresses);
    host->addresses = *addresses;
    host->failures = 0;
    host->due_ms = clock_now_ms() + jittered(REFRESH_MS);
}

/* The name server's own word, not its absence. */
static bool is_definite(int status)
{
    return status == 0 || status == UV_EAI_NONAME || status == UV_EAI_NODATA ||
           status == UV_EAI_ADDRFAMILY || status == UV_EAI_FAIL;
}

static void note_failure(struct resolve_host *host, int status)
{
    if (host->failures++ == 0)
        log_warning("%s was not found: %s%s", host->name,
                    status ? uv_strerror(status) : "it has no address",
                    host->addresses.len ? "; its last addresses stay in use" : "");
    host->due_ms = clock_now_ms() + jittered(RETRY_MS);
    host->retry_ms = clock_now_ms() + (is_definite(status) ? 0 : AWAITED_RETRY_MS);
}

void resolve_answer(struct resolve_host *host, int status, const struct addrinfo *found)
{
    struct buf addresses = {0};
    host->under_way = false;
    if (status == 0)
        write_addresses(&addresses, found);
    if (addresses.len > 0)
        keep(host, &addresses);
    else
        note_failure(host, status);
    if (host->addresses.len > 0 || is_definite(status))
        call_waiting(host, host->addresses.len > 0);
    begin_due(host->cache);
}

/* --- getaddrinfo --- */

static void on_found(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    resolve_answer(request->data, status, found);
    uv_freeaddrinfo(found);
}

static void look_up_by_system(void *context, const char *name, struct resolve_host *host)
{
    static const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct resolve_cache *cache = context;
    host->request.data = host;
    int failure = uv_getaddrinfo(cache->loop, &host->request, on_found, name, NULL, &hints);
    if (failure != 0) { /* not begun: like one that failed, but nobody may be called now */
        host->under_way = false;
        note_failure(host, failure);
    }
}

/* --- the cache --- */

static bool is_v4(struct str name)
{
    char text[INET_ADDRSTRLEN] = "";
    struct in_addr address;
    if (name.len >= sizeof text)
        return false;
    memcpy(text, name.at, name.len);
    return inet_pton(AF_INET, text, &address) == 1;
}

static bool needs_no_look_up(struct str name)
{
    return str_starts(name, STR("[")) || is_v4(name) || str_eq_nocase(name, STR("localhost"));
}

static struct resolve_host *add(struct resolve_cache *cache, struct str name)
{
    struct resolve_host *host = xcalloc(1, sizeof *host);
    host->cache = cache;
    host->name = xcalloc(1, name.len + 1);
    memcpy(host->name, name.at, name.len);
    ring_init(&host->waiting);
    *cache->last = host;
    cache->last = &host->next;
    if (!uv_is_active((uv_handle_t *)&cache->tick))
        uv_timer_start(&cache->tick, on_tick, TICK_MS, TICK_MS);
    begin_due(cache);
    return host;
}

struct resolve_host *resolve_host(struct resolve_cache *cache, struct str name)
{
    for (struct resolve_host *host = cache->hosts; host; host = host->next)
        if (str_eq_nocase(str_of(host->name), name))
            return host;
    return needs_no_look_up(name) ? NULL : add(cache, name);
}

const char *resolve_addresses(struct resolve_host *host)
{
    host->used = true;
    return host->addresses.len ? buf_cstr(&host->addresses) : NULL;
}

void resolve_wait(struct resolve_host *host, struct resolve_wait *wait)
{
    host->used = true;
    ring_append(&host->waiting, wait);
    begin_due(host->cache);
}

struct resolve_cache *resolve_cache_new(uv_loop_t *loop, const struct resolve_source *source)
{
    struct resolve_cache *cache = xcalloc(1, sizeof *cache);
    cache->loop = loop;
    cache->last = &cache->hosts;
    cache->source = source ? *source : (struct resolve_source){look_up_by_system, cache};
    uv_timer_init(loop, &cache->tick);
    uv_unref((uv_handle_t *)&cache->tick);
    cache->tick.data = cache;
    return cache;
}
