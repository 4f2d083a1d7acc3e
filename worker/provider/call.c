#include "worker/provider/provider.h"

static void add_header(struct upstream_call *call, struct str name, struct str value)
{
    call->headers[call->headers_count++] = (struct call_header){name, value};
}

void call_add_headers(struct upstream_call *call, const struct completion_request *request,
                      struct str key_header, struct str key)
{
    const struct config_credential *credential = request->target->credential;
    add_header(call, STR("Content-Type"), STR("application/json"));
    if (request->streams)
        add_header(call, STR("Accept"), STR("text/event-stream"));
    if (key.at)
        add_header(call, key_header, key);
    for (size_t i = 0; i < credential->headers_count; i++)
        add_header(call, str_of(credential->headers[i].name), str_of(credential->headers[i].value));
}

void call_add_bearer(struct upstream_call *call, const struct completion_request *request,
                     struct arena *arena)
{
    const char *api_key = request->target->credential->api_key;
    struct str key = STR_ABSENT;
    if (api_key)
        key = str_of(arena_printf(arena, "Bearer %s", api_key));
    call_add_headers(call, request, STR("Authorization"), key);
}
