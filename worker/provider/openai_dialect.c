#include "worker/provider/openai_dialect.h"

#include "shared/base/hash.h"
#include "shared/base/json.h"

#define LACKS(member) MEMBER_BIT(MEMBER_##member)

static const struct openai_dialect dialects[PROVIDER_COUNT] = {
    [PROVIDER_OPENAI] = {.max_tokens = "max_completion_tokens",
                         .seed = "seed",
                         .strict = true,
                         .asks_usage = true},
    [PROVIDER_ECHO] = {.max_tokens = "max_completion_tokens",
                       .seed = "seed",
                       .strict = true,
                       .asks_usage = true},
    [PROVIDER_GROQ] = {.max_tokens = "max_completion_tokens",
                       .seed = "seed",
                       .lacks = LACKS(logprobs) | LACKS(top_logprobs) | LACKS(logit_bias) |
                                LACKS(frequency_penalty) | LACKS(presence_penalty) |
                                LACKS(metadata) | LACKS(store),
                       .later_status = 498},
    [PROVIDER_MISTRAL] = {.max_tokens = "max_tokens",
                          .seed = "random_seed",
                          .hottest = 1,
                          .short_ids = true,
                          .says_prefix = true,
                          .lacks = LACKS(user) | LACKS(logit_bias) | LACKS(logprobs) |
                                   LACKS(top_logprobs) | LACKS(store) | LACKS(metadata) |
                                   LACKS(verbosity) | LACKS(modalities) | LACKS(audio) |
                                   LACKS(service_tier) | LACKS(safety_identifier) |
                                   LACKS(web_search_options)},
    [PROVIDER_TOGETHER] = {.max_tokens = "max_tokens",
                           .seed = "seed",
                           .stop_is_list = true,
                           .lacks = LACKS(parallel_tool_calls) | LACKS(store) | LACKS(metadata) |
                                    LACKS(modalities) | LACKS(audio) | LACKS(prediction) |
                                    LACKS(service_tier) | LACKS(verbosity) |
                                    LACKS(prompt_cache_key) | LACKS(safety_identifier) |
                                    LACKS(web_search_options),
                           .request_status = 403},
};

const struct openai_dialect *openai_dialect(enum provider_id id)
{
    return &dialects[id];
}

/* --- messages --- */

enum { SHORT_ID = 9 };

static bool is_short_id(struct str id)
{
    for (size_t i = 0; i < id.len; i++) {
        char c = id.at[i];
        if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z'))
            return false;
    }
    return id.len == SHORT_ID;
}

/* The same for the same id, wherever it stands in the conversation. */
static void shorten_id(struct json_object *object, const char *member)
{
    static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint8_t digest[SHA256_BYTES];
    char id[SHORT_ID + 1] = "";
    struct str given = json_text(json_member(object, member, NULL));
    if (!given.at || is_short_id(given))
        return;
    sha256(given, digest);
    for (size_t i = 0; i < SHORT_ID; i++)
        id[i] = digits[digest[i] % (sizeof digits - 1)];
    json_object_object_add(object, member, json_object_new_string(id));
}

static void shorten_ids(struct json_object *message)
{
    struct json_object *calls = json_member(message, "tool_calls", NULL);
    shorten_id(message, "tool_call_id");
    if (!json_object_is_type(calls, json_type_array))
        return;
    for (size_t i = 0; i < json_object_array_length(calls); i++)
        shorten_id(json_object_array_get_idx(calls, i), "id");
}

static void mark_prefix(struct json_object *messages)
{
    size_t count = json_object_array_length(messages);
    struct json_object *last = count ? json_object_array_get_idx(messages, count - 1) : NULL;
    if (str_eq(json_text(json_member(last, "role", NULL)), STR("assistant")) &&
        !json_member(last, "tool_calls", NULL))
        json_object_object_add(last, "prefix", json_object_new_boolean(true));
}

struct json_object *openai_dialect_messages(const struct openai_dialect *dialect,
                                            struct json_object *messages)
{
    struct json_object *copy = NULL;
    if (!dialect->short_ids && !dialect->says_prefix)
        return json_object_get(messages);
    if (json_object_deep_copy(messages, &copy, json_c_shallow_copy_default) != 0)
        return json_object_get(messages);
    for (size_t i = 0; dialect->short_ids && i < json_object_array_length(copy); i++)
        shorten_ids(json_object_array_get_idx(copy, i));
    if (dialect->says_prefix)
        mark_prefix(copy);
    return copy;
}
