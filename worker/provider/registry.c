#include "worker/provider/openai_dialect.h"

#include "shared/base/json.h"

const struct provider *provider_of(enum provider_id id)
{
    static const struct provider *const providers[PROVIDER_COUNT] = {
        [PROVIDER_OPENAI] = &provider_openai,   [PROVIDER_ANTHROPIC] = &provider_anthropic,
        [PROVIDER_MISTRAL] = &provider_openai,  [PROVIDER_GROQ] = &provider_openai,
        [PROVIDER_TOGETHER] = &provider_openai, [PROVIDER_ECHO] = &provider_echo,
    };
    return providers[id];
}

/* Of Anthropic's there are no others than these. */
static uint64_t all_but_anthropics(void)
{
    static const enum member taken[] = {MEMBER_stop,        MEMBER_tools, MEMBER_tool_choice,
                                        MEMBER_temperature, MEMBER_top_p, MEMBER_user};
    uint64_t lacks = 0;
    for (int i = 0; i < MEMBER_NONE; i++)
        lacks |= MEMBER_BIT(i);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        lacks &= ~MEMBER_BIT(taken[i]);
    return lacks;
}

uint64_t provider_lacks(enum provider_id id)
{
    return id == PROVIDER_ANTHROPIC ? all_but_anthropics() : openai_dialect(id)->lacks;
}

int64_t provider_max_tokens(enum provider_id id)
{
    enum { ANTHROPIC = 4096 }; /* required there; every model gives as many */
    return id == PROVIDER_ANTHROPIC ? ANTHROPIC : 0;
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
