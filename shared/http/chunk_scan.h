/* Our own reading of the chunked coding's frame (RFC 9112 7.1), before any other parser sees it:
 * sizes of 1 to 15 hex digits, no extensions, no trailers, every line ending in CRLF. Pure; bytes
 * are given once, in pieces of any size. All zero but `max_bytes` is ready. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum chunk_verdict {
    CHUNK_INCOMPLETE,
    CHUNK_COMPLETE,
    CHUNK_REFUSED,   /* `detail` says why */
    CHUNK_TOO_LARGE, /* the chunks announced so far are more than max_bytes */
};

struct chunk_scan {
    uint64_t max_bytes; /* of the decoded body */
    const char *detail; /* a sentence for the client; static */

    /* private */
    int expects;
    unsigned digits;
    uint64_t size;
    uint64_t left;
    uint64_t total;
};

/* `*used` is how many bytes belong to the body: all of them while it is incomplete. */
enum chunk_verdict chunk_scan(struct chunk_scan *scan, const char *bytes, size_t len, size_t *used);
