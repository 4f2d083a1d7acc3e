/* A TLS connection without a network: transport_tls.c on a transport of the test's, and OpenSSL as
 * its client. What each side writes lies in a buffer until the test carries it over.
 *
 * Defines transport_plain_accept, which the archive's would be otherwise: one place per test. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/xalloc.h"
#include "shared/http/transport_tls.h"

#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

/* The transport below. */
struct below {
    struct transport transport;
    bool reading, shut, closed, holds_writes;
    struct buf written;
    size_t held;
};

static struct below *below_made;

static struct below *below_of(const struct transport *transport)
{
    return (struct below *)(uintptr_t)transport;
}

static void below_read_start(struct transport *transport)
{
    below_of(transport)->reading = true;
}

static void below_read_stop(struct transport *transport)
{
    below_of(transport)->reading = false;
}

static bool below_write(struct transport *transport, const char *bytes, size_t len)
{
    struct below *below = below_of(transport);
    buf_append(&below->written, bytes, len);
    if (below->holds_writes)
        below->held += len;
    return !below->holds_writes;
}

static size_t below_pending(const struct transport *transport)
{
    return below_of(transport)->held;
}

static void below_shutdown(struct transport *transport)
{
    below_of(transport)->shut = true;
}

static void below_close(struct transport *transport)
{
    below_of(transport)->closed = true;
}

static int below_peer(const struct transport *transport, struct sockaddr_storage *address)
{
    (void)transport;
    *address = (struct sockaddr_storage){.ss_family = AF_INET};
    return 0;
}

static const struct transport_class below_class = {
    .read_start = below_read_start,
    .read_stop = below_read_stop,
    .write = below_write,
    .pending = below_pending,
    .shutdown = below_shutdown,
    .close = below_close,
    .peer = below_peer,
};

struct transport *transport_plain_accept(uv_stream_t *listener,
                                         const struct transport_events *events, void *context,
                                         int *error)
{
    (void)listener, (void)error;
    below_made = xcalloc(1, sizeof *below_made);
    below_made->transport = (struct transport){&below_class, events, context};
    return &below_made->transport;
}

/* What `closed` says may go. */
static void below_finish(struct below **below)
{
    (*below)->transport.events->closed((*below)->transport.context);
    buf_free(&(*below)->written);
    free(*below);
    *below = NULL;
}

/* --- certificates --- */

struct pem_pair {
    struct buf certificate, key;
};

static void take_bio(BIO *bio, struct buf *out)
{
    char *bytes;
    long len = BIO_get_mem_data(bio, &bytes);
    buf_append(out, bytes, (size_t)len);
    BIO_free(bio);
}

/* One for a host, signed by itself, for an hour from `begin` (seconds) on. */
static struct pem_pair pem_pair_make(const char *host, time_t begin)
{
    struct pem_pair pair = {0};
    char names[256];
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    ASN1_TIME_set(X509_getm_notBefore(certificate), begin);
    ASN1_TIME_set(X509_getm_notAfter(certificate), begin + 3600);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate), "CN", MBSTRING_ASC,
                               (const unsigned char *)host, -1, -1, 0);
    X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
    snprintf(names, sizeof names, "DNS:%s", host);
    X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
    X509_set_pubkey(certificate, key);
    if (X509_sign(certificate, key, EVP_sha256()) <= 0)
        abort();
    BIO *out = BIO_new(BIO_s_mem());
    PEM_write_bio_X509(out, certificate);
    take_bio(out, &pair.certificate);
    out = BIO_new(BIO_s_mem());
    PEM_write_bio_PrivateKey(out, key, NULL, NULL, 0, NULL, NULL);
    take_bio(out, &pair.key);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return pair;
}

static void pem_pair_free(struct pem_pair *pair)
{
    buf_free(&pair->certificate);
    buf_free(&pair->key);
}

/* --- the client --- */

/* Its own bytes are in `to_server` until they are carried over. */
struct tls_client {
    SSL *ssl;
    BIO *from_server, *to_server;
};

static void tls_client_open(struct tls_client *client, SSL_CTX *ctx, const char *host)
{
    client->ssl = SSL_new(ctx);
    client->from_server = BIO_new(BIO_s_mem());
    client->to_server = BIO_new(BIO_s_mem());
    SSL_set_bio(client->ssl, client->from_server, client->to_server);
    SSL_set_connect_state(client->ssl);
    if (host && SSL_set_tlsext_host_name(client->ssl, host) != 1)
        abort();
}

/* As if it had said goodbye, without which OpenSSL holds its session for a bad one. */
static void tls_client_close(struct tls_client *client)
{
    SSL_set_shutdown(client->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    SSL_free(client->ssl);
    client->ssl = NULL;
}

/* The server gets the bytes, `piece` at a time; it may have closed before the last. */
static void carry_bytes(const struct below *below, const char *bytes, size_t len, size_t piece)
{
    while (len > 0 && !below->closed && below->reading) {
        size_t now = len < piece ? len : piece;
        below->transport.events->read(below->transport.context, bytes, now);
        bytes += now;
        len -= now;
    }
}

static void carry_to_server(const struct tls_client *client, const struct below *below,
                            size_t piece)
{
    char *bytes;
    long len = BIO_get_mem_data(client->to_server, &bytes);
    struct buf copy = {0};
    buf_append(&copy, bytes, (size_t)len);
    (void)BIO_reset(client->to_server);
    carry_bytes(below, copy.data, copy.len, piece);
    buf_free(&copy);
}

static void carry_to_client(const struct tls_client *client, struct below *below)
{
    if (below->written.len > 0)
        BIO_write(client->from_server, below->written.data, (int)below->written.len);
    buf_clear(&below->written);
}

/* True when the client is content. */
static bool shake_hands(const struct tls_client *client, struct below *below, size_t piece)
{
    for (int i = 0; i < 10; i++) {
        int done = SSL_do_handshake(client->ssl);
        carry_to_server(client, below, piece);
        carry_to_client(client, below);
        if (done == 1)
            return true;
    }
    ERR_clear_error();
    return false;
}
