#include "worker/provider/estimate.h"

#include "worker/provider/chat.h"

enum { CHARACTERS_PER_TOKEN = 4 };

static int64_t count_characters(struct str text)
{
    int64_t count = 0;
    for (size_t i = 0; i < text.len; i++)
        count += ((unsigned char)text.at[i] & 0xC0) != 0x80;
    return count;
}

static int64_t to_tokens(int64_t characters)
{
    return (characters + CHARACTERS_PER_TOKEN - 1) / CHARACTERS_PER_TOKEN;
}

int64_t estimate_text(struct str text)
{
    return to_tokens(count_characters(text));
}

/* Parts without text have none. */
static int64_t characters_of(struct json_object *content)
{
    int64_t sum = 0;
    for (size_t i = 0; i < chat_count_parts(content); i++) {
        struct chat_part part = chat_part_at(content, i);
        sum += part.kind == CHAT_TEXT ? count_characters(part.text) : 0;
    }
    return sum;
}

int64_t estimate_messages(struct json_object *messages)
{
    int64_t sum = 0;
    for (size_t i = 0; i < json_object_array_length(messages); i++)
        sum += characters_of(json_member(json_object_array_get_idx(messages, i), "content", NULL));
    return to_tokens(sum);
}
