/* The answer, whatever it is, goes to the client; before it, the outcome into the table of requests
 * in flight: a row must not contradict what a client may have got. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"
#include "worker/answer.h"
#include "worker/answer_usage.h"
#include "worker/bodies.h"
#include "worker/cors.h"

static void note_outcome(const struct exchange *ex)
{
    const struct request_outcome outcome = {
        .status = exchange_status(ex),
        .http_status = ex->http_status,
        .bytes_in = ex->request ? ex->request->bytes_in : ex->bytes_in,
        .latency_us = clock_now_us() - ex->began_us,
    };
    requests_record(ex->services->requests, ex->entry, &outcome);
}

enum stage_result stage_respond(struct exchange *ex)
{
    struct buf headers = {0}, body = {0};
    enum api_error code = ex->failure.code;
    ex->http_status = ex->client_gone ? 0 : api_error_info(code)->status;
    if (ex->entry)
        note_outcome(ex);
    if (ex->client_gone)
        return STAGE_NEXT;
    answer_headers(&headers, ex->id_text, exchange_gateway_us(ex, clock_now_us()), ex->upstream_us);
    answer_error_headers(&headers, &ex->failure);
    answer_limit_headers(&headers, &ex->rate);
    cors_headers(config_project(ex->services->config, &ex->route.project), ex->request, &headers);
    if (code != API_OK)
        answer_error(&ex->failure, ex->id_text, &body);
    else if (ex->route.kind == ROUTE_MODELS)
        answer_models(ex, &body);
    else if (ex->route.kind == ROUTE_USAGE)
        answer_usage(ex, &body);
    else if (ex->route.kind == ROUTE_DISPATCHER)
        answer_openai(ex, &body);
    else
        answer_native(ex, &body);
    struct http_response response = {
        .status = ex->http_status,
        .headers = buf_view(&headers),
        .body = buf_view(&body),
    };
    ex->bytes_in = ex->request->bytes_in;
    bodies_keep_request(ex);
    bodies_keep_response(ex, buf_view(&body));
    http_set_data(ex->connection, NULL);
    ex->bytes_out = http_respond(ex->connection, &response);
    ex->connection = NULL;
    ex->request = NULL;
    buf_free(&headers);
    buf_free(&body);
    return STAGE_NEXT;
}
