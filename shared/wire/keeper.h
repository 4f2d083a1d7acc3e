/* Messages between workers and the keeper, over a stream socket. Each is a frame: its length in
 * four bytes, then the version, and what the message says; numbers are little-endian. One version
 * back is read. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    KEEPER_VERSION = 1,
    KEEPER_FRAME_MAX = 256 << 20,
    KEEPER_BODY_MAX = KEEPER_FRAME_MAX - (64 << 10), /* of body and answer: names fit as well */
    KEEPER_HASH_BYTES = 32,
};

enum keeper_type {
    /* a worker's */
    KEEPER_ANNOUNCE, /* a turn that is open, a key that is held: to a new keeper */
    KEEPER_HOLD,     /* a request with an Idempotency-Key begins */
    KEEPER_BEGIN,    /* a turn is to begin */
    KEEPER_COMMIT,   /* it has ended well: `body` has the turn's messages, `answer` what the key's
                        next requests get */
    KEEPER_ABORT,    /* it has ended otherwise; answered where it has a ticket */
    /* the keeper's, with the ticket of what they answer */
    KEEPER_HELD,      /* the request is the key's first */
    KEEPER_KEPT,      /* it is not: `answer` is what the first one got */
    KEEPER_BEGUN,     /* `turn` turns came before, `body` has their messages */
    KEEPER_COMMITTED, /* it is durable */
    KEEPER_ABORTED,   /* the next turn, or the key's next request, may begin */
    KEEPER_REFUSED,   /* see `refusal` */
    KEEPER_TYPES
};

enum keeper_refusal {
    KEEPER_FORBIDDEN, /* there is no such session, or it is another's */
    KEEPER_EXPIRED,
    KEEPER_BUSY,        /* another turn of it is open, or it has moved on */
    KEEPER_FULL,        /* this turn would pass max_messages or max_tokens */
    KEEPER_UNAVAILABLE, /* the store fails */
    KEEPER_IN_PROGRESS, /* the key's first request is in flight */
    KEEPER_MISMATCH,    /* the key is another request's */
    KEEPER_REFUSALS
};

/* What a type has no use for is zero, or absent. Texts are the sender's, or stand in the frame. */
struct keeper_message {
    uint8_t type, refusal;
    uint64_t ticket;     /* of a request, its sender's */
    int64_t deadline_ms; /* COMMIT: not to be stored after that (monotonic, of the host both are
                            on); 0 = whenever */
    struct uuid session; /* all zero in BEGIN: a new one; elsewhere: no turn is meant */
    struct uuid request; /* whose it is: a repeated COMMIT is known by it, and what ABORT ends */
    int64_t turn;        /* how many turns the session had before */
    int64_t ttl_ms;      /* the endpoint's */
    int64_t max_messages, max_tokens;
    int64_t messages, tokens; /* that the turn adds (the answer not counted in BEGIN); in BEGUN:
                                 that are stored */
    struct str project, endpoint, token;
    struct str key, content; /* hashes of KEEPER_HASH_BYTES: of whose key it is and its name, of
                                what is asked; empty = no key is meant */
    struct str body;         /* JSON texts, with a comma between two */
    struct str answer;       /* nobody's but the worker's to read */
};

/* Makes an answer a refusal. */
void keeper_refuse(struct keeper_message *answer, enum keeper_refusal refusal);

void keeper_write(struct buf *out, const struct keeper_message *message);
/* Another `deadline_ms` for a frame that was written. */
void keeper_write_deadline(struct buf *frame, int64_t deadline_ms);

enum keeper_read { KEEPER_MORE, KEEPER_READ, KEEPER_BROKEN };

/* Reads the frame that `bytes` begin with: KEEPER_MORE when it is not whole yet. `*used`: its
 * bytes. KEEPER_BROKEN: a length, type or version that can't be. */
enum keeper_read keeper_read(struct str bytes, struct keeper_message *message, size_t *used);
