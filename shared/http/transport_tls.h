/* TLS on a listener, the server's side: TLS 1.2 and 1.3, certificates by SNI, ALPN http/1.1,
 * resumption by tickets that every process with the same secret understands. */
#pragma once

#include "shared/base/error.h"
#include "shared/http/transport.h"

/* A certificate with its chain, the own one first, and its private key, both PEM. */
struct tls_pair {
    struct str certificate, key;
};

/* Checks that they can be read and belong together. `*not_after_wall_ms` is when the certificate
 * ends. The error names neither. */
bool tls_pair_check(const struct tls_pair *pair, int64_t *not_after_wall_ms, struct error *error)
    __attribute__((warn_unused_result));

enum { TLS_TICKET_SECRET_BYTES = 32 };

struct tls_server;

/* Of pairs that were checked; the first is for clients that name no other's host. The secret is
 * copied; keys of tickets are derived from it and the time, and are good for half a day to a day.
 */
struct tls_server *tls_server_new(const struct tls_pair *pairs, size_t count,
                                  const uint8_t secret[TLS_TICKET_SECRET_BYTES],
                                  struct error *error) __attribute__((warn_unused_result));
/* Not while one of its connections is open. The caller's pointer becomes NULL. */
void tls_server_free(struct tls_server **server);

/* As transport_plain_accept. Bytes come once the handshake is over; events.opened tells that. */
struct transport *transport_tls_accept(uv_stream_t *listener, struct tls_server *server,
                                       const struct transport_events *events, void *context,
                                       int *error);
