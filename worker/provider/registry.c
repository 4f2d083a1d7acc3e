#include "worker/provider/openai_dialect.h"
#include "worker/provider/provider.h"

const struct provider *provider_of(enum provider_id id)
{
    static const struct provider *const providers[PROVIDER_COUNT] = {
        [PROVIDER_OPENAI] = &provider_openai, [PROVIDER_MISTRAL] = &provider_openai,
        [PROVIDER_GROQ] = &provider_openai,   [PROVIDER_TOGETHER] = &provider_openai,
        [PROVIDER_ECHO] = &provider_echo,
    };
    return providers[id];
}

uint64_t provider_lacks(enum provider_id id)
{
    return openai_dialect(id)->lacks;
}
