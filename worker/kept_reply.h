/* An answer as the keeper keeps it for requests with the same Idempotency-Key: all that a later
 * one gets again. It begins with a version, for stores outlive programs. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/uuid.h"

#include <stdbool.h>
#include <stdint.h>

/* In the order of their numbers, which are stored. */
enum kept_kind {
    KEPT_JSON,   /* a whole answer */
    KEPT_EVENTS, /* a stream of server-sent events */
    KEPT_LINES,  /* a stream of lines of JSON */
    KEPT_KINDS
};

struct kept_reply {
    uint8_t kind;        /* enum kept_kind */
    struct uuid session; /* the conversation's; all zero = none */
    struct str decision; /* of routing; absent = none */
    struct str body;     /* byte for byte */
};

void kept_reply_write(const struct kept_reply *reply, struct buf *out);
/* Texts are those of `bytes`. False: it is none that this program knows. */
bool kept_reply_read(struct str bytes, struct kept_reply *reply);
