#include "worker/upstream/event_reader.h"

#include <string.h>

static const char byte_order_mark[] = "\xEF\xBB\xBF";
enum { MARK_BYTES = 3 };

static struct str slice_of(const struct buf *bytes, struct stream_slice slice)
{
    return slice.there ? (struct str){bytes->data + slice.at, slice.len} : STR_ABSENT;
}

/* --- an event --- */

static void forget_event(struct event_reader *reader)
{
    reader->name = reader->data = (struct stream_slice){0};
    reader->data_is_joined = false;
    buf_clear(&reader->joined);
}

/* The event's bytes are those before `end`. */
static bool tell_event(struct event_reader *reader, size_t begin, size_t end, stream_event_fn *tell,
                       void *context)
{
    struct stream_event event = {
        .raw = {reader->bytes.data + begin, end - begin},
        .name = slice_of(&reader->bytes, reader->name),
        .data = reader->data_is_joined ? buf_view(&reader->joined)
                                       : slice_of(&reader->bytes, reader->data),
    };
    bool more = tell(context, &event);
    forget_event(reader);
    return more;
}

/* --- its lines --- */

static void add_data(struct event_reader *reader, struct stream_slice value)
{
    if (!reader->data.there) {
        reader->data = value;
        return;
    }
    if (!reader->data_is_joined)
        buf_str(&reader->joined, slice_of(&reader->bytes, reader->data));
    reader->data_is_joined = true;
    buf_putc(&reader->joined, '\n');
    buf_str(&reader->joined, slice_of(&reader->bytes, value));
}

/* "name: value", the space is no part of the value; a line without a colon is a name. Other names
 * than these two don't matter here, and a comment's is empty. */
static void take_field(struct event_reader *reader, size_t begin, size_t end)
{
    const char *bytes = reader->bytes.data;
    const char *colon = memchr(bytes + begin, ':', end - begin);
    size_t name_end = colon ? (size_t)(colon - bytes) : end;
    size_t value = colon ? name_end + 1 : end;
    struct str name = {bytes + begin, name_end - begin};
    value += value < end && bytes[value] == ' ';
    struct stream_slice slice = {value, end - value, true};
    if (str_eq(name, STR("data")))
        add_data(reader, slice);
    else if (str_eq(name, STR("event")))
        reader->name = slice;
}

static bool is_blank(struct str line)
{
    for (size_t i = 0; i < line.len; i++)
        if (line.at[i] != ' ' && line.at[i] != '\t' && line.at[i] != '\r')
            return false;
    return true;
}

/* Whether the line from `begin` to `end` ends an event. */
static bool take_line(struct event_reader *reader, size_t begin, size_t end)
{
    if (reader->framing == STREAM_NDJSON) {
        struct str line = {reader->bytes.data + begin, end - begin};
        reader->data = (struct stream_slice){begin, end - begin, !is_blank(line)};
        return true;
    }
    if (begin == end)
        return true;
    take_field(reader, begin, end);
    return false;
}

/* --- the bytes --- */

/* How many bytes there end a line, 0 = none: a line feed, a carriage return, or both. The line feed
 * may be still to come: it is passed over then. Lines of JSON end with a line feed. */
static size_t line_end_at(const struct event_reader *reader, size_t at)
{
    const char *bytes = reader->bytes.data;
    if (bytes[at] == '\n')
        return 1;
    if (bytes[at] != '\r' || reader->framing == STREAM_NDJSON)
        return 0;
    return at + 1 < reader->bytes.len && bytes[at + 1] == '\n' ? 2 : 1;
}

/* Passes over a byte order mark, once it is known whether there is one. */
static bool pass_mark(struct event_reader *reader)
{
    size_t len = reader->bytes.len < MARK_BYTES ? reader->bytes.len : MARK_BYTES;
    bool same = len > 0 && memcmp(reader->bytes.data, byte_order_mark, len) == 0;
    if (reader->begun)
        return true;
    if (same && len < MARK_BYTES)
        return false;
    reader->begun = true;
    reader->line = reader->scanned = same ? MARK_BYTES : 0;
    return true;
}

/* What was told is dropped. */
static void drop(struct event_reader *reader, size_t count)
{
    buf_consume(&reader->bytes, count);
    reader->line -= count;
    reader->scanned -= count;
    reader->name.at -= reader->name.there ? count : 0;
    reader->data.at -= reader->data.there ? count : 0;
}

static void pass_line_feed(struct event_reader *reader)
{
    if (!reader->after_cr || reader->scanned == reader->bytes.len)
        return;
    reader->after_cr = false;
    if (reader->bytes.data[reader->scanned] != '\n')
        return;
    reader->scanned++;
    reader->line = reader->scanned;
}

enum stream_read event_reader_feed(struct event_reader *reader, struct str bytes,
                                   stream_event_fn *tell, void *context)
{
    size_t told = 0;
    bool more = true;
    buf_str(&reader->bytes, bytes);
    if (!pass_mark(reader))
        return STREAM_MORE;
    pass_line_feed(reader);
    while (more && reader->scanned < reader->bytes.len) {
        size_t ending = line_end_at(reader, reader->scanned);
        if (ending == 0) {
            reader->scanned++;
            continue;
        }
        size_t line = reader->line, end = reader->scanned;
        reader->scanned += ending;
        reader->line = reader->scanned;
        reader->after_cr =
            reader->scanned == reader->bytes.len && reader->bytes.data[reader->scanned - 1] == '\r';
        if (!take_line(reader, line, end))
            continue;
        more = tell_event(reader, told, reader->scanned, tell, context);
        told = reader->scanned;
    }
    drop(reader, told);
    if (!more)
        return STREAM_STOPPED;
    return reader->bytes.len > reader->max_event ? STREAM_TOO_LARGE : STREAM_MORE;
}

enum stream_read event_reader_end(struct event_reader *reader, stream_event_fn *tell, void *context)
{
    bool more = true;
    size_t len = reader->bytes.len;
    if (reader->line < len || reader->data.there)
        (void)take_line(reader, reader->line, len);
    if (len > 0)
        more = tell_event(reader, 0, len, tell, context);
    event_reader_free(reader);
    return more ? STREAM_MORE : STREAM_STOPPED;
}

void event_reader_free(struct event_reader *reader)
{
    buf_free(&reader->bytes);
    buf_free(&reader->joined);
    *reader = (struct event_reader){.framing = reader->framing, .max_event = reader->max_event};
}
