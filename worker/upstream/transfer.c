/* transfer.h on libcurl's multi interface, driven by libuv.
 *
 * A poll handle stays with its descriptor for as long as libcurl keeps the connection: a kept-alive
 * connection then costs no epoll_ctl per request. That needs to know when a descriptor is closed,
 * so sockets are opened and closed through our callbacks; but a socket whose connection was never
 * made (refused, no TLS, too slow) libcurl closes by itself, and then tells that it no longer
 * watches it. Descriptors that libcurl makes otherwise (the resolver's wake-up socket) lose their
 * handle as soon as libcurl stops watching them. A transfer that is paused is no longer watched,
 * either, and yet its connection is not idle.
 *
 * libcurl never looks up a name: its resolver joins its thread when a transfer ends early, which
 * holds up the whole process for as long as the name server doesn't answer. */
#include "worker/upstream/transfer.h"

#include "shared/base/buf.h"
#include "shared/base/log.h"
#include "shared/base/spares.h"
#include "shared/base/xalloc.h"
#include "worker/upstream/resolve.h"

#include <curl/curl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_HEAD_BYTES = 64 * 1024, RELEASED_MS = 1000 };

struct poll {
    uv_poll_t handle;
    struct transfer_pool *pool;
    int fd;
    ino_t socket; /* which one the number means: it may be closed and given to another */
    int events;   /* what libuv watches now */
    bool wanted;  /* by libcurl; else the connection is idle in its cache */
    bool ours;    /* opened through open_socket */
};

struct transfer_pool {
    uv_loop_t *loop;
    CURLM *multi;
    struct resolve_cache *names;
    CURLU *url; /* takes URLs apart */
    uv_timer_t timer;
    struct poll **polls; /* by descriptor */
    size_t polls_size;
    struct transfer *unused, *doomed;
    struct spares spares; /* of `unused` */
    struct transfer *fed; /* have told data, and not yet that this was all */
    unsigned running;
    unsigned in_curl; /* > 0: libcurl is on the stack and no handle may be removed */
    struct transfer_settings settings;
};

struct transfer {
    struct transfer *next; /* in `unused` or `doomed` */
    struct transfer *next_fed;
    struct transfer_pool *pool;
    CURL *easy;
    struct curl_slist *headers;
    const struct transfer_events *events;
    void *context;
    uv_timer_t silence;        /* until the head has come, then between pieces of the body */
    struct resolve_host *host; /* NULL: nothing to look up */
    struct resolve_wait name;  /* while the host is not known */
    uv_timer_t name_timeout;
    char *host_name, *port; /* as libcurl has them */
    struct curl_slist *addresses;
    uint64_t began_ms, fed_ms; /* by the loop's clock */
    int64_t timeout_ms, idle_timeout_ms;
    size_t head_bytes, body_bytes, max_response;
    curl_off_t request_bytes;
    bool is_fed, paused;
    bool in_multi, sent, in_final_head, head_done, cancelled, too_large, not_http;
    char detail[CURL_ERROR_SIZE];
};

/* --- sockets --- */

static struct poll **poll_place(struct transfer_pool *pool, int fd)
{
    size_t index = (size_t)fd;
    if (index >= pool->polls_size) {
        size_t size = index * 2 + 64;
        pool->polls = xrealloc(pool->polls, size * sizeof(struct poll *));
        for (size_t i = pool->polls_size; i < size; i++)
            pool->polls[i] = NULL;
        pool->polls_size = size;
    }
    return &pool->polls[index];
}

static void free_poll(uv_handle_t *handle)
{
    free(handle->data);
}

static void drop_poll(struct transfer_pool *pool, int fd)
{
    struct poll **place = poll_place(pool, fd);
    if (!*place)
        return;
    (*place)->handle.data = *place;
    uv_close((uv_handle_t *)&(*place)->handle, free_poll);
    *place = NULL;
}

/* The socket behind this number; 0 when there is none. */
static ino_t socket_of(int fd)
{
    struct stat status;
    return fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode) ? status.st_ino : 0;
}

static struct poll *make_poll(struct transfer_pool *pool, int fd, bool ours)
{
    drop_poll(pool, fd); /* of a socket that had this number before */
    struct poll *poll = xcalloc(1, sizeof *poll);
    poll->pool = pool;
    poll->fd = fd;
    poll->socket = socket_of(fd);
    poll->ours = ours;
    if (uv_poll_init_socket(pool->loop, &poll->handle, fd) != 0) {
        free(poll);
        return NULL;
    }
    poll->handle.data = poll;
    *poll_place(pool, fd) = poll;
    return poll;
}

static curl_socket_t open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer_pool *pool = context;
    (void)purpose;
    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    if (make_poll(pool, fd, true))
        return fd;
    close(fd);
    return CURL_SOCKET_BAD;
}

static int close_socket(void *context, curl_socket_t fd)
{
    drop_poll(context, fd);
    return close(fd);
}

static void reap_finished(struct transfer_pool *pool);

static void tell_batches(struct transfer_pool *pool)
{
    struct transfer *transfer;
    while ((transfer = pool->fed)) {
        pool->fed = transfer->next_fed;
        transfer->is_fed = false;
        if (!transfer->cancelled)
            transfer->events->batch(transfer->context);
    }
}

static void act(struct transfer_pool *pool, curl_socket_t fd, int events)
{
    int running;
    pool->in_curl++;
    curl_multi_socket_action(pool->multi, fd, events, &running);
    pool->in_curl--;
    tell_batches(pool);
    reap_finished(pool);
}

/* An idle connection was closed by its server, which would be reported without end; or the server
 * said something that nobody asked for, which libcurl would take for the next request's answer.
 * Afterwards there is nothing to read but the end, and for that libcurl looks before it takes the
 * connection again. */
static void retire(struct poll *poll)
{
    char unasked[4096];
    uv_poll_stop(&poll->handle);
    poll->events = 0;
    shutdown(poll->fd, SHUT_RDWR);
    while (recv(poll->fd, unasked, sizeof unasked, MSG_DONTWAIT) > 0)
        ;
}

static void watch(struct poll *poll, int events);

/* libuv no longer watches a broken descriptor. libcurl takes what came before the break when it is
 * told to read, and finds the break itself; told of an error, it would look no further. */
static void look_what_broke(struct poll *poll)
{
    struct transfer_pool *pool = poll->pool;
    int events = poll->events, fd = poll->fd;
    poll->events = 0;
    act(pool, fd, CURL_CSELECT_IN | CURL_CSELECT_OUT);
    if (*poll_place(pool, fd) == poll && poll->wanted && poll->events == 0)
        watch(poll, events);
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct poll *poll = handle->data;
    if (!poll->wanted) {
        retire(poll);
        return;
    }
    if (status < 0)
        look_what_broke(poll);
    else
        act(poll->pool, poll->fd,
            (events & UV_READABLE ? CURL_CSELECT_IN : 0) |
                (events & UV_WRITABLE ? CURL_CSELECT_OUT : 0));
}

static void watch(struct poll *poll, int events)
{
    if (poll->events == events)
        return;
    poll->events = events;
    uv_poll_start(&poll->handle, events, on_poll);
}

static int on_socket(CURL *easy, curl_socket_t fd, int what, void *context, void *socket_context)
{
    struct transfer_pool *pool = context;
    struct transfer *transfer = NULL;
    (void)socket_context;
    struct poll *poll = *poll_place(pool, fd);
    if (what == CURL_POLL_REMOVE) {
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&transfer);
        if (poll && transfer && transfer->paused)
            watch(poll, 0);
        else if (poll && poll->ours && poll->socket == socket_of(fd)) {
            poll->wanted = false;
            watch(poll, UV_READABLE);
        } else {
            drop_poll(pool, fd);
        }
        return 0;
    }
    if (!poll)
        poll = make_poll(pool, fd, false);
    if (!poll)
        return -1;
    poll->wanted = true;
    watch(poll, (what & CURL_POLL_IN ? UV_READABLE : 0) | (what & CURL_POLL_OUT ? UV_WRITABLE : 0));
    return 0;
}

static void on_timer(uv_timer_t *timer)
{
    act(timer->data, CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long timeout_ms, void *context)
{
    struct transfer_pool *pool = context;
    (void)multi;
    if (timeout_ms < 0)
        uv_timer_stop(&pool->timer);
    else
        uv_timer_start(&pool->timer, on_timer, (uint64_t)timeout_ms, 0);
    return 0;
}

/* --- what libcurl tells of a transfer --- */

/* "HTTP/1.1 200 OK": the status, 0 for anything else. */
static int status_of(struct str line)
{
    unsigned long long status;
    if (!str_starts(line, STR("HTTP/")))
        return 0;
    struct str rest = line;
    str_split(&rest, ' ');
    if (rest.len < 3 || !str_to_u64((struct str){rest.at, 3}, &status))
        return 0;
    return (int)status;
}

static void take_header(struct transfer *transfer, struct str line)
{
    struct str value = line;
    struct str name = str_split(&value, ':');
    if (value.at)
        transfer->events->header(transfer->context, name, str_trim(value));
}

static void on_silence(uv_timer_t *timer);

/* Between the pieces of a body. The timer isn't set anew for each: it looks when it fires. */
static void watch_silence(struct transfer *transfer)
{
    transfer->fed_ms = uv_now(transfer->pool->loop);
    if (transfer->idle_timeout_ms > 0)
        uv_timer_start(&transfer->silence, on_silence, (uint64_t)transfer->idle_timeout_ms, 0);
    else
        uv_timer_stop(&transfer->silence);
}

static void note_fed(struct transfer *transfer)
{
    transfer->fed_ms = uv_now(transfer->pool->loop);
    if (!transfer->events->batch || transfer->is_fed)
        return;
    transfer->is_fed = true;
    transfer->next_fed = transfer->pool->fed;
    transfer->pool->fed = transfer;
}

static size_t on_header(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    struct str line = {bytes, size * count};
    size_t taken = line.len;
    if (transfer->cancelled)
        return 0;
    transfer->head_bytes += line.len;
    if (transfer->head_bytes > MAX_HEAD_BYTES) {
        transfer->too_large = true;
        return 0;
    }
    while (line.len > 0 && (line.at[line.len - 1] == '\n' || line.at[line.len - 1] == '\r'))
        line.len--;
    int status = transfer->head_done ? 0 : status_of(line);
    if (status > 0) {
        transfer->in_final_head = status >= 200;
        if (transfer->in_final_head)
            transfer->events->head(transfer->context, status);
    } else if (transfer->in_final_head && line.len == 0) {
        transfer->in_final_head = false;
        transfer->head_done = true;
        watch_silence(transfer);
    } else if (transfer->in_final_head) {
        take_header(transfer, line);
    }
    return transfer->cancelled ? 0 : taken;
}

static size_t on_data(char *bytes, size_t size, size_t count, void *context)
{
    struct transfer *transfer = context;
    struct str piece = {bytes, size * count};
    if (transfer->cancelled)
        return 0;
    if (!transfer->head_done) { /* bytes of another protocol, behind 101 */
        transfer->not_http = true;
        return 0;
    }
    transfer->body_bytes += piece.len;
    if (transfer->body_bytes > transfer->max_response) {
        transfer->too_large = true;
        return 0;
    }
    note_fed(transfer);
    transfer->events->data(transfer->context, piece);
    return transfer->cancelled ? 0 : piece.len;
}

/* Called before the request is sent, and again when libcurl would send it a second time, because a
 * kept connection broke before any answer came. The provider may have taken (and billed) the first
 * one, so that is not libcurl's to decide. */
static int before_send(void *context, char *to_ip, char *from_ip, int to_port, int from_port)
{
    struct transfer *transfer = context;
    (void)to_ip, (void)from_ip, (void)to_port, (void)from_port;
    if (transfer->sent)
        return CURL_PREREQFUNC_ABORT;
    transfer->sent = true;
    return CURL_PREREQFUNC_OK;
}

static enum transfer_result timeout_kind(const struct transfer *transfer)
{
    return transfer->sent ? TRANSFER_TIMEOUT : TRANSFER_CONNECT_TIMEOUT;
}

static enum transfer_result result_of(const struct transfer *transfer, CURLcode code)
{
    if (transfer->too_large)
        return TRANSFER_TOO_LARGE;
    if (transfer->not_http)
        return TRANSFER_NOT_HTTP;
    switch (code) {
    case CURLE_OK: /* also when the connection ended within the head */
        return transfer->head_done ? TRANSFER_OK : TRANSFER_CUT_OFF;
    case CURLE_OUT_OF_MEMORY: /* what 7.88 says of a header line beyond its own limit of 100 KiB */
#if LIBCURL_VERSION_NUM >= 0x080600
    case CURLE_TOO_LARGE:
#endif
        return TRANSFER_TOO_LARGE;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
        return TRANSFER_UNREACHABLE;
    case CURLE_OPERATION_TIMEDOUT:
        return timeout_kind(transfer);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return TRANSFER_TLS_FAILED;
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_WEIRD_SERVER_REPLY:
        return TRANSFER_NOT_HTTP;
    default:
        return transfer->head_bytes > 0 ? TRANSFER_CUT_OFF : TRANSFER_BROKEN;
    }
}

/* --- a transfer's life --- */

static void free_lists(struct transfer *transfer)
{
    curl_slist_free_all(transfer->headers);
    curl_slist_free_all(transfer->addresses);
    transfer->headers = transfer->addresses = NULL;
    curl_free(transfer->host_name);
    curl_free(transfer->port);
    transfer->host_name = transfer->port = NULL;
}

static void forget_fed(struct transfer *transfer)
{
    struct transfer **place = &transfer->pool->fed;
    while (transfer->is_fed && *place != transfer)
        place = &(*place)->next_fed;
    if (transfer->is_fed)
        *place = transfer->next_fed;
    transfer->is_fed = false;
}

/* Takes it off libcurl and keeps it for the next one; the callbacks are the caller's business. */
static void put_away(struct transfer *transfer)
{
    struct transfer_pool *pool = transfer->pool;
    uv_timer_stop(&transfer->silence);
    uv_timer_stop(&transfer->name_timeout);
    resolve_leave(&transfer->name);
    forget_fed(transfer);
    if (transfer->in_multi)
        curl_multi_remove_handle(pool->multi, transfer->easy);
    transfer->in_multi = false;
    free_lists(transfer);
    pool->running--;
    transfer->next = pool->unused;
    pool->unused = transfer;
    spares_kept(&pool->spares);
}

static void finish(struct transfer *transfer, enum transfer_result result)
{
    const struct transfer_events *events = transfer->events;
    void *context = transfer->context;
    char detail[CURL_ERROR_SIZE];
    memcpy(detail, transfer->detail, sizeof detail);
    put_away(transfer);
    events->done(context, result, detail);
}

static void bury_doomed(struct transfer_pool *pool)
{
    while (pool->doomed) {
        struct transfer *transfer = pool->doomed;
        pool->doomed = transfer->next;
        put_away(transfer);
    }
}

static void reap_finished(struct transfer_pool *pool)
{
    CURLMsg *message;
    int left;
    if (pool->in_curl > 0)
        return;
    bury_doomed(pool);
    while ((message = curl_multi_info_read(pool->multi, &left))) {
        struct transfer *transfer = NULL;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&transfer);
        if (transfer->detail[0] == '\0')
            snprintf(transfer->detail, sizeof transfer->detail, "%s", curl_easy_strerror(code));
        finish(transfer, result_of(transfer, code));
    }
}

static void on_no_first_byte(uv_timer_t *timer)
{
    struct transfer *transfer = timer->data;
    snprintf(transfer->detail, sizeof transfer->detail, "no head of an answer in time");
    finish(transfer, TRANSFER_NO_FIRST_BYTE);
}

static void on_silence(uv_timer_t *timer)
{
    struct transfer *transfer = timer->data;
    int64_t idle_ms = transfer->idle_timeout_ms;
    int64_t silent_ms =
        transfer->paused ? 0 : (int64_t)(uv_now(transfer->pool->loop) - transfer->fed_ms);
    if (silent_ms < idle_ms) {
        uv_timer_start(timer, on_silence, (uint64_t)(idle_ms - silent_ms), 0);
        return;
    }
    snprintf(transfer->detail, sizeof transfer->detail, "nothing came for %lld ms",
             (long long)silent_ms);
    finish(transfer, TRANSFER_IDLE);
}

/* What holds for every transfer; libcurl keeps it over the handle's reuse. */
static void set_common(struct transfer *transfer)
{
    struct transfer_pool *pool = transfer->pool;
    CURL *easy = transfer->easy;
    curl_easy_setopt(easy, CURLOPT_PRIVATE, transfer);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_POST, 1L);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, -1L);
#if LIBCURL_VERSION_NUM >= 0x075700
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
#endif
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    if (pool->settings.ca_file)
        curl_easy_setopt(easy, CURLOPT_CAINFO, pool->settings.ca_file);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, transfer->detail);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_data);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, before_send);
    curl_easy_setopt(easy, CURLOPT_PREREQDATA, transfer);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, pool);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, pool);
}

static struct transfer *take_transfer(struct transfer_pool *pool)
{
    struct transfer *transfer = pool->unused;
    if (transfer) {
        pool->unused = transfer->next;
        spares_taken(&pool->spares);
        return transfer;
    }
    transfer = xcalloc(1, sizeof *transfer);
    transfer->pool = pool;
    transfer->easy = curl_easy_init();
    if (!transfer->easy) {
        log_error("libcurl gives no handle");
        abort();
    }
    uv_timer_init(pool->loop, &transfer->silence);
    transfer->silence.data = transfer;
    uv_timer_init(pool->loop, &transfer->name_timeout);
    transfer->name_timeout.data = transfer;
    set_common(transfer);
    return transfer;
}

static void free_transfer(uv_handle_t *timer)
{
    free(timer->data);
}

static void close_next_timer(uv_handle_t *timer)
{
    struct transfer *transfer = timer->data;
    uv_close((uv_handle_t *)&transfer->name_timeout, free_transfer);
}

void transfer_pool_tend(struct transfer_pool *pool)
{
    for (unsigned surplus = spares_surplus(&pool->spares); surplus > 0; surplus--) {
        struct transfer *transfer = pool->unused;
        pool->unused = transfer->next;
        curl_easy_cleanup(transfer->easy);
        uv_close((uv_handle_t *)&transfer->silence, close_next_timer);
    }
}

static struct curl_slist *header_list(const struct transfer_request *request)
{
    struct curl_slist *list = curl_slist_append(NULL, "Accept-Encoding: identity");
    struct buf line = {0};
    list = curl_slist_append(list, "Expect:");
    for (size_t i = 0; i < request->headers_count; i++) {
        buf_clear(&line);
        buf_str(&line, request->headers[i].name);
        buf_puts(&line, ": ");
        buf_str(&line, request->headers[i].value);
        list = curl_slist_append(list, buf_cstr(&line));
    }
    buf_free(&line);
    return list;
}

/* libcurl closes idle connections beyond this number, and counts the busy ones too: so the number
 * goes with the load. */
static void fit_cache(struct transfer_pool *pool)
{
    long idle = (long)pool->settings.keepalive * (long)pool->settings.hosts;
    curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, idle + (long)pool->running);
}

/* --- where it goes --- */

/* What is left of a time limit: waiting for the name counts. */
static long rest_of(const struct transfer *transfer, int64_t timeout_ms)
{
    int64_t gone_ms = (int64_t)(uv_now(transfer->pool->loop) - transfer->began_ms);
    return (long)(timeout_ms > gone_ms ? timeout_ms - gone_ms : 1);
}

/* Each transfer brings the addresses along, and libcurl takes them for the host's in place of those
 * it had. They don't expire, so it has them also when it connects a second time. */
static void bring_addresses(struct transfer *transfer, const char *addresses)
{
    struct buf line = {0};
    buf_printf(&line, "%s:%s:%s", transfer->host_name, transfer->port, addresses);
    transfer->addresses = curl_slist_append(NULL, buf_cstr(&line));
    buf_free(&line);
}

static void submit(struct transfer *transfer)
{
    struct transfer_pool *pool = transfer->pool;
    CURL *easy = transfer->easy;
    curl_easy_setopt(easy, CURLOPT_RESOLVE, transfer->addresses);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                     rest_of(transfer, pool->settings.connect_timeout_ms));
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, rest_of(transfer, transfer->timeout_ms));
    transfer->in_multi = true;
    curl_multi_add_handle(pool->multi, easy);
}

static void on_name(struct resolve_wait *wait, bool exists)
{
    struct transfer *transfer = (struct transfer *)((char *)wait - offsetof(struct transfer, name));
    uv_timer_stop(&transfer->name_timeout);
    if (exists) {
        bring_addresses(transfer, resolve_addresses(transfer->host));
        submit(transfer);
        return;
    }
    snprintf(transfer->detail, sizeof transfer->detail, "there is no host named %.200s",
             transfer->host_name);
    finish(transfer, TRANSFER_UNREACHABLE);
}

static void on_name_timeout(uv_timer_t *timer)
{
    struct transfer *transfer = timer->data;
    snprintf(transfer->detail, sizeof transfer->detail,
             "the address of %.200s was not found in time", transfer->host_name);
    finish(transfer, TRANSFER_CONNECT_TIMEOUT);
}

static void wait_for_name(struct transfer *transfer)
{
    int64_t connect_ms = transfer->pool->settings.connect_timeout_ms;
    int64_t wait_ms = connect_ms < transfer->timeout_ms ? connect_ms : transfer->timeout_ms;
    transfer->name.done = on_name;
    uv_timer_start(&transfer->name_timeout, on_name_timeout, (uint64_t)wait_ms, 0);
    resolve_wait(transfer->host, &transfer->name);
}

/* The host of a URL just as libcurl will see it; NULL when there is nothing to look up. */
static struct resolve_host *host_of(struct transfer_pool *pool, const char *url, char **name,
                                    char **port)
{
    struct resolve_host *host = NULL;
    *name = *port = NULL;
    if (curl_url_set(pool->url, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(pool->url, CURLUPART_HOST, name, 0) == CURLUE_OK &&
        curl_url_get(pool->url, CURLUPART_PORT, port, CURLU_DEFAULT_PORT) == CURLUE_OK)
        host = resolve_host(pool->names, str_of(*name));
    return host;
}

void transfer_pool_expect(struct transfer_pool *pool, const char *url)
{
    char *name, *port;
    host_of(pool, url, &name, &port);
    curl_free(name);
    curl_free(port);
}

/* --- its beginning and end --- */

static void forget_the_last(struct transfer *transfer)
{
    transfer->head_bytes = transfer->body_bytes = 0;
    transfer->paused = false;
    transfer->sent = transfer->in_final_head = transfer->head_done = false;
    transfer->cancelled = transfer->too_large = transfer->not_http = false;
    transfer->detail[0] = '\0';
}

static void take_request(struct transfer *transfer, const struct transfer_request *request)
{
    CURL *easy = transfer->easy;
    transfer->max_response = request->max_response;
    transfer->timeout_ms = request->timeout_ms;
    transfer->idle_timeout_ms = request->idle_timeout_ms;
    transfer->request_bytes = (curl_off_t)request->body.len;
    transfer->headers = header_list(request);
    curl_easy_setopt(easy, CURLOPT_URL, request->url);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, transfer->headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, transfer->request_bytes);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, request->body.at);
}

struct transfer *transfer_start(struct transfer_pool *pool, const struct transfer_request *request,
                                const struct transfer_events *events, void *context)
{
    struct transfer *transfer = take_transfer(pool);
    forget_the_last(transfer);
    transfer->events = events;
    transfer->context = context;
    transfer->began_ms = uv_now(pool->loop);
    take_request(transfer, request);
    uv_timer_start(&transfer->silence, on_no_first_byte, (uint64_t)request->first_byte_timeout_ms,
                   0);
    pool->running++;
    fit_cache(pool);
    transfer->host = host_of(pool, request->url, &transfer->host_name, &transfer->port);
    const char *addresses = transfer->host ? resolve_addresses(transfer->host) : NULL;
    if (addresses)
        bring_addresses(transfer, addresses);
    if (addresses || !transfer->host)
        submit(transfer);
    else
        wait_for_name(transfer);
    return transfer;
}

void transfer_cancel(struct transfer **place)
{
    struct transfer *transfer = *place;
    *place = NULL;
    if (!transfer || transfer->cancelled)
        return;
    transfer->cancelled = true;
    if (transfer->pool->in_curl > 0) {
        transfer->next = transfer->pool->doomed;
        transfer->pool->doomed = transfer;
    } else {
        put_away(transfer);
    }
}

static void set_paused(struct transfer *transfer, bool paused)
{
    struct transfer_pool *pool = transfer->pool;
    if (transfer->paused == paused)
        return;
    transfer->paused = paused;
    transfer->fed_ms = uv_now(pool->loop);
    pool->in_curl++;
    curl_easy_pause(transfer->easy, paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
    pool->in_curl--;
}

void transfer_pause(struct transfer *transfer)
{
    set_paused(transfer, true);
}

/* libcurl goes on from its timer. */
void transfer_resume(struct transfer *transfer)
{
    set_paused(transfer, false);
}

static void pass_head(void *context, int status)
{
    (void)context, (void)status;
}

static void pass_header(void *context, struct str name, struct str value)
{
    (void)context, (void)name, (void)value;
}

static void pass_data(void *context, struct str bytes)
{
    (void)context, (void)bytes;
}

static void pass_done(void *context, enum transfer_result result, const char *detail)
{
    (void)context, (void)result, (void)detail;
}

static void on_released_long_enough(uv_timer_t *timer)
{
    finish(timer->data, TRANSFER_IDLE);
}

/* A request that is still being sent needs its body, which the caller may take away. */
void transfer_release(struct transfer **place)
{
    static const struct transfer_events nobody = {pass_head, pass_header, pass_data, NULL,
                                                  pass_done};
    struct transfer *transfer = *place;
    curl_off_t sent = 0;
    curl_easy_getinfo(transfer->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    if (sent < transfer->request_bytes) {
        transfer_cancel(place);
        return;
    }
    *place = NULL;
    transfer->events = &nobody;
    forget_fed(transfer);
    set_paused(transfer, false);
    uv_timer_start(&transfer->silence, on_released_long_enough, RELEASED_MS, 0);
}

unsigned transfer_pool_running(const struct transfer_pool *pool)
{
    return pool->running;
}

struct transfer_pool *transfer_pool_new(uv_loop_t *loop, const struct transfer_settings *settings)
{
    struct transfer_pool *pool = xcalloc(1, sizeof *pool);
    pool->loop = loop;
    pool->settings = *settings;
    curl_global_init(CURL_GLOBAL_DEFAULT);
    pool->multi = curl_multi_init();
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_socket);
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    pool->names = resolve_cache_new(loop, settings->names);
    pool->url = curl_url();
    uv_timer_init(loop, &pool->timer);
    pool->timer.data = pool;
    return pool;
}
