#include "shared/base/uuid.h"

#include <sodium.h>

/* RFC 9562 section 6.2, method 1: the 12 bits of rand_a are a counter within one millisecond,
 * started at a random value below half its range. A full counter borrows the next millisecond. */
struct uuid uuid_v7(int64_t wall_ms)
{
    static int64_t last_ms;
    static unsigned counter;
    struct uuid id;
    randombytes_buf(id.bytes, sizeof id.bytes);
    if (wall_ms > last_ms) {
        last_ms = wall_ms;
        counter = ((unsigned)id.bytes[6] << 8 | id.bytes[7]) & 0x7FF;
    } else if (++counter > 0xFFF) {
        last_ms++;
        counter = 0;
    }
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)((uint64_t)last_ms >> (40 - 8 * i));
    id.bytes[6] = (uint8_t)(0x70 | (counter >> 8));
    id.bytes[7] = (uint8_t)counter;
    id.bytes[8] = (uint8_t)((id.bytes[8] & 0x3F) | 0x80);
    return id;
}

struct uuid uuid_first(int64_t wall_ms)
{
    struct uuid id = {{0}};
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)((uint64_t)wall_ms >> (40 - 8 * i));
    id.bytes[6] = 0x70;
    id.bytes[8] = 0x80;
    return id;
}

static bool is_dash_place(size_t index)
{
    return index == 8 || index == 13 || index == 18 || index == 23;
}

char *uuid_format(const struct uuid *id, char text[UUID_TEXT_LEN + 1])
{
    static const char digits[] = "0123456789abcdef";
    size_t at = 0;
    for (size_t i = 0; i < 16; i++) {
        if (is_dash_place(at))
            text[at++] = '-';
        text[at++] = digits[id->bytes[i] >> 4];
        text[at++] = digits[id->bytes[i] & 15];
    }
    text[at] = '\0';
    return text;
}

bool uuid_parse(struct str text, struct uuid *id)
{
    if (text.len != UUID_TEXT_LEN)
        return false;
    size_t nibble = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (is_dash_place(i)) {
            if (text.at[i] != '-')
                return false;
            continue;
        }
        int value = hex_digit(text.at[i]);
        if (value < 0)
            return false;
        uint8_t *byte = &id->bytes[nibble / 2];
        *byte = (uint8_t)(nibble % 2 ? *byte | value : value << 4);
        nibble++;
    }
    return true;
}

int uuid_compare(const struct uuid *a, const struct uuid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes);
}

bool uuid_is_nil(const struct uuid *id)
{
    static const struct uuid nil;
    return uuid_compare(id, &nil) == 0;
}

int64_t uuid_wall_ms(const struct uuid *id)
{
    int64_t ms = 0;
    for (int i = 0; i < 6; i++)
        ms = ms << 8 | id->bytes[i];
    return ms;
}
