#include "shared/record/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static const struct uuid ids[] = {{"first-record-id"}, {"other-record-id"}, {"third-record-id"}};

static char letter_at(size_t i)
{
    return (char)('a' + i % 23);
}

/* A record of `len` letters that begin with `first`. */
static void append_record(struct buf *out, size_t id, size_t len, char first)
{
    struct buf record = {0};
    for (size_t i = 0; i < len; i++)
        buf_putc(&record, i ? letter_at(i) : first);
    assert_true(frames_encode(&ids[id], buf_view(&record), out));
    buf_free(&record);
}

/* What a reader makes of `bytes` that come in pieces of `piece`: "LENGTH,FIRST;" for each. */
static void read_all(struct frame_reader *reader, struct str bytes, size_t piece, struct buf *seen)
{
    struct buf pending = {0};
    for (size_t at = 0; at < bytes.len; at += piece) {
        size_t len = bytes.len - at < piece ? bytes.len - at : piece;
        buf_append(&pending, bytes.at + at, len);
        size_t consumed;
        struct str record;
        while (frame_reader_next(reader, buf_view(&pending), &consumed, &record) == FRAME_RECORD) {
            buf_printf(seen, "%zu,%c;", record.len, record.len ? record.at[0] : '-');
            for (size_t i = 1; i < record.len; i++)
                assert_true(record.at[i] == letter_at(i));
            buf_consume(&pending, consumed);
        }
        buf_consume(&pending, consumed);
    }
    buf_free(&pending);
}

struct counts {
    uint64_t skipped, torn;
};

static struct counts assert_reads(struct str bytes, size_t piece, const char *expected)
{
    struct frame_reader reader = {0};
    struct buf seen = {0};
    read_all(&reader, bytes, piece, &seen);
    assert_string_equal(buf_cstr(&seen), expected);
    struct counts counts = {reader.skipped_bytes, reader.torn_records};
    frame_reader_free(&reader);
    buf_free(&seen);
    return counts;
}

static void sizes_of_frames(void **state)
{
    (void)state;
    static const size_t lengths[] = {0, 1, FRAME_PAYLOAD_MAX, FRAME_PAYLOAD_MAX + 1,
                                     3 * FRAME_PAYLOAD_MAX};
    static const size_t frames[] = {1, 1, 1, 2, 3};
    for (size_t i = 0; i < 5; i++) {
        struct buf out = {0};
        append_record(&out, 0, lengths[i], 'A');
        assert_int_equal(out.len, lengths[i] + frames[i] * FRAME_HEAD);
        struct str rest = buf_view(&out);
        for (size_t n = 0; n < frames[i]; n++) {
            size_t length = frame_length(rest);
            assert_int_equal(length, n + 1 < frames[i] ? FRAME_MAX : rest.len);
            assert_int_equal(frame_length((struct str){rest.at, length - 1}), 0);
            rest.at += length;
            rest.len -= length;
        }
        assert_int_equal(rest.len, 0);
        buf_free(&out);
    }
}

static void too_large_is_refused(void **state)
{
    (void)state;
    size_t len = (size_t)FRAME_PAYLOAD_MAX * 65535 + 1;
    char *huge = calloc(1, len);
    struct buf out = {0};
    assert_false(frames_encode(&ids[0], (struct str){huge, len}, &out));
    assert_int_equal(out.len, 0);
    free(huge);
}

static void split_anywhere(void **state)
{
    (void)state;
    struct buf out = {0};
    append_record(&out, 0, 10, 'A');
    append_record(&out, 1, 9000, 'B');
    append_record(&out, 2, 4064, 'C');
    static const size_t pieces[] = {1, 3, 31, 32, 33, 4095, 4096, 4097, 100000};
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        struct counts counts = assert_reads(buf_view(&out), pieces[i], "10,A;9000,B;4064,C;");
        assert_int_equal(counts.skipped + counts.torn, 0);
    }
    buf_free(&out);
}

/* Two reads, with the border at every byte. */
static void split_at_every_byte(void **state)
{
    (void)state;
    struct buf out = {0};
    append_record(&out, 0, 60, 'A');
    append_record(&out, 1, 4100, 'B');
    append_record(&out, 2, 60, 'C');
    for (size_t cut = 1; cut < out.len; cut++) {
        struct frame_reader reader = {0};
        struct buf seen = {0};
        size_t consumed, done = 0;
        struct str record;
        for (int part = 0; part < 2; part++)
            for (;;) {
                size_t end = part ? out.len : cut;
                enum frame_result result = frame_reader_next(
                    &reader, (struct str){out.data + done, end - done}, &consumed, &record);
                done += consumed;
                if (result == FRAME_MORE)
                    break;
                buf_printf(&seen, "%zu,%c;", record.len, record.at[0]);
            }
        assert_string_equal(buf_cstr(&seen), "60,A;4100,B;60,C;");
        assert_int_equal(reader.skipped_bytes + reader.torn_records, 0);
        frame_reader_free(&reader);
        buf_free(&seen);
    }
    buf_free(&out);
}

static void unfinished_record_is_dropped(void **state)
{
    (void)state;
    struct buf out = {0};
    append_record(&out, 0, 9000, 'A');
    out.len = 2 * FRAME_MAX;
    append_record(&out, 1, 9000, 'B');
    append_record(&out, 2, 5, 'C');
    struct counts counts = assert_reads(buf_view(&out), 1000, "9000,B;5,C;");
    assert_int_equal(counts.torn, 1);
    assert_int_equal(counts.skipped, 0);
    buf_free(&out);
}

static void parts_without_a_beginning(void **state)
{
    (void)state;
    struct buf out = {0};
    append_record(&out, 0, 9000, 'A');
    buf_consume(&out, FRAME_MAX);
    size_t lost = out.len;
    append_record(&out, 1, 5, 'B');
    struct counts counts = assert_reads(buf_view(&out), 1000, "5,B;");
    assert_int_equal(counts.skipped, lost);
    buf_free(&out);
}

/* A frame cut short (a power cut), then whole ones: found at once, though the cut one claims more
 * bytes than have come. */
static void cut_frame_then_good_ones(void **state)
{
    (void)state;
    struct buf whole = {0};
    append_record(&whole, 0, 4000, 'A');
    static const size_t kept[] = {1, 4, 31, 32, 33, 2000, 4031};
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
        struct buf out = {0};
        buf_append(&out, whole.data, kept[i]);
        append_record(&out, 1, 50, 'B');
        struct counts counts = assert_reads(buf_view(&out), 100000, "50,B;");
        assert_int_equal(counts.skipped, kept[i]);
        buf_free(&out);
    }
    buf_free(&whole);
}

static void any_damaged_byte_is_seen(void **state)
{
    (void)state;
    struct buf out = {0};
    append_record(&out, 0, 40, 'A');
    append_record(&out, 1, 40, 'B');
    append_record(&out, 2, 40, 'C');
    for (size_t at = 72; at < 144; at++) {
        out.data[at] ^= 0x11;
        struct counts counts = assert_reads(buf_view(&out), 100000, "40,A;40,C;");
        assert_int_equal(counts.skipped, 72);
        out.data[at] ^= 0x11;
    }
    buf_free(&out);
}

/* Not a record that this reader could understand: skipped as a damaged one is, and those behind it
 * are read. */
static void a_newer_version_is_skipped(void **state)
{
    (void)state;
    struct buf out = {0};
    append_record(&out, 0, 40, 'A');
    size_t at = out.len;
    append_record(&out, 1, 5000, 'B');
    size_t newer = out.len - at;
    append_record(&out, 2, 40, 'C');
    out.data[at + 4] = out.data[at + FRAME_MAX + 4] = RECORD_VERSION + 1;
    for (size_t piece = 1; piece < 10000; piece *= 9) {
        struct counts counts = assert_reads(buf_view(&out), piece, "40,A;40,C;");
        assert_int_equal(counts.skipped, newer);
        assert_int_equal(counts.torn, 0);
    }
    buf_free(&out);
}

static void finds_its_way_through_rubbish(void **state)
{
    (void)state;
    struct buf out = {0};
    for (int i = 0; i < 5000; i++)
        buf_puts(&out, "PGPGF1P");
    buf_append(&out, "\0\0\0\0PGF", 7);
    size_t rubbish = out.len;
    append_record(&out, 0, 40, 'A');
    struct counts counts = assert_reads(buf_view(&out), 100000, "40,A;");
    assert_int_equal(counts.skipped, rubbish);
    counts = assert_reads(buf_view(&out), 7, "40,A;");
    assert_int_equal(counts.skipped, rubbish);
    buf_free(&out);
}

/* Text has no NUL, so what a client sends can't be taken for a frame when the record that
 * carries it is cut. */
static void a_frame_in_text_is_no_frame(void **state)
{
    (void)state;
    struct buf forged = {0}, out = {0};
    append_record(&forged, 1, 300, 'F');
    forged.data[5] = 1;
    buf_puts(&out, "............................................");
    buf_str(&out, buf_view(&forged));
    buf_puts(&out, "....");
    struct buf carrier = {0};
    assert_true(frames_encode(&ids[0], buf_view(&out), &carrier));
    carrier.len -= 1;
    struct counts counts = assert_reads(buf_view(&carrier), 100000, "");
    assert_int_equal(counts.skipped, 0);
    buf_free(&forged);
    buf_free(&out);
    buf_free(&carrier);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_frames),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(split_anywhere),
        cmocka_unit_test(split_at_every_byte),
        cmocka_unit_test(unfinished_record_is_dropped),
        cmocka_unit_test(parts_without_a_beginning),
        cmocka_unit_test(cut_frame_then_good_ones),
        cmocka_unit_test(any_damaged_byte_is_seen),
        cmocka_unit_test(a_newer_version_is_skipped),
        cmocka_unit_test(finds_its_way_through_rubbish),
        cmocka_unit_test(a_frame_in_text_is_no_frame),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
