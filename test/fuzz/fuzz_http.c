/* Bytes of a stranger through a connection on a transport that is not there.
 *
 * The first byte says how the application and the transport behave (enum behaviour, as bits of an
 * ASCII character), the second how the rest is cut into pieces. Each input runs twice, whole and in
 * pieces: both must tell the application the same. */
#include "shared/http/connection.h"

#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>

enum behaviour {
    HOLD_HEAD = 1,     /* http_read_body comes later */
    HOLD_ANSWER = 2,   /* http_respond comes later */
    ANSWER_UNREAD = 4, /* http_respond in place of http_read_body */
    SLOW_WRITES = 8,   /* nothing is in the kernel at once */
};

enum { MAX_HEADER = 512, MAX_BODY = 64 };

struct fake {
    struct transport transport;
    unsigned behaviour;
    bool reading, shut, closing, closed;
    size_t pending;
    struct buf written;
    /* the application */
    struct buf told;
    struct http_connection *open;
    struct http_request *request;
    bool wants_body;
    size_t owed, answered, gone;
    bool closes; /* an answer said so */
};

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static struct fake *current;

/* --- the transport --- */

static struct fake *fake_of(struct transport *transport)
{
    return (struct fake *)transport;
}

static void fake_read_start(struct transport *transport)
{
    fake_of(transport)->reading = true;
}

static void fake_read_stop(struct transport *transport)
{
    fake_of(transport)->reading = false;
}

static bool fake_write(struct transport *transport, const char *bytes, size_t len)
{
    struct fake *f = fake_of(transport);
    CHECK(!f->shut && !f->closing);
    buf_append(&f->written, bytes, len);
    if (f->pending == 0 && !(f->behaviour & SLOW_WRITES))
        return true;
    f->pending += len;
    return false;
}

static size_t fake_pending(const struct transport *transport)
{
    return ((const struct fake *)transport)->pending;
}

static void fake_shutdown(struct transport *transport)
{
    CHECK(!fake_of(transport)->shut);
    fake_of(transport)->shut = true;
}

static void fake_close(struct transport *transport)
{
    CHECK(!fake_of(transport)->closing);
    fake_of(transport)->closing = true;
}

static int fake_peer(const struct transport *transport, struct sockaddr_storage *address)
{
    (void)transport;
    struct sockaddr_in v4 = {.sin_family = AF_INET};
    memcpy(address, &v4, sizeof v4);
    return 0;
}

static const struct transport_class fake_class = {
    .read_start = fake_read_start,
    .read_stop = fake_read_stop,
    .write = fake_write,
    .pending = fake_pending,
    .shutdown = fake_shutdown,
    .close = fake_close,
    .peer = fake_peer,
};

/* --- the application --- */

static void check_text(struct str text, bool may_hold_tab)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.at[i];
        CHECK((c >= 0x20 && c != 0x7F) || (c == '\t' && may_hold_tab));
    }
}

static void check_request(const struct http_request *request)
{
    check_text(request->method, false);
    check_text(request->target, false);
    CHECK(request->method.len > 0 && str_starts(request->path, STR("/")));
    CHECK(!memchr(request->target.at, ' ', request->target.len));
    CHECK(http_header_count(request, "host") + (request->minor_version == 0) >= 1);
    CHECK(http_header_count(request, "host") <= 1);
    CHECK(http_header_count(request, "content-length") +
              http_header_count(request, "transfer-encoding") ==
          request->has_body);
    for (size_t i = 0; i < request->headers_count; i++) {
        check_text(request->headers[i].name, false);
        check_text(request->headers[i].value, true);
    }
}

static void answer(struct fake *f)
{
    struct http_connection *connection = f->open;
    const struct http_response response = {.status = 200, .body = STR("done")};
    f->open = NULL;
    f->wants_body = false;
    size_t before = f->written.len;
    size_t len = http_respond(connection, &response);
    CHECK(len > 0 && len == f->written.len - before);
    f->answered++;
    const char *text = buf_cstr(&f->written) + before;
    f->closes = strstr(text, "\r\nConnection: close\r\n") != NULL;
    CHECK(http_respond(connection, &response) == 0);
}

static void on_head(void *context, struct http_connection *connection, struct http_request *request)
{
    struct fake *f = context;
    CHECK(!f->open && !f->closes && f->pending == 0);
    check_request(request);
    buf_printf(&f->told, "%.*s %.*s;", STR_ARG(request->method), STR_ARG(request->target));
    f->owed++;
    f->open = connection;
    f->request = request;
    if (f->behaviour & ANSWER_UNREAD)
        answer(f);
    else if (f->behaviour & HOLD_HEAD)
        f->wants_body = true;
    else
        http_read_body(connection);
}

static void on_body(struct http_connection *connection, struct http_request *request)
{
    struct fake *f = current;
    CHECK(f->open == connection && f->request == request && request->body.len <= MAX_BODY);
    check_request(request);
    buf_puts(&f->told, "body ");
    buf_str(&f->told, request->body);
    if (!(f->behaviour & HOLD_ANSWER))
        answer(f);
}

static void on_refused(void *context, struct http_connection *connection,
                       struct http_request *request, enum api_error reason, const char *detail)
{
    struct fake *f = context;
    CHECK(detail && *detail && api_error_info(reason)->status >= 400);
    CHECK(request ? f->open == connection : !f->open);
    f->owed += !request;
    f->open = connection;
    buf_puts(&f->told, "refused;");
    if (!(f->behaviour & HOLD_ANSWER))
        answer(f);
    CHECK(f->closes || (f->behaviour & HOLD_ANSWER));
}

static void on_gone(struct http_connection *connection, struct http_request *request)
{
    (void)request;
    CHECK(current->open == connection);
    current->open = NULL;
    current->wants_body = false;
    current->gone++;
}

static void on_idle(void *context)
{
    (void)context;
    CHECK(false); /* nobody drains here */
}

/* --- the loop --- */

static uv_loop_t loop;

static void turn(struct fake *f)
{
    if (f->open && f->wants_body) {
        f->wants_body = false;
        http_read_body(f->open);
    } else if (f->open && (f->behaviour & HOLD_ANSWER)) {
        answer(f);
    }
    if (f->pending > 0 && !f->closing) {
        f->pending = 0;
        f->transport.events->drained(f->transport.context, 0);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    if (f->closing && !f->closed) {
        f->closed = true;
        f->transport.events->closed(f->transport.context);
    }
}

static void feed(struct fake *f, struct str bytes, unsigned cut)
{
    unsigned state = cut;
    while (bytes.len > 0 && !f->closing) {
        size_t len = bytes.len;
        if (cut) {
            state = state * 1103515245u + 12345u;
            len = 1 + (state >> 16) % cut;
        }
        len = len < bytes.len ? len : bytes.len;
        for (int i = 0; i < 100 && !f->reading; i++)
            turn(f);
        if (f->closing)
            return;
        CHECK(f->reading);
        char *copy = malloc(len); /* of its own, so that a stale pointer shows */
        memcpy(copy, bytes.at, len);
        f->transport.events->read(f->transport.context, copy, len);
        free(copy);
        bytes.at += len;
        bytes.len -= len;
        if (state & 0x800000)
            turn(f);
    }
}

static struct buf serve(unsigned behaviour, unsigned cut, struct str bytes)
{
    static const struct http_events events = {on_head, on_body, on_refused, on_gone, on_idle, NULL};
    static const struct http_limits limits = {
        .max_header = MAX_HEADER,
        .max_body = MAX_BODY,
        .header_timeout_ms = 60000,
        .body_timeout_ms = 60000,
        .idle_timeout_ms = 60000,
        .write_timeout_ms = 60000,
    };
    struct fake f = {.transport = {.class = &fake_class}, .behaviour = behaviour};
    struct http_server server;
    current = &f;
    http_server_init(&server, &loop, &limits, &events, &f);
    http_server_take(&server, &f.transport);
    feed(&f, bytes, cut);
    size_t before;
    do { /* until a turn leads nowhere */
        before = f.told.len + f.written.len;
        turn(&f);
        turn(&f);
    } while (f.told.len + f.written.len != before);
    if (!f.closing)
        f.transport.events->end(f.transport.context, 0);
    for (int i = 0; i < 3; i++)
        turn(&f);
    CHECK(f.closed && server.connections_count == 0 && !f.open);
    CHECK(f.answered + f.gone == f.owed);
    buf_free(&f.written);
    return f.told;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready && uv_loop_init(&loop) != 0)
        abort();
    ready = true;
    if (size < 2)
        return 0;
    struct str bytes = {(const char *)data + 2, size - 2};
    struct buf whole = serve(data[0], 0, bytes);
    struct buf pieces = serve(data[0], data[1], bytes);
    CHECK(str_eq(buf_view(&whole), buf_view(&pieces)));
    buf_free(&whole);
    buf_free(&pieces);
    return 0;
}
