/* TLS as transport_tls.h promises it, with OpenSSL's own client and no network. */
#include "test/unit/tls_loopback.h"

#include "shared/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const uint8_t secret[TLS_TICKET_SECRET_BYTES] = "a secret of thirty-two bytes, ..";

static struct {
    struct pem_pair pairs[2];
    struct tls_server *server;
    SSL_CTX *client_ctx;
    struct tls_client client;
    struct transport *transport;
    struct below *below;
    /* what the application was told */
    struct buf read;
    unsigned opened, ended, drained, closed;
    int end_error;
    size_t close_after; /* bytes; 0 = never */
    SSL_SESSION *session;
} test;

static int64_t wall_ms;

static int64_t test_now_us(void)
{
    return 0;
}

static int64_t test_wall_ms(void)
{
    return wall_ms;
}

/* --- the application --- */

static void on_opened(void *context)
{
    (void)context;
    test.opened++;
}

static void on_read(void *context, const char *bytes, size_t len)
{
    (void)context;
    assert_int_equal(test.opened, 1);
    assert_int_equal(test.closed + test.ended, 0);
    buf_append(&test.read, bytes, len);
    if (test.close_after > 0 && test.read.len >= test.close_after)
        test.transport->class->close(test.transport);
}

static void on_end(void *context, int error)
{
    (void)context;
    test.ended++;
    test.end_error = error;
}

static void on_drained(void *context, int error)
{
    (void)context;
    test.drained += error == 0;
}

static void on_closed(void *context)
{
    (void)context;
    test.closed++;
}

static const struct transport_events events = {on_opened, on_read, on_end, on_drained, on_closed};

/* --- set-up --- */

static struct tls_server *new_server(size_t pairs)
{
    struct error error;
    struct tls_pair given[2];
    for (size_t i = 0; i < pairs; i++)
        given[i] =
            (struct tls_pair){buf_view(&test.pairs[i].certificate), buf_view(&test.pairs[i].key)};
    struct tls_server *server = tls_server_new(given, pairs, secret, &error);
    assert_non_null(server);
    return server;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(test.session);
    test.session = session;
    return 1;
}

static void begin(const char *host)
{
    int error;
    test.transport = transport_tls_accept(NULL, test.server, &events, &test, &error);
    test.below = below_made;
    test.transport->class->read_start(test.transport);
    tls_client_open(&test.client, test.client_ctx, host);
}

static void finish(void)
{
    if (!test.below->closed)
        test.transport->class->close(test.transport);
    below_finish(&test.below);
    assert_int_equal(test.closed, 1);
    tls_client_close(&test.client);
    buf_clear(&test.read);
    test.opened = test.ended = test.drained = test.closed = 0;
    test.close_after = 0;
}

static int set_up(void **state)
{
    static const struct clock_source source = {test_now_us, test_wall_ms};
    (void)state;
    memset(&test, 0, sizeof test);
    wall_ms = 1795000000000;
    clock_set_source(&source);
    test.pairs[0] = pem_pair_make("first.example", 1795000000);
    test.pairs[1] = pem_pair_make("*.second.example", 1795000000);
    test.server = new_server(2);
    test.client_ctx = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(test.client_ctx,
                                   SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(test.client_ctx, on_session);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    SSL_SESSION_free(test.session);
    SSL_CTX_free(test.client_ctx);
    tls_server_free(&test.server);
    pem_pair_free(&test.pairs[0]);
    pem_pair_free(&test.pairs[1]);
    buf_free(&test.read);
    clock_set_source(NULL);
    return 0;
}

static void client_writes(const char *text, size_t len)
{
    size_t written;
    assert_int_equal(SSL_write_ex(test.client.ssl, text, len, &written), 1);
    assert_int_equal(written, len);
}

static void expect_client_reads(const char *text, size_t len)
{
    struct buf got = {0};
    size_t now;
    carry_to_client(&test.client, test.below);
    while (got.len < len && SSL_read_ex(test.client.ssl, buf_reserve(&got, 65536), 65536, &now))
        got.len += now;
    assert_int_equal(got.len, len);
    assert_memory_equal(got.data, text, len);
    buf_free(&got);
}

/* --- tests --- */

static void bytes_come_and_go_however_they_are_cut(void **state)
{
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    static const size_t pieces[] = {1, 7, 1 << 20};
    size_t len = 100000;
    char *text = malloc(len);
    (void)state;
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + i % 26);
    for (size_t i = 0; i < 6; i++) {
        SSL_CTX_set_max_proto_version(test.client_ctx, versions[i % 2]);
        begin(NULL);
        assert_true(shake_hands(&test.client, test.below, pieces[i / 2]));
        assert_int_equal(SSL_version(test.client.ssl), versions[i % 2]);
        assert_int_equal(test.opened, 1);
        client_writes(text, len);
        client_writes("!", 1);
        carry_to_server(&test.client, test.below, pieces[i / 2]);
        assert_int_equal(test.read.len, len + 1);
        assert_memory_equal(test.read.data, text, len);
        assert_true(test.transport->class->write(test.transport, text, len));
        expect_client_reads(text, len);
        assert_int_equal(test.ended, 0);
        finish();
    }
    free(text);
}

static void older_versions_are_refused(void **state)
{
    (void)state;
    SSL_CTX_set_security_level(test.client_ctx, 0);
    SSL_CTX_set_min_proto_version(test.client_ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(test.client_ctx, TLS1_1_VERSION);
    begin(NULL);
    assert_false(shake_hands(&test.client, test.below, 1 << 20));
    assert_int_equal(test.opened, 0);
    assert_int_equal(test.ended, 1);
    assert_int_equal(test.end_error, UV_EPROTO);
    finish();
}

/* The end that the peer announces, and the one that is cut off. */
static void ends(void **state)
{
    (void)state;
    begin(NULL);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    client_writes("last", 4);
    SSL_shutdown(test.client.ssl);
    carry_to_server(&test.client, test.below, 3);
    assert_true(str_eq(buf_view(&test.read), STR("last")));
    assert_int_equal(test.ended, 1);
    assert_int_equal(test.end_error, 0);
    assert_false(test.below->reading);
    /* Our side still speaks. */
    assert_true(test.transport->class->write(test.transport, "answer", 6));
    expect_client_reads("answer", 6);
    test.transport->class->shutdown(test.transport);
    assert_true(test.below->shut);
    char byte;
    carry_to_client(&test.client, test.below);
    assert_int_equal(SSL_read(test.client.ssl, &byte, 1), 0);
    assert_int_equal(SSL_get_error(test.client.ssl, 0), SSL_ERROR_ZERO_RETURN);
    finish();

    begin(NULL);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    test.below->transport.events->end(test.below->transport.context, UV_ECONNRESET);
    test.below->transport.events->end(test.below->transport.context, UV_ECONNRESET);
    assert_int_equal(test.ended, 1);
    assert_int_equal(test.end_error, UV_ECONNRESET);
    finish();
}

static void a_changed_record_ends_it(void **state)
{
    (void)state;
    begin(NULL);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    client_writes("whole", 5);
    carry_to_server(&test.client, test.below, 1 << 20);
    client_writes("changed", 7);
    char *bytes;
    long len = BIO_get_mem_data(test.client.to_server, &bytes);
    bytes[len - 1] ^= 1;
    carry_to_server(&test.client, test.below, 1 << 20);
    assert_true(str_eq(buf_view(&test.read), STR("whole")));
    assert_int_equal(test.ended, 1);
    assert_int_equal(test.end_error, UV_EPROTO);
    /* Too late for whoever does not know yet. */
    test.transport->class->write(test.transport, "x", 1);
    test.transport->class->shutdown(test.transport);
    finish();
}

/* "callbacks can destroy" */
static void closing_while_it_reads(void **state)
{
    (void)state;
    begin(NULL);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    test.close_after = 3;
    client_writes("one", 3);
    client_writes("two", 3);
    carry_to_server(&test.client, test.below, 1 << 20);
    assert_true(str_eq(buf_view(&test.read), STR("one")));
    assert_true(test.below->closed);
    assert_int_equal(test.ended, 0);
    finish();
}

static void what_is_not_in_the_kernel_drains_later(void **state)
{
    (void)state;
    begin(NULL);
    test.below->transport.events->drained(test.below->transport.context, 0);
    assert_int_equal(test.drained, 0); /* a handshake's own bytes are nobody's business */
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    test.below->holds_writes = true;
    assert_false(test.transport->class->write(test.transport, "slow", 4));
    assert_true(test.transport->class->pending(test.transport) > 4);
    test.below->held = 0;
    test.below->transport.events->drained(test.below->transport.context, 0);
    assert_int_equal(test.drained, 1);
    finish();
}

static void whoever_speaks_plain_http_is_told(void **state)
{
    static const char request[] = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    (void)state;
    begin(NULL);
    carry_bytes(test.below, request, sizeof request - 1, 1 << 20);
    assert_int_equal(test.ended, 1);
    const char *answer = buf_cstr(&test.below->written);
    assert_non_null(strstr(answer, "HTTP/1.1 400 Bad Request\r\n"));
    assert_non_null(strstr(answer, "\"code\":\"bad_http\""));
    finish();
}

static const char *host_served(const char *asked)
{
    static char name[64];
    begin(asked);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    X509 *certificate = SSL_get0_peer_certificate(test.client.ssl);
    X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                              sizeof name);
    finish();
    return name;
}

static void certificates_by_name(void **state)
{
    (void)state;
    assert_string_equal(host_served("first.example"), "first.example");
    assert_string_equal(host_served("a.second.example"), "*.second.example");
    assert_string_equal(host_served("A.SECOND.example"), "*.second.example");
    assert_string_equal(host_served("a.b.second.example"), "first.example");
    assert_string_equal(host_served("other.example"), "first.example");
    assert_string_equal(host_served(NULL), "first.example");
}

static void only_http_1_1(void **state)
{
    static const unsigned char h2_first[] = "\x02h2\x08http/1.1", h2_alone[] = "\x02h2";
    const unsigned char *chosen;
    unsigned len;
    (void)state;
    begin(NULL);
    SSL_set_alpn_protos(test.client.ssl, h2_first, sizeof h2_first - 1);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    SSL_get0_alpn_selected(test.client.ssl, &chosen, &len);
    assert_true(str_eq((struct str){(const char *)chosen, len}, STR("http/1.1")));
    finish();
    begin(NULL);
    SSL_set_alpn_protos(test.client.ssl, h2_alone, sizeof h2_alone - 1);
    assert_false(shake_hands(&test.client, test.below, 1 << 20));
    finish();
}

/* Takes the ticket of a first connection to a second one. */
static bool resumes(struct tls_server **second, int64_t later_ms)
{
    begin(NULL);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    char byte;
    SSL_read(test.client.ssl, &byte, 1); /* TLS 1.3 gives its tickets behind the handshake */
    finish();
    assert_non_null(test.session);
    wall_ms += later_ms;
    struct tls_server *first = test.server;
    test.server = second ? *second : first;
    begin(NULL);
    SSL_set_session(test.client.ssl, test.session);
    assert_true(shake_hands(&test.client, test.below, 1 << 20));
    bool resumed = SSL_session_reused(test.client.ssl);
    finish();
    test.server = first;
    return resumed;
}

static void tickets(void **state)
{
    enum { EPOCH_MS = 12 * 3600 * 1000 };
    static const int versions[] = {TLS1_2_VERSION, TLS1_3_VERSION};
    struct error error;
    (void)state;
    struct tls_server *same = new_server(2);
    uint8_t other_secret[TLS_TICKET_SECRET_BYTES] = {1};
    struct tls_pair pair = {buf_view(&test.pairs[0].certificate), buf_view(&test.pairs[0].key)};
    struct tls_server *other = tls_server_new(&pair, 1, other_secret, &error);
    for (size_t i = 0; i < 2; i++) {
        SSL_CTX_set_max_proto_version(test.client_ctx, versions[i]);
        assert_true(resumes(NULL, 0));
        assert_true(resumes(&same, 0)); /* "every process with the same secret understands" */
        assert_true(resumes(&same, EPOCH_MS));
        assert_false(resumes(&same, 2 * EPOCH_MS));
        assert_false(resumes(&other, 0));
    }
    tls_server_free(&same);
    tls_server_free(&other);
}

static void pairs_are_checked(void **state)
{
    struct error error;
    int64_t end_ms = 0;
    struct str certificate = buf_view(&test.pairs[0].certificate),
               key = buf_view(&test.pairs[0].key);
    struct str other = buf_view(&test.pairs[1].key);
    (void)state;
    assert_true(tls_pair_check(&(struct tls_pair){certificate, key}, &end_ms, &error));
    assert_int_equal(end_ms, (INT64_C(1795000000) + 3600) * 1000);
    struct tls_pair bad[] = {
        {certificate, other},
        {key, certificate},
        {STR(""), key},
        {certificate, STR("")},
        {{certificate.at, certificate.len / 2}, key},
        {STR("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), key},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error.message[0] = '\0';
        assert_false(tls_pair_check(&bad[i], &end_ms, &error));
        assert_true(strlen(error.message) > 10);
        assert_null(tls_server_new(&bad[i], 1, secret, &error));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(bytes_come_and_go_however_they_are_cut),
        TEST(older_versions_are_refused),
        TEST(ends),
        TEST(a_changed_record_ends_it),
        TEST(closing_while_it_reads),
        TEST(what_is_not_in_the_kernel_drains_later),
        TEST(whoever_speaks_plain_http_is_told),
        TEST(certificates_by_name),
        TEST(only_http_1_1),
        TEST(tickets),
        TEST(pairs_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
