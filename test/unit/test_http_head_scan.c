/* Which heads are read, and which are refused for what reason. Sections are of RFC 9112. */
#include "shared/http/head_scan.h"

#include "shared/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MAX_BYTES = 16 * 1024 };

#define GET "GET / HTTP/1.1\r\nHost: a\r\n"
#define POST "POST /x HTTP/1.1\r\nHost: a\r\n"

struct example {
    struct str head;
    const char *reason; /* a part of the refusal's sentence; NULL when the head is good */
};

#define GOOD(text)                                                                                 \
    {                                                                                              \
        {text, sizeof(text) - 1}, NULL                                                             \
    }
#define BAD(text, reason)                                                                          \
    {                                                                                              \
        {text, sizeof(text) - 1}, reason                                                           \
    }

static const struct example good_heads[] = {
    GOOD(GET "\r\n"),
    GOOD("\r\n" GET "\r\n"), /* 2.2: at least one empty line before is ignored */
    GOOD("GET / HTTP/1.0\r\n\r\n"),
    GOOD("GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
    GOOD("OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("HEAD /a/b?c=d&e HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET /a%20b HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET /a%c3%A4 HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET /?a=%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET /?a[]={b|c}^` HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET /?a=%2f%5c HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET /? HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET /;a=b,c@d:e HTTP/1.1\r\nHost: a\r\n\r\n"),
    GOOD("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"),
    GOOD("GET / HTTP/1.1\r\nHost: api.example.org:8080\r\n\r\n"),
    GOOD("GET / HTTP/1.1\r\nHost:\r\n\r\n"), /* 3.2: empty without an authority */
    GOOD("GET / HTTP/1.1\r\nhOST:a\r\n\r\n"),
    GOOD("GET / HTTP/1.1\r\nHost: \t a \t \r\n\r\n"),
    GOOD(GET "X: \r\n\r\n"),
    GOOD(GET "X:\r\n\r\n"),
    GOOD(GET "X: a\tb\r\n\r\n"),
    GOOD(GET "X: \xe4\xff\x80\r\n\r\n"), /* 5: obs-text */
    GOOD(GET "!#$%&'*+-.^_`|~09azAZ: x\r\n\r\n"),
    GOOD(GET "X: a:b, \"c\"; (d)\\\r\n\r\n"),
    GOOD(GET "X: a\r\nX: b\r\n\r\n"),
    GOOD(POST "Content-Length: 0\r\n\r\n"),
    GOOD(POST "Content-Length:5\r\n\r\n"),
    GOOD(POST "content-length: \t 5 \t\r\n\r\n"),
    GOOD(POST "Content-Length: 999999999999999999\r\n\r\n"),
    GOOD(POST "Content-Length: 007\r\n\r\n"),
    GOOD(POST "Transfer-Encoding: chunked\r\n\r\n"),
    GOOD(POST "transfer-encoding:CHUNKED \r\n\r\n"),
    GOOD(POST "Expect: 100-Continue\r\nContent-Length: 1\r\n\r\n"),
    GOOD(GET "Connection: keep-alive, TE\r\n\r\n"),
    GOOD(GET "Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
};

static const char no_method[] = "must start with a method";
static const char no_path[] = "must be a path that starts with '/'";
static const char bad_target[] = "a character that a URL may not hold";
static const char bad_version[] = "must end in HTTP/1.1 or HTTP/1.0";
static const char bad_name[] = "must start with a name and a colon";
static const char bad_value[] = "a control character in its value";
static const char bad_length[] = "must be one number";
static const char bad_coding[] = "must be exactly 'chunked'";
static const char bare_lf[] = "a bare line feed";
static const char folded[] = "starts with white space";
static const char bad_host[] = "not a host with an optional port";
static const char both[] = "exclude each other";
static const char slash[] = "encoded slash";
static const char escape[] = "not followed by two hex digits";
static const char three_parts[] = "a method, a target and a version";

static const struct example bad_heads[] = {
    /* 3: request-line = method SP request-target SP HTTP-version */
    BAD(" GET / HTTP/1.1\r\nHost: a\r\n\r\n", no_method),
    BAD("\tGET / HTTP/1.1\r\nHost: a\r\n\r\n", no_method),
    BAD("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", no_method),
    BAD("GET\r\n\r\n", no_method),
    BAD("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", no_method),
    BAD("G\xc3\x84T / HTTP/1.1\r\nHost: a\r\n\r\n", no_method),
    BAD("GET\0 / HTTP/1.1\r\nHost: a\r\n\r\n", no_method),
    BAD("\x16\x03\x01\x02", no_method), /* TLS on the plain port, refused before a line is whole */
    BAD("\r\n\r\n" GET "\r\n", "request line is missing"),
    BAD("\n" GET "\r\n", bare_lf),
    BAD("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", bad_version),
    BAD("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET /\tHTTP/1.1\r\nHost: a\r\n\r\n", three_parts),
    BAD("GET /\r\n\r\n", three_parts), /* HTTP/0.9 */
    BAD("GET / \r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/1.2\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/2.0\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/0.9\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/1\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/11\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/1.10\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/01.1\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / http/1.1\r\nHost: a\r\n\r\n", bad_version), /* 2.3: case-sensitive */
    BAD("GET / HTTPS/1.1\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / ICE/1.0\r\nHost: a\r\n\r\n", bad_version),
    BAD("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", no_path),
    /* 3.2: only origin-form */
    BAD("GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("GET HTTP://b/x HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("GET * HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("GET ?a HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("GET \\ HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("GET @b/ HTTP/1.1\r\nHost: a\r\n\r\n", no_path),
    BAD("CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT"),
    BAD("CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n", "CONNECT"),
    BAD("GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /?a#b HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /\"a\" HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /<a> HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /{a} HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /a[0] HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /?a=\"b\" HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /?\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /\x7f HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /a\rb HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /\x0b HTTP/1.1\r\nHost: a\r\n\r\n", bad_target),
    BAD("GET /a%2Fb HTTP/1.1\r\nHost: a\r\n\r\n", slash),
    BAD("GET /a%2fb HTTP/1.1\r\nHost: a\r\n\r\n", slash),
    BAD("GET /a%5Cb HTTP/1.1\r\nHost: a\r\n\r\n", slash),
    BAD("GET /a%5c HTTP/1.1\r\nHost: a\r\n\r\n", slash),
    BAD("GET /a% HTTP/1.1\r\nHost: a\r\n\r\n", escape),
    BAD("GET /a%2 HTTP/1.1\r\nHost: a\r\n\r\n", escape),
    BAD("GET /%2?f HTTP/1.1\r\nHost: a\r\n\r\n", escape),
    BAD("GET /%g0 HTTP/1.1\r\nHost: a\r\n\r\n", escape),
    BAD("GET /%%20 HTTP/1.1\r\nHost: a\r\n\r\n", escape),
    BAD("GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n", "encoded control"),
    BAD("GET /%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n", "encoded control"),
    BAD("GET /%7f HTTP/1.1\r\nHost: a\r\n\r\n", "encoded control"),
    /* 2.2: a recipient of a bare CR must refuse it; a bare LF is no line end here */
    BAD("GET / HTTP/1.1\nHost: a\r\n\r\n", bare_lf),
    BAD("GET / HTTP/1.1\r\nHost: a\n\r\n", bare_lf),
    BAD("GET / HTTP/1.1\r\nHost: a\r\n\n", bare_lf),
    BAD("GET / HTTP/1.1\n\n", bare_lf),
    BAD("GET / HTTP/1.1\r\r\nHost: a\r\n\r\n", bad_version),
    BAD("GET / HTTP/1.1\rHost: a\r\n\r\n", bad_version),
    BAD(GET "X: a\rb\r\n\r\n", bad_value),
    BAD(GET "X: a\r\r\n\r\n", bad_value),
    BAD(GET "\rX: a\r\n\r\n", bad_name),
    BAD(GET "\r\r\n\r\n", bad_name),
    BAD(GET "X: a\nY: b\r\n\r\n", bare_lf),
    /* 5, 5.1, 5.2: field lines */
    BAD("GET / HTTP/1.1\r\n Host: a\r\n\r\n", folded),
    BAD(GET "X: a\r\n b\r\n\r\n", folded),
    BAD(GET "X: a\r\n\tb\r\n\r\n", folded),
    BAD(GET "X: a\r\n \r\n\r\n", folded),
    BAD("GET / HTTP/1.1\r\nHost : a\r\n\r\n", bad_name),
    BAD(GET "X\t: a\r\n\r\n", bad_name),
    BAD(GET ": a\r\n\r\n", bad_name),
    BAD(GET "X\r\n\r\n", bad_name),
    BAD(GET "X a: b\r\n\r\n", bad_name),
    BAD(GET "X(a): b\r\n\r\n", bad_name),
    BAD(GET "X\0: b\r\n\r\n", bad_name),
    BAD(GET "X\xc3\xa4: b\r\n\r\n", bad_name),
    BAD(GET "X@: b\r\n\r\n", bad_name),
    BAD(GET "\"X\": b\r\n\r\n", bad_name),
    BAD(GET "X/Y: b\r\n\r\n", bad_name),
    BAD(GET "X: a\0b\r\n\r\n", bad_value),
    BAD(GET "X: \x01\r\n\r\n", bad_value),
    BAD(GET "X: \x7f\r\n\r\n", bad_value),
    BAD(GET "X: \x0b\r\n\r\n", bad_value),
    BAD(GET "X: \x1b[31m\r\n\r\n", bad_value),
    /* 3.2: exactly one Host */
    BAD("GET / HTTP/1.1\r\n\r\n", "Host header is missing"),
    BAD(GET "Host: a\r\n\r\n", "Host header is repeated"),
    BAD(GET "host: b\r\n\r\n", "Host header is repeated"),
    BAD("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "Host header is repeated"),
    BAD("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", bad_host),
    BAD("GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", bad_host),
    BAD("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", bad_host),
    BAD("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", bad_host),
    BAD("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", bad_host),
    BAD("GET / HTTP/1.1\r\nHost: http://a\r\n\r\n", bad_host),
    BAD("GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n", bad_host),
    /* 6.3: one length, said once */
    BAD(POST "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "Content-Length header is repeated"),
    BAD(POST "Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "Content-Length header is repeated"),
    BAD(POST "Content-Length: 5, 5\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 5,6\r\n\r\n", bad_length),
    BAD(POST "Content-Length: +5\r\n\r\n", bad_length),
    BAD(POST "Content-Length: -5\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 5 5\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 0x5\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 5;a\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 5.0\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 1e1\r\n\r\n", bad_length),
    BAD(POST "Content-Length: \"5\"\r\n\r\n", bad_length),
    BAD(POST "Content-Length:\r\n\r\n", bad_length),
    BAD(POST "Content-Length: a\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 1000000000000000000\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 18446744073709551621\r\n\r\n", bad_length),
    BAD(POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", both),
    BAD(POST "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n", both),
    /* 6.1: nothing but chunked */
    BAD(POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "repeated"),
    BAD(POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: identity\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: gzip, chunked\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: chunked, chunked\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: chunked,\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: ,chunked\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: xchunked\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: chunkedx\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: chunked;q=1\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: \"chunked\"\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding:\r\n\r\n", bad_coding),
    BAD(POST "Transfer-Encoding: \x0b"
             "chunked\r\n\r\n",
        bad_value),
    BAD(POST "Transfer-Encoding : chunked\r\n\r\n", bad_name),
    BAD(POST "Transfer-Encoding: chunk\r\n ed\r\n\r\n", bad_coding),
    BAD(POST "Content-Length: 1\r\n 0\r\n\r\n", folded),
    BAD("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.0 knows no"),
    BAD(POST "Expect: 200-ok\r\n\r\n", "Expect header"),
    BAD(POST "Expect:\r\n\r\n", "Expect header"),
};

static void check_example(const struct example *example, struct head_scan *scan,
                          enum head_verdict verdict)
{
    const char *said = verdict == HEAD_REFUSED ? scan->detail : "nothing";
    bool right = example->reason ? verdict == HEAD_REFUSED && strstr(said, example->reason)
                                 : verdict == HEAD_COMPLETE;
    if (!right)
        fail_msg("\"%.*s\": verdict %d, %s", STR_ARG(example->head), (int)verdict, said);
}

static void check_at_once(const struct example *example)
{
    struct head_scan scan = {.max_bytes = MAX_BYTES};
    check_example(example, &scan, head_scan(&scan, example->head.at, example->head.len));
    if (!example->reason)
        assert_int_equal(scan.len, example->head.len);
    head_scan_free(&scan);
}

/* The verdict is the same when bytes come one by one, each time at another place in memory. */
static void check_in_pieces(const struct example *example)
{
    struct head_scan scan = {.max_bytes = MAX_BYTES};
    enum head_verdict verdict = HEAD_INCOMPLETE;
    for (size_t len = 1; len <= example->head.len && verdict == HEAD_INCOMPLETE; len++) {
        char *copy = malloc(len);
        memcpy(copy, example->head.at, len);
        verdict = head_scan(&scan, copy, len);
        free(copy);
        if (!example->reason && len < example->head.len)
            assert_int_equal(verdict, HEAD_INCOMPLETE);
    }
    check_example(example, &scan, verdict);
    head_scan_free(&scan);
}

static void test_good_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof good_heads / sizeof *good_heads; i++) {
        check_at_once(&good_heads[i]);
        check_in_pieces(&good_heads[i]);
    }
}

static void test_bad_heads(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof bad_heads / sizeof *bad_heads; i++) {
        check_at_once(&bad_heads[i]);
        check_in_pieces(&bad_heads[i]);
    }
}

static struct str slice(const char *bytes, struct head_slice slice)
{
    return (struct str){bytes + slice.at, slice.len};
}

static void test_slices(void **state)
{
    (void)state;
    static const char head[] = "POST /api/x?y=1 HTTP/1.1\r\nHost: a:1\r\nX-Long:  b c \t\r\n"
                               "Content-Length: 12\r\nConnection: TE, Close\r\n\r\nBODY";
    struct head_scan scan = {.max_bytes = MAX_BYTES};
    assert_int_equal(head_scan(&scan, head, sizeof head - 1), HEAD_COMPLETE);
    assert_int_equal(scan.len, sizeof head - 1 - 4);
    assert_true(str_eq(slice(head, scan.method), STR("POST")));
    assert_true(str_eq(slice(head, scan.target), STR("/api/x?y=1")));
    assert_int_equal(scan.path_len, 6);
    assert_int_equal(scan.minor_version, 1);
    assert_int_equal(scan.fields_count, 4);
    assert_true(str_eq(slice(head, scan.fields[1].name), STR("X-Long")));
    assert_true(str_eq(slice(head, scan.fields[1].value), STR("b c")));
    assert_true(scan.has_length && !scan.chunked && scan.asks_close && !scan.asks_keep_alive);
    assert_int_equal(scan.content_length, 12);

    head_scan_reset(&scan);
    assert_int_equal(head_scan(&scan, "GET / HTTP/1.0\r\n\r\n", 18), HEAD_COMPLETE);
    assert_int_equal(scan.fields_count, 0);
    assert_false(scan.has_length || scan.asks_close);
    head_scan_free(&scan);
}

static enum head_verdict scan_of_size(size_t size, size_t max_bytes, bool whole)
{
    static const char front[] = GET "X: ";
    char *head = malloc(size);
    memset(head, 'x', size);
    memcpy(head, front, sizeof front - 1);
    if (whole)
        memcpy(head + size - 4, "\r\n\r\n", 4);
    struct head_scan scan = {.max_bytes = max_bytes};
    enum head_verdict verdict = head_scan(&scan, head, size);
    head_scan_free(&scan);
    free(head);
    return verdict;
}

static void test_size_limit(void **state)
{
    (void)state;
    assert_int_equal(scan_of_size(200, 200, true), HEAD_COMPLETE);
    assert_int_equal(scan_of_size(201, 200, true), HEAD_TOO_LARGE);
    assert_int_equal(scan_of_size(199, 200, false), HEAD_INCOMPLETE);
    assert_int_equal(scan_of_size(200, 200, false), HEAD_TOO_LARGE);
}

static enum head_verdict scan_of_fields(size_t count)
{
    char head[4096];
    int len = snprintf(head, sizeof head, "GET / HTTP/1.1\r\nHost: a\r\n");
    for (size_t i = 1; i < count; i++)
        len += snprintf(head + len, sizeof head - (size_t)len, "X-%zu: y\r\n", i);
    len += snprintf(head + len, sizeof head - (size_t)len, "\r\n");
    struct head_scan scan = {.max_bytes = MAX_BYTES};
    enum head_verdict verdict = head_scan(&scan, head, (size_t)len);
    head_scan_free(&scan);
    return verdict;
}

static void test_field_limit(void **state)
{
    (void)state;
    assert_int_equal(scan_of_fields(HEAD_MAX_FIELDS), HEAD_COMPLETE);
    assert_int_equal(scan_of_fields(HEAD_MAX_FIELDS + 1), HEAD_TOO_LARGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_heads),  cmocka_unit_test(test_bad_heads),
        cmocka_unit_test(test_slices),      cmocka_unit_test(test_size_limit),
        cmocka_unit_test(test_field_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
