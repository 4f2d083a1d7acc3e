/* An upstream that costs as little as it can: HTTP/1.1 with keep-alive on 127.0.0.1, and whatever
 * is asked, the same chat completion of 300 bytes. One process, epoll.
 *
 *   bench-mock PORT        port 0 takes a free one; the port is printed on stdout
 *
 * Requests must have a Content-Length or no body, and may come in any pieces, but not pipelined.
 * Uses nothing of promptgate's own code. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 256, HEAD_BYTES = 16384, BODY_BYTES = 300 };

struct connection {
    int fd;
    size_t head_len;
    size_t body_left; /* bytes of the request's body that are still to come */
    bool in_body;
    char head[HEAD_BYTES + 1];
};

static char answer[1024];
static size_t answer_len;
static int poll_fd;

static void __attribute__((noreturn)) die(const char *what)
{
    fprintf(stderr, "bench-mock: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* The content is as long as makes the body BODY_BYTES. */
static void build_answer(void)
{
    static const char before[] =
        "{\"id\":\"chatcmpl-bench\",\"object\":\"chat.completion\",\"created\":1700000000,"
        "\"model\":\"bench-1\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
        "\"content\":\"";
    static const char after[] =
        "\"},\"finish_reason\":\"stop\"}],"
        "\"usage\":{\"prompt_tokens\":60,\"completion_tokens\":9,\"total_tokens\":69}}";
    char content[BODY_BYTES - (sizeof before - 1) - (sizeof after - 1) + 1];
    memset(content, 'a', sizeof content - 1);
    content[sizeof content - 1] = '\0';
    answer_len = (size_t)snprintf(answer, sizeof answer,
                                  "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
                                  "Content-Length: %d\r\nConnection: keep-alive\r\n\r\n%s%s%s",
                                  BODY_BYTES, before, content, after);
}

static void hang_up(struct connection *c)
{
    close(c->fd);
    free(c);
}

/* A send buffer that was empty always has room for so little. */
static bool send_answer(struct connection *c)
{
    c->head_len = 0;
    c->in_body = false;
    return send(c->fd, answer, answer_len, MSG_NOSIGNAL) == (ssize_t)answer_len;
}

static size_t content_length(const char *head)
{
    for (const char *line = strstr(head, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, "content-length:", 15) == 0)
            return (size_t)strtoull(line + 17, NULL, 10);
    return 0;
}

/* False when the connection is of no more use. */
static bool take_head(struct connection *c, size_t got)
{
    c->head_len += got;
    c->head[c->head_len] = '\0';
    char *end = strstr(c->head, "\r\n\r\n");
    if (!end)
        return c->head_len < HEAD_BYTES;
    *end = '\0';
    size_t head_bytes = (size_t)(end - c->head) + 4, body = content_length(c->head);
    size_t here = c->head_len - head_bytes;
    if (here >= body)
        return send_answer(c);
    c->in_body = true;
    c->body_left = body - here;
    return true;
}

static bool take_body(struct connection *c, size_t got)
{
    c->body_left -= got < c->body_left ? got : c->body_left;
    return c->body_left > 0 || send_answer(c);
}

/* One look for each event: what is left makes another one. */
static bool receive(struct connection *c)
{
    static char body[1 << 16];
    char *place = c->in_body ? body : c->head + c->head_len;
    size_t room = c->in_body ? sizeof body : HEAD_BYTES - c->head_len;
    ssize_t got = recv(c->fd, place, room, 0);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0)
        return false;
    return c->in_body ? take_body(c, (size_t)got) : take_head(c, (size_t)got);
}

static void accept_all(int listener)
{
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = calloc(1, sizeof *c);
        if (!c)
            die("calloc");
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl");
    }
}

static int listen_on(uint16_t port)
{
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 4096) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        die("listen");
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN, .data.ptr = NULL};
    if (argc != 2) {
        fputs("usage: bench-mock PORT\n", stderr);
        return 2;
    }
    build_answer();
    int listener = listen_on((uint16_t)strtoul(argv[1], NULL, 10));
    poll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (poll_fd < 0 || epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &event) != 0)
        die("epoll");
    for (;;) {
        int count = epoll_wait(poll_fd, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c)
                accept_all(listener);
            else if (!receive(c))
                hang_up(c);
        }
    }
}
