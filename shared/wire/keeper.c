#include "shared/wire/keeper.h"

#include <string.h>

enum { LENGTH_BYTES = 4, TEXTS = 7, DEADLINE_PLACE = LENGTH_BYTES + 3 + 8 };

void keeper_refuse(struct keeper_message *answer, enum keeper_refusal refusal)
{
    answer->type = KEEPER_REFUSED;
    answer->refusal = (uint8_t)refusal;
}

/* --- writing --- */

static void put(struct buf *out, uint64_t number, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        buf_putc(out, (char)(number >> (8 * i) & 0xFF));
}

static void put_text(struct buf *out, struct str text)
{
    put(out, text.len, LENGTH_BYTES);
    buf_str(out, text);
}

void keeper_write(struct buf *out, const struct keeper_message *message)
{
    const int64_t numbers[] = {message->turn,       message->ttl_ms,   message->max_messages,
                               message->max_tokens, message->messages, message->tokens};
    const struct str texts[TEXTS] = {message->project, message->endpoint, message->token,
                                     message->key,     message->content,  message->body,
                                     message->answer};
    size_t before = out->len;
    put(out, 0, LENGTH_BYTES);
    put(out, KEEPER_VERSION, 1);
    put(out, message->type, 1);
    put(out, message->refusal, 1);
    put(out, message->ticket, 8);
    put(out, (uint64_t)message->deadline_ms, 8);
    buf_str(out, (struct str){(const char *)message->session.bytes, sizeof message->session.bytes});
    buf_str(out, (struct str){(const char *)message->request.bytes, sizeof message->request.bytes});
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        put(out, (uint64_t)numbers[i], 8);
    for (size_t i = 0; i < TEXTS; i++)
        put_text(out, texts[i]);
    size_t len = out->len - before - LENGTH_BYTES;
    for (size_t i = 0; i < LENGTH_BYTES; i++)
        out->data[before + i] = (char)(len >> (8 * i) & 0xFF);
}

void keeper_write_deadline(struct buf *frame, int64_t deadline_ms)
{
    for (size_t i = 0; i < 8; i++)
        frame->data[DEADLINE_PLACE + i] = (char)((uint64_t)deadline_ms >> (8 * i) & 0xFF);
}

/* --- reading --- */

struct reader {
    struct str rest;
    bool broken;
};

static struct str take(struct reader *reader, size_t len)
{
    struct str taken = {reader->rest.at, len};
    if (len > reader->rest.len) {
        reader->broken = true;
        return (struct str){"", 0};
    }
    reader->rest = (struct str){taken.at + len, reader->rest.len - len};
    return taken;
}

static uint64_t take_number(struct reader *reader, size_t bytes)
{
    struct str taken = take(reader, bytes);
    uint64_t number = 0;
    for (size_t i = 0; i < taken.len; i++)
        number |= (uint64_t)(unsigned char)taken.at[i] << (8 * i);
    return number;
}

static struct uuid take_uuid(struct reader *reader)
{
    struct uuid id = {0};
    struct str taken = take(reader, sizeof id.bytes);
    memcpy(id.bytes, taken.at, taken.len);
    return id;
}

static struct str take_text(struct reader *reader)
{
    return take(reader, (size_t)take_number(reader, LENGTH_BYTES));
}

static bool is_hash(struct str text)
{
    return text.len == 0 || text.len == KEEPER_HASH_BYTES;
}

static bool read_fields(struct reader *reader, struct keeper_message *message)
{
    bool known = take_number(reader, 1) == KEEPER_VERSION;
    message->type = (uint8_t)take_number(reader, 1);
    message->refusal = (uint8_t)take_number(reader, 1);
    message->ticket = take_number(reader, 8);
    message->deadline_ms = (int64_t)take_number(reader, 8);
    message->session = take_uuid(reader);
    message->request = take_uuid(reader);
    message->turn = (int64_t)take_number(reader, 8);
    message->ttl_ms = (int64_t)take_number(reader, 8);
    message->max_messages = (int64_t)take_number(reader, 8);
    message->max_tokens = (int64_t)take_number(reader, 8);
    message->messages = (int64_t)take_number(reader, 8);
    message->tokens = (int64_t)take_number(reader, 8);
    message->project = take_text(reader);
    message->endpoint = take_text(reader);
    message->token = take_text(reader);
    message->key = take_text(reader);
    message->content = take_text(reader);
    message->body = take_text(reader);
    message->answer = take_text(reader);
    return known && !reader->broken && reader->rest.len == 0 && message->type < KEEPER_TYPES &&
           message->refusal < KEEPER_REFUSALS && is_hash(message->key) &&
           is_hash(message->content) && (message->key.len > 0) == (message->content.len > 0);
}

enum keeper_read keeper_read(struct str bytes, struct keeper_message *message, size_t *used)
{
    struct reader length = {.rest = bytes};
    if (bytes.len < LENGTH_BYTES)
        return KEEPER_MORE;
    uint64_t len = take_number(&length, LENGTH_BYTES);
    if (len > KEEPER_FRAME_MAX)
        return KEEPER_BROKEN;
    if (bytes.len - LENGTH_BYTES < len)
        return KEEPER_MORE;
    struct reader reader = {.rest = {bytes.at + LENGTH_BYTES, (size_t)len}};
    *message = (struct keeper_message){0};
    *used = LENGTH_BYTES + (size_t)len;
    return read_fields(&reader, message) ? KEEPER_READ : KEEPER_BROKEN;
}
