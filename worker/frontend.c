#include "worker/frontend.h"

#include "shared/base/clock.h"
#include "worker/answer.h"
#include "worker/pipeline.h"

static void send_body(struct http_connection *connection, int status, struct buf *headers,
                      struct str body, const char *request_id)
{
    answer_headers(headers, request_id);
    struct http_response response = {
        .status = status,
        .headers = buf_view(headers),
        .body = body,
    };
    http_respond(connection, &response);
    buf_free(headers);
}

/* An error for a request that never became an exchange: counted, no row. */
static void refuse(struct frontend *frontend, struct http_connection *connection,
                   const struct failure *failure, const char *allow)
{
    char id_text[UUID_TEXT_LEN + 1];
    struct uuid id = uuid_v7(clock_wall_ms());
    struct buf headers = {0}, body = {0};
    uuid_format(&id, id_text);
    if (allow)
        buf_printf(&headers, "Allow: %s\r\n", allow);
    answer_error(failure, id_text, &body);
    send_body(connection, api_error_info(failure->code)->status, &headers, buf_view(&body),
              id_text);
    buf_free(&body);
    atomic_fetch_add_explicit(&frontend->services->counts->refused, 1, memory_order_relaxed);
}

static void answer_health(struct frontend *frontend, struct http_connection *connection,
                          enum route_kind kind)
{
    char id_text[UUID_TEXT_LEN + 1];
    struct uuid id = uuid_v7(clock_wall_ms());
    struct buf headers = {0};
    if (kind == ROUTE_READY && frontend->draining) {
        struct failure failure = {.code = API_draining};
        refuse(frontend, connection, &failure, NULL);
        return;
    }
    uuid_format(&id, id_text);
    send_body(connection, 200, &headers, STR("{\"ok\":true}"), id_text);
}

static void on_head(void *context, struct http_connection *connection, struct http_request *request)
{
    struct frontend *frontend = context;
    struct route route = route_of(request->method, request->path);
    if (route.kind == ROUTE_UNKNOWN) {
        struct failure failure = {.code = API_not_found};
        refuse(frontend, connection, &failure, NULL);
    } else if (!route.method_fits) {
        struct failure failure = {.code = API_method_not_allowed};
        refuse(frontend, connection, &failure, route.allow);
    } else if (route.kind == ROUTE_HEALTH || route.kind == ROUTE_READY) {
        answer_health(frontend, connection, route.kind);
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
    refuse(context, connection, &failure, NULL);
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

const struct http_events frontend_events = {
    .head = on_head,
    .body = on_body,
    .refused = on_refused,
    .gone = on_gone,
    .idle = on_idle,
};
