/* Bytes of a stranger through transport_tls.c, before and behind a handshake.
 *
 * The first byte says when they come and how (bits of an ASCII character), the second how they are
 * cut. Whatever they are: the application hears of an end once, of nothing behind it, and of what a
 * client really said alone. */
#include "test/unit/tls_loopback.h"

#include <time.h>

enum behaviour {
    AFTER_HANDSHAKE = 1, /* a client has shaken hands before */
    AS_PLAINTEXT = 2,    /* and says them itself; else they come as they are */
    CLOSE_IN_READ = 4,
    VERSION_1_2 = 8,
};

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static struct {
    unsigned behaviour;
    struct transport *transport;
    unsigned opened, ended, closed;
    struct buf read;
} app;

static void on_opened(void *context)
{
    (void)context;
    CHECK(app.opened++ == 0 && app.ended == 0);
}

static void on_read(void *context, const char *bytes, size_t len)
{
    (void)context;
    CHECK(app.opened == 1 && app.ended == 0 && app.closed == 0 && len > 0);
    buf_append(&app.read, bytes, len);
    if (app.behaviour & CLOSE_IN_READ) {
        app.transport->class->close(app.transport);
        app.closed++;
    }
}

static void on_end(void *context, int error)
{
    (void)context, (void)error;
    CHECK(app.ended++ == 0 && app.closed == 0);
}

static void on_drained(void *context, int error)
{
    (void)context, (void)error;
}

static void on_closed(void *context)
{
    (void)context;
}

static const struct transport_events events = {on_opened, on_read, on_end, on_drained, on_closed};

static struct tls_server *server;
static SSL_CTX *client_ctx;

static void prepare(void)
{
    static const uint8_t secret[TLS_TICKET_SECRET_BYTES];
    struct error error;
    struct pem_pair pem = pem_pair_make("fuzz.example", time(NULL));
    struct tls_pair pair = {buf_view(&pem.certificate), buf_view(&pem.key)};
    server = tls_server_new(&pair, 1, secret, &error);
    client_ctx = SSL_CTX_new(TLS_client_method());
    CHECK(server && client_ctx);
    pem_pair_free(&pem);
}

static void say(const struct tls_client *client, struct below *below, struct str bytes,
                size_t piece)
{
    size_t written;
    if (bytes.len == 0)
        return;
    CHECK(SSL_write_ex(client->ssl, bytes.at, bytes.len, &written) == 1 && written == bytes.len);
    carry_to_server(client, below, piece);
    if (app.behaviour & CLOSE_IN_READ)
        CHECK(app.closed == 1);
    else
        CHECK(app.ended == 0 && str_eq(buf_view(&app.read), bytes));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int error;
    struct tls_client client;
    if (size < 2 || size > 100000)
        return 0;
    if (!server)
        prepare();
    app.behaviour = data[0];
    size_t piece = (size_t)data[1] + 1;
    struct str bytes = {(const char *)data + 2, size - 2};
    app.transport = transport_tls_accept(NULL, server, &events, NULL, &error);
    struct below *below = below_made;
    app.transport->class->read_start(app.transport);
    SSL_CTX_set_max_proto_version(client_ctx,
                                  app.behaviour & VERSION_1_2 ? TLS1_2_VERSION : TLS1_3_VERSION);
    tls_client_open(&client, client_ctx, "fuzz.example");
    if (app.behaviour & AFTER_HANDSHAKE)
        CHECK(shake_hands(&client, below, piece));
    if ((app.behaviour & AFTER_HANDSHAKE) && (app.behaviour & AS_PLAINTEXT)) {
        say(&client, below, bytes, piece);
    } else {
        carry_bytes(below, bytes.at, bytes.len, piece);
        CHECK(app.read.len == 0); /* nobody can have said anything */
    }
    if (!below->closed) {
        app.transport->class->write(app.transport, "answer", 6);
        app.transport->class->shutdown(app.transport);
        app.transport->class->close(app.transport);
    }
    below_finish(&below);
    tls_client_close(&client);
    buf_clear(&app.read);
    app.opened = app.ended = app.closed = 0;
    return 0;
}
