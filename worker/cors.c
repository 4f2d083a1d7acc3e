#include "worker/cors.h"

static bool lists(const struct config_project *project, struct str origin)
{
    for (size_t i = 0; i < project->origins_count; i++)
        if (str_eq(str_of(project->origins[i]), origin))
            return true;
    return false;
}

/* The request's origin when the project lists it; else absent. */
static struct str listed_origin(const struct config_project *project,
                                const struct http_request *request)
{
    struct str origin = http_header(request, "origin");
    bool once = http_header_count(request, "origin") == 1;
    return once && project && lists(project, origin) ? origin : STR_ABSENT;
}

void cors_headers(const struct config_project *project, const struct http_request *request,
                  struct buf *headers)
{
    if (!project || project->origins_count == 0)
        return;
    struct str origin = listed_origin(project, request);
    buf_puts(headers, "Vary: Origin\r\n");
    if (!origin.at)
        return;
    buf_printf(headers,
               "Access-Control-Allow-Origin: %.*s\r\n"
               "Access-Control-Expose-Headers: X-Request-Id, X-Session-Id, Idempotent-Replayed, "
               "Retry-After, "
               "Server-Timing\r\n",
               STR_ARG(origin));
}

/* The headers that a page may set: those it names, as long as they are names. */
static struct str wanted_headers(const struct http_request *request)
{
    struct str names = http_header(request, "access-control-request-headers");
    for (size_t i = 0; i < names.len; i++) {
        char c = names.at[i];
        bool fits = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                    c == '-' || c == '_' || c == ',' || c == ' ';
        if (!fits)
            return STR_ABSENT;
    }
    return names;
}

bool cors_preflight(const struct config_project *project, const struct http_request *request,
                    const char *allow, struct buf *headers)
{
    enum { REMEMBER_S = 7200 }; /* browsers remember no longer */
    if (!listed_origin(project, request).at)
        return false;
    cors_headers(project, request, headers);
    buf_printf(headers, "Access-Control-Allow-Methods: %s\r\nAccess-Control-Max-Age: %d\r\n", allow,
               REMEMBER_S);
    struct str names = wanted_headers(request);
    if (names.len > 0)
        buf_printf(headers, "Access-Control-Allow-Headers: %.*s\r\n", STR_ARG(names));
    return true;
}
