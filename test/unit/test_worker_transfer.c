#include "test/unit/transfer_world.h"

/* --- good answers --- */

static void plain_answer(void **state)
{
    struct world *world = *state;
    struct call *call = expect(world,
                               STR("HTTP/1.1 200 OK\r\nContent-Type: text/x\r\nX-Empty:\r\n"
                                   "Retry-After:  7 \r\nContent-Length: 5\r\n\r\nhello"),
                               TRANSFER_OK);
    expect_body(call, 200, "hello");
    assert_string_equal(buf_cstr(&call->told_headers),
                        "Content-Type=text/x;X-Empty=;Retry-After=7;Content-Length=5;");
}

static void connection_is_kept(void **state)
{
    struct world *world = *state;
    for (unsigned i = 0; i < 5; i++)
        expect_body(expect(world, STR(OK_ANSWER), TRANSFER_OK), 200, "hello");
    assert_int_equal(world->mock.requests, 5);
    assert_int_equal(world->mock.accepted, 1);
}

/* What one transfer left in its handle must not show in the next one. */
static void nothing_of_the_last_one_is_left(void **state)
{
    struct world *world = *state;
    world->mock.answer = STR("HTTP/1.1 503 Busy\r\nX-A: b\r\nContent-Length: 3\r\n\r\nno!");
    struct call *first = call_new(world);
    first->headers[1] = (struct transfer_header){STR("Authorization"), STR("Bearer one")};
    first->request.headers_count = 2;
    start(first);
    turn_until_done(first);
    expect_body(first, 503, "no!");
    struct call *second = call_new(world);
    second->request.body = STR("");
    second->request.headers_count = 0;
    world->mock.answer = STR("HTTP/1.1 204 No Content\r\n\r\n");
    start(second);
    turn_until_done(second);
    expect_body(second, 204, "");
    assert_string_equal(buf_cstr(&second->told_headers), "");
    const char *request = buf_cstr(&world->mock.request);
    assert_null(strstr(request, "Bearer one"));
    assert_non_null(strstr(request, "Content-Length: 0\r\n"));
}

static void chunked_answer(void **state)
{
    struct world *world = *state;
    struct call *call = expect(world,
                               STR("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
                                   "Trailer: X-T\r\n\r\n5\r\nhello\r\n1;x=y\r\n!\r\n0\r\n"
                                   "X-T: HTTP/1.1 500\r\n\r\n"),
                               TRANSFER_OK);
    expect_body(call, 200, "hello!");
    assert_string_equal(buf_cstr(&call->told_headers), "Transfer-Encoding=chunked;Trailer=X-T;");
    expect(world, STR(OK_ANSWER), TRANSFER_OK);
    assert_int_equal(world->mock.accepted, 1);
}

static void body_until_close(void **state)
{
    struct world *world = *state;
    world->mock.close_after = true;
    expect_body(expect(world, STR("HTTP/1.1 200 OK\r\n\r\nuntil the end"), TRANSFER_OK), 200,
                "until the end");
    expect_body(expect(world, STR("HTTP/1.0 200 OK\r\n\r\nold"), TRANSFER_OK), 200, "old");
}

static void interim_answers_are_not_told(void **state)
{
    struct world *world = *state;
    struct call *call = expect(world,
                               STR("HTTP/1.1 100 Continue\r\nX-Early: 1\r\n\r\n"
                                   "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
                                   "HTTP/1.1 200 OK\r\nX-Final: 1\r\nContent-Length: 2\r\n\r\nhi"),
                               TRANSFER_OK);
    expect_body(call, 200, "hi");
    assert_string_equal(buf_cstr(&call->told_headers), "X-Final=1;Content-Length=2;");
}

static void redirects_are_not_followed(void **state)
{
    struct world *world = *state;
    struct call *call = expect(world,
                               STR("HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\n"
                                   "Content-Length: 4\r\n\r\ngone"),
                               TRANSFER_OK);
    expect_body(call, 307, "gone");
    assert_int_equal(turn_for(world, 20) < 20, true);
    assert_int_equal(world->mock.requests, 1);
}

static void credentials_in_a_challenge_are_not_sought(void **state)
{
    struct world *world = *state;
    struct call *call = expect(world,
                               STR("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\n"
                                   "Content-Length: 0\r\n\r\n"),
                               TRANSFER_OK);
    expect_body(call, 401, "");
    assert_int_equal(world->mock.requests, 1);
}

static void at_the_limit(void **state)
{
    struct world *world = *state;
    world->mock.answer = STR(OK_ANSWER);
    struct call *call = call_new(world);
    call->request.max_response = 5;
    start(call);
    turn_until_done(call);
    expect_body(call, 200, "hello");
}

/* --- what is sent --- */

static void request_as_sent(void **state)
{
    struct world *world = *state;
    static char large[3 << 20];
    struct call *call = call_new(world);
    memset(large, 'a', sizeof large);
    world->mock.answer = STR(OK_ANSWER);
    call->request.body = (struct str){large, sizeof large};
    call->headers[1] = (struct transfer_header){STR("X-Team"), STR("a b")};
    call->request.headers_count = 2;
    start(call);
    turn_until_done(call);
    expect_body(call, 200, "hello");
    const char *request = buf_cstr(&world->mock.request);
    char *end = strstr(request, "\r\n\r\n");
    assert_int_equal(strlen(end + 4), sizeof large);
    end[2] = '\0';
    assert_ptr_equal(strstr(request, "POST /v1/chat HTTP/1.1\r\n"), request);
    assert_non_null(strstr(request, "\r\nHost: 127.0.0.1:"));
    assert_non_null(strstr(request, "\r\nAccept-Encoding: identity\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(request, "\r\nX-Team: a b\r\n"));
    assert_non_null(strstr(request, "\r\nContent-Length: 3145728\r\n"));
    assert_null(strstr(request, "Expect"));
    assert_null(strstr(request, "Transfer-Encoding"));
    assert_null(strstr(request, "User-Agent"));
    assert_null(strstr(request, "Authorization"));
}

/* The url and the headers may go as soon as the transfer has begun. */
static void only_the_body_must_stay(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    char url[128], value[] = "kept";
    world->mock.answer = STR(OK_ANSWER);
    snprintf(url, sizeof url, "%s/copied", world->mock.base);
    call->request.url = url;
    call->headers[0] = (struct transfer_header){STR("X-Copied"), {value, 4}};
    start(call);
    memset(url, 'x', sizeof url - 1);
    memset(value, 'x', sizeof value);
    turn_until_done(call);
    expect_body(call, 200, "hello");
    assert_non_null(strstr(buf_cstr(&world->mock.request), "POST /copied HTTP/1.1\r\n"));
    assert_non_null(strstr(buf_cstr(&world->mock.request), "X-Copied: kept\r\n"));
}

static void no_proxy_from_the_environment(void **state)
{
    struct world *world = *state;
    static const char *const names[] = {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        setenv(names[i], "http://127.0.0.1:1", 1);
    struct call *call = expect(world, STR(OK_ANSWER), TRANSFER_OK);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unsetenv(names[i]);
    expect_body(call, 200, "hello");
}

/* --- bad answers --- */

static void closes_without_an_answer(void **state)
{
    struct world *world = *state;
    world->mock.close_after = true;
    struct call *call = expect(world, STR(""), TRANSFER_BROKEN);
    assert_int_equal(call->heads, 0);
    world->mock.reset_after = true;
    expect(world, STR(""), TRANSFER_BROKEN);
}

static void body_is_cut(void **state)
{
    struct world *world = *state;
    world->mock.close_after = true;
    struct call *call =
        expect(world, STR("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), TRANSFER_CUT_OFF);
    assert_int_equal(call->status, 200);
    assert_string_equal(buf_cstr(&call->body), "half");
    expect(world, STR("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"),
           TRANSFER_CUT_OFF);
    expect(world, STR("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n"),
           TRANSFER_CUT_OFF);
    world->mock.reset_after = true;
    expect(world, STR("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"), TRANSFER_CUT_OFF);
}

/* An answer whose head never ended is none, whatever its status line says. */
static void head_is_cut(void **state)
{
    struct world *world = *state;
    world->mock.close_after = true;
    expect(world, STR("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n"), TRANSFER_CUT_OFF);
    expect(world, STR("HTTP/1.1 200 OK\r\n"), TRANSFER_CUT_OFF);
    expect(world, STR("HTTP/1.1 200 OK\r\nContent-Le"), TRANSFER_CUT_OFF);
    expect(world, STR("HTTP/1.1 20"), TRANSFER_BROKEN);
    struct call *call = expect(world, STR("HTTP/1.1 100 Continue\r\n\r\n"), TRANSFER_CUT_OFF);
    assert_int_equal(call->heads, 0);
}

static void not_http(void **state)
{
    struct world *world = *state;
    world->mock.close_after = true;
    static const struct str answers[] = {
        STR("SSH-2.0-OpenSSH_9.2\r\n"),
        STR("<html><body>hello</body></html>\n"),
        STR("\0\1\2\3\r\n\r\n"),
        STR("HTTP/1.1 OK\r\n\r\n"),
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct call *call = expect(world, answers[i], TRANSFER_NOT_HTTP);
        assert_int_equal(call->heads, 0);
        assert_int_equal(call->body.len, 0);
    }
}

/* 101 answers a question that was never asked. */
static void switching_protocols(void **state)
{
    struct world *world = *state;
    world->mock.close_after = true;
    struct call *call =
        expect(world, STR("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nbytes"),
               TRANSFER_NOT_HTTP);
    assert_int_equal(call->heads, 0);
}

static void head_is_too_large(void **state)
{
    struct world *world = *state;
    struct buf head = {0};
    buf_puts(&head, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
    for (unsigned i = 0; head.len < 63 * 1024; i++)
        buf_printf(&head, "X-%u: %0100u\r\n", i, i);
    size_t fits = head.len;
    buf_puts(&head, "\r\n");
    expect(world, buf_view(&head), TRANSFER_OK);
    head.len = fits;
    for (unsigned i = 0; head.len < 70 * 1024; i++)
        buf_printf(&head, "Y-%u: %0100u\r\n", i, i);
    buf_puts(&head, "\r\n");
    expect(world, buf_view(&head), TRANSFER_TOO_LARGE);
    static const unsigned lines[] = {70 * 1024, 150 * 1024, 1024 * 1024};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        buf_clear(&head);
        buf_puts(&head, "HTTP/1.1 200 OK\r\nX: ");
        memset(buf_reserve(&head, lines[i]), 'a', lines[i]);
        head.len += lines[i];
        buf_puts(&head, "\r\nContent-Length: 0\r\n\r\n");
        expect(world, buf_view(&head), TRANSFER_TOO_LARGE);
    }
    mock_close_all(&world->mock);
    turn_for(world, 1);
    buf_free(&head);
}

static void body_is_too_large(void **state)
{
    struct world *world = *state;
    static const struct str answers[] = {
        STR("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello!"),
        STR("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
            "chunked\r\n\r\n3\r\nhel\r\n3\r\nlo!\r\n0\r\n\r\n"),
        STR("HTTP/1.1 200 OK\r\n\r\nhello!"),
    };
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct call *call = call_new(world);
        world->mock.answer = answers[i];
        call->request.max_response = 5;
        start(call);
        turn_until_done(call);
        assert_int_equal(call->result, TRANSFER_TOO_LARGE);
        assert_true(call->body.len <= 5);
    }
    expect(world, STR(OK_ANSWER), TRANSFER_OK);
}

static void refused_connection(void **state)
{
    struct world *world = *state;
    struct mock closed;
    mock_start(&closed, &world->loop);
    mock_stop(&closed);
    struct call *call = call_new(world);
    call->request.url = closed.base;
    start(call);
    turn_until_done(call);
    assert_int_equal(call->result, TRANSFER_UNREACHABLE);
    assert_int_equal(call->heads, 0);
}

static void expect_eight_good(struct world *world)
{
    struct call *good[8];
    world->mock.answer = STR(OK_ANSWER);
    for (unsigned i = 0; i < 8; i++) {
        good[i] = call_new(world);
        start(good[i]);
    }
    for (unsigned i = 0; i < 8; i++) {
        turn_until_done(good[i]);
        expect_body(good[i], 200, "hello");
    }
}

/* A connection that was never made leaves a descriptor's number free for others: for the server's
 * connections on the same loop, and for the next transfers. */
static void after_refused_connections(void **state)
{
    struct world *world = *state;
    struct mock closed;
    char tls_url[80];
    mock_start(&closed, &world->loop);
    mock_stop(&closed);
    snprintf(tls_url, sizeof tls_url, "https%s/", world->mock.base + 4);
    for (unsigned i = 0; i < 5; i++) {
        struct call *refused = call_new(world);
        refused->request.url = closed.base;
        start(refused);
        turn_until_done(refused);
        assert_int_equal(refused->result, TRANSFER_UNREACHABLE);
        world->mock.answer = STR("HTTP/1.1 400 Bad Request\r\n\r\n");
        world->mock.answer_any_byte = world->mock.close_after = true;
        struct call *no_tls = call_new(world);
        no_tls->request.url = tls_url;
        start(no_tls);
        turn_until_done(no_tls);
        assert_int_equal(no_tls->result, TRANSFER_TLS_FAILED);
        world->mock.answer_any_byte = world->mock.close_after = false;
        expect_eight_good(world);
        mock_close_all(&world->mock);
    }
}

/* A listener whose queue is full answers no further connection. */
static void connection_is_never_made(void **state)
{
    struct world *world = *state;
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), waiting[4];
    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(listener, 0), 0);
    getsockname(listener, (struct sockaddr *)&address, &len);
    for (size_t i = 0; i < 4; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(waiting[i], (struct sockaddr *)&address, len);
    }
    struct transfer_settings settings = {.connect_timeout_ms = 500, .keepalive = 1, .hosts = 1};
    world->pool = transfer_pool_new(&world->loop, &settings);
    char url[64];
    snprintf(url, sizeof url, "http://127.0.0.1:%u/", ntohs(address.sin_port));
    struct call *call = call_new(world);
    call->request.url = url;
    start(call);
    turn_until_done(call);
    assert_int_equal(call->result, TRANSFER_CONNECT_TIMEOUT);
    turn_for(world, 5);
    expect_eight_good(world);
    for (size_t i = 0; i < 4; i++)
        close(waiting[i]);
    close(listener);
}

static void tls_with_a_plain_server(void **state)
{
    struct world *world = *state;
    char url[80];
    snprintf(url, sizeof url, "https%s/", world->mock.base + 4);
    world->mock.answer = STR("HTTP/1.1 400 Bad Request\r\n\r\n");
    world->mock.answer_any_byte = world->mock.close_after = true;
    struct call *call = call_new(world);
    call->request.url = url;
    start(call);
    turn_until_done(call);
    assert_int_equal(call->result, TRANSFER_TLS_FAILED);
}

static void never_answers(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->request.first_byte_timeout_ms = 200;
    start(call);
    turn_until_done(call);
    assert_int_equal(call->result, TRANSFER_NO_FIRST_BYTE);
    turn_for(world, 20);
    assert_int_equal(world->mock.requests, 1);
    assert_int_equal(world->mock.open, 0); /* the connection is not kept */
    expect(world, STR(OK_ANSWER), TRANSFER_OK);
    assert_int_equal(world->mock.accepted, 2);
}

static void stalls_in_the_body(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    world->mock.answer = STR("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    call->request.first_byte_timeout_ms = 200; /* the first byte came: this no longer counts */
    call->request.timeout_ms = 500;
    start(call);
    turn_until_done(call);
    assert_int_equal(call->result, TRANSFER_TIMEOUT);
    assert_string_equal(buf_cstr(&call->body), "half");
    turn_for(world, 20);
    assert_int_equal(world->mock.open, 0);
}

/* --- connections that wait --- */

static int64_t cpu_ms(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000 +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1000;
}

/* The server ends a connection that nobody uses: that must not keep the loop awake. */
static void idle_connection_is_closed(void **state)
{
    struct world *world = *state;
    for (unsigned round = 1; round <= 3; round++) {
        expect(world, STR(OK_ANSWER), TRANSFER_OK);
        assert_int_equal(world->mock.accepted, round);
        mock_close_all(&world->mock);
        int64_t began_ms = cpu_ms();
        unsigned turns = turn_for(world, 200);
        if (turns > 50)
            fail_msg("the loop came round %u times", turns);
        assert_true(cpu_ms() - began_ms < 150);
    }
}

static void idle_connection_is_reset(void **state)
{
    struct world *world = *state;
    expect(world, STR(OK_ANSWER), TRANSFER_OK);
    uv_tcp_close_reset(&world->mock.connections->tcp, mock_closed);
    unsigned turns = turn_for(world, 100);
    if (turns > 50)
        fail_msg("the loop came round %u times", turns);
    expect_body(expect(world, STR(OK_ANSWER), TRANSFER_OK), 200, "hello");
}

/* Bytes that belong to no request: the connection is not to be used again. */
static void idle_connection_speaks(void **state)
{
    struct world *world = *state;
    expect(world, STR(OK_ANSWER), TRANSFER_OK);
    mock_send(world->mock.connections, STR("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake"));
    unsigned turns = turn_for(world, 100);
    if (turns > 50)
        fail_msg("the loop came round %u times", turns);
    expect_body(expect(world, STR(OK_ANSWER), TRANSFER_OK), 200, "hello");
    assert_int_equal(world->mock.accepted, 2);
}

static void answer_and_more(void **state)
{
    struct world *world = *state;
    expect(world, STR(OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfake"), TRANSFER_OK);
    expect_body(expect(world, STR(OK_ANSWER), TRANSFER_OK), 200, "hello");
    expect_body(expect(world, STR(OK_ANSWER), TRANSFER_OK), 200, "hello");
}

static void many_at_once(void **state)
{
    struct world *world = *state;
    enum { MANY = 64, ROUNDS = 3 };
    world->mock.answer = STR(OK_ANSWER);
    for (unsigned round = 0; round < ROUNDS; round++) {
        struct call *all[MANY];
        for (unsigned i = 0; i < MANY; i++) {
            all[i] = call_new(world);
            start(all[i]);
        }
        assert_int_equal(transfer_pool_running(world->pool), MANY);
        for (unsigned i = 0; i < MANY; i++) {
            turn_until_done(all[i]);
            expect_body(all[i], 200, "hello");
        }
        assert_int_equal(transfer_pool_running(world->pool), 0);
    }
    assert_int_equal(world->mock.requests, MANY * ROUNDS);
    assert_true(world->mock.accepted <= MANY);
}

static void count_timer(uv_handle_t *handle, void *count)
{
    *(unsigned *)count += handle->type == UV_TIMER;
}

/* Each handle has two timers, which tell how many there are. */
static unsigned timers_of(struct world *world)
{
    unsigned count = 0;
    uv_walk(&world->loop, count_timer, &count);
    return count;
}

static void a_rush_is_forgotten(void **state)
{
    enum { RUSH = 16 };
    struct world *world = *state;
    struct call *all[RUSH];
    unsigned before = timers_of(world);
    world->mock.answer = STR(OK_ANSWER);
    for (unsigned i = 0; i < RUSH; i++)
        start(all[i] = call_new(world));
    for (unsigned i = 0; i < RUSH; i++)
        turn_until_done(all[i]);
    transfer_pool_tend(world->pool);
    turn_for(world, 1);
    assert_int_equal(timers_of(world), before + 2 * RUSH);
    for (unsigned left = RUSH / 2; left > 0; left /= 2) {
        transfer_pool_tend(world->pool);
        turn_for(world, 1);
        assert_int_equal(timers_of(world), before + 2 * left);
    }
    transfer_pool_tend(world->pool);
    turn_for(world, 1);
    assert_int_equal(timers_of(world), before);
    expect_body(finished_call(world), 200, "hello");
    assert_true(world->mock.accepted <= RUSH); /* connections outlive the handles */
}

/* --- cancelling --- */

static void expect_cancelled(struct world *world, struct call *call, unsigned callbacks)
{
    turn_for(world, 30);
    assert_int_equal(call->callbacks, callbacks);
    assert_int_equal(call->dones, 0);
    assert_int_equal(transfer_pool_running(world->pool), 0);
    assert_int_equal(world->mock.open, 0); /* the connection is closed, not kept */
    expect_body(expect(world, STR(OK_ANSWER), TRANSFER_OK), 200, "hello");
}

static void cancel_in(struct world *world, enum callback callback, unsigned callbacks)
{
    struct call *call = call_new(world);
    world->mock.answer =
        STR("HTTP/1.1 200 OK\r\nX-A: b\r\nX-C: d\r\nContent-Length: 9\r\n\r\nhello");
    call->cancel_in = callback;
    start(call);
    while (call->transfer)
        uv_run(&world->loop, UV_RUN_ONCE);
    expect_cancelled(world, call, callbacks);
}

static void cancel_in_head(void **state)
{
    cancel_in(*state, HEAD, 1);
}

static void cancel_in_header(void **state)
{
    cancel_in(*state, HEADER, 2);
}

static void cancel_in_data(void **state)
{
    cancel_in(*state, DATA, 5);
}

/* The caller's pointer still stands there; it must do no harm. */
static void cancel_in_data_of_a_whole_answer(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    world->mock.answer = STR(OK_ANSWER);
    call->cancel_in = DATA;
    start(call);
    while (call->transfer)
        uv_run(&world->loop, UV_RUN_ONCE);
    turn_for(world, 20);
    assert_int_equal(call->dones, 0);
    assert_int_equal(transfer_pool_running(world->pool), 0);
}

static void cancel_before_anything(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    start(call);
    transfer_cancel(&call->transfer);
    assert_null(call->transfer);
    assert_int_equal(transfer_pool_running(world->pool), 0);
    transfer_cancel(&call->transfer); /* once more does no harm */
    expect_cancelled(world, call, 0);
}

static void cancel_while_waiting(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->request.first_byte_timeout_ms = 200;
    start(call);
    while (world->mock.requests == 0)
        uv_run(&world->loop, UV_RUN_ONCE);
    transfer_cancel(&call->transfer);
    turn_for(world, 250); /* past its time limit */
    expect_cancelled(world, call, 0);
}

static void cancel_in_the_body(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    world->mock.answer = STR("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello");
    start(call);
    while (call->body.len < 5)
        uv_run(&world->loop, UV_RUN_ONCE);
    transfer_cancel(&call->transfer);
    expect_cancelled(world, call, 4); /* status, header, data, batch */
}

static void cancel_another_when_done(void **state)
{
    struct world *world = *state;
    struct call *one = call_new(world), *other = call_new(world);
    world->mock.answer = STR(OK_ANSWER);
    one->also_cancel = other;
    other->also_cancel = one;
    start(one);
    start(other);
    while (one->dones + other->dones == 0)
        uv_run(&world->loop, UV_RUN_ONCE);
    turn_for(world, 30);
    assert_int_equal(one->dones + other->dones, 1);
    assert_int_equal(transfer_pool_running(world->pool), 0);
}

static void start_another_when_done(void **state)
{
    struct world *world = *state;
    struct call *first = call_new(world), *second = call_new(world);
    world->mock.answer = STR(OK_ANSWER);
    first->also_start = second;
    start(first);
    turn_until_done(second);
    expect_body(second, 200, "hello");
    assert_int_equal(world->mock.accepted, 1);
}

static void start_another_on_timeout(void **state)
{
    struct world *world = *state;
    struct call *first = call_new(world), *second = call_new(world);
    first->request.first_byte_timeout_ms = 20;
    first->also_start = second;
    second->request.first_byte_timeout_ms = 20;
    start(first);
    turn_until_done(second);
    assert_int_equal(first->result, TRANSFER_NO_FIRST_BYTE);
    assert_int_equal(second->result, TRANSFER_NO_FIRST_BYTE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(plain_answer),
        TEST(connection_is_kept),
        TEST(nothing_of_the_last_one_is_left),
        TEST(chunked_answer),
        TEST(body_until_close),
        TEST(interim_answers_are_not_told),
        TEST(redirects_are_not_followed),
        TEST(credentials_in_a_challenge_are_not_sought),
        TEST(at_the_limit),
        TEST(request_as_sent),
        TEST(only_the_body_must_stay),
        TEST(no_proxy_from_the_environment),
        TEST(closes_without_an_answer),
        TEST(body_is_cut),
        TEST(head_is_cut),
        TEST(not_http),
        TEST(switching_protocols),
        TEST(head_is_too_large),
        TEST(body_is_too_large),
        TEST(refused_connection),
        TEST(after_refused_connections),
        TEST(connection_is_never_made),
        TEST(tls_with_a_plain_server),
        TEST(never_answers),
        TEST(stalls_in_the_body),
        TEST(idle_connection_is_closed),
        TEST(idle_connection_is_reset),
        TEST(idle_connection_speaks),
        TEST(answer_and_more),
        TEST(many_at_once),
        TEST(a_rush_is_forgotten),
        TEST(cancel_in_head),
        TEST(cancel_in_header),
        TEST(cancel_in_data),
        TEST(cancel_in_data_of_a_whole_answer),
        TEST(cancel_before_anything),
        TEST(cancel_while_waiting),
        TEST(cancel_in_the_body),
        TEST(cancel_another_when_done),
        TEST(start_another_when_done),
        TEST(start_another_on_timeout),
    };
    signal(SIGPIPE, SIG_IGN);
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
