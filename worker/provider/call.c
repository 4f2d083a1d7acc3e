#include "worker/provider/provider.h"

static void add_header(struct upstream_call *call, struct str name, struct str value)
{
    call->headers[call->headers_count++] = (struct call_header){name, value};
}

void call_add_headers(struct upstream_call *call, const struct config_credential *credential,
                      struct str key_header, struct str key)
{
    add_header(call, STR("Content-Type"), STR("application/json"));
    if (key.at)
        add_header(call, key_header, key);
    for (size_t i = 0; i < credential->headers_count; i++)
        add_header(call, str_of(credential->headers[i].name), str_of(credential->headers[i].value));
}

void call_add_bearer(struct upstream_call *call, const struct config_credential *credential,
                     struct arena *arena)
{
    struct str key = STR_ABSENT;
    if (credential->api_key)
        key = str_of(arena_printf(arena, "Bearer %s", credential->api_key));
    call_add_headers(call, credential, STR("Authorization"), key);
}
