/* The answer, whatever it is, goes to the client; before it, the outcome into the table of requests
 * in flight: a row must not contradict what a client may have got. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"
#include "worker/answer.h"
#include "worker/answer_usage.h"
#include "worker/bodies.h"

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

static void write_body(const struct exchange *ex, struct buf *body)
{
    if (ex->failure.code != API_OK)
        answer_error(&ex->failure, ex->id_text, body);
    else if (ex->route.kind == ROUTE_MODELS)
        answer_models(ex, body);
    else if (ex->route.kind == ROUTE_USAGE)
        answer_usage(ex, body);
    else
        answer_success(ex, body);
}

static void respond_whole(struct exchange *ex)
{
    struct buf headers = {0}, body = {0};
    answer_head(ex, "application/json", &headers);
    if (ex->repeat.answered)
        buf_str(&body, ex->repeat.reply.body);
    else
        write_body(ex, &body);
    const struct http_response response = {
        .status = ex->http_status,
        .headers = buf_view(&headers),
        .body = buf_view(&body),
    };
    bodies_keep_response(ex, buf_view(&body));
    ex->bytes_out = http_respond(ex->connection, &response);
    buf_free(&headers);
    buf_free(&body);
}

/* Its head has gone out, or it goes out as a whole now: one that came to its end stays a stream,
 * also when the answer in it does not fit its schema. */
static bool is_stream(const struct exchange *ex)
{
    const struct relay *relay = &ex->relay;
    bool ended = ex->failure.code == API_OK || ex->failure.code == API_output_invalid;
    return relay->begun || (relay->started && ended && !ex->client_gone);
}

/* The first request's stream again, all of it at once. */
static bool is_stream_again(const struct exchange *ex)
{
    return ex->repeat.replayed && ex->repeat.reply.kind != KEPT_JSON;
}

/* A row keeps what was said, put together: nobody wants to read events. */
static void keep_stream(struct exchange *ex)
{
    struct buf body = {0};
    if (ex->services->config->log_bodies == LOG_BODIES_NONE)
        return;
    if (ex->failure.code == API_output_invalid)
        answer_error(&ex->failure, ex->id_text, &body); /* it has the text */
    else
        answer_native(ex, &body);
    bodies_keep_response(ex, buf_view(&body));
    buf_free(&body);
}

enum stage_result stage_respond(struct exchange *ex)
{
    bool streams = is_stream(ex) || is_stream_again(ex);
    if (ex->client_gone)
        ex->http_status = 0;
    else
        ex->http_status = streams ? 200 : api_error_info(ex->failure.code)->status;
    if (ex->entry)
        note_outcome(ex);
    if (streams && !is_stream_again(ex))
        keep_stream(ex);
    if (ex->client_gone) {
        ex->bytes_out = ex->relay.sent;
        return STAGE_NEXT;
    }
    ex->bytes_in = ex->request->bytes_in;
    bodies_keep_request(ex);
    http_set_data(ex->connection, NULL);
    if (is_stream_again(ex))
        ex->bytes_out = relay_replay(ex, &ex->repeat.reply);
    else if (streams)
        ex->bytes_out = relay_finish(ex);
    else
        respond_whole(ex);
    ex->connection = NULL;
    ex->request = NULL;
    return STAGE_NEXT;
}
