/* Streams of events, whole, byte by byte and cut anywhere. Quotes: HTML standard, 9.2.6. */
#include "worker/upstream/event_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* What is told, as a text: "name|data;" for each event, "-" where there is none. Empty lines, such
 * as a line feed that came late, count only as bytes. */
struct told {
    struct buf events, raw;
    unsigned count, most; /* most: 0 = all */
};

static bool is_empty_line(struct str raw)
{
    for (size_t i = 0; i < raw.len; i++)
        if (raw.at[i] != '\r' && raw.at[i] != '\n')
            return false;
    return true;
}

static bool tell(void *context, const struct stream_event *event)
{
    struct told *told = context;
    buf_str(&told->raw, event->raw);
    if (is_empty_line(event->raw))
        return true;
    buf_str(&told->events, event->name.at ? event->name : STR("-"));
    buf_putc(&told->events, '|');
    buf_str(&told->events, event->data.at ? event->data : STR("-"));
    buf_putc(&told->events, ';');
    return ++told->count != told->most;
}

static void release(struct told *told)
{
    buf_free(&told->events);
    buf_free(&told->raw);
}

static struct event_reader reader_of(enum stream_framing framing)
{
    return (struct event_reader){.framing = framing, .max_event = 1024};
}

/* In pieces of `first`, then of `each` bytes. */
static void read_in_pieces(enum stream_framing framing, struct str stream, size_t first,
                           size_t each, const char *expected)
{
    struct event_reader reader = reader_of(framing);
    struct told told = {0};
    for (size_t at = 0, len = first; at < stream.len; at += len, len = each) {
        len = len < stream.len - at ? len : stream.len - at;
        struct str piece = {stream.at + at, len};
        assert_int_equal(event_reader_feed(&reader, piece, tell, &told), STREAM_MORE);
    }
    assert_int_equal(event_reader_end(&reader, tell, &told), STREAM_MORE);
    assert_string_equal(buf_cstr(&told.events), expected);
    assert_true(str_eq(buf_view(&told.raw), stream));
    release(&told);
}

/* Whole, byte by byte, and cut in two at every place. */
static void expect(enum stream_framing framing, const char *stream, const char *expected)
{
    struct str text = str_of(stream);
    read_in_pieces(framing, text, 1, 1, expected);
    for (size_t cut = 1; cut <= text.len; cut++)
        read_in_pieces(framing, text, cut, text.len, expected);
}

static void events_and_their_fields(void **state)
{
    (void)state;
    expect(STREAM_SSE, "data: a\n\nevent: ping\ndata: b\n\n", "-|a;ping|b;");
    expect(STREAM_SSE, "data:a\n\ndata:  b\n\n", "-|a;-| b;"); /* one space goes */
    expect(STREAM_SSE, "data: a\ndata: b\ndata\n\n", "-|a\nb\n;");
    expect(STREAM_SSE, "id: 7\nretry: 3\nfoo: bar\ndata: a\n\n", "-|a;");
    expect(STREAM_SSE, "data:\n\n", "-|;");
    expect(STREAM_SSE, ": comment\n\n: another\ndata: a\n\n", "-|-;-|a;");
    expect(STREAM_SSE, "event: x\n\ndata: a\n\n", "x|-;-|a;");
    expect(STREAM_SSE, "\n\ndata: a\n\n", "-|a;");
    expect(STREAM_SSE, "datax: a\ndat: b\n\n", "-|-;");
}

/* "lines must be separated by either a U+000D CARRIAGE RETURN U+000A LINE FEED (CRLF) character
 * pair, a single U+000A LINE FEED (LF) character, or a single U+000D CARRIAGE RETURN (CR)" */
static void any_line_end(void **state)
{
    (void)state;
    static const char *const ends[] = {"\n", "\r\n"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct buf stream = {0};
        for (const char *c = "event: e#data: a#data: b##: c##data: d##"; *c; c++)
            buf_puts(&stream, *c == '#' ? ends[i] : (char[]){*c, '\0'});
        expect(STREAM_SSE, buf_cstr(&stream), "e|a\nb;-|-;-|d;");
        buf_free(&stream);
    }
    expect(STREAM_SSE, "data: a\rdata: b\r\rdata: c\r\r", "-|a\nb;-|c;");
    expect(STREAM_SSE, "data: a\n\rdata: b\r\n\n", "-|a;-|b;");
}

/* A line feed that comes after its carriage return was taken for a line's end is no line of its
 * own; the event is not held back for it. */
static void an_event_does_not_wait_for_a_line_feed(void **state)
{
    (void)state;
    struct event_reader reader = reader_of(STREAM_SSE);
    struct told told = {0};
    assert_int_equal(event_reader_feed(&reader, STR("data: a\r\n\r"), tell, &told), STREAM_MORE);
    assert_int_equal(told.count, 1);
    assert_int_equal(event_reader_feed(&reader, STR("\ndata: b\r\n\r\n"), tell, &told),
                     STREAM_MORE);
    assert_string_equal(buf_cstr(&told.events), "-|a;-|b;");
    assert_int_equal(event_reader_end(&reader, tell, &told), STREAM_MORE);
    assert_string_equal(buf_cstr(&told.raw), "data: a\r\n\r\ndata: b\r\n\r\n");
    release(&told);
}

/* "stripping one leading U+FEFF BYTE ORDER MARK (BOM), if any" */
static void a_byte_order_mark(void **state)
{
    (void)state;
    expect(STREAM_SSE,
           "\xEF\xBB\xBF"
           "data: a\n\n",
           "-|a;");
    expect(STREAM_SSE,
           "\xEF\xBB"
           "data: a\n\ndata: b\n\n",
           "-|-;-|b;");
    expect(STREAM_SSE,
           "\xEF\xBB\xBF\xEF\xBB\xBF"
           "data: a\n\n",
           "-|-;");
    expect(STREAM_NDJSON, "\xEF\xBB\xBF{}\n", "-|{};");
}

static void what_is_left_at_the_end(void **state)
{
    (void)state;
    expect(STREAM_SSE, "data: a\n\ndata: b", "-|a;-|b;");
    expect(STREAM_SSE, "data: a\n\nevent: x\ndata: b\n", "-|a;x|b;");
    expect(STREAM_SSE, "data: a\n\n: bye", "-|a;-|-;");
    expect(STREAM_SSE, "", "");
    expect(STREAM_NDJSON, "{\"a\":1}\n{\"b\":2}", "-|{\"a\":1};-|{\"b\":2};");
}

static void lines_of_json(void **state)
{
    (void)state;
    expect(STREAM_NDJSON, "{\"a\":1}\n\n{\"b\":2}\r\n \n", "-|{\"a\":1};-|{\"b\":2}\r;-|-;");
}

static void huge_events_are_refused(void **state)
{
    (void)state;
    struct event_reader reader = reader_of(STREAM_SSE);
    struct told told = {0};
    enum stream_read read = STREAM_MORE;
    size_t fed = 0;
    for (; read == STREAM_MORE && fed < 4096; fed += 8)
        read = event_reader_feed(&reader, STR("data: a\n"), tell, &told);
    assert_int_equal(read, STREAM_TOO_LARGE);
    assert_int_equal(fed, 1032);
    event_reader_free(&reader);
    release(&told);
}

static void the_receiver_stops(void **state)
{
    (void)state;
    struct event_reader reader = reader_of(STREAM_SSE);
    struct told told = {.most = 2};
    assert_int_equal(
        event_reader_feed(&reader, STR("data: a\n\ndata: b\n\ndata: c\n\n"), tell, &told),
        STREAM_STOPPED);
    assert_string_equal(buf_cstr(&told.events), "-|a;-|b;");
    event_reader_free(&reader);
    release(&told);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_and_their_fields),
        cmocka_unit_test(any_line_end),
        cmocka_unit_test(an_event_does_not_wait_for_a_line_feed),
        cmocka_unit_test(a_byte_order_mark),
        cmocka_unit_test(what_is_left_at_the_end),
        cmocka_unit_test(lines_of_json),
        cmocka_unit_test(huge_events_are_refused),
        cmocka_unit_test(the_receiver_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
