#include "worker/frontend.h"

#include "shared/base/clock.h"
#include "shared/base/step.h"
#include "worker/answer.h"
#include "worker/pipeline.h"
#include "worker/refusals.h"

/* An answer without the pipeline: `{"ok":true}`, or the failure. `request` is NULL when its head
 * could not be read. */
static void answer_at_once(struct http_connection *connection, const struct http_request *request,
                           const struct failure *failure, const char *allow)
{
    char id_text[UUID_TEXT_LEN + 1];
    struct uuid id = uuid_v7(clock_wall_ms());
    struct buf headers = {0}, body = {0};
    answer_headers(&headers, uuid_format(&id, id_text),
                   request ? clock_now_us() - request->began_us : 0, 0);
    if (allow)
        buf_printf(&headers, "Allow: %s\r\n", allow);
    if (failure->code == API_OK)
        buf_puts(&body, "{\"ok\":true}");
    else
        answer_error(failure, id_text, &body);
    struct http_response response = {
        .status = api_error_info(failure->code)->status,
        .headers = buf_view(&headers),
        .body = buf_view(&body),
    };
    http_respond(connection, &response);
    buf_free(&headers);
    buf_free(&body);
}

/* Counted; no row. */
static void refuse(struct frontend *frontend, struct http_connection *connection,
                   const struct http_request *request, const struct failure *failure,
                   const char *allow)
{
    const struct services *services = frontend->services;
    refusals_count(services->refusals, failure->code, http_client_ip(connection));
    answer_at_once(connection, request, failure, allow);
    STEP(bytes_refused);
    atomic_fetch_add_explicit(&services->counts->refused, 1, memory_order_relaxed);
}

static void on_head(void *context, struct http_connection *connection, struct http_request *request)
{
    struct frontend *frontend = context;
    struct route route = route_of(request->method, request->path);
    if (route.kind == ROUTE_UNKNOWN) {
        struct failure failure = {.code = API_not_found};
        refuse(frontend, connection, request, &failure, NULL);
    } else if (!route.method_fits) {
        struct failure failure = {.code = API_method_not_allowed};
        refuse(frontend, connection, request, &failure, route.allow);
    } else if (route.kind == ROUTE_HEALTH || route.kind == ROUTE_READY) {
        bool unready = route.kind == ROUTE_READY && frontend->draining;
        struct failure state = {.code = unready ? API_draining : API_OK};
        answer_at_once(connection, request, &state, NULL);
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

const struct http_events frontend_events = {
    .head = on_head,
    .body = on_body,
    .refused = on_refused,
    .gone = on_gone,
    .idle = on_idle,
};
