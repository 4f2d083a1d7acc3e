/* What a provider streams, event by event: server-sent events (HTML standard, 9.2.6) or JSON lines.
 * Bytes come in any pieces; each event is told once its last byte is there. */
#pragma once

#include "shared/base/buf.h"

enum stream_framing { STREAM_SSE, STREAM_NDJSON };

/* Valid while it is told. */
struct stream_event {
    struct str raw;  /* its bytes as they came: all `raw`s in a row are the stream */
    struct str name; /* of `event:`; absent = none */
    struct str data; /* without what frames it; absent = it has none, such as comments */
};

enum stream_read {
    STREAM_MORE,
    STREAM_STOPPED,   /* the receiver wants no more */
    STREAM_TOO_LARGE, /* an event has more than max_event bytes */
};

/* False: no more, please. */
typedef bool stream_event_fn(void *context, const struct stream_event *event);

struct stream_slice {
    size_t at, len;
    bool there;
};

/* Zeroed, with the first two set, is one at the beginning of a stream. */
struct event_reader {
    enum stream_framing framing;
    size_t max_event; /* bytes */
    struct buf bytes; /* from the event under way on */
    size_t line;      /* where its line under way begins in them */
    size_t scanned;   /* the bytes before are known to end no line */
    bool begun;       /* the byte order mark, if any, is behind */
    bool after_cr;    /* a line feed would belong to the line before */
    struct stream_slice name, data;
    bool data_is_joined; /* data is in `joined`: it has several lines */
    struct buf joined;
};

enum stream_read event_reader_feed(struct event_reader *reader, struct str bytes,
                                   stream_event_fn *tell, void *context);
/* The stream has ended: what is left is an event if it has data. Then the reader holds nothing. */
enum stream_read event_reader_end(struct event_reader *reader, stream_event_fn *tell,
                                  void *context);
void event_reader_free(struct event_reader *reader);
