/* The first byte chooses. Even: the rest is a record's encoding; what is read is written back and
 * read as the same. Odd: the rest is a script for a damaged stream of frames; it must give the
 * same records whether it is read at once or piece by piece. */
#include "shared/record/frame.h"
#include "shared/record/record.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

static void check_record(struct str bytes)
{
    struct record record, again;
    struct error error;
    if (!record_decode(bytes, &record, &error))
        return;
    struct buf first = {0}, second = {0};
    record_encode(&record, &first);
    require(record_decode(buf_view(&first), &again, &error));
    record_encode(&again, &second);
    require(str_eq(buf_view(&first), buf_view(&second)));
    buf_free(&first);
    buf_free(&second);
}

/* Each step: what it does, how many bytes it takes, those bytes. */
static void build_stream(struct str script, struct buf *stream)
{
    while (script.len >= 2) {
        uint8_t step = (uint8_t)script.at[0];
        size_t len = (uint8_t)script.at[1];
        script.at += 2;
        script.len -= 2;
        len = len < script.len ? len : script.len;
        struct str bytes = {script.at, len};
        script.at += len;
        script.len -= len;
        struct uuid id = {{(uint8_t)(step >> 4)}};
        struct buf record = {0};
        switch (step & 3) {
        case 0:
            buf_str(stream, bytes);
            break;
        case 1:
            require(frames_encode(&id, bytes, stream));
            break;
        case 2: /* several parts */
            for (size_t i = 0; i < 4 * len; i++)
                buf_str(&record, bytes);
            require(frames_encode(&id, buf_view(&record), stream));
            break;
        default: /* its end is lost */
            stream->len -= stream->len < len ? stream->len : len;
        }
        buf_free(&record);
    }
}

/* All records, each with its length before it; how many bytes are left over. */
static size_t read_stream(struct str stream, size_t piece, struct frame_reader *reader,
                          struct buf *records)
{
    size_t done = 0, seen = 0;
    while (seen < stream.len) {
        seen = piece < stream.len - seen ? seen + piece : stream.len;
        enum frame_result result = FRAME_RECORD;
        while (result == FRAME_RECORD) {
            /* In memory of its own, so that reading past the end is seen. */
            size_t len = seen - done, consumed;
            char *copy = malloc(len + 1);
            struct str record;
            memcpy(copy, stream.at + done, len);
            result = frame_reader_next(reader, (struct str){copy, len}, &consumed, &record);
            require(consumed <= len);
            done += consumed;
            if (result == FRAME_RECORD) {
                buf_printf(records, "%zu:", record.len);
                buf_str(records, record);
            }
            free(copy);
        }
        require(seen - done < FRAME_MAX);
    }
    require(reader->skipped_bytes <= done);
    return stream.len - done;
}

static void check_stream(size_t piece, struct str script)
{
    struct buf stream = {0}, whole = {0}, pieces = {0};
    struct frame_reader first = {0}, second = {0};
    build_stream(script, &stream);
    size_t left = read_stream(buf_view(&stream), SIZE_MAX, &first, &whole);
    require(read_stream(buf_view(&stream), piece, &second, &pieces) == left);
    require(str_eq(buf_view(&whole), buf_view(&pieces)));
    require(first.skipped_bytes == second.skipped_bytes);
    require(first.torn_records == second.torn_records);
    frame_reader_free(&first);
    frame_reader_free(&second);
    buf_free(&stream);
    buf_free(&whole);
    buf_free(&pieces);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct str rest = {(const char *)data + 1, size - 1};
    if (data[0] % 2 == 0)
        check_record(rest);
    else
        check_stream(data[0] * (size_t)16, rest);
    return 0;
}
