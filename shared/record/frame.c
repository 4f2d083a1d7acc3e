#include "shared/record/frame.h"

#include "shared/base/hash.h"

static const char magic[4] = {'P', 'G', 'F', '1'};

enum {
    AT_VERSION = 4,
    AT_LENGTH = 6,
    AT_CRC = 8,
    AT_ID = 12,
    AT_PART = 28,
    AT_PARTS = 30,
    PARTS_MAX = 65535,
    KEEP_BYTES = 256 * 1024,
};

static void put_u16(char *at, unsigned value)
{
    at[0] = (char)value;
    at[1] = (char)(value >> 8);
}

static unsigned get_u16(const char *at)
{
    return (unsigned)(uint8_t)at[0] | (unsigned)(uint8_t)at[1] << 8;
}

static uint32_t get_u32(const char *at)
{
    return (uint32_t)get_u16(at) | (uint32_t)get_u16(at + 2) << 16;
}

static void append_frame(struct buf *out, const struct uuid *id, unsigned part, unsigned parts,
                         struct str payload)
{
    char *head = buf_reserve(out, FRAME_HEAD + payload.len);
    memcpy(head, magic, sizeof magic);
    head[AT_VERSION] = RECORD_VERSION;
    head[AT_VERSION + 1] = 0;
    put_u16(head + AT_LENGTH, (unsigned)payload.len);
    memcpy(head + AT_ID, id, sizeof *id);
    put_u16(head + AT_PART, part);
    put_u16(head + AT_PARTS, parts);
    if (payload.len)
        memcpy(head + FRAME_HEAD, payload.at, payload.len);
    uint32_t crc = crc32c(0, head + AT_ID, FRAME_HEAD - AT_ID + payload.len);
    put_u16(head + AT_CRC, crc & 0xFFFF);
    put_u16(head + AT_CRC + 2, crc >> 16);
    out->len += FRAME_HEAD + payload.len;
}

bool frames_encode(const struct uuid *request_id, struct str record, struct buf *out)
{
    size_t parts = record.len ? (record.len + FRAME_PAYLOAD_MAX - 1) / FRAME_PAYLOAD_MAX : 1;
    if (parts > PARTS_MAX)
        return false;
    for (unsigned part = 0; part < parts; part++) {
        size_t len = record.len < FRAME_PAYLOAD_MAX ? record.len : FRAME_PAYLOAD_MAX;
        append_frame(out, request_id, part, (unsigned)parts, (struct str){record.at, len});
        record.at += len;
        record.len -= len;
    }
    return true;
}

/* What stands at the front of `bytes`. */
enum front {
    FRONT_FRAME, /* a whole good one */
    FRONT_SHORT, /* the start of what may become one */
    FRONT_BAD,
};

static enum front look(struct str bytes, size_t *length)
{
    size_t seen = bytes.len < sizeof magic ? bytes.len : sizeof magic;
    if (memcmp(bytes.at, magic, seen) != 0)
        return FRONT_BAD;
    if (bytes.len < FRAME_HEAD)
        return FRONT_SHORT;
    unsigned payload = get_u16(bytes.at + AT_LENGTH);
    unsigned part = get_u16(bytes.at + AT_PART), parts = get_u16(bytes.at + AT_PARTS);
    if (bytes.at[AT_VERSION] != RECORD_VERSION || bytes.at[AT_VERSION + 1] != 0)
        return FRONT_BAD;
    if (payload > FRAME_PAYLOAD_MAX || part >= parts)
        return FRONT_BAD;
    *length = FRAME_HEAD + payload;
    if (bytes.len < *length)
        return FRONT_SHORT;
    uint32_t crc = crc32c(0, bytes.at + AT_ID, *length - AT_ID);
    return crc == get_u32(bytes.at + AT_CRC) ? FRONT_FRAME : FRONT_BAD;
}

size_t frame_length(struct str bytes)
{
    if (bytes.len < FRAME_HEAD || memcmp(bytes.at, magic, sizeof magic) != 0)
        return 0;
    size_t length = FRAME_HEAD + (size_t)get_u16(bytes.at + AT_LENGTH);
    return length <= FRAME_MAX && length <= bytes.len ? length : 0;
}

bool frame_request_id(struct str bytes, struct uuid *id)
{
    if (bytes.len < FRAME_HEAD || memcmp(bytes.at, magic, sizeof magic) != 0)
        return false;
    memcpy(id, bytes.at + AT_ID, sizeof *id);
    return true;
}

/* Where the next frame could begin, behind the first byte. */
static size_t next_start(struct str bytes)
{
    for (size_t at = 1; at < bytes.len; at++) {
        const char *found = memchr(bytes.at + at, magic[0], bytes.len - at);
        if (!found)
            return bytes.len;
        at = (size_t)(found - bytes.at);
        size_t left = bytes.len - at;
        if (memcmp(found, magic, left < sizeof magic ? left : sizeof magic) == 0)
            return at;
    }
    return bytes.len;
}

/* A frame comes through the pipe in one piece, with nothing of another in it, and no record's text
 * can hold a frame (byte 5 is NUL, which text never has), whatever a client sends. So a good frame
 * inside what an unfinished one claims shows that the rest of that one will never come. */
static bool torn(struct str bytes)
{
    size_t at = 0, length;
    for (;;) {
        at += next_start((struct str){bytes.at + at, bytes.len - at});
        if (at >= bytes.len)
            return false;
        if (look((struct str){bytes.at + at, bytes.len - at}, &length) == FRONT_FRAME)
            return true;
    }
}

/* Ready for another record; the memory of a very large one is not kept. */
static void forget_parts(struct frame_reader *reader)
{
    reader->parts = reader->next_part = 0;
    buf_clear(&reader->record);
    if (reader->record.cap > KEEP_BYTES)
        buf_free(&reader->record);
}

/* Adds one good frame; true when its record is complete. */
static bool take_frame(struct frame_reader *reader, struct str frame, struct str *record)
{
    unsigned part = get_u16(frame.at + AT_PART), parts = get_u16(frame.at + AT_PARTS);
    struct str payload = {frame.at + FRAME_HEAD, frame.len - FRAME_HEAD};
    struct uuid id;
    memcpy(&id, frame.at + AT_ID, sizeof id);
    bool goes_on =
        reader->parts == parts && reader->next_part == part && uuid_compare(&reader->id, &id) == 0;
    if (!goes_on) {
        reader->torn_records += reader->parts != 0;
        forget_parts(reader);
        if (part != 0) {
            reader->skipped_bytes += frame.len;
            return false;
        }
    }
    if (parts == 1) {
        *record = payload;
        return true;
    }
    reader->id = id;
    reader->parts = parts;
    reader->next_part = part + 1;
    buf_str(&reader->record, payload);
    *record = buf_view(&reader->record);
    return part + 1 == parts;
}

enum frame_result frame_reader_next(struct frame_reader *reader, struct str bytes, size_t *consumed,
                                    struct str *record)
{
    /* The record given out last is done with. */
    if (reader->parts && reader->next_part == reader->parts)
        forget_parts(reader);
    *consumed = 0;
    while (*consumed < bytes.len) {
        struct str rest = {bytes.at + *consumed, bytes.len - *consumed};
        size_t length = 0;
        enum front front = look(rest, &length);
        if (front == FRONT_SHORT && !torn(rest))
            break;
        if (front == FRONT_FRAME) {
            *consumed += length;
            if (take_frame(reader, (struct str){rest.at, length}, record))
                return FRAME_RECORD;
        } else {
            size_t skip = next_start(rest);
            reader->skipped_bytes += skip;
            *consumed += skip;
        }
    }
    return FRAME_MORE;
}

void frame_reader_free(struct frame_reader *reader)
{
    buf_free(&reader->record);
    *reader = (struct frame_reader){0};
}
