/* For tests of connections: a server and plain client sockets over loopback in one process, on one
 * loop that the test turns. The application answers at once or holds its requests, and notes each
 * event in a line of text. */
#pragma once

#include "shared/base/clock.h"
#include "shared/http/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct loopback {
    uv_loop_t loop;
    uv_tcp_t listener;
    struct http_server server;
    struct sockaddr_in address;
    /* how the application behaves */
    bool hold_head;     /* events.head does nothing */
    bool hold_answer;   /* events.body does nothing */
    bool answer_unread; /* events.head answers without reading the body */
    struct str answer;  /* its body; absent: the path, a space and the body */
    int status;         /* 0: 200 */
    /* what happened */
    struct buf events;
    struct http_connection *open;
    struct http_request *request;
    size_t answer_len;
};

static struct loopback *loopback_of_data;

static inline void loopback_answer(struct http_connection *connection, struct http_request *request)
{
    struct loopback *l = loopback_of_data;
    struct buf body = {0};
    buf_str(&body, request->path);
    buf_putc(&body, ' ');
    buf_str(&body, request->body);
    struct http_response response = {
        .status = l->status ? l->status : 200,
        .headers = STR("Content-Type: text/plain\r\n"),
        .body = l->answer.at ? l->answer : buf_view(&body),
    };
    l->open = NULL;
    l->answer_len = http_respond(connection, &response);
    buf_free(&body);
}

static inline void loopback_head(void *context, struct http_connection *connection,
                                 struct http_request *request)
{
    struct loopback *l = context;
    assert_null(http_data(connection));
    http_set_data(connection, l);
    buf_printf(&l->events, "head %.*s %.*s;", STR_ARG(request->method), STR_ARG(request->path));
    l->open = connection;
    l->request = request;
    if (l->answer_unread)
        loopback_answer(connection, request);
    else if (!l->hold_head)
        http_read_body(connection);
}

static inline void loopback_body(struct http_connection *connection, struct http_request *request)
{
    struct loopback *l = http_data(connection);
    buf_printf(&l->events, "body %zu;", request->body.len);
    l->open = connection;
    if (!l->hold_answer)
        loopback_answer(connection, request);
}

static inline void loopback_refused(void *context, struct http_connection *connection,
                                    struct http_request *request, enum api_error reason,
                                    const char *detail)
{
    struct loopback *l = context;
    const struct api_error_info *info = api_error_info(reason);
    assert_true(request ? http_data(connection) == l : http_data(connection) == NULL);
    buf_printf(&l->events, "refused %s;", info->code);
    l->open = connection;
    const struct http_response response = {.status = info->status, .body = str_of(detail)};
    if (!l->hold_answer)
        http_respond(connection, &response);
}

static inline void loopback_gone(struct http_connection *connection, struct http_request *request)
{
    struct loopback *l = loopback_of_data;
    const struct http_response late = {.status = 200};
    buf_printf(&l->events, "gone %.*s;", STR_ARG(request->path));
    assert_int_equal(http_respond(connection, &late), 0);
    l->open = NULL;
}

static inline void loopback_idle(void *context)
{
    struct loopback *l = context;
    buf_puts(&l->events, "idle;");
}

static inline void loopback_writable(struct http_connection *connection,
                                     struct http_request *request)
{
    struct loopback *l = http_data(connection);
    assert_ptr_equal(request, l->request);
    buf_puts(&l->events, "writable;");
}

static inline void loopback_accept(uv_stream_t *listener, int status)
{
    struct loopback *l = listener->data;
    assert_int_equal(status, 0);
    http_server_accept(&l->server, listener, NULL);
}

static inline struct loopback *loopback_start(const struct http_limits *limits)
{
    static const struct http_events events = {loopback_head, loopback_body, loopback_refused,
                                              loopback_gone, loopback_idle, loopback_writable};
    struct loopback *l = calloc(1, sizeof *l);
    loopback_of_data = l;
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&l->loop);
    http_server_init(&l->server, &l->loop, limits, &events, l);
    uv_tcp_init(&l->loop, &l->listener);
    l->listener.data = l;
    l->address =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    assert_int_equal(uv_tcp_bind(&l->listener, (struct sockaddr *)&l->address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&l->listener, 512, loopback_accept), 0);
    int len = sizeof l->address;
    uv_tcp_getsockname(&l->listener, (struct sockaddr *)&l->address, &len);
    return l;
}

static inline int64_t real_ms(void)
{
    return (int64_t)(uv_hrtime() / 1000000);
}

static inline void turn(struct loopback *l)
{
    uv_run(&l->loop, UV_RUN_NOWAIT);
}

/* Turns the loop until `condition`; a test that waits 10 s has failed. */
#define turn_until(l, condition)                                                                   \
    do {                                                                                           \
        int64_t give_up_ms = real_ms() + 10000;                                                    \
        while (!(condition)) {                                                                     \
            turn(l);                                                                               \
            if (real_ms() > give_up_ms)                                                            \
                fail_msg("waited in vain for %s", #condition);                                     \
        }                                                                                          \
    } while (0)

/* Ends the server; every connection must be closed by then, or close by draining. */
static inline void loopback_stop(struct loopback *l)
{
    http_server_drain(&l->server);
    uv_close((uv_handle_t *)&l->listener, NULL);
    turn_until(l, !uv_loop_alive(&l->loop));
    assert_int_equal(l->server.connections_count, 0);
    assert_int_equal(uv_loop_close(&l->loop), 0);
    buf_free(&l->events);
    free(l);
}

static inline const char *loopback_events(struct loopback *l)
{
    return buf_cstr(&l->events);
}

struct client {
    int fd;
    bool ended;
    int error; /* of the last failed read */
    struct buf got;
};

static inline struct client client_open(struct loopback *l)
{
    struct client c = {.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(connect(c.fd, (struct sockaddr *)&l->address, sizeof l->address), 0);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    return c;
}

static inline void client_close(struct client *c)
{
    close(c->fd);
    buf_free(&c->got);
}

static inline void client_reset(struct client *c)
{
    struct linger now = {1, 0};
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    client_close(c);
}

/* Turns the loop in between; stops when the server refuses to take more. Returns what was sent. */
static inline size_t client_send_some(struct loopback *l, struct client *c, struct str bytes)
{
    size_t sent = 0;
    int stalls = 0;
    while (sent < bytes.len && stalls < 200) {
        ssize_t part = send(c->fd, bytes.at + sent, bytes.len - sent, MSG_NOSIGNAL);
        if (part < 0 && errno != EAGAIN)
            break;
        stalls = part > 0 ? 0 : stalls + 1;
        sent += part > 0 ? (size_t)part : 0;
        turn(l);
    }
    return sent;
}

static inline void client_send(struct loopback *l, struct client *c, const char *text)
{
    assert_int_equal(client_send_some(l, c, str_of(text)), strlen(text));
}

/* One read of at most `most` bytes. */
static inline void client_read(struct loopback *l, struct client *c, size_t most)
{
    turn(l);
    ssize_t part = recv(c->fd, buf_reserve(&c->got, most), most, 0);
    if (part > 0)
        c->got.len += (size_t)part;
    else if (part == 0 || errno != EAGAIN)
        c->ended = true;
    if (part < 0 && errno != EAGAIN)
        c->error = errno;
}

static inline bool client_got(struct loopback *l, struct client *c, const char *text)
{
    client_read(l, c, 65536);
    return strstr(buf_cstr(&c->got), text) != NULL;
}

static inline void client_expect(struct loopback *l, struct client *c, const char *text)
{
    int64_t give_up_ms = real_ms() + 10000;
    while (!client_got(l, c, text))
        if (real_ms() > give_up_ms)
            fail_msg("\"%s\" did not come, but \"%s\"", text, buf_cstr(&c->got));
}

static inline bool client_ended(struct loopback *l, struct client *c)
{
    client_read(l, c, 65536);
    return c->ended;
}

static const struct http_limits calm_limits = {
    .max_header = 16 * 1024,
    .max_body = 10 * 1024 * 1024,
    .header_timeout_ms = 10000,
    .body_timeout_ms = 30000,
    .idle_timeout_ms = 75000,
    .write_timeout_ms = 60000,
};
