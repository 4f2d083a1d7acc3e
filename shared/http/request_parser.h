/* Bytes of a connection to one request at a time: head_scan and chunk_scan say what the bytes
 * mean, llhttp is asked as well, and a request on which they disagree is refused.
 * All zero but the limits is ready for request_parser_begin. */
#pragma once

#include "shared/http/chunk_scan.h"
#include "shared/http/connection.h"
#include "shared/http/head_scan.h"

#include <llhttp.h>

enum request_verdict {
    REQUEST_INCOMPLETE,
    REQUEST_COMPLETE,
    REQUEST_REFUSED, /* `reason` and `detail` say why */
};

struct request_parser {
    size_t max_body;
    struct http_request request; /* slices are valid until the next request_parser_begin */
    bool keep_alive;             /* as far as the client allows it */
    bool expects_continue;       /* waits for 100 before it sends its body */
    bool whole;                  /* nothing of the request is left to read */
    enum api_error reason;
    const char *detail;

    struct head_scan scan; /* max_bytes set by the owner */

    /* private */
    struct chunk_scan chunks;
    uint64_t body_left; /* of a body with Content-Length */
    llhttp_t second;    /* opinion */
    bool second_saw_head;
    bool second_saw_end;
    struct buf head; /* names in lower case */
    struct http_header *headers;
    size_t headers_cap;
    struct buf body;
};

/* Forgets the last request. */
void request_parser_begin(struct request_parser *parser, int64_t began_us);
/* `bytes` starts with the request's first byte at each call, and holds what an earlier call saw.
 * When complete, the head is taken off its front; before that, nothing is. */
enum request_verdict request_parser_head(struct request_parser *parser, struct str *bytes);
/* Refuses a body whose announced length is too large; call it before reading. Complete when there
 * is none to read. */
enum request_verdict request_parser_start_body(struct request_parser *parser);
/* Takes the body's next bytes off the front. */
enum request_verdict request_parser_body(struct request_parser *parser, struct str *bytes);
/* Between requests: gives back memory that an ordinary request doesn't need. */
void request_parser_shrink(struct request_parser *parser);
void request_parser_free(struct request_parser *parser);
