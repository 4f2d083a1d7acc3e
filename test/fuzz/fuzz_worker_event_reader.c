/* A stream, whole and in pieces: the events are the same, and their bytes are the stream's. The
 * first byte says which framing, the second how long the pieces are, the rest is the stream. */
#include "worker/upstream/event_reader.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct told {
    struct buf events, raw;
};

/* Empty lines count only as bytes: where pieces end, one may come late. */
static bool tell(void *context, const struct stream_event *event)
{
    struct told *told = context;
    buf_str(&told->raw, event->raw);
    if (!event->name.at && !event->data.at)
        return true;
    if (event->name.len + event->data.len > event->raw.len)
        abort();
    buf_str(&told->events, event->name);
    buf_putc(&told->events, event->name.at ? '|' : '-');
    buf_str(&told->events, event->data);
    buf_putc(&told->events, event->data.at ? ';' : '-');
    return true;
}

static void read_in_pieces(enum stream_framing framing, struct str stream, size_t piece,
                           struct told *told)
{
    struct event_reader reader = {.framing = framing, .max_event = SIZE_MAX};
    for (size_t at = 0; at < stream.len; at += piece) {
        size_t len = piece < stream.len - at ? piece : stream.len - at;
        if (event_reader_feed(&reader, (struct str){stream.at + at, len}, tell, told) !=
            STREAM_MORE)
            abort();
    }
    if (event_reader_end(&reader, tell, told) != STREAM_MORE)
        abort();
    if (!str_eq(buf_view(&told->raw), stream))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct told whole = {0}, pieces = {0};
    if (size < 3)
        return 0;
    enum stream_framing framing = data[0] & 1 ? STREAM_NDJSON : STREAM_SSE;
    struct str stream = {(const char *)data + 2, size - 2};
    read_in_pieces(framing, stream, stream.len, &whole);
    read_in_pieces(framing, stream, data[1] ? data[1] : 1, &pieces);
    if (!str_eq(buf_view(&whole.events), buf_view(&pieces.events)))
        abort();
    buf_free(&whole.events);
    buf_free(&whole.raw);
    buf_free(&pieces.events);
    buf_free(&pieces.raw);
    return 0;
}
