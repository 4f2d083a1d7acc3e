/* Requests and answers over real sockets: framing, order, limits, who closes when. */
#include "test/unit/http_loopback.h"

#define HOST "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static int64_t fixed_wall_ms(void)
{
    return 784111777000; /* the example of RFC 9110 5.6.7 */
}

static int64_t some_us(void)
{
    return 1000;
}

static void test_keep_alive(void **state)
{
    (void)state;
    static const struct clock_source source = {some_us, fixed_wall_ms};
    static const char answer[] = "HTTP/1.1 200 OK\r\n"
                                 "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
                                 "Keep-Alive: timeout=70\r\n"
                                 "Content-Length: 3\r\n"
                                 "Content-Type: text/plain\r\n"
                                 "\r\n"
                                 "/a ";
    clock_set_source(&source);
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    client_send(l, &c, GET("/a"));
    turn_until(l, client_got(l, &c, "\r\n\r\n/a "));
    assert_string_equal(buf_cstr(&c.got), answer);
    assert_int_equal(l->answer_len, sizeof answer - 1);
    clock_set_source(NULL);
    buf_clear(&c.got);
    client_send(l, &c, GET("/b"));
    client_expect(l, &c, "\r\n\r\n/b ");
    assert_string_equal(loopback_events(l), "head GET /a;body 0;head GET /b;body 0;");
    assert_int_equal(l->server.connections_count, 1);
    client_close(&c);
    loopback_stop(l);
}

static void test_request_fields(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    l->hold_answer = true;
    struct client c = client_open(l);
    static const char request[] = "PUT /a/b?c=d HTTP/1.1\r\nHOST: a\r\nX-Two: 1\r\nx-two:2\r\n"
                                  "Content-Length: 3\r\n\r\nxyz";
    client_send(l, &c, request);
    turn_until(l, strstr(loopback_events(l), "body"));
    struct http_request *r = l->request;
    assert_true(str_eq(r->method, STR("PUT")));
    assert_true(str_eq(r->target, STR("/a/b?c=d")));
    assert_true(str_eq(r->path, STR("/a/b")));
    assert_true(str_eq(r->query, STR("c=d")));
    assert_true(str_eq(http_header(r, "host"), STR("a")));
    assert_true(str_eq(http_header(r, "x-two"), STR("1")));
    assert_int_equal(http_header_count(r, "x-two"), 2);
    assert_null(http_header(r, "x-three").at);
    assert_true(str_eq(r->body, STR("xyz")));
    assert_true(r->has_body);
    assert_int_equal(r->minor_version, 1);
    assert_int_equal(r->bytes_in, sizeof request - 1);
    assert_string_equal(r->client_ip, "127.0.0.1");
    loopback_answer(l->open, r);
    client_expect(l, &c, "xyz");
    client_close(&c);
    loopback_stop(l);
}

static void test_pipelining_keeps_order(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    l->hold_answer = true;
    client_send(l, &c,
                GET("/1") "POST /2 HTTP/1.1\r\n" HOST "Content-Length: 2\r\n\r\nab" GET("/3"));
    turn_until(l, l->open != NULL);
    for (int i = 0; i < 50; i++)
        turn(l);
    assert_string_equal(loopback_events(l), "head GET /1;body 0;");
    l->hold_answer = false;
    loopback_answer(l->open, l->request);
    assert_string_equal(loopback_events(l), "head GET /1;body 0;"); /* not from within the call */
    client_expect(l, &c, "/3 ");
    const char *got = buf_cstr(&c.got);
    const char *first = strstr(got, "/1 "), *second = strstr(got, "/2 ab");
    assert_true(first && second && first < second && second < strstr(got, "/3 "));
    client_close(&c);
    loopback_stop(l);
}

/* However the bytes are cut, the request is the same. */
static void check_split(struct loopback *l, const char *request, size_t at)
{
    struct client c = client_open(l);
    char front[512];
    memcpy(front, request, at);
    front[at] = '\0';
    client_send(l, &c, front);
    client_send(l, &c, request + at);
    client_expect(l, &c, "\r\n\r\n/x hello world");
    client_close(&c);
}

static void test_bodies_split_anywhere(void **state)
{
    (void)state;
    static const char by_length[] =
        "POST /x HTTP/1.1\r\n" HOST "Content-Length: 11\r\n\r\nhello world";
    static const char chunked[] = "POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                                  "5\r\nhello\r\n001\r\n \r\n5\r\nworld\r\n0\r\n\r\n";
    struct loopback *l = loopback_start(&calm_limits);
    for (size_t at = 0; at < sizeof by_length; at++)
        check_split(l, by_length, at);
    for (size_t at = 0; at < sizeof chunked; at++)
        check_split(l, chunked, at);
    assert_null(strstr(loopback_events(l), "refused"));
    loopback_stop(l);
}

static void test_body_waits_for_the_application(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    l->hold_head = true;
    client_send(l, &c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello");
    turn_until(l, l->open != NULL);
    assert_string_equal(loopback_events(l), "head POST /x;");
    http_read_body(l->open);
    assert_string_equal(loopback_events(l), "head POST /x;body 5;");
    client_expect(l, &c, "/x hello");
    client_close(&c);
    loopback_stop(l);
}

static void test_body_too_large_by_length(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    client_send(l, &c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 10485761\r\n\r\n");
    client_expect(l, &c, "HTTP/1.1 413 Content Too Large\r\n");
    client_expect(l, &c, "\r\nConnection: close\r\n");
    assert_string_equal(loopback_events(l), "head POST /x;refused body_too_large;");
    turn_until(l, client_ended(l, &c));
    client_close(&c);
    loopback_stop(l);
}

static void test_body_too_large_by_chunks(void **state)
{
    (void)state;
    struct http_limits limits = calm_limits;
    limits.max_body = 10;
    struct loopback *l = loopback_start(&limits);
    struct client fits = client_open(l), c = client_open(l);
    client_send(l, &fits,
                "POST /y HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                "6\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n");
    client_expect(l, &fits, "/y abcdefghij");
    client_send(l, &c,
                "POST /x HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n"
                "6\r\nabcdef\r\n5\r\n");
    client_expect(l, &c, "HTTP/1.1 413 ");
    client_close(&fits);
    client_close(&c);
    loopback_stop(l);
}

/* Many megabytes on their way, an answer after the head: the client must be able to read it. */
static void test_early_answer_reaches_a_sending_client(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    l->answer_unread = true;
    l->status = 401;
    size_t size = 9 * 1024 * 1024;
    char *body = calloc(1, size);
    client_send(l, &c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 9437184\r\n\r\n");
    (void)client_send_some(l, &c, (struct str){body, size});
    client_expect(l, &c, "HTTP/1.1 401 Unauthorized\r\n");
    assert_non_null(strstr(buf_cstr(&c.got), "Connection: close\r\n"));
    turn_until(l, l->server.connections_count == 0);
    free(body);
    client_close(&c);
    loopback_stop(l);
}

/* A body that nobody asked for and that came with its head costs nothing: it is passed over. */
static void test_unread_body_is_passed_over(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    struct buf request = {0};
    l->answer_unread = true;
    buf_printf(&request, "POST /x HTTP/1.1\r\n" HOST "Content-Length: %zu\r\n\r\n" GET("/y"),
               strlen(GET("/y")));
    client_send(l, &c, buf_cstr(&request));
    client_send(l, &c, GET("/z"));
    turn_until(l, strstr(loopback_events(l), "/z"));
    assert_string_equal(loopback_events(l), "head POST /x;head GET /z;");
    assert_null(strstr(buf_cstr(&c.got), "Connection: close\r\n"));
    buf_free(&request);
    client_close(&c);
    loopback_stop(l);
}

static void test_rest_of_unread_body_is_no_request(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    l->answer_unread = true;
    client_send(l, &c, "POST /x HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\n" GET("/y"));
    client_send(l, &c, GET("/z"));
    turn_until(l, client_ended(l, &c));
    assert_non_null(strstr(buf_cstr(&c.got), "Connection: close\r\n"));
    assert_string_equal(loopback_events(l), "head POST /x;");
    client_close(&c);
    loopback_stop(l);
}

static void test_refusals(void **state)
{
    (void)state;
    static const char *const requests[][2] = {
        {"GET / HTTP/1.1\r\n\r\n", "refused bad_http;"},
        {"GET / HTTP/1.1\nHost: a\n\n", "refused bad_http;"},
        {"BREW / HTTP/1.1\r\n" HOST "\r\n", "refused bad_http;"}, /* llhttp's opinion */
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n1;a=b\r\nx\r\n0\r\n\r\n",
         "head POST /;refused bad_http;"},
        {"POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n0\r\nX: y\r\n\r\n",
         "head POST /;refused bad_http;"},
    };
    for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
        struct loopback *l = loopback_start(&calm_limits);
        struct client c = client_open(l);
        client_send(l, &c, requests[i][0]);
        client_send(l, &c, GET("/smuggled"));
        client_expect(l, &c, "HTTP/1.1 400 Bad Request\r\n");
        turn_until(l, client_ended(l, &c));
        assert_string_equal(loopback_events(l), requests[i][1]);
        client_close(&c);
        loopback_stop(l);
    }
}

static void test_head_too_large(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    char *name = calloc(1, 17 * 1024);
    memset(name, 'x', 17 * 1024 - 1);
    client_send(l, &c, "GET / HTTP/1.1\r\n");
    client_send(l, &c, name);
    client_expect(l, &c, "HTTP/1.1 431 ");
    assert_string_equal(loopback_events(l), "refused headers_too_large;");
    free(name);
    client_close(&c);
    loopback_stop(l);
}

/* What our own scan lets through of targets and headers, llhttp takes as well. */
static void test_unusual_requests_are_served(void **state)
{
    (void)state;
    static const char *const heads[] = {
        "\r\nGET /x HTTP/1.1\r\nHost:\r\n\r\n",
        "GET /x?a[]={b|c}^` HTTP/1.1\r\n" HOST "\r\n",
        "GET /x?a?b/c=%zz HTTP/1.1\r\n" HOST "\r\n",
        "GET /x HTTP/1.1\r\n" HOST "!#$%&'*+-.^_`|~: x\r\n\r\n",
        "GET /x HTTP/1.1\r\n" HOST "X: \xe4\xff\tq\r\n\r\n",
        "DELETE /x HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
        "OPTIONS /x HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n",
        "POST /x HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: h2c\r\n"
        "Content-Length: 000\r\n\r\n",
    };
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
        buf_clear(&c.got);
        client_send(l, &c, heads[i]);
        client_expect(l, &c, "\r\n\r\n/x ");
    }
    client_close(&c);
    loopback_stop(l);
}

static void test_http_1_0(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l), stays = client_open(l);
    client_send(l, &c, "GET /x HTTP/1.0\r\n\r\n");
    client_expect(l, &c, "Connection: close\r\n");
    turn_until(l, client_ended(l, &c));
    client_send(l, &stays, "GET /x HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    client_expect(l, &stays, "Connection: keep-alive\r\nKeep-Alive: timeout=70\r\n");
    client_send(l, &stays, "GET /y HTTP/1.0\r\n\r\n");
    client_expect(l, &stays, "\r\n\r\n/y ");
    turn_until(l, client_ended(l, &stays));
    client_close(&c);
    client_close(&stays);
    loopback_stop(l);
}

static void test_client_asks_to_close(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    client_send(l, &c, "GET /x HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n" GET("/y"));
    client_expect(l, &c, "Connection: close\r\n");
    turn_until(l, client_ended(l, &c));
    assert_string_equal(loopback_events(l), "head GET /x;body 0;");
    client_close(&c);
    loopback_stop(l);
}

static void test_head_and_bare_answers(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    l->answer = STR("hidden");
    client_send(l, &c, "HEAD /x HTTP/1.1\r\n" HOST "\r\n");
    client_expect(l, &c, "Content-Length: 6\r\nContent-Type: text/plain\r\n\r\n");
    assert_null(strstr(buf_cstr(&c.got), "hidden"));
    buf_clear(&c.got);
    l->status = 204;
    client_send(l, &c, GET("/x"));
    client_expect(l, &c, "HTTP/1.1 204 No Content\r\n");
    client_expect(l, &c, "\r\n\r\n");
    assert_null(strstr(buf_cstr(&c.got), "hidden"));
    assert_null(strstr(buf_cstr(&c.got), "Content-Length"));
    buf_clear(&c.got);
    l->status = 200;
    client_send(l, &c, GET("/x"));
    client_expect(l, &c, "\r\n\r\nhidden");
    client_close(&c);
    loopback_stop(l);
}

static void test_expect_continue(void **state)
{
    (void)state;
    static const char head[] =
        "POST /x HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    client_send(l, &c, head);
    client_expect(l, &c, "HTTP/1.1 100 Continue\r\n\r\n");
    client_send(l, &c, "ab");
    client_expect(l, &c, "/x ab");
    /* A body that comes unasked needs no word, and neither does one that is refused. */
    buf_clear(&c.got);
    client_send(l, &c,
                "POST /y HTTP/1.1\r\n" HOST "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nab");
    client_expect(l, &c, "/y ab");
    client_send(l, &c,
                "POST /z HTTP/1.1\r\n" HOST
                "Expect: 100-continue\r\nContent-Length: 20000000\r\n\r\n");
    client_expect(l, &c, "HTTP/1.1 413 ");
    assert_null(strstr(buf_cstr(&c.got), "100 Continue"));
    client_close(&c);
    loopback_stop(l);
}

/* One too many: answered with its first byte, not with a head that never ends. */
static void test_connection_cap(void **state)
{
    (void)state;
    struct http_limits limits = calm_limits;
    limits.max_connections = 2;
    struct loopback *l = loopback_start(&limits);
    struct client a = client_open(l), b = client_open(l), c = client_open(l), d = client_open(l);
    client_send(l, &a, GET("/a"));
    client_expect(l, &a, "/a ");
    client_send(l, &c, "G");
    client_expect(l, &c, "HTTP/1.1 503 Service Unavailable\r\n");
    client_expect(l, &c, "\r\nConnection: close\r\n");
    client_send(l, &b, GET("/b")); /* those that were there first go on */
    client_expect(l, &b, "/b ");
    client_close(&c);
    client_close(&b);
    turn_until(l, l->server.connections_count == 2);
    client_send(l, &d, GET("/d")); /* there is room again */
    client_expect(l, &d, "/d ");
    assert_non_null(strstr(loopback_events(l), "refused overloaded"));
    client_close(&a);
    client_close(&d);
    loopback_stop(l);
}

static void test_silent_surplus_is_closed(void **state)
{
    (void)state;
    struct http_limits limits = calm_limits;
    limits.max_connections = 1;
    struct loopback *l = loopback_start(&limits);
    struct client a = client_open(l), b = client_open(l);
    turn_until(l, client_ended(l, &b));
    assert_int_equal(b.got.len, 0);
    assert_false(client_ended(l, &a));
    client_close(&a);
    client_close(&b);
    loopback_stop(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keep_alive),
        cmocka_unit_test(test_request_fields),
        cmocka_unit_test(test_pipelining_keeps_order),
        cmocka_unit_test(test_bodies_split_anywhere),
        cmocka_unit_test(test_body_waits_for_the_application),
        cmocka_unit_test(test_body_too_large_by_length),
        cmocka_unit_test(test_body_too_large_by_chunks),
        cmocka_unit_test(test_early_answer_reaches_a_sending_client),
        cmocka_unit_test(test_unread_body_is_passed_over),
        cmocka_unit_test(test_rest_of_unread_body_is_no_request),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_head_too_large),
        cmocka_unit_test(test_unusual_requests_are_served),
        cmocka_unit_test(test_http_1_0),
        cmocka_unit_test(test_client_asks_to_close),
        cmocka_unit_test(test_head_and_bare_answers),
        cmocka_unit_test(test_expect_continue),
        cmocka_unit_test(test_connection_cap),
        cmocka_unit_test(test_silent_surplus_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
