/* Answers in pieces. Quotes: RFC 9112, and the contract's words about streams. */
#include "test/unit/http_loopback.h"

#include <cmocka.h>

#define GET "GET /s HTTP/1.1\r\nHost: x\r\n\r\n"

static const char type_line[] = "Content-Type: text/event-stream\r\n";
static const struct http_response head = {.status = 200,
                                          .headers = {type_line, sizeof type_line - 1}};

/* A client whose answer has begun. */
static struct client open_stream(struct loopback *l, const char *request)
{
    struct client client = client_open(l);
    l->hold_answer = true;
    client_send(l, &client, request);
    turn_until(l, l->open);
    assert_true(http_stream_begin(l->open, &head));
    return client;
}

static const char *body_of(struct client *client)
{
    const char *end = strstr(buf_cstr(&client->got), "\r\n\r\n");
    assert_non_null(end);
    return end + 4;
}

static void pieces_go_out_at_once(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = open_stream(l, GET);
    client_expect(l, &client, "\r\n\r\n");
    assert_non_null(strstr(buf_cstr(&client.got), "\r\nTransfer-Encoding: chunked\r\n"));
    assert_null(strstr(buf_cstr(&client.got), "Content-Length"));
    assert_int_equal(http_stream_write(l->open, STR("data: a\n\n")), 0);
    client_expect(l, &client, "9\r\ndata: a\n\n\r\n");
    assert_int_equal(http_stream_write(l->open, STR("")), 0); /* would be the end */
    assert_int_equal(http_stream_write(l->open, STR("b")), 0);
    size_t len = http_stream_end(l->open, STR(""));
    client_expect(l, &client, "0\r\n\r\n");
    assert_string_equal(body_of(&client), "9\r\ndata: a\n\n\r\n1\r\nb\r\n0\r\n\r\n");
    assert_int_equal(len, client.got.len);
    /* the connection goes on */
    l->hold_answer = false;
    buf_clear(&client.got);
    client_send(l, &client, "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(l, &client, "/next ");
    client_close(&client);
    loopback_stop(l);
}

static void the_first_and_the_last_piece_need_no_write_of_their_own(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = client_open(l);
    struct http_response first = head;
    first.body = STR("data: a\n\n");
    l->hold_answer = true;
    client_send(l, &client, GET);
    turn_until(l, l->open);
    assert_true(http_stream_begin(l->open, &first));
    assert_int_equal(http_stream_pending(l->open), 0);
    client_expect(l, &client, "9\r\ndata: a\n\n\r\n");
    size_t len = http_stream_end(l->open, STR("b"));
    client_expect(l, &client, "0\r\n\r\n");
    assert_string_equal(body_of(&client), "9\r\ndata: a\n\n\r\n1\r\nb\r\n0\r\n\r\n");
    assert_int_equal(len, client.got.len);
    client_close(&client);
    loopback_stop(l);
}

/* "A server MUST NOT send a response containing Transfer-Encoding unless the corresponding request
 * indicates HTTP/1.1" */
static void an_old_client_reads_to_the_end(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = open_stream(l, "GET /s HTTP/1.0\r\n\r\n");
    http_stream_write(l->open, STR("data: a\n\n"));
    http_stream_end(l->open, STR(""));
    turn_until(l, client_ended(l, &client));
    assert_null(strstr(buf_cstr(&client.got), "Transfer-Encoding"));
    assert_non_null(strstr(buf_cstr(&client.got), "\r\nConnection: close\r\n"));
    assert_string_equal(body_of(&client), "data: a\n\n");
    client_close(&client);
    loopback_stop(l);
}

static void the_next_request_waits_for_the_end(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = open_stream(l, GET "GET /next HTTP/1.1\r\nHost: x\r\n\r\n");
    for (int i = 0; i < 20; i++)
        turn(l);
    assert_string_equal(loopback_events(l), "head GET /s;body 0;");
    l->hold_answer = false;
    http_stream_end(l->open, STR(""));
    client_expect(l, &client, "/next ");
    client_close(&client);
    loopback_stop(l);
}

/* "A client that goes away (streaming or not; a half-closed connection counts)" */
static void a_client_leaves(void **state)
{
    (void)state;
    for (int way = 0; way < 3; way++) {
        struct loopback *l = loopback_start(&calm_limits);
        struct client client = open_stream(l, GET);
        struct http_connection *connection = l->open;
        http_stream_write(connection, STR("data: a\n\n"));
        if (way == 0)
            client_close(&client);
        else if (way == 1)
            client_reset(&client);
        else
            shutdown(client.fd, SHUT_WR);
        turn_until(l, strstr(loopback_events(l), "gone /s;"));
        if (way == 2)
            client_close(&client);
        loopback_stop(l);
    }
}

static void a_cut_is_seen(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = open_stream(l, GET);
    http_stream_write(l->open, STR("data: a\n\n"));
    client_expect(l, &client, "data: a");
    http_stream_abort(l->open);
    turn_until(l, client_ended(l, &client));
    assert_string_equal(body_of(&client), "9\r\ndata: a\n\n\r\n");
    assert_null(strstr(loopback_events(l), "gone"));
    client_close(&client);
    loopback_stop(l);
}

/* Writes until the kernel takes no more for now; acknowledgements under way may make room later. */
static size_t fill(struct loopback *l, struct str piece)
{
    size_t pending = 0;
    for (int i = 0; i < 4096 && pending == 0; i++)
        pending = http_stream_write(l->open, piece);
    assert_true(pending > 0);
    return pending;
}

static void the_writer_is_told_when_to_go_on(void **state)
{
    (void)state;
    static char piece[64 * 1024];
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = open_stream(l, GET);
    memset(piece, 'x', sizeof piece);
    fill(l, (struct str){piece, sizeof piece});
    while (!strstr(loopback_events(l), "writable;")) {
        assert_true(http_stream_pending(l->open) > 0);
        client_read(l, &client, sizeof piece);
    }
    assert_int_equal(http_stream_pending(l->open), 0);
    assert_int_equal(http_stream_write(l->open, STR("end")), 0);
    size_t len = http_stream_end(l->open, STR(""));
    client_expect(l, &client, "3\r\nend\r\n0\r\n\r\n");
    while (client.got.len < len)
        client_read(l, &client, sizeof piece);
    assert_int_equal(client.got.len, len);
    client_close(&client);
    loopback_stop(l);
}

/* What room the kernel makes is filled again: nobody is cut who has all there is to send. */
static bool gone_while_filled(struct loopback *l, struct str piece, int64_t *filled_ms)
{
    if (strstr(loopback_events(l), "gone /s;"))
        return true;
    if (http_stream_pending(l->open) == 0) {
        fill(l, piece);
        *filled_ms = real_ms();
    }
    return false;
}

/* A client that takes nothing is cut; one that takes little by little is not, while more comes. */
static void without_progress_it_ends(void **state)
{
    (void)state;
    static char piece[64 * 1024];
    struct http_limits limits = calm_limits;
    limits.write_timeout_ms = 100;
    struct loopback *l = loopback_start(&limits);
    struct client client = open_stream(l, GET);
    fill(l, (struct str){piece, sizeof piece});
    for (int64_t until = real_ms() + 600; real_ms() < until;) {
        client_read(l, &client, 256 * 1024);
        http_stream_write(l->open, (struct str){piece, 4096});
        uv_sleep(10);
    }
    assert_null(strstr(loopback_events(l), "gone"));
    int64_t filled_ms = real_ms();
    turn_until(l, gone_while_filled(l, (struct str){piece, sizeof piece}, &filled_ms));
    assert_in_range(real_ms() - filled_ms, 50, 2000);
    client_close(&client);
    loopback_stop(l);
}

static void a_stop_lets_it_end(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = open_stream(l, GET);
    http_server_drain(&l->server);
    http_stream_write(l->open, STR("data: a\n\n"));
    http_stream_end(l->open, STR(""));
    turn_until(l, client_ended(l, &client));
    assert_string_equal(body_of(&client), "9\r\ndata: a\n\n\r\n0\r\n\r\n");
    client_close(&client);
    loopback_stop(l);
}

static void nothing_goes_after_the_end(void **state)
{
    (void)state;
    struct loopback *l = loopback_start(&calm_limits);
    struct client client = open_stream(l, GET);
    struct http_connection *connection = l->open;
    assert_false(http_stream_begin(connection, &head));
    assert_int_equal(http_respond(connection, &head), 0);
    http_stream_end(connection, STR(""));
    assert_int_equal(http_stream_write(connection, STR("x")), 0);
    assert_int_equal(http_stream_end(connection, STR("")), 0);
    http_stream_abort(connection);
    client_expect(l, &client, "0\r\n\r\n");
    assert_string_equal(body_of(&client), "0\r\n\r\n");
    client_close(&client);
    loopback_stop(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_go_out_at_once),
        cmocka_unit_test(the_first_and_the_last_piece_need_no_write_of_their_own),
        cmocka_unit_test(an_old_client_reads_to_the_end),
        cmocka_unit_test(the_next_request_waits_for_the_end),
        cmocka_unit_test(a_client_leaves),
        cmocka_unit_test(a_cut_is_seen),
        cmocka_unit_test(the_writer_is_told_when_to_go_on),
        cmocka_unit_test(without_progress_it_ends),
        cmocka_unit_test(a_stop_lets_it_end),
        cmocka_unit_test(nothing_goes_after_the_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
