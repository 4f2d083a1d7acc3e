/* For tests of transfers: a server of raw bytes on the test's own loop. It answers each whole
 * request with the same bytes, good HTTP or not, and counts what it saw. */
#pragma once

#include "shared/base/buf.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include <cmocka.h>

struct mock {
    uv_loop_t *loop;
    uv_tcp_t listener;
    uint16_t port;
    char base[64]; /* "http://127.0.0.1:PORT" */
    /* how it behaves */
    struct str answer;    /* absent: none is given */
    bool close_after;     /* ends the connection behind the answer */
    bool reset_after;     /* the same with a reset */
    bool answer_any_byte; /* does not wait for a whole request */
    /* what it saw */
    unsigned accepted, requests, open;
    struct buf request; /* the last whole one */
    struct mock_connection *connections;
};

struct mock_connection {
    uv_tcp_t tcp;
    struct mock *mock;
    struct mock_connection *next;
    struct buf got;
};

static inline void mock_closed(uv_handle_t *handle)
{
    struct mock_connection *c = handle->data, **place = &c->mock->connections;
    while (*place != c)
        place = &(*place)->next;
    *place = c->next;
    c->mock->open--;
    buf_free(&c->got);
    free(c);
}

static inline void mock_close(struct mock_connection *c)
{
    if (!uv_is_closing((uv_handle_t *)&c->tcp))
        uv_close((uv_handle_t *)&c->tcp, mock_closed);
}

static inline void mock_close_all(struct mock *mock)
{
    for (struct mock_connection *c = mock->connections; c; c = c->next)
        mock_close(c);
}

struct mock_write {
    uv_write_t request;
    uv_buf_t bytes;
    struct mock_connection *connection;
};

static inline void mock_written(uv_write_t *request, int status)
{
    struct mock_write *write = (struct mock_write *)request;
    struct mock_connection *c = write->connection;
    if (status == 0 && c->mock->reset_after && !uv_is_closing((uv_handle_t *)&c->tcp))
        uv_tcp_close_reset(&c->tcp, mock_closed);
    else if (status == 0 && c->mock->close_after)
        mock_close(c);
    free(write);
}

static inline void mock_send(struct mock_connection *c, struct str bytes)
{
    struct mock_write *write = calloc(1, sizeof *write);
    write->connection = c;
    write->bytes = uv_buf_init((char *)(uintptr_t)bytes.at, (unsigned)bytes.len);
    if (uv_write(&write->request, (uv_stream_t *)&c->tcp, &write->bytes, 1, mock_written) != 0)
        free(write);
}

/* Length of the first whole request in `got`, 0 when there is none. */
static inline size_t mock_request_length(struct buf *got)
{
    const char *text = buf_cstr(got);
    const char *end = strstr(text, "\r\n\r\n");
    const char *length = strstr(text, "Content-Length: ");
    if (!end)
        return 0;
    size_t whole = (size_t)(end - text) + 4;
    if (length && length < end)
        whole += strtoul(length + strlen("Content-Length: "), NULL, 10);
    return whole <= got->len ? whole : 0;
}

static inline void mock_take(struct mock_connection *c)
{
    struct mock *mock = c->mock;
    size_t length;
    while ((length = mock_request_length(&c->got)) > 0 || mock->answer_any_byte) {
        if (length == 0)
            length = c->got.len;
        mock->requests++;
        buf_clear(&mock->request);
        buf_append(&mock->request, c->got.data, length);
        buf_consume(&c->got, length);
        if (mock->answer.at)
            mock_send(c, mock->answer);
        if (mock->answer_any_byte)
            return;
    }
}

static inline void mock_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *out)
{
    static char memory[65536];
    (void)handle;
    (void)suggested;
    *out = uv_buf_init(memory, sizeof memory);
}

static inline void mock_read(uv_stream_t *stream, ssize_t got, const uv_buf_t *bytes)
{
    struct mock_connection *c = stream->data;
    if (got < 0) {
        mock_close(c);
        return;
    }
    buf_append(&c->got, bytes->base, (size_t)got);
    mock_take(c);
}

static inline void mock_accept(uv_stream_t *listener, int status)
{
    struct mock *mock = listener->data;
    struct mock_connection *c = calloc(1, sizeof *c);
    assert_int_equal(status, 0);
    c->mock = mock;
    uv_tcp_init(mock->loop, &c->tcp);
    c->tcp.data = c;
    assert_int_equal(uv_accept(listener, (uv_stream_t *)&c->tcp), 0);
    c->next = mock->connections;
    mock->connections = c;
    mock->accepted++;
    mock->open++;
    uv_read_start((uv_stream_t *)&c->tcp, mock_alloc, mock_read);
}

/* At this IPv4 address, in host byte order; port 0 takes a free one. */
static inline void mock_start_at(struct mock *mock, uv_loop_t *loop, uint32_t ip, uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_addr = {.s_addr = htonl(ip)}, .sin_port = htons(port)};
    int len = sizeof address;
    *mock = (struct mock){.loop = loop};
    uv_tcp_init(loop, &mock->listener);
    mock->listener.data = mock;
    assert_int_equal(uv_tcp_bind(&mock->listener, (struct sockaddr *)&address, 0), 0);
    assert_int_equal(uv_listen((uv_stream_t *)&mock->listener, 512, mock_accept), 0);
    uv_tcp_getsockname(&mock->listener, (struct sockaddr *)&address, &len);
    mock->port = ntohs(address.sin_port);
    snprintf(mock->base, sizeof mock->base, "http://%u.%u.%u.%u:%u", ip >> 24, ip >> 16 & 255,
             ip >> 8 & 255, ip & 255, mock->port);
}

static inline void mock_start(struct mock *mock, uv_loop_t *loop)
{
    mock_start_at(mock, loop, INADDR_LOOPBACK, 0);
}

static inline void mock_stop(struct mock *mock)
{
    mock_close_all(mock);
    uv_close((uv_handle_t *)&mock->listener, NULL);
    while (mock->open > 0 || !uv_is_closing((uv_handle_t *)&mock->listener))
        uv_run(mock->loop, UV_RUN_NOWAIT);
    uv_run(mock->loop, UV_RUN_NOWAIT);
    buf_free(&mock->request);
}
