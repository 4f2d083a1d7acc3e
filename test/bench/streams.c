/* A provider that streams chunks with the time of their sending in them, and a client that says how
 * old they are when they arrive; two programs in one file, so that both agree on the form.
 *
 *   bench-streams serve CHUNKS INTERVAL_MS        prints its port, serves until it is killed
 *   bench-streams read PORT PATH STREAMS BODY [HEADER]...
 *
 * `read` keeps STREAMS requests open at once, once each, and prints a line of JSON: how many were
 * complete, the number of chunks, and how old they were, in microseconds. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, DIGITS = 16, HEAD_MAX = 8192 };

static int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int epoll, int fd, void *data)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = data};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0)
        die("epoll_ctl");
}

static void prepare(int fd)
{
    int on = 1;
    fcntl(fd, F_SETFL, O_NONBLOCK);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

/* As many descriptors as there may be. */
static void allow_many(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- the provider */

struct served {
    struct served *next;
    int fd;
    unsigned sent; /* chunks */
    int64_t due_us;
    char request[HEAD_MAX * 4];
    size_t len;
};

/* All have the same interval: whoever has just been served is due last. */
struct queue {
    struct served *first, *last;
};

static void join(struct queue *queue, struct served *one)
{
    one->next = NULL;
    if (queue->last)
        queue->last->next = one;
    else
        queue->first = one;
    queue->last = one;
}

/* A new one stands where its time is. */
static void insert(struct queue *queue, struct served *one)
{
    struct served **place = &queue->first;
    while (*place && (*place)->due_us <= one->due_us)
        place = &(*place)->next;
    one->next = *place;
    *place = one;
    if (!one->next)
        queue->last = one;
}

static struct served *take(struct queue *queue)
{
    struct served *one = queue->first;
    queue->first = one->next;
    if (!queue->first)
        queue->last = NULL;
    return one;
}

static void say(int fd, const char *text)
{
    char chunk[1024];
    int len = snprintf(chunk, sizeof chunk, "%zx\r\n%s\r\n", strlen(text), text);
    (void)!write(fd, chunk, (size_t)len);
}

#define CHUNK                                                                                      \
    "data: {\"id\":\"chatcmpl-b1\",\"object\":\"chat.completion.chunk\",\"created\":1795000000,"   \
    "\"model\":\"bench-1\",\"choices\":[{\"index\":0,\"delta\":{%s},\"finish_reason\":%s}]}\n\n"

static void send_chunk(struct served *one)
{
    char text[512], stamp[64];
    snprintf(stamp, sizeof stamp, "\"content\":\"@%0*lld\"", DIGITS, (long long)now_us());
    snprintf(text, sizeof text, CHUNK, stamp, "null");
    say(one->fd, text);
    one->sent++;
}

static void send_end(const struct served *one)
{
    char text[512];
    snprintf(text, sizeof text,
             CHUNK "data: {\"id\":\"chatcmpl-b1\",\"object\":\"chat.completion.chunk\","
                   "\"created\":1795000000,\"model\":\"bench-1\",\"choices\":[],\"usage\":{"
                   "\"prompt_tokens\":9,\"completion_tokens\":9,\"total_tokens\":18}}\n\n"
                   "data: [DONE]\n\n",
             "", "\"stop\"");
    say(one->fd, text);
    (void)!write(one->fd, "0\r\n\r\n", 5);
}

static bool is_whole(const struct served *one)
{
    const char *end = strstr(one->request, "\r\n\r\n");
    const char *length = strcasestr(one->request, "\r\ncontent-length:");
    size_t body = length ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    return end && one->len >= (size_t)(end - one->request) + 4 + body;
}

/* Not all at once: each begins somewhere in the interval. */
static void answer(struct queue *queue, struct served *one, int64_t interval_us)
{
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                               "Transfer-Encoding: chunked\r\n\r\n";
    (void)!write(one->fd, head, sizeof head - 1);
    one->len = one->sent = 0;
    one->due_us = now_us() + rand() % (interval_us + 1);
    insert(queue, one);
}

/* A client that leaves in mid-stream is not worth a thought: its writes fail. */
static void hear(struct queue *queue, struct served *one, int64_t interval_us)
{
    ssize_t got = read(one->fd, one->request + one->len, sizeof one->request - 1 - one->len);
    if (got == 0 || (got < 0 && errno != EAGAIN)) {
        close(one->fd);
        one->fd = -1;
        return;
    }
    one->len += got > 0 ? (size_t)got : 0;
    one->request[one->len] = '\0';
    if (is_whole(one))
        answer(queue, one, interval_us);
}

static void serve_due(struct queue *queue, unsigned chunks, int64_t interval_us)
{
    while (queue->first && queue->first->due_us <= now_us()) {
        struct served *one = take(queue);
        if (one->fd < 0)
            continue;
        if (one->sent == chunks) {
            send_end(one);
            continue;
        }
        send_chunk(one);
        one->due_us += interval_us;
        join(queue, one);
    }
}

static int listen_anywhere(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(fd, (struct sockaddr *)&address, len) != 0 || listen(fd, 4096) != 0)
        die("listen");
    getsockname(fd, (struct sockaddr *)&address, &len);
    prepare(fd);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* To the microsecond, asleep: a processor kept busy here would be one that the proxy has to do
 * without. */
static int wait_until_due(const struct queue *queue, int epoll, struct epoll_event *events)
{
    int64_t wait_us = queue->first ? queue->first->due_us - now_us() : 1000000;
    struct timespec wait = {0};
    if (wait_us > 0) {
        wait.tv_sec = wait_us / 1000000;
        wait.tv_nsec = wait_us % 1000000 * 1000;
    }
    return epoll_pwait2(epoll, events, EVENTS, &wait, NULL);
}

static _Noreturn void serve(unsigned chunks, int64_t interval_us)
{
    struct queue queue = {0};
    struct epoll_event events[EVENTS];
    int listener = listen_anywhere(), epoll = epoll_create1(0);
    watch(epoll, listener, NULL);
    for (;;) {
        int count = wait_until_due(&queue, epoll, events);
        for (int i = 0; i < count; i++) {
            struct served *one = events[i].data.ptr;
            if (one) {
                hear(&queue, one, interval_us);
                continue;
            }
            int fd = accept(listener, NULL, NULL);
            if (fd < 0)
                continue;
            one = calloc(1, sizeof *one);
            one->fd = fd;
            prepare(fd);
            watch(epoll, fd, one);
        }
        serve_due(&queue, chunks, interval_us);
    }
}

/* ---- the client */

struct reader {
    int fd;
    bool ended, complete;
    int digits; /* of a stamp so far; -1 = not in one */
    int64_t stamp;
    char tail[16]; /* the last bytes, for the mark of the end */
};

static uint32_t *ages;
static size_t ages_count, ages_size;

static void note_age(int64_t age_us)
{
    if (ages_count == ages_size) {
        ages_size = ages_size * 2 + 1024;
        ages = realloc(ages, ages_size * sizeof *ages);
    }
    ages[ages_count++] = age_us > 0 ? (uint32_t)age_us : 0;
}

static void look_at(struct reader *reader, const char *bytes, size_t len, int64_t arrived_us)
{
    for (size_t i = 0; i < len; i++) {
        char c = bytes[i];
        if (c == '@') {
            reader->digits = 0;
            reader->stamp = 0;
        } else if (reader->digits >= 0) {
            reader->stamp = reader->stamp * 10 + (c - '0');
            if (++reader->digits == DIGITS) {
                note_age(arrived_us - reader->stamp);
                reader->digits = -1;
            }
        }
    }
    size_t kept = len < sizeof reader->tail ? sizeof reader->tail - len : 0;
    memmove(reader->tail, reader->tail + sizeof reader->tail - kept, kept);
    memcpy(reader->tail + kept, bytes + len - (sizeof reader->tail - kept),
           sizeof reader->tail - kept);
}

/* Returns how many streams have ended by it: 0 or 1. */
static int read_some(struct reader *reader)
{
    static char bytes[65536];
    ssize_t got = read(reader->fd, bytes, sizeof bytes);
    int64_t arrived_us = now_us();
    if (reader->ended || (got < 0 && errno == EAGAIN))
        return 0;
    if (got > 0)
        look_at(reader, bytes, (size_t)got, arrived_us);
    reader->complete = memcmp(reader->tail + sizeof reader->tail - 5, "0\r\n\r\n", 5) == 0;
    if (got > 0 && !reader->complete)
        return 0;
    reader->ended = true;
    return 1;
}

static void ask(struct reader *reader, int port, const char *request, int epoll)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)port),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    reader->digits = -1;
    reader->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(reader->fd, (struct sockaddr *)&address, sizeof address) != 0)
        die("connect");
    prepare(reader->fd);
    if (write(reader->fd, request, strlen(request)) != (ssize_t)strlen(request))
        die("write");
    watch(epoll, reader->fd, reader);
}

static int compare(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static char *request_of(char **arguments, int count)
{
    static char request[HEAD_MAX * 2];
    const char *path = arguments[0], *body = arguments[2];
    int len = snprintf(request, sizeof request, "POST %s HTTP/1.1\r\nHost: bench\r\n", path);
    for (int i = 3; i < count; i++)
        len += snprintf(request + len, sizeof request - (size_t)len, "%s\r\n", arguments[i]);
    snprintf(request + len, sizeof request - (size_t)len,
             "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
    return request;
}

static int read_streams(int port, int streams, const char *request)
{
    struct reader *readers = calloc((size_t)streams, sizeof *readers);
    struct epoll_event events[EVENTS];
    int epoll = epoll_create1(0), ended = 0, complete = 0;
    for (int i = 0; i < streams; i++)
        ask(&readers[i], port, request, epoll);
    while (ended < streams) {
        int count = epoll_wait(epoll, events, EVENTS, 120000);
        if (count == 0)
            break;
        for (int i = 0; i < count; i++)
            ended += read_some(events[i].data.ptr);
    }
    for (int i = 0; i < streams; i++)
        complete += readers[i].complete;
    qsort(ages, ages_count, sizeof *ages, compare);
    printf("{\"streams\":%d,\"complete\":%d,\"chunks\":%zu,\"p50_us\":%u,\"p99_us\":%u}\n", streams,
           complete, ages_count, ages_count ? ages[ages_count / 2] : 0,
           ages_count ? ages[ages_count * 99 / 100] : 0);
    return 0;
}

int main(int count, char **arguments)
{
    allow_many();
    if (count == 4 && strcmp(arguments[1], "serve") == 0)
        serve((unsigned)atoi(arguments[2]), (int64_t)atoi(arguments[3]) * 1000);
    if (count >= 6 && strcmp(arguments[1], "read") == 0)
        return read_streams(atoi(arguments[2]), atoi(arguments[4]),
                            request_of(arguments + 3, count - 3));
    fprintf(stderr, "usage: bench-streams serve|read ...\n");
    return 2;
}
