/* Which endpoint is meant: the route's slug, or the dispatcher's from the body. */
#include "worker/stage/stage.h"

/* `endpoint`, else `model` (contract: Routes); NULL when neither is there. */
static const char *dispatcher_member(const struct exchange *ex)
{
    if (json_member(ex->body, "endpoint", NULL))
        return "endpoint";
    return json_member(ex->body, "model", NULL) ? "model" : NULL;
}

enum stage_result stage_resolve(struct exchange *ex)
{
    struct str slug = ex->route.slug;
    const char *member = NULL;
    if (ex->route.kind == ROUTE_DISPATCHER) {
        member = dispatcher_member(ex);
        if (!member)
            return exchange_fail_at(ex, API_invalid_request, "model",
                                    "The body names no endpoint: set model to its slug.");
        slug = json_text(json_member(ex->body, member, NULL));
        if (!slug.at)
            return exchange_fail_at(ex, API_invalid_request, member, "%s must be a string.",
                                    member);
    }
    const struct config_endpoint *endpoint = config_endpoint(ex->project, slug);
    if (!endpoint || !endpoint->active)
        return exchange_fail_at(ex, API_not_found, member, "The project has no endpoint %.*s.",
                                (int)(slug.len < 64 ? slug.len : 64), slug.at);
    ex->endpoint = endpoint;
    request_resolved(ex->entry, endpoint->account);
    if (!token_allows(ex->token, endpoint))
        return exchange_fail(ex, API_endpoint_forbidden, "The token may not call %s.",
                             endpoint->slug);
    return STAGE_NEXT;
}
