#include "worker/frontend.h"

#include "shared/base/clock.h"
#include "shared/base/step.h"
#include "worker/answer.h"
#include "worker/cors.h"
#include "worker/forwarded.h"
#include "worker/pipeline.h"
#include "worker/refusals.h"

/* What is answered without the pipeline. */
struct plain_answer {
    int status;
    const struct failure *failure; /* NULL = none */
    const struct buf *headers;     /* further ones; NULL = none */
    const struct buf *body;        /* NULL = the failure's, if there is one */
};

/* `request` is NULL when its head could not be read. */
static void answer_at_once(struct http_connection *connection, const struct http_request *request,
                           const struct plain_answer *answer)
{
    char id_text[UUID_TEXT_LEN + 1];
    struct uuid id = uuid_v7(clock_wall_ms());
    struct buf headers = {0}, error = {0};
    answer_headers(&headers, "application/json", uuid_format(&id, id_text),
                   request ? clock_now_us() - request->began_us : 0, 0);
    if (answer->headers)
        buf_str(&headers, buf_view(answer->headers));
    if (answer->failure) {
        answer_error_headers(&headers, answer->failure);
        answer_error(answer->failure, id_text, &error);
    }
    struct http_response response = {
        .status = answer->status,
        .headers = buf_view(&headers),
        .body = buf_view(answer->body ? answer->body : &error),
    };
    http_respond(connection, &response);
    buf_free(&headers);
    buf_free(&error);
}

/* Counted; no row. */
static void refuse(struct frontend *frontend, struct http_connection *connection,
                   const struct http_request *request, const struct failure *failure,
                   const struct buf *headers)
{
    const struct services *services = frontend->services;
    char text[IP_TEXT_SIZE];
    const char *client_ip = request ? forwarded_client_ip(&services->config->http, request, text)
                                    : http_client_ip(connection);
    refusals_count(services->refusals, failure->code, client_ip);
    const struct plain_answer answer = {
        .status = api_error_info(failure->code)->status, .failure = failure, .headers = headers};
    answer_at_once(connection, request, &answer);
    STEP(bytes_refused);
    atomic_fetch_add_explicit(&services->counts->refused, 1, memory_order_relaxed);
}

/* ---- routes that no token is asked for */

static void write_state(const struct frontend *frontend, struct buf *out)
{
    static const char *const stores[] = {
        [LOGGER_STORE_UNKNOWN] = "unknown", [LOGGER_STORE_OK] = "ok", [LOGGER_STORE_AWAY] = "away"};
    const struct services *services = frontend->services;
    const struct logger_state *logger = services->logger;
    buf_printf(out,
               ",\"worker\":%u,\"generation\":%lld,\"draining\":%s,\"connections\":%zu,"
               "\"requests_in_flight\":%u,\"store\":\"%s\",\"spool_pending_bytes\":%llu",
               services->worker, (long long)services->generation,
               frontend->draining ? "true" : "false", frontend->server->connections_count,
               services->open_count, stores[atomic_load(&logger->store)],
               (unsigned long long)atomic_load(&logger->spool_pending_bytes));
}

/* "/healthz?verbose" */
static bool is_verbose(const struct http_request *request)
{
    return str_eq(request->query, STR("verbose"));
}

static void tell_health(const struct frontend *frontend, struct http_connection *connection,
                        const struct http_request *request, enum route_kind kind)
{
    static const struct failure draining = {.code = API_draining};
    bool ready = kind == ROUTE_HEALTH || !frontend->draining;
    bool verbose = is_verbose(request);
    struct buf body = {0};
    buf_printf(&body, "{\"ok\":%s", ready ? "true" : "false");
    if (verbose)
        write_state(frontend, &body);
    buf_putc(&body, '}');
    const struct plain_answer answer = {
        .status = api_error_info(ready ? API_OK : API_draining)->status,
        .failure = ready ? NULL : &draining,
        .body = ready || verbose ? &body : NULL,
    };
    answer_at_once(connection, request, &answer);
    buf_free(&body);
}

/* ---- the server's events */

/* A method that the route does not take; OPTIONS is a browser's question. */
static void refuse_method(struct frontend *frontend, struct http_connection *connection,
                          const struct http_request *request, const struct route *route)
{
    const struct config_project *project =
        config_project(frontend->services->config, &route->project);
    struct failure failure = {.code = API_method_not_allowed};
    struct buf headers = {0};
    bool asks = str_eq(request->method, STR("OPTIONS"));
    if (asks && cors_preflight(project, request, route->allow, &headers)) {
        const struct plain_answer answer = {.status = 204, .headers = &headers};
        answer_at_once(connection, request, &answer);
    } else {
        buf_printf(&headers, "Allow: %s\r\n", route->allow);
        cors_headers(project, request, &headers);
        refuse(frontend, connection, request, &failure, &headers);
    }
    buf_free(&headers);
}

/* The gateway stops: what it has in hand is all that it still does. */
static void refuse_new(struct frontend *frontend, struct http_connection *connection,
                       const struct http_request *request, const struct route *route)
{
    const struct config_project *project =
        config_project(frontend->services->config, &route->project);
    const struct failure failure = {.code = API_draining};
    struct buf headers = {0};
    cors_headers(project, request, &headers);
    refuse(frontend, connection, request, &failure, &headers);
    buf_free(&headers);
}

static void on_head(void *context, struct http_connection *connection, struct http_request *request)
{
    struct frontend *frontend = context;
    struct route route = route_of(request->method, request->path);
    if (route.kind == ROUTE_UNKNOWN) {
        struct failure failure = {.code = API_not_found};
        refuse(frontend, connection, request, &failure, NULL);
    } else if (!route.method_fits) {
        refuse_method(frontend, connection, request, &route);
    } else if (route.kind == ROUTE_HEALTH || route.kind == ROUTE_READY) {
        tell_health(frontend, connection, request, route.kind);
    } else if (frontend->refusing) {
        refuse_new(frontend, connection, request, &route);
    } else {
        struct exchange *ex = exchange_begin(frontend->services, connection, request);
        ex->route = route;
        http_set_data(connection, ex);
        pipeline_run(ex);
    }
}

static void on_body(struct http_connection *connection, struct http_request *request)
{
    (void)request;
    exchange_resume(http_data(connection));
}

static void on_refused(void *context, struct http_connection *connection,
                       struct http_request *request, enum api_error reason, const char *detail)
{
    struct exchange *ex = request ? http_data(connection) : NULL;
    if (ex) {
        exchange_fail(ex, reason, "%s", detail);
        exchange_resume(ex);
        return;
    }
    struct failure failure = {.code = reason, .message = str_of(detail)};
    refuse(context, connection, request, &failure, NULL);
}

static void on_gone(struct http_connection *connection, struct http_request *request)
{
    struct exchange *ex = http_data(connection);
    (void)request;
    if (ex)
        pipeline_abandon(ex);
}

static void on_idle(void *context)
{
    struct frontend *frontend = context;
    frontend->all_idle(frontend->context);
}

static void on_writable(struct http_connection *connection, struct http_request *request)
{
    (void)request;
    relay_writable(http_data(connection));
}

const struct http_events frontend_events = {
    .head = on_head,
    .body = on_body,
    .refused = on_refused,
    .gone = on_gone,
    .idle = on_idle,
    .writable = on_writable,
};
