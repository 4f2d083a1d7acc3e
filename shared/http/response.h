/* An answer as bytes: status line, the headers that the connection adds, the caller's, the body. */
#pragma once

#include "shared/http/connection.h"

struct response_frame {
    bool head_only;          /* the request was HEAD */
    bool close;              /* the connection ends after it */
    bool old_client;         /* HTTP/1.0: staying open must be said */
    int64_t idle_timeout_ms; /* of the connection */
};

/* Appends the whole answer. */
void response_write(struct buf *out, const struct http_response *response,
                    const struct response_frame *frame);
