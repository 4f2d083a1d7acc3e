/* Which of the data plane's routes a request line means (contract: Routes). Pure. */
#pragma once

#include "shared/base/str.h"
#include "shared/base/uuid.h"

enum route_kind {
    ROUTE_UNKNOWN,
    ROUTE_ENDPOINT,   /* POST /api/{project}/{slug} */
    ROUTE_DISPATCHER, /* POST /api/{project}[/v1]/chat/completions */
    ROUTE_MODELS,     /* GET /api/{project}[/v1]/models */
    ROUTE_USAGE,      /* GET /api/{project}[/v1]/usage */
    ROUTE_HEALTH,     /* GET /healthz */
    ROUTE_READY,      /* GET /readyz */
};

struct route {
    enum route_kind kind;
    struct uuid project; /* of those below /api */
    struct str slug;     /* ROUTE_ENDPOINT; points into the path */
    const char *allow;   /* the methods this route takes, for 405; NULL when the route is unknown */
    bool method_fits;
};

/* A project that is not a UUID, a slug that breaks the rule or is reserved: ROUTE_UNKNOWN. */
struct route route_of(struct str method, struct str path);
