/* An answer as bytes: status line, the headers that the connection adds, the caller's, the body. */
#pragma once

#include "shared/http/connection.h"

enum response_length {
    LENGTH_KNOWN,   /* Content-Length */
    LENGTH_CHUNKED, /* the body follows in chunks */
    LENGTH_CLOSE,   /* it ends with the connection: HTTP/1.0 has no chunks */
};

struct response_frame {
    enum response_length length;
    bool head_only;          /* the request was HEAD */
    bool close;              /* the connection ends after it */
    bool old_client;         /* HTTP/1.0: staying open must be said */
    int64_t idle_timeout_ms; /* of the connection */
};

/* Appends the whole answer; unless its length is known, its head alone. */
void response_write(struct buf *out, const struct http_response *response,
                    const struct response_frame *frame);
/* Appends a piece of a chunked body; an empty one ends it. */
void response_write_chunk(struct buf *out, struct str piece);
