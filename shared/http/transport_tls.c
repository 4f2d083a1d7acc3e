#include "shared/http/transport_tls.h"

#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

/* ---- reading PEM */

static bool ssl_error(struct error *error, const char *what)
{
    unsigned long code = ERR_get_error();
    const char *reason = ERR_reason_error_string(code);
    ERR_clear_error();
    return error_set(error, "%s: %s", what, reason ? reason : "not readable");
}

static BIO *reader_of(struct str pem)
{
    return BIO_new_mem_buf(pem.at, (int)pem.len);
}

/* Nobody is there to be asked for a passphrase. */
static int no_passphrase(char *buffer, int size, int writing, void *context)
{
    (void)buffer, (void)size, (void)writing, (void)context;
    return -1;
}

static EVP_PKEY *read_key(struct str pem)
{
    BIO *bio = reader_of(pem);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
    BIO_free(bio);
    return key;
}

static bool add_chain(SSL_CTX *ctx, BIO *bio)
{
    for (X509 *next; (next = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL));)
        if (SSL_CTX_add0_chain_cert(ctx, next) != 1) {
            X509_free(next);
            return false;
        }
    /* The end of the file is no failure. */
    bool at_end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
    ERR_clear_error();
    return at_end;
}

static bool use_certificate(SSL_CTX *ctx, struct str pem, struct error *error)
{
    BIO *bio = reader_of(pem);
    X509 *own = PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL);
    bool good = own && SSL_CTX_use_certificate(ctx, own) == 1 && add_chain(ctx, bio);
    X509_free(own);
    BIO_free(bio);
    return good || ssl_error(error, "the certificate cannot be used");
}

static bool use_key(SSL_CTX *ctx, struct str pem, struct error *error)
{
    EVP_PKEY *key = read_key(pem);
    bool good = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;
    EVP_PKEY_free(key);
    return good || ssl_error(error, "the key cannot be used with the certificate");
}

static bool use_pair(SSL_CTX *ctx, const struct tls_pair *pair, struct error *error)
{
    return use_certificate(ctx, pair->certificate, error) && use_key(ctx, pair->key, error);
}

static int64_t end_of(const X509 *certificate)
{
    struct tm tm = {0};
    if (ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &tm) != 1)
        return 0;
    return (int64_t)timegm(&tm) * 1000;
}

bool tls_pair_check(const struct tls_pair *pair, int64_t *not_after_wall_ms, struct error *error)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    bool good = ctx && use_pair(ctx, pair, error);
    if (good)
        *not_after_wall_ms = end_of(SSL_CTX_get0_certificate(ctx));
    else if (!ctx)
        ssl_error(error, "TLS");
    SSL_CTX_free(ctx);
    return good;
}

/* ---- the keys of tickets */

/* A key encrypts for an epoch, and opens for one more. */
enum { EPOCH_MS = 12 * 3600 * 1000, NAME_BYTES = 16, TICKET_IV_BYTES = 16 };

struct ticket_key {
    uint8_t name[NAME_BYTES], cipher[32], mac[32];
};

struct tls_server {
    SSL_CTX **at;
    size_t count;
    uint8_t secret[TLS_TICKET_SECRET_BYTES];
};

/* HMAC-SHA-512 of the epoch and what it is for: 64 bytes. */
static void derive_part(const struct tls_server *server, int64_t epoch, uint8_t part,
                        uint8_t out[64])
{
    uint8_t text[sizeof epoch + 1];
    size_t len = 0;
    memcpy(text, &epoch, sizeof epoch);
    text[sizeof epoch] = part;
    if (!EVP_Q_mac(NULL, "HMAC", NULL, "SHA512", NULL, server->secret, sizeof server->secret, text,
                   sizeof text, out, 64, &len) ||
        len != 64)
        abort();
}

static void derive(const struct tls_server *server, int64_t epoch, struct ticket_key *key)
{
    uint8_t secrets[64], name[64];
    derive_part(server, epoch, 0, secrets);
    derive_part(server, epoch, 1, name);
    memcpy(key->cipher, secrets, sizeof key->cipher);
    memcpy(key->mac, secrets + sizeof key->cipher, sizeof key->mac);
    memcpy(key->name, name, sizeof key->name);
    OPENSSL_cleanse(secrets, sizeof secrets);
}

static bool prepare(EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, struct ticket_key *key,
                    const uint8_t *iv, int encrypting)
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)(uintptr_t) "SHA256", 0),
        OSSL_PARAM_construct_end(),
    };
    bool good = EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, encrypting) &&
                EVP_MAC_CTX_set_params(mac, parameters);
    OPENSSL_cleanse(key, sizeof *key);
    return good;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 1 = go on, 2 = and give a new ticket, 0 = not ours. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                     EVP_MAC_CTX *mac, int encrypting)
{
    const struct tls_server *server = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    int64_t now = clock_wall_ms() / EPOCH_MS;
    struct ticket_key key;
    if (encrypting) {
        derive(server, now, &key);
        memcpy(name, key.name, sizeof key.name);
        if (RAND_bytes(iv, TICKET_IV_BYTES) != 1)
            return -1;
        return prepare(cipher, mac, &key, iv, 1) ? 1 : -1;
    }
    for (int64_t epoch = now; epoch >= now - 1; epoch--) {
        derive(server, epoch, &key);
        if (CRYPTO_memcmp(name, key.name, sizeof key.name) == 0)
            return !prepare(cipher, mac, &key, iv, 0) ? -1 : epoch == now ? 1 : 2;
    }
    return 0;
}

/* ---- whom a client means, and what it speaks */

static bool serves_host(SSL_CTX *ctx, const char *host, unsigned flags)
{
    return X509_check_host(SSL_CTX_get0_certificate(ctx), host, 0, flags, NULL) == 1;
}

/* The one with that very name before the one with a wildcard for it. */
static SSL_CTX *context_for(const struct tls_server *server, const char *host)
{
    static const unsigned kinds[] = {X509_CHECK_FLAG_NO_WILDCARDS,
                                     X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS};
    for (size_t kind = 0; kind < 2; kind++)
        for (size_t i = 0; i < server->count; i++)
            if (serves_host(server->at[i], host, kinds[kind]))
                return server->at[i];
    return NULL;
}

static int on_server_name(SSL *ssl, int *alert, void *context)
{
    (void)alert;
    const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    SSL_CTX *found = host ? context_for(context, host) : NULL;
    if (found)
        SSL_set_SSL_CTX(ssl, found);
    return SSL_TLSEXT_ERR_OK; /* an unknown one gets the first certificate, and may say no itself */
}

/* RFC 7301 3.2: what has no protocol in common with us is told so. */
static int on_alpn(SSL *ssl, const unsigned char **out, unsigned char *out_len,
                   const unsigned char *offered, unsigned offered_len, void *context)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)ssl, (void)context;
    int found = SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours,
                                      sizeof ours - 1, offered, offered_len);
    return found == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/* ---- the server */

/* Mozilla's "intermediate": what every client of today speaks, with forward secrecy. */
static const char ciphers_of_tls12[] =
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305";

static SSL_CTX *new_context(struct tls_server *server, const struct tls_pair *pair,
                            struct error *error)
{
    static const unsigned char name[] = "promptgate";
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1 ||
        SSL_CTX_set_cipher_list(ctx, ciphers_of_tls12) != 1 ||
        SSL_CTX_set_session_id_context(ctx, name, sizeof name - 1) != 1) {
        ssl_error(error, "TLS");
        SSL_CTX_free(ctx);
        return NULL;
    }
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_timeout(ctx, EPOCH_MS / 1000);
    SSL_CTX_set_app_data(ctx, server);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    SSL_CTX_set_tlsext_servername_callback(ctx, on_server_name);
    SSL_CTX_set_tlsext_servername_arg(ctx, server);
    SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
    if (use_pair(ctx, pair, error))
        return ctx;
    SSL_CTX_free(ctx);
    return NULL;
}

struct tls_server *tls_server_new(const struct tls_pair *pairs, size_t count,
                                  const uint8_t secret[TLS_TICKET_SECRET_BYTES],
                                  struct error *error)
{
    struct tls_server *server = xcalloc(1, sizeof *server);
    memcpy(server->secret, secret, sizeof server->secret);
    server->at = xcalloc(count, sizeof(SSL_CTX *));
    for (; server->count < count; server->count++) {
        server->at[server->count] = new_context(server, &pairs[server->count], error);
        if (!server->at[server->count]) {
            tls_server_free(&server);
            return NULL;
        }
    }
    return server;
}

void tls_server_free(struct tls_server **place)
{
    struct tls_server *server = *place;
    *place = NULL;
    if (!server)
        return;
    for (size_t i = 0; i < server->count; i++)
        SSL_CTX_free(server->at[i]);
    OPENSSL_cleanse(server->secret, sizeof server->secret);
    free(server->at);
    free(server);
}

/* ---- a connection */

enum { RECORD_BYTES = 16 * 1024 };

struct tls {
    struct transport transport;
    struct transport *below;
    SSL *ssl;
    struct str input;  /* ciphertext that came and was not taken yet */
    struct buf output; /* ciphertext that was made and not given below yet */
    bool opened;       /* the handshake is over */
    bool over;         /* nothing more is read: it failed, or the peer has ended it */
    bool closed;       /* by the application: no event but `closed` follows */
};

static struct tls *tls_of(struct transport *transport)
{
    return (struct tls *)transport;
}

/* One for all: decrypted bytes are given on before the next are. */
static char plaintext[RECORD_BYTES];

static int bio_read(BIO *bio, char *into, size_t size, size_t *taken)
{
    struct tls *tls = BIO_get_data(bio);
    BIO_clear_retry_flags(bio);
    *taken = tls->input.len < size ? tls->input.len : size;
    if (*taken == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    memcpy(into, tls->input.at, *taken);
    tls->input.at += *taken;
    tls->input.len -= *taken;
    return 1;
}

static int bio_write(BIO *bio, const char *bytes, size_t len, size_t *taken)
{
    struct tls *tls = BIO_get_data(bio);
    buf_str(&tls->output, (struct str){bytes, len});
    *taken = len;
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH;
}

static BIO_METHOD *bio_method(void)
{
    static BIO_METHOD *method;
    if (!method) {
        method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "transport");
        BIO_meth_set_read_ex(method, bio_read);
        BIO_meth_set_write_ex(method, bio_write);
        BIO_meth_set_ctrl(method, bio_control);
    }
    return method;
}

/* True when all of it is in the kernel. */
static bool send_output(struct tls *tls)
{
    struct buf output = tls->output;
    if (output.len == 0)
        return true;
    tls->output = (struct buf){0};
    bool sent = tls->below->class->write(tls->below, output.data, output.len);
    buf_free(&output);
    return sent;
}

/* What a client without TLS would see is noise; this it can read. */
static void put_plain_answer(struct buf *out)
{
    static const char body[] =
        "{\"ok\":false,\"error\":{\"type\":\"invalid_request_error\",\"code\":\"bad_http\","
        "\"message\":\"This address speaks TLS: use https.\",\"param\":null}}";
    buf_printf(out,
               "HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Type: "
               "application/json\r\nContent-Length: %zu\r\n\r\n%s",
               sizeof body - 1, body);
}

static void fail(struct tls *tls)
{
    unsigned long code = ERR_peek_error();
    log_debug("TLS: %s", code ? ERR_reason_error_string(code) : "the peer broke it off");
    if (ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST) {
        buf_clear(&tls->output);
        put_plain_answer(&tls->output);
    }
    ERR_clear_error();
    send_output(tls);
    tls->over = true;
    tls->below->class->read_stop(tls->below);
    tls->transport.events->end(tls->transport.context, UV_EPROTO);
}

static void end(struct tls *tls)
{
    tls->over = true;
    tls->below->class->read_stop(tls->below);
    tls->transport.events->end(tls->transport.context, 0);
}

/* True when the handshake is over. */
static bool shake_hands(struct tls *tls)
{
    if (tls->opened)
        return true;
    int done = SSL_do_handshake(tls->ssl);
    int reason = SSL_get_error(tls->ssl, done);
    if (done == 1) {
        tls->opened = true;
        send_output(tls);
        if (tls->transport.events->opened)
            tls->transport.events->opened(tls->transport.context);
        return !tls->closed;
    }
    if (reason == SSL_ERROR_WANT_READ)
        send_output(tls);
    else
        fail(tls);
    return false;
}

static void on_below_read(void *context, const char *bytes, size_t len)
{
    struct tls *tls = context;
    tls->input = (struct str){bytes, len};
    ERR_clear_error();
    if (!shake_hands(tls))
        return;
    while (!tls->closed && !tls->over) {
        size_t got;
        int done = SSL_read_ex(tls->ssl, plaintext, sizeof plaintext, &got);
        if (done == 1) {
            tls->transport.events->read(tls->transport.context, plaintext, got);
            continue;
        }
        int reason = SSL_get_error(tls->ssl, done);
        if (reason == SSL_ERROR_WANT_READ) {
            send_output(tls); /* an answer to the peer's key update */
            return;
        }
        if (reason == SSL_ERROR_ZERO_RETURN)
            end(tls);
        else
            fail(tls);
    }
}

static void on_below_end(void *context, int error)
{
    struct tls *tls = context;
    if (tls->over || tls->closed)
        return;
    tls->over = true;
    tls->transport.events->end(tls->transport.context, error);
}

static void on_below_drained(void *context, int error)
{
    struct tls *tls = context;
    if (!tls->closed && tls->opened)
        tls->transport.events->drained(tls->transport.context, error);
}

static void on_below_closed(void *context)
{
    struct tls *tls = context;
    if (tls->transport.events)
        tls->transport.events->closed(tls->transport.context);
    buf_free(&tls->output);
    free(tls);
}

static const struct transport_events below_events = {
    .read = on_below_read,
    .end = on_below_end,
    .drained = on_below_drained,
    .closed = on_below_closed,
};

static void tls_read_start(struct transport *transport)
{
    struct tls *tls = tls_of(transport);
    if (!tls->over)
        tls->below->class->read_start(tls->below);
}

static void tls_read_stop(struct transport *transport)
{
    struct tls *tls = tls_of(transport);
    tls->below->class->read_stop(tls->below);
}

static bool tls_write(struct transport *transport, const char *bytes, size_t len)
{
    struct tls *tls = tls_of(transport);
    size_t taken;
    ERR_clear_error();
    /* The records go to memory, so it takes all or, after a failure, none; that the read side
     * tells. */
    if (len > 0 && tls->opened && SSL_write_ex(tls->ssl, bytes, len, &taken) != 1)
        log_debug("TLS: nothing can be written any more");
    return send_output(tls) && tls->below->class->pending(tls->below) == 0;
}

static size_t tls_pending(const struct transport *transport)
{
    const struct tls *tls = (const struct tls *)transport;
    return tls->below->class->pending(tls->below);
}

static void tls_shutdown(struct transport *transport)
{
    struct tls *tls = tls_of(transport);
    ERR_clear_error();
    if (tls->opened)
        SSL_shutdown(tls->ssl);
    send_output(tls);
    tls->below->class->shutdown(tls->below);
}

static void tls_close(struct transport *transport)
{
    struct tls *tls = tls_of(transport);
    tls->closed = true;
    SSL_free(tls->ssl);
    tls->ssl = NULL;
    tls->below->class->close(tls->below);
}

static int tls_descriptor(const struct transport *transport)
{
    const struct tls *tls = (const struct tls *)transport;
    return tls->below->class->descriptor(tls->below);
}

static int tls_peer(const struct transport *transport, struct sockaddr_storage *address)
{
    const struct tls *tls = (const struct tls *)transport;
    return tls->below->class->peer(tls->below, address);
}

static const struct transport_class tls_class = {
    .shakes_hands = true,
    .read_start = tls_read_start,
    .read_stop = tls_read_stop,
    .write = tls_write,
    .pending = tls_pending,
    .shutdown = tls_shutdown,
    .close = tls_close,
    .peer = tls_peer,
    .descriptor = tls_descriptor,
};

static SSL *new_ssl(struct tls_server *server, struct tls *tls)
{
    SSL *ssl = SSL_new(server->at[0]);
    BIO *bio = BIO_new(bio_method());
    if (!ssl || !bio) {
        log_error("TLS: out of memory");
        abort(); /* as the allocator of everything else does */
    }
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_accept_state(ssl);
    return ssl;
}

struct transport *transport_tls_accept(uv_stream_t *listener, struct tls_server *server,
                                       const struct transport_events *events, void *context,
                                       int *error)
{
    struct tls *tls = xcalloc(1, sizeof *tls);
    tls->below = transport_plain_accept(listener, &below_events, tls, error);
    if (!tls->below) {
        free(tls);
        return NULL;
    }
    tls->transport = (struct transport){&tls_class, events, context};
    tls->ssl = new_ssl(server, tls);
    return &tls->transport;
}
