/* Frames: an encoded record cut into pieces of at most PIPE_BUF bytes, so that each is written to
 * a pipe whole or not at all (pipe(7)).
 *
 *   offset  bytes  all little-endian
 *   0       4      magic "PGF1"
 *   4       1      version of the record encoding
 *   5       1      0
 *   6       2      length of the payload
 *   8       4      CRC-32C of bytes 12.. to the end of the payload
 *   12      16     request id
 *   28      2      part, from 0
 *   30      2      parts
 *   32             payload */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/uuid.h"

#include <stdint.h>

enum { FRAME_MAX = 4096, FRAME_HEAD = 32, FRAME_PAYLOAD_MAX = FRAME_MAX - FRAME_HEAD };
enum { RECORD_VERSION = 1 };

/* Cuts `record` into frames and appends them to `out` one behind the other. Each frame but the
 * last is FRAME_MAX bytes long. False when it would need more than 65,535 parts (nothing is
 * appended then). */
bool frames_encode(const struct uuid *request_id, struct str record, struct buf *out)
    __attribute__((warn_unused_result));
/* Length of the first frame of `bytes` by its head: 0 when there is none whole. */
size_t frame_length(struct str bytes);
/* The request id in the head of a frame, which `bytes` may hold no more of; false when no frame
 * begins there. */
bool frame_request_id(struct str bytes, struct uuid *id);

/* Puts the frames of one stream (a pipe, a spool segment) together again. All zero is ready. */
struct frame_reader {
    struct buf record; /* parts so far */
    struct uuid id;
    unsigned next_part, parts;
    uint64_t skipped_bytes; /* not part of any good frame */
    uint64_t torn_records;  /* begun and never finished */
};

enum frame_result {
    FRAME_RECORD, /* `record` is one whole record */
    FRAME_MORE,   /* nothing whole is left in `bytes` */
};

/* Reads from `bytes` on; `*consumed` is how many bytes are done with (a caller that keeps an offset
 * moves it only to where FRAME_RECORD was returned). A bad frame, or one of another version, is
 * skipped to the next magic and counted. A record whose parts stop and another begins is dropped
 * and counted. */
enum frame_result frame_reader_next(struct frame_reader *reader, struct str bytes, size_t *consumed,
                                    struct str *record);
void frame_reader_free(struct frame_reader *reader);
