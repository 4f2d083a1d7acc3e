/* How connections end: clients that leave, stall or read slowly, timeouts, draining. */
#include "test/unit/http_loopback.h"

#define HOST "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" HOST "\r\n"

static struct http_limits hasty_limits(void)
{
    struct http_limits limits = calm_limits;
    limits.header_timeout_ms = limits.body_timeout_ms = limits.idle_timeout_ms = 120;
    limits.write_timeout_ms = 120;
    return limits;
}

static void check_gone(const char *request, const char *events, bool hold_head, bool reset)
{
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    l->hold_head = hold_head;
    l->hold_answer = true;
    client_send(l, &c, request);
    turn_until(l, l->open != NULL);
    if (reset)
        client_reset(&c);
    else
        shutdown(c.fd, SHUT_WR);
    turn_until(l, strstr(loopback_events(l), "gone"));
    assert_string_equal(loopback_events(l), events);
    turn_until(l, l->server.connections_count == 0);
    if (!reset)
        client_close(&c);
    loopback_stop(l);
}

static void test_gone(void **state)
{
    (void)state;
    static const char post[] = "POST /x HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhe";
    for (int reset = 0; reset <= 1; reset++) {
        check_gone(GET("/x"), "head GET /x;body 0;gone /x;", false, reset);
        check_gone(GET("/x"), "head GET /x;gone /x;", true, reset);
        check_gone(post, "head POST /x;gone /x;", false, reset);
        check_gone(post, "head POST /x;gone /x;", true, reset);
        check_gone(GET("/x") GET("/y"), "head GET /x;body 0;gone /x;", false, reset);
    }
}

static void test_gone_before_a_whole_head(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client nothing = client_open(l), some = client_open(l);
    client_send(l, &some, "GET / HT");
    turn_until(l, l->server.connections_count == 2);
    client_close(&nothing);
    client_close(&some);
    turn_until(l, l->server.connections_count == 0);
    assert_string_equal(loopback_events(l), "");
    loopback_stop(l);
}

static void check_timeout(const char *bytes, const char *answer, const char *events)
{
    struct http_limits limits = hasty_limits();
    struct loopback *l = loopback_start(&limits);
    struct client c = client_open(l);
    client_send(l, &c, bytes);
    turn_until(l, client_ended(l, &c));
    assert_true(strncmp(buf_cstr(&c.got), answer, strlen(answer)) == 0);
    assert_int_equal(c.got.len == 0, *answer == '\0');
    assert_string_equal(loopback_events(l), events);
    client_close(&c);
    loopback_stop(l);
}

static void test_timeouts(void **state)
{
    (void)state;
    check_timeout("", "", "");
    check_timeout("G", "HTTP/1.1 408 Request Timeout\r\n", "refused request_timeout;");
    check_timeout("GET / HTTP/1.1\r\n" HOST, "HTTP/1.1 408 ", "refused request_timeout;");
    check_timeout("POST / HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhell", "HTTP/1.1 408 ",
                  "head POST /;refused request_timeout;");
    check_timeout("POST / HTTP/1.1\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n5", "HTTP/1.1 408 ",
                  "head POST /;refused request_timeout;");
}

static void test_idle_after_an_answer(void **state)
{
    (void)state;
    struct http_limits limits = hasty_limits();
    struct loopback *l = loopback_start(&limits);
    struct client c = client_open(l);
    client_send(l, &c, GET("/x"));
    turn_until(l, client_ended(l, &c));
    assert_non_null(strstr(buf_cstr(&c.got), "Keep-Alive: timeout=1\r\n"));
    client_close(&c);
    loopback_stop(l);
}

/* A client that trickles bytes gets no more time for its head. */
static void test_header_timeout_is_from_the_first_byte(void **state)
{
    (void)state;
    struct http_limits limits = hasty_limits();
    limits.header_timeout_ms = 150;
    struct loopback *l = loopback_start(&limits);
    struct client c = client_open(l);
    int64_t began_ms = real_ms(), last_ms = 0;
    client_send(l, &c, "GET / HTTP/1.1\r\nX: ");
    while (!strstr(loopback_events(l), "refused") && real_ms() < began_ms + 10000) {
        if (real_ms() >= last_ms + 10) {
            last_ms = real_ms();
            (void)!send(c.fd, "y", 1, MSG_NOSIGNAL);
        }
        turn(l);
    }
    assert_in_range(real_ms() - began_ms, 140, 9999);
    client_expect(l, &c, "HTTP/1.1 408 ");
    client_close(&c);
    loopback_stop(l);
}

static char *answer_of(struct loopback *l, size_t size)
{
    char *bytes = malloc(size);
    for (size_t i = 0; i < size; i++)
        bytes[i] = (char)('a' + i % 23);
    l->answer = (struct str){bytes, size};
    return bytes;
}

static char *big_answer(struct loopback *l)
{
    return answer_of(l, 4 * 1024 * 1024);
}

static void check_big_answer(struct loopback *l, struct client *c)
{
    const char *body = strstr(buf_cstr(&c->got), "\r\n\r\n");
    assert_non_null(body);
    size_t head_len = (size_t)(body - c->got.data) + 4;
    assert_true(str_eq((struct str){c->got.data + head_len, c->got.len - head_len}, l->answer));
}

/* write_timeout begins with the answer, however long the loop stood still while it was made. */
static void test_write_timeout_is_from_the_answer(void **state)
{
    (void)state;
    struct http_limits limits = calm_limits;
    limits.write_timeout_ms = 1000;
    struct loopback *l = loopback_start(&limits);
    struct client c = client_open(l);
    char *bytes = big_answer(l);
    l->hold_answer = true;
    client_send(l, &c, GET("/x"));
    turn_until(l, strstr(loopback_events(l), "body"));
    usleep(1050 * 1000);
    loopback_answer(l->open, l->request);
    turn_until(l, client_got(l, &c, "\r\n\r\n") && c.got.len == l->answer_len);
    check_big_answer(l, &c);
    client_close(&c);
    loopback_stop(l);
    free(bytes);
}

static void test_slow_reader_gets_a_large_answer(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    int some = 65536;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &some, sizeof some);
    char *bytes = answer_of(l, 8 << 20); /* more than the kernel keeps for both ends */
    client_send(l, &c, GET("/x") GET("/y"));
    turn_until(l, l->answer_len > 0);
    /* The second request waits until the first answer is in the kernel. */
    assert_string_equal(loopback_events(l), "head GET /x;body 0;");
    while (c.got.len < l->answer_len)
        client_read(l, &c, 8192);
    c.got.len = l->answer_len;
    check_big_answer(l, &c);
    turn_until(l, strstr(loopback_events(l), "head GET /y;body 0;"));
    client_close(&c);
    free(bytes);
    loopback_stop(l);
}

/* Once the answer is on its way, a client may end its side and read on. */
static void test_half_closed_reader_gets_the_rest(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    char *bytes = big_answer(l);
    client_send(l, &c, GET("/x"));
    turn_until(l, l->answer_len > 0);
    shutdown(c.fd, SHUT_WR);
    turn_until(l, client_ended(l, &c));
    assert_int_equal(c.error, 0);
    check_big_answer(l, &c);
    assert_string_equal(loopback_events(l), "head GET /x;body 0;");
    client_close(&c);
    free(bytes);
    loopback_stop(l);
}

static void test_client_that_does_not_read_is_cut(void **state)
{
    (void)state;
    struct http_limits limits = hasty_limits();
    struct loopback *l = loopback_start(&limits);
    struct client c = client_open(l);
    char *bytes = big_answer(l);
    int small = 4096;
    setsockopt(c.fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    client_send(l, &c, GET("/x"));
    turn_until(l, l->answer_len > 0);
    turn_until(l, l->server.connections_count == 0);
    turn_until(l, client_ended(l, &c));
    assert_true(c.got.len < l->answer_len);
    client_close(&c);
    free(bytes);
    loopback_stop(l);
}

static void test_client_that_leaves_an_answer_half_read(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    char *bytes = big_answer(l);
    client_send(l, &c, GET("/x"));
    turn_until(l, l->answer_len > 0);
    client_reset(&c);
    turn_until(l, l->server.connections_count == 0);
    assert_string_equal(loopback_events(l), "head GET /x;body 0;"); /* answered: not gone */
    free(bytes);
    loopback_stop(l);
}

/* A client that sends request after request while the first is open is not read without end. */
static void test_pipelining_is_bounded(void **state)
{
    (void)state;
    enum { REQUESTS = 400000 };
    static const char request[] = GET("/x");
    size_t size = REQUESTS * (sizeof request - 1);
    char *flood = malloc(size);
    for (size_t i = 0; i < REQUESTS; i++)
        memcpy(flood + i * (sizeof request - 1), request, sizeof request - 1);
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    l->hold_answer = true;
    size_t sent = client_send_some(l, &c, (struct str){flood, size});
    assert_true(sent < size);
    assert_string_equal(loopback_events(l), "head GET /x;body 0;");
    /* Answering goes on where reading had paused. */
    l->hold_answer = false;
    loopback_answer(l->open, l->request);
    for (size_t answered = 0; answered < sent / (sizeof request - 1);) {
        client_read(l, &c, 65536);
        assert_false(c.ended);
        const char *at = buf_cstr(&c.got), *end;
        while ((end = strstr(at, "\r\n\r\n/x "))) {
            answered++;
            at = end + 7;
        }
        buf_consume(&c.got, (size_t)(at - c.got.data));
        buf_clear(&l->events);
    }
    client_close(&c);
    free(flood);
    loopback_stop(l);
}

enum way { CLOSES, RESETS, ENDS_ITS_SIDE };

static void check_gone_behind(size_t ahead, enum way way)
{
    char *bytes = calloc(1, ahead);
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = client_open(l);
    l->hold_answer = true;
    client_send(l, &client, GET("/a"));
    turn_until(l, l->open);
    client_send_some(l, &client, (struct str){bytes, ahead});
    assert_null(strstr(loopback_events(l), "gone"));
    if (way == CLOSES)
        client_close(&client);
    else if (way == RESETS)
        client_reset(&client);
    else
        shutdown(client.fd, SHUT_WR);
    turn_until(l, strstr(loopback_events(l), "gone"));
    if (way == ENDS_ITS_SIDE)
        client_close(&client);
    free(bytes);
    loopback_stop(l);
}

/* Also while reading pauses; but the end of one that has sent more than the kernel takes, too,
 * comes behind that. */
static void test_gone_behind_what_it_sent(void **state)
{
    (void)state;
    check_gone_behind(256 * 1024, CLOSES);
    check_gone_behind(256 * 1024, RESETS);
    check_gone_behind(256 * 1024, ENDS_ITS_SIDE);
    check_gone_behind(16 << 20, RESETS);
}

static void test_drain(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client unused = client_open(l), begun = client_open(l), open = client_open(l);
    l->hold_answer = true;
    client_send(l, &begun, "GET /be");
    client_send(l, &open, GET("/open"));
    turn_until(l, l->open != NULL && l->server.connections_count == 3);
    for (int i = 0; i < 20; i++)
        turn(l);
    http_server_drain(&l->server);
    turn_until(l, client_ended(l, &unused));
    turn_until(l, l->server.connections_count == 2);
    l->hold_answer = false;
    loopback_answer(l->open, l->request);
    client_expect(l, &open, "Connection: close\r\n");
    client_send(l, &begun, "gun HTTP/1.1\r\n" HOST "\r\n");
    client_expect(l, &begun, "Connection: close\r\n");
    turn_until(l, client_ended(l, &begun));
    turn_until(l, client_ended(l, &open));
    client_close(&unused);
    client_close(&begun);
    assert_null(strstr(loopback_events(l), "idle;"));
    client_close(&open);
    turn_until(l, strstr(loopback_events(l), "idle;"));
    assert_int_equal(l->server.connections_count, 0);
    buf_clear(&l->events);
    http_server_drain(&l->server);
    assert_string_equal(loopback_events(l), "");
    loopback_stop(l);
}

/* Retiring: nobody is cut off, each gets one more answer, which says that it is the last. */
static void test_retire(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client unused = client_open(l), kept = client_open(l), open = client_open(l);
    client_send(l, &kept, GET("/first"));
    client_expect(l, &kept, "/first ");
    assert_null(strstr(buf_cstr(&kept.got), "Connection: close"));
    l->hold_answer = true;
    client_send(l, &open, GET("/open"));
    turn_until(l, l->open != NULL && l->server.connections_count == 3);
    http_server_retire(&l->server);
    for (int i = 0; i < 50; i++)
        turn(l);
    assert_int_equal(l->server.connections_count, 3);
    assert_false(client_ended(l, &unused) || client_ended(l, &kept) || client_ended(l, &open));
    l->hold_answer = false;
    loopback_answer(l->open, l->request);
    client_expect(l, &open, "Connection: close\r\n");
    /* What was idle at that time may be about to send. */
    client_send(l, &kept, GET("/second"));
    client_expect(l, &kept, "Connection: close\r\n");
    client_expect(l, &kept, "/second ");
    client_send(l, &unused, GET("/late"));
    client_expect(l, &unused, "Connection: close\r\n");
    turn_until(l, client_ended(l, &unused) && client_ended(l, &kept) && client_ended(l, &open));
    assert_null(strstr(loopback_events(l), "idle;"));
    client_close(&unused);
    client_close(&kept);
    client_close(&open);
    turn_until(l, strstr(loopback_events(l), "idle;"));
    assert_int_equal(l->server.connections_count, 0);
    loopback_stop(l);
}

/* At shutdown_timeout those that never sent are closed. */
static void test_drain_after_retire(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    turn_until(l, l->server.connections_count == 1);
    http_server_retire(&l->server);
    http_server_drain(&l->server);
    turn_until(l, client_ended(l, &c));
    turn_until(l, strstr(loopback_events(l), "idle;"));
    assert_string_equal(loopback_events(l), "idle;");
    client_close(&c);
    loopback_stop(l);
}

static void test_drain_without_connections(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    http_server_drain(&l->server);
    assert_string_equal(loopback_events(l), "idle;");
    loopback_stop(l);
}

/* An answer that promised to stay open, and draining begins while it is on its way. */
static void test_drain_while_sending(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client c = client_open(l);
    char *bytes = big_answer(l);
    client_send(l, &c, GET("/x"));
    turn_until(l, l->answer_len > 0);
    http_server_drain(&l->server);
    turn_until(l, client_ended(l, &c));
    check_big_answer(l, &c);
    client_close(&c);
    turn_until(l, strstr(loopback_events(l), "idle;"));
    free(bytes);
    loopback_stop(l);
}

static void test_many_connections_leave_nothing(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    for (int round = 0; round < 20; round++) {
        struct client clients[50];
        for (size_t i = 0; i < 50; i++) {
            clients[i] = client_open(l);
            client_send(l, &clients[i], i % 3 ? GET("/x") : "GET /half");
        }
        for (size_t i = 0; i < 50; i++) {
            if (i % 3)
                client_expect(l, &clients[i], "\r\n\r\n/x ");
            if (i % 2)
                client_close(&clients[i]);
            else
                client_reset(&clients[i]);
        }
        turn_until(l, l->server.connections_count == 0);
        assert_null(l->server.connections);
        assert_null(l->server.answer.data);
        buf_clear(&l->events);
    }
    loopback_stop(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gone),
        cmocka_unit_test(test_gone_before_a_whole_head),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_idle_after_an_answer),
        cmocka_unit_test(test_header_timeout_is_from_the_first_byte),
        cmocka_unit_test(test_write_timeout_is_from_the_answer),
        cmocka_unit_test(test_slow_reader_gets_a_large_answer),
        cmocka_unit_test(test_half_closed_reader_gets_the_rest),
        cmocka_unit_test(test_client_that_does_not_read_is_cut),
        cmocka_unit_test(test_client_that_leaves_an_answer_half_read),
        cmocka_unit_test(test_pipelining_is_bounded),
        cmocka_unit_test(test_gone_behind_what_it_sent),
        cmocka_unit_test(test_drain),
        cmocka_unit_test(test_retire),
        cmocka_unit_test(test_drain_after_retire),
        cmocka_unit_test(test_drain_without_connections),
        cmocka_unit_test(test_drain_while_sending),
        cmocka_unit_test(test_many_connections_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
