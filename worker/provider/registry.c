#include "worker/provider/openai_dialect.h"

#include "shared/base/json.h"

const struct provider *provider_of(enum provider_id id, enum model_api api)
{
    static const struct provider *const providers[PROVIDER_COUNT] = {
        [PROVIDER_OPENAI] = &provider_openai, [PROVIDER_ANTHROPIC] = &provider_anthropic,
        [PROVIDER_GEMINI] = &provider_gemini, [PROVIDER_MISTRAL] = &provider_openai,
        [PROVIDER_GROQ] = &provider_openai,   [PROVIDER_TOGETHER] = &provider_openai,
        [PROVIDER_OLLAMA] = &provider_ollama, [PROVIDER_COHERE] = &provider_cohere,
        [PROVIDER_ECHO] = &provider_echo,
    };
    return api == MODEL_API_RESPONSES ? &provider_responses : providers[id];
}

#define TAKES(member) MEMBER_BIT(MEMBER_##member)

/* What they have a word for whose shape is not OpenAI's. */
static const uint64_t taken[PROVIDER_COUNT] = {
    [PROVIDER_ANTHROPIC] = TAKES(stop) | TAKES(tools) | TAKES(tool_choice) | TAKES(temperature) |
                           TAKES(top_p) | TAKES(user),
    [PROVIDER_GEMINI] = TAKES(stop) | TAKES(seed) | TAKES(tools) | TAKES(tool_choice) |
                        TAKES(temperature) | TAKES(top_p) | TAKES(frequency_penalty) |
                        TAKES(presence_penalty),
    [PROVIDER_OLLAMA] = TAKES(stop) | TAKES(seed) | TAKES(tools) | TAKES(temperature) |
                        TAKES(top_p) | TAKES(frequency_penalty) | TAKES(presence_penalty),
    [PROVIDER_COHERE] = TAKES(stop) | TAKES(seed) | TAKES(tools) | TAKES(tool_choice) |
                        TAKES(temperature) | TAKES(top_p) | TAKES(frequency_penalty) |
                        TAKES(presence_penalty),
};

static const uint64_t taken_by_responses =
    TAKES(tools) | TAKES(tool_choice) | TAKES(temperature) | TAKES(top_p) |
    TAKES(parallel_tool_calls) | TAKES(service_tier) | TAKES(metadata) | TAKES(prompt_cache_key) |
    TAKES(safety_identifier) | TAKES(user) | TAKES(top_logprobs) | TAKES(reasoning_effort) |
    TAKES(verbosity) | TAKES(response_format);

uint64_t provider_lacks(const struct config_target *target)
{
    enum provider_id id = target->provider;
    uint64_t sampling = TAKES(temperature) | TAKES(top_p);
    if (target->known.api == MODEL_API_RESPONSES)
        return ~taken_by_responses;
    if (id == PROVIDER_ANTHROPIC && !anthropic_samples(target->credential))
        return ~taken[id] | sampling;
    return taken[id] ? ~taken[id] : openai_dialect(id)->lacks;
}

int64_t provider_max_tokens(enum provider_id id)
{
    enum { ANTHROPIC = 4096 }; /* required there; every model gives as many */
    return id == PROVIDER_ANTHROPIC ? ANTHROPIC : 0;
}

/* The others write on to the end, and bill it. Source: what aggregators found out about aborted
 * streams of each vendor (OpenRouter's documentation of stream cancellation). */
bool provider_stops_when_left(enum provider_id id)
{
    static const bool stops[PROVIDER_COUNT] = {
        [PROVIDER_OPENAI] = true, [PROVIDER_ANTHROPIC] = true, [PROVIDER_TOGETHER] = true,
        [PROVIDER_COHERE] = true, [PROVIDER_OLLAMA] = true,    [PROVIDER_ECHO] = true,
    };
    return stops[id];
}

enum provider_fault provider_fault_of(int status)
{
    switch (status) {
    case 400:
    case 405:
    case 413:
    case 415:
    case 422:
        return FAULT_REQUEST;
    case 401:
    case 402:
    case 403:
        return FAULT_CREDENTIAL;
    case 404:
        return FAULT_MODEL;
    case 429:
        return FAULT_LATER;
    default:
        return FAULT_PROVIDER;
    }
}

struct str answer_name(struct json_object *answer, const char *name)
{
    enum { LONGEST = 256 };
    struct str text = json_text(json_member(answer, name, NULL));
    return text.len <= LONGEST ? text : STR_ABSENT;
}

int64_t usage_count(struct json_object *usage, const char *name)
{
    static const int64_t most = INT64_C(1000000000000); /* beyond what any model reads */
    int64_t count = json_int_or(json_member(usage, name, NULL), 0);
    return count > 0 && count <= most ? count : 0;
}
