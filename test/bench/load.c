/* A load generator for HTTP/1.1: exactly so many requests over so many keep-alive connections, then
 * one line of JSON on stdout that accounts for each of them.
 *
 *   load [-n REQUESTS] [-c CONNECTIONS] [-H 'Name: value']… [-d BODY | -d @FILE] [-r] [-t SECONDS]
 *        HOST PORT PATH
 *
 * GET without -d, POST with it. A request whose connection broke before the whole answer was there,
 * or whose answer was not HTTP, is counted as broken and, with -r, sent again until it is answered.
 * Exits 1 when no answer came for SECONDS (default 60), 2 on a wrong call. Uses nothing of
 * promptgate's own code. */
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 16384, EVENTS = 256, RETRY_US = 20000, STATUSES = 600 };

/* Where the answer's next byte belongs. */
enum part {
    STATUS_LINE,
    HEADER,
    BODY,
    CHUNK_SIZE,
    CHUNK,
    CHUNK_END,
    TRAILER,
    UNTIL_CLOSE,
    COMPLETE,
    MALFORMED
};

struct answer {
    enum part part;
    int status;
    bool chunked, has_length, close;
    uint64_t left; /* of the body or chunk */
    size_t line_len;
    char line[LINE_BYTES];
};

struct connection {
    int fd; /* -1: none */
    bool busy, connecting, send_failed, was_connected;
    size_t sent;
    int64_t started_us; /* of the request, first try */
    int64_t retry_us;   /* when to connect again; 0 = not waiting */
    struct answer answer;
};

static struct {
    uint64_t requests, connections;
    bool resend;
    int64_t patience_us;
    char *request;
    size_t request_len;
    struct addrinfo *address;
} options = {.requests = 1000, .connections = 1, .patience_us = 60000000};

static struct {
    uint64_t issued, finished, broken, reconnects;
    uint64_t by_status[STATUSES];
    uint32_t *latency_us;
    uint64_t answered;
    int64_t last_answer_us;
} totals;

static int poll_fd;

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void __attribute__((noreturn, format(printf, 1, 2))) die(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    exit(2);
}

static void *allocate(void *old, size_t size)
{
    void *memory = realloc(old, size ? size : 1);
    if (!memory)
        die("out of memory");
    return memory;
}

/* --- the answer --- */

static enum part after_head(struct answer *a)
{
    if (a->status >= 100 && a->status < 200)
        return STATUS_LINE;
    if (a->status == 204 || a->status == 304)
        return COMPLETE;
    if (a->chunked)
        return CHUNK_SIZE;
    if (!a->has_length)
        return UNTIL_CLOSE;
    return a->left ? BODY : COMPLETE;
}

static enum part status_line(struct answer *a)
{
    int minor;
    if (sscanf(a->line, "HTTP/1.%1d %3d", &minor, &a->status) != 2 || a->status < 100 ||
        a->status >= STATUSES)
        return MALFORMED;
    a->close = minor == 0;
    return HEADER;
}

static enum part header(struct answer *a)
{
    if (!*a->line)
        return after_head(a);
    char *value = strchr(a->line, ':');
    if (!value)
        return MALFORMED;
    *value++ = '\0';
    value += strspn(value, " \t");
    if (strcasecmp(a->line, "content-length") == 0) {
        a->has_length = true;
        a->left = strtoull(value, NULL, 10);
    } else if (strcasecmp(a->line, "transfer-encoding") == 0) {
        a->chunked = strcasestr(value, "chunked") != NULL;
    } else if (strcasecmp(a->line, "connection") == 0) {
        a->close |= strcasestr(value, "close") != NULL;
    }
    return HEADER;
}

static enum part chunk_size(struct answer *a)
{
    char *end;
    a->left = strtoull(a->line, &end, 16);
    if (end == a->line)
        return MALFORMED;
    return a->left ? CHUNK : TRAILER;
}

static enum part take_line(struct answer *a)
{
    switch (a->part) {
    case STATUS_LINE:
        return status_line(a);
    case HEADER:
        return header(a);
    case CHUNK_SIZE:
        return chunk_size(a);
    case CHUNK_END:
        return *a->line ? MALFORMED : CHUNK_SIZE;
    default:
        return *a->line ? TRAILER : COMPLETE;
    }
}

static void take_byte(struct answer *a, char c)
{
    if (c != '\n') {
        if (a->line_len == LINE_BYTES - 1)
            a->part = MALFORMED;
        else
            a->line[a->line_len++] = c;
        return;
    }
    if (a->line_len && a->line[a->line_len - 1] == '\r')
        a->line_len--;
    a->line[a->line_len] = '\0';
    a->part = take_line(a);
    a->line_len = 0;
}

static size_t take_body(struct answer *a, size_t len)
{
    size_t used = len < a->left ? len : (size_t)a->left;
    a->left -= used;
    if (a->left == 0)
        a->part = a->part == BODY ? COMPLETE : CHUNK_END;
    return used;
}

/* How many of the bytes were the answer's. */
static size_t answer_feed(struct answer *a, const char *bytes, size_t len)
{
    size_t at = 0;
    while (at < len && a->part != COMPLETE && a->part != MALFORMED) {
        if (a->part == UNTIL_CLOSE)
            return len;
        if (a->part == BODY || a->part == CHUNK)
            at += take_body(a, len - at);
        else
            take_byte(a, bytes[at++]);
    }
    return at;
}

/* --- connections --- */

static void answer_reset(struct answer *a)
{
    a->part = STATUS_LINE;
    a->chunked = a->has_length = a->close = false;
    a->line_len = 0;
    a->left = 0;
}

static void disconnect(struct connection *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

static bool start_connecting(struct connection *c)
{
    int one = 1;
    c->fd = socket(options.address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        die("socket: %s", strerror(errno));
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = c};
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, c->fd, &event) != 0)
        die("epoll_ctl: %s", strerror(errno));
    if (c->was_connected)
        totals.reconnects++;
    c->connecting = true;
    c->was_connected = true;
    return connect(c->fd, options.address->ai_addr, options.address->ai_addrlen) == 0 ||
           errno == EINPROGRESS;
}

/* The connection has nothing more to do with its request. */
static void finish(struct connection *c)
{
    c->busy = false;
    totals.finished++;
}

static void count_answer(struct connection *c)
{
    int64_t now = now_us(), spent = now - c->started_us;
    totals.latency_us[totals.answered++] = spent > UINT32_MAX ? UINT32_MAX : (uint32_t)spent;
    totals.by_status[c->answer.status]++;
    totals.last_answer_us = now;
    finish(c);
}

static void count_broken(struct connection *c)
{
    totals.broken++;
    disconnect(c);
    if (!options.resend)
        finish(c);
    c->retry_us = now_us() + RETRY_US;
}

static void send_some(struct connection *c)
{
    while (c->sent < options.request_len && !c->send_failed) {
        ssize_t got =
            send(c->fd, options.request + c->sent, options.request_len - c->sent, MSG_NOSIGNAL);
        if (got > 0)
            c->sent += (size_t)got;
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR)
            c->send_failed = true; /* an answer may be waiting all the same */
    }
}

/* The whole answer is there: the connection is used again unless either side can't. */
static void complete(struct connection *c, bool bytes_left_over)
{
    bool reusable =
        !c->answer.close && !bytes_left_over && c->sent == options.request_len && !c->send_failed;
    count_answer(c);
    if (!reusable)
        disconnect(c);
}

/* True while there may be more to read. */
static bool receive_some(struct connection *c)
{
    static char bytes[65536];
    ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    if (got <= 0) {
        if (got == 0 && c->answer.part == UNTIL_CLOSE) {
            c->answer.close = true;
            complete(c, false);
        } else {
            count_broken(c);
        }
        return false;
    }
    size_t used = answer_feed(&c->answer, bytes, (size_t)got);
    if (c->answer.part == MALFORMED) {
        count_broken(c);
        return false;
    }
    if (c->answer.part == COMPLETE) {
        complete(c, used < (size_t)got);
        return false;
    }
    return true;
}

static bool is_connected(struct connection *c)
{
    int error = 0;
    socklen_t size = sizeof error;
    struct sockaddr_storage peer;
    socklen_t peer_size = sizeof peer;
    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0 || error) {
        count_broken(c);
        return false;
    }
    c->connecting = getpeername(c->fd, (struct sockaddr *)&peer, &peer_size) != 0;
    return !c->connecting;
}

static void begin_try(struct connection *c)
{
    c->sent = 0;
    c->send_failed = false;
    answer_reset(&c->answer);
    if (c->fd < 0 && !start_connecting(c))
        count_broken(c);
}

/* Gives an idle connection the next request, if there is one left. */
static bool begin_request(struct connection *c)
{
    if (totals.issued == options.requests)
        return false;
    totals.issued++;
    c->busy = true;
    c->started_us = now_us();
    begin_try(c);
    return true;
}

/* Goes on until the connection would wait, or has nothing left to do. */
static void drive(struct connection *c)
{
    while (!c->retry_us && (c->busy || begin_request(c)) && c->fd >= 0) {
        if (c->connecting && !is_connected(c))
            return;
        send_some(c);
        while (c->busy && c->fd >= 0 && receive_some(c))
            ;
        if (c->busy)
            return;
    }
}

/* A server that refuses connections is not asked again at once. */
static void retry_due(struct connection *all, int64_t now)
{
    for (uint64_t i = 0; i < options.connections; i++) {
        struct connection *c = &all[i];
        if (!c->retry_us || c->retry_us > now)
            continue;
        c->retry_us = 0;
        if (c->busy)
            begin_try(c);
        drive(c);
    }
}

/* True when every request was finished. */
static bool run(struct connection *all)
{
    struct epoll_event events[EVENTS];
    totals.last_answer_us = now_us();
    for (uint64_t i = 0; i < options.connections; i++)
        drive(&all[i]);
    while (totals.finished < options.requests) {
        int count = epoll_wait(poll_fd, events, EVENTS, RETRY_US / 1000);
        for (int i = 0; i < count; i++)
            drive(events[i].data.ptr);
        int64_t now = now_us();
        retry_due(all, now);
        if (now - totals.last_answer_us > options.patience_us)
            return false;
    }
    return true;
}

/* --- the result --- */

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return left < right ? -1 : left > right;
}

/* The latency that `permille` of the answers did not exceed. */
static uint32_t latency_at(uint64_t permille)
{
    if (totals.answered == 0)
        return 0;
    uint64_t rank = (totals.answered * permille + 999) / 1000;
    return totals.latency_us[rank ? rank - 1 : 0];
}

static void print_result(int64_t elapsed_us)
{
    uint64_t ok = 0;
    for (int status = 200; status < 300; status++)
        ok += totals.by_status[status];
    printf("{\"requests\":%ju,\"ok\":%ju,\"by_status\":{", (uintmax_t)totals.finished,
           (uintmax_t)ok);
    const char *comma = "";
    for (int status = 0; status < STATUSES; status++) {
        if (!totals.by_status[status])
            continue;
        printf("%s\"%d\":%ju", comma, status, (uintmax_t)totals.by_status[status]);
        comma = ",";
    }
    double seconds = (double)elapsed_us / 1e6;
    qsort(totals.latency_us, totals.answered, sizeof *totals.latency_us, compare);
    printf("},\"broken\":%ju,\"reconnects\":%ju,\"seconds\":%.3f,\"rps\":%.1f,"
           "\"p50_us\":%u,\"p99_us\":%u,\"max_us\":%u}\n",
           (uintmax_t)totals.broken, (uintmax_t)totals.reconnects, seconds,
           seconds > 0 ? (double)totals.answered / seconds : 0, latency_at(500), latency_at(990),
           latency_at(1000));
}

/* --- the call --- */

struct call {
    char *headers; /* each with its CRLF */
    char *body;    /* NULL: a GET */
    size_t body_len;
    bool has_type, has_host;
};

static uint64_t number(const char *text)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || value == 0)
        die("%s: not a number above 0", text);
    return value;
}

static void add_header(struct call *call, const char *header)
{
    size_t have = call->headers ? strlen(call->headers) : 0, size = have + strlen(header) + 3;
    call->headers = allocate(call->headers, size);
    snprintf(call->headers + have, size - have, "%s\r\n", header);
    call->has_type |= strncasecmp(header, "content-type:", 13) == 0;
    call->has_host |= strncasecmp(header, "host:", 5) == 0;
}

static void read_body(struct call *call, const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file)
        die("%s: %s", path, strerror(errno));
    size_t got;
    do {
        call->body = allocate(call->body, call->body_len + 65536);
        got = fread(call->body + call->body_len, 1, 65536, file);
        call->body_len += got;
    } while (got > 0);
    if (ferror(file))
        die("%s: %s", path, strerror(errno));
    fclose(file);
}

static void build_request(const struct call *call, const char *host, const char *port,
                          const char *path)
{
    char *head = NULL;
    size_t head_len = 0;
    FILE *out = open_memstream(&head, &head_len);
    if (!out)
        die("out of memory");
    fprintf(out, "%s %s HTTP/1.1\r\n", call->body ? "POST" : "GET", path);
    if (!call->has_host)
        fprintf(out, strchr(host, ':') ? "Host: [%s]:%s\r\n" : "Host: %s:%s\r\n", host, port);
    if (call->body && !call->has_type)
        fputs("Content-Type: application/json\r\n", out);
    if (call->body)
        fprintf(out, "Content-Length: %zu\r\n", call->body_len);
    fprintf(out, "%s\r\n", call->headers ? call->headers : "");
    if (call->body)
        fwrite(call->body, 1, call->body_len, out);
    if (fclose(out) != 0)
        die("out of memory");
    options.request = head;
    options.request_len = head_len;
}

static void take_option(struct call *call, int option, char *value)
{
    switch (option) {
    case 'n':
        options.requests = number(value);
        break;
    case 'c':
        options.connections = number(value);
        break;
    case 't':
        options.patience_us = (int64_t)number(value) * 1000000;
        break;
    case 'r':
        options.resend = true;
        break;
    case 'H':
        add_header(call, value);
        break;
    case 'd':
        if (*value == '@') {
            read_body(call, value + 1);
            break;
        }
        call->body_len = strlen(value);
        call->body = allocate(call->body, call->body_len);
        memcpy(call->body, value, call->body_len);
        break;
    default:
        die("usage: load [-n N] [-c N] [-H HEADER]... [-d BODY|@FILE] [-r] [-t SECONDS] "
            "HOST PORT PATH");
    }
}

static void read_call(int argc, char **argv)
{
    struct call call = {0};
    int option;
    while ((option = getopt(argc, argv, "n:c:t:rH:d:")) != -1)
        take_option(&call, option, optarg);
    if (argc - optind != 3)
        take_option(&call, '?', NULL);
    const char *host = argv[optind], *port = argv[optind + 1];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    int error = getaddrinfo(host, port, &hints, &options.address);
    if (error)
        die("%s: %s", host, gai_strerror(error));
    build_request(&call, host, port, argv[optind + 2]);
    free(call.headers);
    free(call.body);
}

static void clean_up(struct connection *all)
{
    for (uint64_t i = 0; i < options.connections; i++)
        disconnect(&all[i]);
    free(all);
    free(totals.latency_us);
    free(options.request);
    freeaddrinfo(options.address);
    close(poll_fd);
}

int main(int argc, char **argv)
{
    read_call(argc, argv);
    if (options.connections > options.requests)
        options.connections = options.requests;
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (poll_fd < 0)
        die("epoll_create1: %s", strerror(errno));
    totals.latency_us = allocate(NULL, options.requests * sizeof *totals.latency_us);
    struct connection *all = calloc(options.connections, sizeof *all);
    if (!all)
        die("out of memory");
    for (uint64_t i = 0; i < options.connections; i++)
        all[i].fd = -1;
    int64_t start = now_us();
    bool done = run(all);
    print_result(now_us() - start);
    if (!done)
        fprintf(stderr, "load: no answer for %jd s, %ju requests unfinished\n",
                (intmax_t)(options.patience_us / 1000000),
                (uintmax_t)(options.requests - totals.finished));
    clean_up(all);
    return done ? 0 : 1;
}
