#include "shared/http/connection.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"
#include "shared/http/hangup.h"
#include "shared/http/request_parser.h"
#include "shared/http/response.h"
#include "shared/http/transport_tls.h"

#include <arpa/inet.h>
#include <stdlib.h>

enum {
    KEEP_BYTES = 16 * 1024,  /* larger buffers are given back between requests */
    AHEAD_BYTES = 1 << 20,   /* beside max_header: kept of what follows the open request */
    LINGER_BYTES = 64 << 20, /* thrown away after the last answer, so that a client that still */
    LINGER_MS = 2000,        /* sends can read it (RFC 9112 9.6) */
    ANSWER_KEEP = 64 * 1024, /* of the buffer that all connections share */
    SURPLUS_MS = 1000,       /* for the first byte on a connection that is one too many */
};

enum phase {
    IDLE,    /* no byte of a request */
    HEAD,    /* some bytes of a head */
    HELD,    /* the head was told; the application has not asked for the body */
    BODY,    /* the application waits for the body */
    ANSWER,  /* nothing more is read; the application owes an answer */
    STREAM,  /* its head is sent, the application adds to its body */
    SENDING, /* the answer is on its way into the kernel */
    LINGER,  /* our side is ended; what comes is thrown away */
    CLOSING, /* waits for the loop to let go of the handles */
    PHASES,
};

static const char *const phase_names[PHASES] = {"idle",   "head",    "held",   "body",   "answer",
                                                "stream", "sending", "linger", "closing"};

#define TO(phase) (1u << (phase))
static const unsigned next_phases[PHASES] = {
    [IDLE] = TO(HEAD) | TO(CLOSING),
    [HEAD] = TO(HELD) | TO(ANSWER) | TO(CLOSING),
    [HELD] = TO(BODY) | TO(STREAM) | TO(SENDING) | TO(CLOSING),
    [BODY] = TO(ANSWER) | TO(STREAM) | TO(SENDING) | TO(CLOSING),
    [ANSWER] = TO(STREAM) | TO(SENDING) | TO(CLOSING),
    [STREAM] = TO(SENDING) | TO(CLOSING),
    [SENDING] = TO(IDLE) | TO(LINGER) | TO(CLOSING),
    [LINGER] = TO(CLOSING),
};

static const int64_t NEVER = INT64_MAX;

struct http_connection {
    struct http_server *server;
    struct http_connection *previous, *next;
    struct transport *transport;
    enum phase phase;
    bool running; /* inside run(): calls of the application only change the phase */
    bool surplus; /* there were max_connections when it came, and no request has been told */
    bool reading; /* from the transport */
    struct hangup *hangup; /* while it is not, and a request is open */
    bool must_close;       /* after the answer */
    bool ended;            /* the client sent its end */
    bool sent;             /* STREAM, SENDING: all is in the kernel */
    bool chunked;          /* STREAM: so is the body */
    int handles;           /* not yet closed: transport and timer */
    int64_t head_ended_ms;
    int64_t deadline_ms; /* of the phase */
    int64_t armed_ms;    /* when the timer fires: at the deadline or earlier */
    uv_timer_t timer;
    size_t answered;    /* STREAM, SENDING: bytes of the answer so far */
    int64_t taken_seen; /* of them in the kernel when the deadline was set */
    size_t thrown_away;
    struct str input; /* in run(): bytes not used up yet, of `kept` or of the transport */
    struct buf kept;
    struct request_parser parser;
    struct http_request *request; /* the open one that events.head told */
    void *data;
    char client_ip[INET6_ADDRSTRLEN];
};

static int64_t deadline_of(const struct http_connection *c, enum phase phase)
{
    const struct http_limits *limits = &c->server->limits;
    int64_t now_ms = (int64_t)uv_now(c->server->loop);
    switch (phase) {
    case IDLE:
        return now_ms + (c->surplus && limits->idle_timeout_ms > SURPLUS_MS
                             ? SURPLUS_MS
                             : limits->idle_timeout_ms);
    case HEAD:
        return now_ms + limits->header_timeout_ms;
    case BODY:
        return c->head_ended_ms + limits->body_timeout_ms;
    case SENDING:
        return now_ms + limits->write_timeout_ms;
    case LINGER:
        return now_ms + LINGER_MS;
    default:
        return NEVER;
    }
}

static void set_phase(struct http_connection *c, enum phase phase)
{
    if (!(next_phases[c->phase] & TO(phase))) {
        log_error("connection of %s: %s after %s", c->client_ip, phase_names[phase],
                  phase_names[c->phase]);
        abort();
    }
    log_debug("connection of %s: %s", c->client_ip, phase_names[phase]);
    c->phase = phase;
    c->deadline_ms = deadline_of(c, phase);
}

static bool owes_answer(const struct http_connection *c)
{
    return c->phase == HELD || c->phase == BODY || c->phase == ANSWER;
}

/* --- the end of a connection --- */

static void tell_idle(struct http_server *server)
{
    if (!server->draining || server->told_idle || server->connections_count > 0)
        return;
    server->told_idle = true;
    server->events->idle(server->context);
}

static void release(struct http_connection *c)
{
    struct http_server *server = c->server;
    if (--c->handles > 0)
        return;
    if (c->previous)
        c->previous->next = c->next;
    else
        server->connections = c->next;
    if (c->next)
        c->next->previous = c->previous;
    request_parser_free(&c->parser);
    buf_free(&c->kept);
    free(c);
    if (--server->connections_count == 0) {
        buf_free(&server->answer);
        tell_idle(server);
    }
}

static void on_transport_closed(void *context)
{
    release(context);
}

static void on_timer_closed(uv_handle_t *timer)
{
    release(timer->data);
}

static void close_connection(struct http_connection *c)
{
    set_phase(c, CLOSING);
    hangup_forget(&c->hangup);
    c->transport->class->close(c->transport);
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

/* The client left, in whatever phase. */
static void lose_client(struct http_connection *c)
{
    if (c->phase == CLOSING)
        return;
    bool open = owes_answer(c) || c->phase == STREAM;
    struct http_request *request = c->request;
    close_connection(c);
    if (open)
        c->server->events->gone(c, request);
}

/* --- after each step: is more to be read, and until when --- */

static void on_timer(uv_timer_t *timer);

static void arm(struct http_connection *c)
{
    if (c->phase == CLOSING || c->deadline_ms >= c->armed_ms)
        return; /* a timer that fires early is armed again: no heap operation per request */
    int64_t wait_ms = c->deadline_ms - (int64_t)uv_now(c->server->loop);
    uv_timer_start(&c->timer, on_timer, wait_ms > 0 ? (uint64_t)wait_ms : 0, 0);
    c->armed_ms = c->deadline_ms;
}

static bool wants_input(const struct http_connection *c)
{
    if (c->phase == CLOSING || c->ended)
        return false;
    if (c->phase == HELD || c->phase == ANSWER || c->phase == STREAM || c->phase == SENDING)
        return c->kept.len <= c->server->limits.max_header + AHEAD_BYTES &&
               c->thrown_away <= LINGER_BYTES;
    return true;
}

static void on_hangup(void *context);

static void start_reading(struct http_connection *c)
{
    c->reading = true;
    hangup_forget(&c->hangup);
    c->transport->class->read_start(c->transport);
}

/* A client that leaves meanwhile has to be noticed all the same. */
static void stop_reading(struct http_connection *c)
{
    c->reading = false;
    c->transport->class->read_stop(c->transport);
    if (!c->ended && !c->hangup)
        c->hangup = hangup_watch(c->server->loop, c->transport->class->descriptor(c->transport),
                                 on_hangup, c);
}

static void tend(struct http_connection *c)
{
    bool wants = wants_input(c);
    if (c->phase != CLOSING && wants && !c->reading)
        start_reading(c);
    else if (c->phase != CLOSING && !wants && c->reading)
        stop_reading(c);
    arm(c);
}

/* --- the steps --- */

static bool is_full(const struct http_server *server, size_t connections)
{
    return server->limits.max_connections > 0 && connections > server->limits.max_connections;
}

static void refuse(struct http_connection *c, enum api_error reason, const char *detail)
{
    if (!c->request)
        c->data = NULL;
    c->must_close = true;
    set_phase(c, ANSWER);
    c->server->events->refused(c->server->context, c, c->request, reason, detail);
}

/* One too many gets its answer with its first byte; unless others have left meanwhile. */
static bool begin_request(struct http_connection *c)
{
    if (c->input.len == 0)
        return false;
    request_parser_begin(&c->parser, clock_now_us());
    set_phase(c, HEAD);
    if (c->surplus && is_full(c->server, c->server->connections_count))
        refuse(c, API_overloaded, "Too many connections are open; try again in a moment.");
    c->surplus = false;
    return true;
}

static bool read_head(struct http_connection *c)
{
    enum request_verdict verdict = request_parser_head(&c->parser, &c->input);
    if (verdict == REQUEST_INCOMPLETE)
        return false;
    if (verdict == REQUEST_REFUSED) {
        refuse(c, c->parser.reason, c->parser.detail);
        return true;
    }
    c->head_ended_ms = (int64_t)uv_now(c->server->loop);
    c->request = &c->parser.request;
    c->data = NULL;
    set_phase(c, HELD);
    c->server->events->head(c->server->context, c, c->request);
    return true;
}

static bool read_body(struct http_connection *c)
{
    enum request_verdict verdict = request_parser_start_body(&c->parser);
    if (verdict == REQUEST_INCOMPLETE)
        verdict = request_parser_body(&c->parser, &c->input);
    if (verdict == REQUEST_INCOMPLETE)
        return false;
    if (verdict == REQUEST_REFUSED) {
        refuse(c, c->parser.reason, c->parser.detail);
        return true;
    }
    set_phase(c, ANSWER);
    c->server->events->body(c, c->request);
    return true;
}

static size_t bytes_ahead(const struct http_connection *c)
{
    return c->running ? c->input.len : c->kept.len;
}

static bool end_answer(struct http_connection *c)
{
    if (!c->sent)
        return false;
    if (c->ended) {
        close_connection(c);
    } else if (c->must_close || (c->server->closes && bytes_ahead(c) == 0)) {
        c->must_close = true;
        c->transport->class->shutdown(c->transport);
        c->thrown_away = 0;
        buf_free(&c->kept);
        set_phase(c, LINGER);
    } else {
        request_parser_shrink(&c->parser);
        set_phase(c, IDLE);
    }
    return true;
}

static bool step(struct http_connection *c)
{
    switch (c->phase) {
    case IDLE:
        return begin_request(c);
    case HEAD:
        return read_head(c);
    case BODY:
        return read_body(c);
    case SENDING:
        return end_answer(c);
    default:
        return false;
    }
}

/* What the steps left of the input waits in `kept`, unless nobody will read it. */
static void keep_rest(struct http_connection *c, bool borrowed)
{
    if (c->phase == LINGER || c->phase == CLOSING || c->must_close) {
        c->thrown_away += c->input.len;
        buf_clear(&c->kept);
    } else if (borrowed) {
        buf_str(&c->kept, c->input);
    } else {
        buf_consume(&c->kept, c->kept.len - c->input.len);
    }
    if (c->kept.len == 0 && c->kept.cap > KEEP_BYTES)
        buf_free(&c->kept);
}

/* Goes on with what is kept and the new bytes behind it, as far as they lead. */
static void run(struct http_connection *c, struct str bytes)
{
    bool borrowed = c->kept.len == 0;
    if (!borrowed)
        buf_str(&c->kept, bytes);
    c->input = borrowed ? bytes : buf_view(&c->kept);
    c->running = true;
    while (step(c))
        ;
    c->running = false;
    keep_rest(c, borrowed);
    c->input = STR_ABSENT;
    tend(c);
}

/* --- what the loop tells --- */

static void on_read(void *context, const char *bytes, size_t len)
{
    struct http_connection *c = context;
    if (c->phase == CLOSING)
        return;
    if (c->phase != LINGER) {
        run(c, (struct str){bytes, len});
        return;
    }
    c->thrown_away += len;
    if (c->thrown_away > LINGER_BYTES)
        close_connection(c);
}

static void on_opened(void *context)
{
    struct http_connection *c = context;
    if (c->phase == IDLE)
        c->deadline_ms = deadline_of(c, IDLE);
}

static void on_end(void *context, int error)
{
    struct http_connection *c = context;
    c->reading = false;
    c->ended = true;
    /* A client that ended its side while it reads our answer gets the rest of it. */
    if (c->phase != SENDING || error != 0)
        lose_client(c);
}

static void on_hangup(void *context)
{
    on_end(context, 0);
}

static void on_drained(void *context, int error)
{
    struct http_connection *c = context;
    if (error != 0) {
        lose_client(c);
    } else if (c->phase == SENDING) {
        c->sent = true;
        run(c, STR(""));
    } else if (c->phase == STREAM) {
        c->sent = true;
        c->deadline_ms = NEVER;
        c->server->events->writable(c, c->request);
    }
}

/* Of the answer; what was sent before it may wait, too. */
static int64_t taken(const struct http_connection *c)
{
    return (int64_t)c->answered - (int64_t)c->transport->class->pending(c->transport);
}

static void check_progress(struct http_connection *c)
{
    int64_t now_taken = taken(c);
    if (now_taken <= c->taken_seen) {
        lose_client(c);
        return;
    }
    c->taken_seen = now_taken;
    c->deadline_ms = deadline_of(c, SENDING);
}

static void on_deadline(struct http_connection *c)
{
    switch (c->phase) {
    case HEAD:
        refuse(c, API_request_timeout, "The request's head did not arrive in time.");
        break;
    case BODY:
        refuse(c, API_request_timeout, "The request's body did not arrive in time.");
        break;
    case SENDING:
        if (c->sent)
            run(c, STR("")); /* http_respond left the next request to us */
        else
            check_progress(c);
        break;
    case STREAM:
        check_progress(c);
        break;
    default:
        close_connection(c);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct http_connection *c = timer->data;
    c->armed_ms = NEVER;
    if (c->deadline_ms <= (int64_t)uv_now(c->server->loop))
        on_deadline(c);
    tend(c);
}

static const struct transport_events transport_events = {
    .opened = on_opened,
    .read = on_read,
    .end = on_end,
    .drained = on_drained,
    .closed = on_transport_closed,
};

/* --- the server --- */

void http_server_init(struct http_server *server, uv_loop_t *loop, const struct http_limits *limits,
                      const struct http_events *events, void *context)
{
    *server = (struct http_server){
        .loop = loop,
        .limits = *limits,
        .events = events,
        .context = context,
    };
}

/* False when the client is gone already. */
static bool name_client(struct http_connection *c)
{
    struct sockaddr_storage address = {0};
    if (c->transport->class->peer(c->transport, &address) != 0)
        return false;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address;
    if (address.ss_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, c->client_ip, sizeof c->client_ip);
    else if (address.ss_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
        inet_ntop(AF_INET, &v6->sin6_addr.s6_addr[12], c->client_ip, sizeof c->client_ip);
    else if (address.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &v6->sin6_addr, c->client_ip, sizeof c->client_ip);
    else
        memcpy(c->client_ip, "unix", sizeof "unix");
    return true;
}

void http_server_take(struct http_server *server, struct transport *transport)
{
    struct http_connection *c = xcalloc(1, sizeof *c);
    c->server = server;
    c->transport = transport;
    c->handles = 2;
    c->armed_ms = NEVER;
    c->parser.max_body = server->limits.max_body;
    c->parser.scan.max_bytes = server->limits.max_header;
    c->parser.request.client_ip = c->client_ip;
    transport->events = &transport_events;
    transport->context = c;
    uv_timer_init(server->loop, &c->timer);
    c->timer.data = c;
    c->next = server->connections;
    if (c->next)
        c->next->previous = c;
    server->connections = c;
    server->connections_count++;
    c->surplus = is_full(server, server->connections_count);
    c->deadline_ms = deadline_of(c, IDLE);
    if (transport->class->shakes_hands)
        c->deadline_ms = (int64_t)uv_now(server->loop) + server->limits.header_timeout_ms;
    if (name_client(c))
        tend(c);
    else
        close_connection(c);
}

void http_server_accept(struct http_server *server, uv_stream_t *listener, struct tls_server *tls)
{
    int error;
    struct transport *transport = tls ? transport_tls_accept(listener, tls, NULL, NULL, &error)
                                      : transport_plain_accept(listener, NULL, NULL, &error);
    if (transport)
        http_server_take(server, transport);
    else
        log_debug("accept: %s", uv_strerror(error));
}

void http_server_close_after_answers(struct http_server *server)
{
    server->closes = true;
}

void http_server_retire(struct http_server *server)
{
    server->closes = server->draining = true;
    tell_idle(server);
}

void http_server_drain(struct http_server *server)
{
    server->closes = server->draining = true;
    for (struct http_connection *c = server->connections; c; c = c->next)
        if (c->phase == IDLE)
            close_connection(c);
    tell_idle(server);
}

/* --- the application's side --- */

void http_set_data(struct http_connection *connection, void *data)
{
    connection->data = data;
}

const char *http_client_ip(const struct http_connection *c)
{
    return c->client_ip;
}

void *http_data(const struct http_connection *connection)
{
    return connection->data;
}

void http_read_body(struct http_connection *connection)
{
    struct http_connection *c = connection;
    if (c->phase != HELD)
        return;
    bool wanted = request_parser_start_body(&c->parser) == REQUEST_INCOMPLETE;
    if (c->parser.expects_continue && wanted && bytes_ahead(c) == 0) {
        struct str line = STR("HTTP/1.1 100 Continue\r\n\r\n");
        c->transport->class->write(c->transport, line.at, line.len);
    }
    set_phase(c, BODY);
    if (!c->running)
        run(c, STR(""));
}

/* Sends what is in the shared buffer. */
static void send_buffer(struct http_connection *c)
{
    struct buf *answer = &c->server->answer;
    bool was_sent = c->sent;
    c->answered += answer->len;
    c->sent = c->transport->class->write(c->transport, answer->data, answer->len);
    /* The answer may have been long in the making: the loop's time is from before that, and the
     * client is to have the whole write_timeout. */
    if (!c->sent)
        uv_update_time(c->server->loop);
    if (!c->sent && was_sent)
        c->taken_seen = taken(c);
    buf_clear(answer);
    if (answer->cap > ANSWER_KEEP)
        buf_free(answer);
}

/* An empty one would be the end of a chunked body. */
static void write_piece(struct http_connection *c, struct str piece)
{
    if (piece.len > 0 && c->chunked)
        response_write_chunk(&c->server->answer, piece);
    else
        buf_str(&c->server->answer, piece);
}

static void send_answer(struct http_connection *c, const struct http_response *response,
                        enum response_length length)
{
    const struct response_frame frame = {
        .length = length,
        .head_only = c->request && str_eq(c->request->method, STR("HEAD")),
        .close = c->must_close,
        .old_client = c->request && c->request->minor_version == 0,
        .idle_timeout_ms = c->server->limits.idle_timeout_ms,
    };
    response_write(&c->server->answer, response, &frame);
    if (length != LENGTH_KNOWN && !frame.head_only)
        write_piece(c, response->body);
    c->answered = 0;
    c->sent = true;
    send_buffer(c);
}

/* An answer that comes before the body was asked for needn't cost the connection when the body
 * has come together with the head. */
static void pass_over_body(struct http_connection *c)
{
    if (c->phase == HELD && c->running &&
        request_parser_start_body(&c->parser) == REQUEST_INCOMPLETE)
        request_parser_body(&c->parser, &c->input);
}

static void prepare_answer(struct http_connection *c, const struct http_response *response)
{
    pass_over_body(c);
    if (response->close || c->server->closes || !c->parser.whole || !c->parser.keep_alive)
        c->must_close = true;
}

/* All of the answer is on its way. */
static void finish_answer(struct http_connection *c)
{
    c->request = NULL;
    set_phase(c, SENDING);
    if (c->running)
        return;
    if (c->sent && !c->must_close && c->kept.len > 0)
        c->deadline_ms = 0; /* the next request comes from the loop, not from within this call */
    else
        end_answer(c);
    tend(c);
}

size_t http_respond(struct http_connection *connection, const struct http_response *response)
{
    struct http_connection *c = connection;
    if (!owes_answer(c))
        return 0;
    prepare_answer(c, response);
    send_answer(c, response, LENGTH_KNOWN);
    size_t len = c->answered;
    finish_answer(c);
    return len;
}

/* --- an answer in pieces --- */

/* The client has write_timeout from the first byte that it doesn't take. */
static void watch_progress(struct http_connection *c)
{
    if (c->sent)
        c->deadline_ms = NEVER;
    else if (c->deadline_ms == NEVER)
        c->deadline_ms = deadline_of(c, SENDING);
    arm(c);
}

bool http_stream_begin(struct http_connection *connection, const struct http_response *response)
{
    struct http_connection *c = connection;
    if (!owes_answer(c))
        return false;
    prepare_answer(c, response);
    c->chunked = c->request && c->request->minor_version > 0;
    c->must_close = c->must_close || !c->chunked;
    send_answer(c, response, c->chunked ? LENGTH_CHUNKED : LENGTH_CLOSE);
    set_phase(c, STREAM);
    watch_progress(c);
    if (!c->running)
        tend(c);
    return true;
}

size_t http_stream_write(struct http_connection *connection, struct str piece)
{
    struct http_connection *c = connection;
    if (c->phase != STREAM)
        return 0;
    if (piece.len > 0) {
        write_piece(c, piece);
        send_buffer(c);
        watch_progress(c);
    }
    return http_stream_pending(c);
}

size_t http_stream_pending(const struct http_connection *c)
{
    return c->phase != STREAM || c->sent ? 0 : c->transport->class->pending(c->transport);
}

size_t http_stream_end(struct http_connection *connection, struct str piece)
{
    struct http_connection *c = connection;
    if (c->phase != STREAM)
        return 0;
    write_piece(c, piece);
    if (c->chunked)
        response_write_chunk(&c->server->answer, STR(""));
    if (c->server->answer.len > 0)
        send_buffer(c);
    size_t len = c->answered;
    finish_answer(c);
    return len;
}

void http_stream_abort(struct http_connection *connection)
{
    struct http_connection *c = connection;
    if (c->phase != STREAM)
        return;
    c->request = NULL;
    close_connection(c);
}

struct str http_header(const struct http_request *request, const char *name)
{
    struct str wanted = str_of(name);
    for (size_t i = 0; i < request->headers_count; i++)
        if (str_eq(request->headers[i].name, wanted))
            return request->headers[i].value;
    return STR_ABSENT;
}

size_t http_header_count(const struct http_request *request, const char *name)
{
    struct str wanted = str_of(name);
    size_t count = 0;
    for (size_t i = 0; i < request->headers_count; i++)
        count += str_eq(request->headers[i].name, wanted);
    return count;
}
