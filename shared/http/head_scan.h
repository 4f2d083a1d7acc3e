/* Our own reading of a request's head, before any other parser sees it: whatever two servers could
 * read differently is refused (RFC 9112 section 11.2), and the rest becomes a table of slices.
 * Pure: no I/O, no clock. Call it again with the same bytes and more behind them until the verdict
 * is not HEAD_INCOMPLETE; lines that were read are not read again. The bytes may move in between:
 * slices are offsets from the first one.
 *
 * All zero but `max_bytes` is ready. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum head_verdict {
    HEAD_INCOMPLETE,
    HEAD_COMPLETE,
    HEAD_REFUSED,   /* `detail` says why */
    HEAD_TOO_LARGE, /* more than max_bytes or HEAD_MAX_FIELDS; `detail` says which */
};

enum { HEAD_MAX_FIELDS = 100 };

struct head_slice {
    uint32_t at;
    uint32_t len;
};

struct head_field {
    struct head_slice name;
    struct head_slice value; /* without white space at its ends */
};

struct head_scan {
    size_t max_bytes; /* of the head, its last empty line included; below 4 GiB */

    /* valid when complete */
    size_t len; /* bytes of the head; the body or the next request follows */
    struct head_slice method;
    struct head_slice target;
    size_t path_len;   /* of the target, up to '?' */
    int minor_version; /* 0 or 1 */
    struct head_field *fields;
    size_t fields_count;
    bool has_length; /* Content-Length is there */
    bool chunked;
    uint64_t content_length;
    bool asks_close;      /* Connection: close */
    bool asks_keep_alive; /* Connection: keep-alive */
    bool expects_continue;

    const char *detail; /* a sentence for the client; static */

    /* private */
    size_t fields_cap;
    size_t line_at; /* where the line being read starts */
    size_t searched;
    bool skipped_empty_line;
    bool has_request_line;
    bool has_host;
};

enum head_verdict head_scan(struct head_scan *scan, const char *bytes, size_t len);
/* Ready for the next head; the table's memory is kept. */
void head_scan_reset(struct head_scan *scan);
void head_scan_free(struct head_scan *scan);
