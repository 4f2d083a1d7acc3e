/* Whatever a provider answers: the first byte says which one (behind the last is OpenAI's other
 * API), the second which status (times 10), the rest is the body. What is read of it is what rows
 * and clients get: legible, within bounds. */
#include "worker/provider/provider.h"

#include "shared/base/json.h"

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

enum { KINDS = PROVIDER_COUNT + 1 };

static void check_usage(const struct usage *usage)
{
    CHECK(usage->prompt_tokens >= 0 && usage->completion_tokens >= 0);
    CHECK(usage->total_tokens == usage->prompt_tokens + usage->completion_tokens);
    CHECK(usage->cached_tokens >= 0 && usage->cache_write_tokens >= 0);
}

static void check_answer(const struct completion *completion)
{
    CHECK(completion->finish_reason);
    CHECK(completion->id.len <= 256 && completion->model.len <= 256);
    CHECK(completion->content.at || completion->tool_calls || completion->refusal.at ||
          completion->content.len == 0);
    if (completion->tool_calls) {
        struct buf text = {0};
        CHECK(json_object_is_type(completion->tool_calls, json_type_array));
        json_write(&text, completion->tool_calls);
        buf_free(&text);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena arena = {0};
    struct completion completion = {0};
    struct error error;
    struct refusal refusal = {0};
    if (size < 2)
        return 0;
    struct upstream_reply reply = {.provider = data[0] % KINDS == PROVIDER_COUNT
                                                   ? PROVIDER_OPENAI
                                                   : (enum provider_id)(data[0] % KINDS),
                                   .status = data[1] * 10};
    const struct provider *provider = provider_of(
        reply.provider, data[0] % KINDS == PROVIDER_COUNT ? MODEL_API_RESPONSES : MODEL_API_CHAT);
    buf_append(&reply.body, data + 2, size - 2);
    error.message[0] = '\0';
    if (provider->read_answer(&reply, &arena, &completion, &error))
        check_answer(&completion);
    else
        CHECK(error.message[0] != '\0');
    check_usage(&completion.usage);
    CHECK(provider->read_error(&reply, &arena, &refusal) <= FAULT_PROVIDER && refusal.wait_ms >= 0);
    json_object_put(completion.parsed);
    buf_free(&reply.body);
    arena_free(&arena);
    return 0;
}
