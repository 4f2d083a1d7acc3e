#include "worker/route.h"

#include "shared/config.h"

static struct route known(enum route_kind kind, const char *allow, struct str method)
{
    struct route route = {.kind = kind, .allow = allow};
    struct str methods = str_of(allow);
    while (methods.at) {
        struct str one = str_split(&methods, ',');
        if (str_eq(str_trim(one), method))
            route.method_fits = true;
    }
    return route;
}

/* `rest` is what follows "/api/". */
static struct route api_route(struct str method, struct str rest)
{
    struct route none = {.kind = ROUTE_UNKNOWN};
    struct uuid project;
    struct str id = str_split(&rest, '/');
    if (!rest.at || !uuid_parse(id, &project))
        return none;
    struct route route = none;
    if (str_eq(rest, STR("chat/completions")) || str_eq(rest, STR("v1/chat/completions"))) {
        route = known(ROUTE_DISPATCHER, "POST", method);
    } else if (str_eq(rest, STR("models")) || str_eq(rest, STR("v1/models"))) {
        route = known(ROUTE_MODELS, "GET, HEAD", method);
    } else if (str_eq(rest, STR("usage")) || str_eq(rest, STR("v1/usage"))) {
        route = known(ROUTE_USAGE, "GET, HEAD", method);
    } else if (slug_valid(rest)) {
        route = known(ROUTE_ENDPOINT, "POST", method);
        route.slug = rest;
    }
    route.project = project;
    return route;
}

struct route route_of(struct str method, struct str path)
{
    struct str prefix = STR("/api/");
    if (str_eq(path, STR("/healthz")))
        return known(ROUTE_HEALTH, "GET, HEAD", method);
    if (str_eq(path, STR("/readyz")))
        return known(ROUTE_READY, "GET, HEAD", method);
    if (str_starts(path, prefix))
        return api_route(method, (struct str){path.at + prefix.len, path.len - prefix.len});
    return (struct route){.kind = ROUTE_UNKNOWN};
}
