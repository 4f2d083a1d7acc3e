#include "worker/provider/provider.h"

const struct provider *provider_of(enum provider_id id)
{
    static const struct provider *const providers[PROVIDER_COUNT] = {
        [PROVIDER_OPENAI] = &provider_openai,
        [PROVIDER_ECHO] = &provider_echo,
    };
    return providers[id];
}
