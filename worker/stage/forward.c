/* The call to the provider: send it, read what comes back. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"
#include "worker/output.h"
#include "worker/pipeline.h"
#include "worker/secrets.h"
#include "worker/upstream/delay.h"
#include "worker/upstream/transfer.h"

enum { SAID_MAX_BYTES = 500, ERROR_BODY_MAX_BYTES = 64 * 1024 };

static void fail_attempt(struct exchange *ex, enum api_error code, const char *message)
{
    ex->attempt.end = code == API_provider_error ? END_FAILED : END_UNUSABLE;
    ex->attempt.error = arena_copy(&ex->arena, str_of(message));
    exchange_fail(ex, code, "%s", message);
}

/* A header of the provider's may say otherwise than its status. */
static enum provider_fault as_hinted(const struct exchange *ex, enum provider_fault fault)
{
    enum should_retry hint = ex->retry_hints.should_retry;
    if (hint == SHOULD_RETRY_YES && fault == FAULT_REQUEST)
        return FAULT_PROVIDER;
    if (hint == SHOULD_RETRY_NO && (fault == FAULT_LATER || fault == FAULT_PROVIDER))
        return FAULT_FINAL;
    return fault;
}

/* When to come back, where that is the provider's trouble. */
static void note_wait(struct exchange *ex, enum provider_fault fault, int64_t said_ms)
{
    enum { LONGEST_S = 86400 };
    int64_t hinted_ms = retry_hints_wait_ms(&ex->retry_hints);
    int64_t ms = hinted_ms ? hinted_ms : said_ms;
    int64_t seconds = (ms + 999) / 1000;
    ex->attempt.wait_ms = ms;
    ex->failure.final = fault == FAULT_FINAL;
    if ((fault == FAULT_LATER || fault == FAULT_PROVIDER) && seconds <= LONGEST_S)
        ex->failure.retry_after_s = seconds;
}

static enum attempt_end end_of(enum provider_fault fault)
{
    static const enum attempt_end ends[] = {
        [FAULT_REQUEST] = END_REJECTED,       [FAULT_MODEL] = END_NO_MODEL,
        [FAULT_CREDENTIAL] = END_KEY_REFUSED, [FAULT_LATER] = END_LIMITED,
        [FAULT_PROVIDER] = END_FAILED,        [FAULT_FINAL] = END_FAILED_FOR_GOOD,
    };
    return ends[fault];
}

/* Another status than 200: the provider's own words go on only where the request is to blame. */
static void judge_refusal(struct exchange *ex)
{
    struct refusal refusal = {0};
    ex->reply.body.len =
        ex->reply.body.len < ERROR_BODY_MAX_BYTES ? ex->reply.body.len : ERROR_BODY_MAX_BYTES;
    enum provider_fault fault =
        as_hinted(ex, exchange_provider(ex)->read_error(&ex->reply, &ex->arena, &refusal));
    struct str said =
        without_secrets(ex->attempt.target->credential, refusal.said, SAID_MAX_BYTES, &ex->arena);
    int status = ex->reply.status;
    char *message = arena_printf(&ex->arena, "The provider answered with status %d%s%.*s", status,
                                 said.len ? ": " : ".", STR_ARG(said));
    ex->attempt.error = str_of(message);
    ex->attempt.end = end_of(fault);
    if (fault == FAULT_REQUEST)
        exchange_fail(ex, API_provider_rejected, "%s", message);
    else if (fault == FAULT_CREDENTIAL)
        exchange_fail(ex, API_provider_error,
                      "The provider did not accept the gateway's credential (status %d).", status);
    else
        exchange_fail(ex, API_provider_error, "%s", message);
    note_wait(ex, fault, refusal.wait_ms);
}

/* What has another type is an answer of another kind, or none at all. */
static bool is_stream(const struct exchange *ex)
{
    struct str rest = ex->reply.content_type;
    struct str type = str_trim(str_split(&rest, ';'));
    bool in_lines = streamed_in_lines(ex->attempt.target->provider);
    bool other = str_eq_nocase(type, STR("text/html")) ||
                 (str_eq_nocase(type, STR("application/json")) && !in_lines);
    return ex->relay.started && ex->reply.status == 200 && !other;
}

/* In place of a stream. */
static void judge_other_answer(struct exchange *ex)
{
    struct refusal refusal = {0};
    (void)exchange_provider(ex)->read_error(&ex->reply, &ex->arena, &refusal);
    struct str said =
        without_secrets(ex->attempt.target->credential, refusal.said, SAID_MAX_BYTES, &ex->arena);
    fail_attempt(ex, API_provider_bad_response,
                 arena_printf(&ex->arena, "The provider did not answer with a stream%s%.*s",
                              said.len ? ": " : ".", STR_ARG(said)));
}

static void judge_failed_stream(struct exchange *ex)
{
    struct str said = without_secrets(ex->attempt.target->credential, ex->relay.problem,
                                      SAID_MAX_BYTES, &ex->arena);
    fail_attempt(ex, API_provider_error,
                 arena_printf(&ex->arena, "The provider's stream failed%s%.*s",
                              said.len ? ": " : ".", STR_ARG(said)));
    exchange_break_attempt(ex);
    if (!ex->relay.carries)
        ex->attempt.bill = BILL_NOTHING; /* as an answer of another status */
}

static void judge_stream(struct exchange *ex)
{
    const struct relay *relay = &ex->relay;
    relay_close(ex);
    if (relay->state == RELAY_FAILED) {
        judge_failed_stream(ex);
    } else if (relay->state == RELAY_UNUSABLE) {
        fail_attempt(ex, API_provider_bad_response,
                     arena_printf(&ex->arena, "The provider's stream could not be used: %.*s.",
                                  STR_ARG(relay->problem)));
        exchange_break_attempt(ex);
    } else if (!relay->streamed.finish_reason) {
        fail_attempt(ex, API_provider_bad_response,
                     "The provider's stream ended before its answer was complete.");
        exchange_break_attempt(ex);
    } else {
        ex->attempt.bill = BILL_BOUND;
        relay_collect(ex);
    }
}

static void judge_output(struct exchange *ex)
{
    struct str fault;
    enum output_verdict verdict = output_judge(ex, &fault);
    if (verdict == OUTPUT_FITS)
        return;
    ex->attempt.end = verdict == OUTPUT_DECLINED ? END_DECLINED : END_UNFIT;
    ex->attempt.error = fault;
}

static void judge_answer(struct exchange *ex)
{
    struct error error;
    ex->attempt.bill = ex->reply.status == 200 ? BILL_BOUND : BILL_NOTHING;
    if (ex->reply.status != 200)
        judge_refusal(ex);
    else if (is_stream(ex))
        judge_stream(ex);
    else if (ex->relay.started)
        judge_other_answer(ex);
    else if (!exchange_provider(ex)->read_answer(&ex->reply, &ex->arena, &ex->completion, &error))
        fail_attempt(ex, API_provider_bad_response,
                     arena_printf(&ex->arena, "The provider's answer could not be used: %s.",
                                  error.message));
    if (ex->failure.code == API_OK)
        judge_output(ex);
}

/* --- what follows --- */

static void on_pause_over(void *context)
{
    struct exchange *ex = context;
    ex->chain.pause = NULL;
    ex->waited_us += clock_now_us() - ex->chain.pause_began_us;
    ex->chain.pause_began_us = 0;
    pipeline_again(ex);
}

/* The attempt is judged: its cost is settled, and either another one follows or this was all. */
static void conclude(struct exchange *ex)
{
    int64_t wait_ms;
    exchange_settle_attempt(ex);
    if (!chain_goes_on(ex, ex->attempt.end, &wait_ms)) {
        exchange_resume(ex);
    } else if (wait_ms > 0) {
        ex->chain.pause_began_us = clock_now_us();
        ex->chain.pause = delay_start(ex->services->loop, wait_ms, on_pause_over, ex);
    } else {
        pipeline_again(ex);
    }
}

/* --- over the network --- */

/* The answer is there, or given up, while the provider's connection is still busy with it. */
static void end_stream(struct exchange *ex)
{
    exchange_end_attempt(ex);
    if (ex->relay.state == RELAY_ENDED)
        transfer_release(&ex->transfer);
    else
        transfer_cancel(&ex->transfer);
    judge_answer(ex);
    conclude(ex);
}

static void on_batch(void *context)
{
    struct exchange *ex = context;
    if (ex->relay.state != RELAY_GOES_ON) {
        end_stream(ex);
        return;
    }
    if (ex->relay.started)
        relay_flush(ex);
    if (ex->relay.carries && !ex->chain.heard)
        chain_hear(ex);
}

/* `detail` is the client library's own reason: for the row, not for the client. */
static void judge_transfer(struct exchange *ex, enum transfer_result result, const char *detail)
{
    static const struct {
        enum api_error code;
        const char *message;
        enum attempt_end end;
    } judgements[] = {
        [TRANSFER_OK] = {API_OK, "", END_ANSWERED},
        [TRANSFER_UNREACHABLE] = {API_provider_error, "The provider could not be reached.",
                                  END_UNREACHABLE},
        [TRANSFER_CONNECT_TIMEOUT] = {API_provider_timeout,
                                      "The provider could not be reached in time.",
                                      END_UNREACHABLE},
        [TRANSFER_TLS_FAILED] = {API_provider_error,
                                 "No trusted TLS connection to the provider could be made.",
                                 END_UNTRUSTED},
        [TRANSFER_NO_FIRST_BYTE] = {API_provider_timeout,
                                    "The provider did not begin to answer in time.", END_LATE},
        [TRANSFER_IDLE] = {API_provider_timeout,
                           "The provider's stream paused for longer than upstream.idle_timeout.",
                           END_LATE},
        [TRANSFER_TIMEOUT] = {API_provider_timeout,
                              "The provider's answer was not complete in time.", END_LATE},
        [TRANSFER_BROKEN] = {API_provider_error,
                             "The provider's connection broke before its answer began.",
                             END_BROKEN},
        [TRANSFER_CUT_OFF] = {API_provider_bad_response, "The provider's answer was cut off.",
                              END_UNUSABLE},
        [TRANSFER_NOT_HTTP] = {API_provider_bad_response, "The provider's answer is not HTTP.",
                               END_UNUSABLE},
        [TRANSFER_TOO_LARGE] = {API_provider_bad_response,
                                "The provider's answer is larger than upstream.max_response.",
                                END_UNUSABLE},
    };
    if (result == TRANSFER_OK) {
        judge_answer(ex);
        return;
    }
    if (is_stream(ex))
        exchange_break_attempt(ex);
    if (result == TRANSFER_UNREACHABLE || result == TRANSFER_CONNECT_TIMEOUT ||
        result == TRANSFER_TLS_FAILED)
        ex->attempt.bill = BILL_NOTHING; /* no byte of it has left */
    ex->attempt.end = judgements[result].end;
    exchange_fail(ex, judgements[result].code, "%s", judgements[result].message);
    ex->attempt.error =
        str_of(arena_printf(&ex->arena, "%s (%s)", judgements[result].message, detail));
}

static void on_head(void *context, int status)
{
    struct exchange *ex = context;
    ex->reply.status = status;
}

static void on_header(void *context, struct str name, struct str value)
{
    struct exchange *ex = context;
    if (str_eq_nocase(name, STR("content-type")))
        ex->reply.content_type = arena_copy(&ex->arena, value);
    else
        retry_hints_note(&ex->retry_hints, name, value, clock_wall_ms());
}

static void on_data(void *context, struct str bytes)
{
    struct exchange *ex = context;
    ex->attempt.answer_bytes += bytes.len;
    if (is_stream(ex))
        relay_take(ex, bytes);
    else
        buf_str(&ex->reply.body, bytes);
}

static void on_done(void *context, enum transfer_result result, const char *detail)
{
    struct exchange *ex = context;
    ex->transfer = NULL;
    exchange_end_attempt(ex);
    judge_transfer(ex, result, detail);
    conclude(ex);
}

/* It has said nothing while others might. */
static void on_share_over(void *context)
{
    struct exchange *ex = context;
    ex->chain.share = NULL;
    exchange_end_attempt(ex);
    transfer_cancel(&ex->transfer);
    judge_transfer(ex, TRANSFER_NO_FIRST_BYTE, "the target's share of the time");
    conclude(ex);
}

/* A stream that has begun to say something has all the time there is. */
static int64_t time_for(struct exchange *ex)
{
    int64_t share_ms = chain_time_ms(ex), rest_ms = chain_rest_ms(ex);
    int64_t own_ms = ex->attempt.target->timeout_ms;
    int64_t whole_ms = rest_ms < own_ms ? rest_ms : own_ms;
    if (!ex->relay.asked || share_ms >= whole_ms)
        return share_ms;
    ex->chain.share = delay_start(ex->services->loop, share_ms, on_share_over, ex);
    return whole_ms;
}

static void send_call(struct exchange *ex)
{
    static const struct transfer_events events = {on_head, on_header, on_data, on_batch, on_done};
    const struct config_upstream *limits = &ex->services->config->upstream;
    struct transfer_header headers[CALL_HEADERS_MAX];
    for (size_t i = 0; i < ex->call.headers_count; i++)
        headers[i] = (struct transfer_header){ex->call.headers[i].name, ex->call.headers[i].value};
    struct transfer_request request = {
        .url = ex->call.url,
        .headers = headers,
        .headers_count = ex->call.headers_count,
        .body = buf_view(&ex->call.body),
        .timeout_ms = time_for(ex),
        .first_byte_timeout_ms = limits->first_byte_timeout_ms,
        .idle_timeout_ms = ex->relay.asked ? limits->idle_timeout_ms : 0,
        .max_response = (size_t)limits->max_response,
    };
    ex->transfer = transfer_start(ex->services->transfers, &request, &events, ex);
}

/* --- without network --- */

static void finish_locally(struct exchange *ex, bool in_time)
{
    if (!in_time)
        ex->reply.status = 0;
    exchange_end_attempt(ex);
    if (in_time && is_stream(ex))
        relay_take(ex, buf_view(&ex->reply.body));
    if (in_time)
        judge_answer(ex);
    else
        judge_transfer(ex, TRANSFER_TIMEOUT, "echo");
    conclude(ex);
}

static void on_answer_due(void *context)
{
    struct exchange *ex = context;
    ex->delay = NULL;
    finish_locally(ex, true);
}

static void on_too_late(void *context)
{
    struct exchange *ex = context;
    ex->delay = NULL;
    finish_locally(ex, false);
}

static void answer_locally(struct exchange *ex, const struct completion_request *request)
{
    int64_t time_ms = chain_time_ms(ex);
    exchange_provider(ex)->answer(request, &ex->call, &ex->arena, &ex->reply);
    ex->attempt.answer_bytes = ex->reply.body.len;
    if (ex->reply.delay_ms == 0 && !ex->reply.never) {
        finish_locally(ex, true);
        return;
    }
    bool late = ex->reply.never || ex->reply.delay_ms > time_ms;
    ex->delay = delay_start(ex->services->loop, late ? time_ms : ex->reply.delay_ms,
                            late ? on_too_late : on_answer_due, ex);
}

enum stage_result stage_forward(struct exchange *ex)
{
    exchange_begin_attempt(ex, ex->target);
    if (ex->relay.asked)
        relay_start(ex);
    ex->waited_us += ex->attempt.began_us - ex->budget_began_us;
    request_sent(ex->entry, ex->target->account, ex->attempt.began_us);
    if (exchange_provider(ex)->answer)
        answer_locally(ex, &ex->fitted.request);
    else
        send_call(ex);
    return STAGE_WAIT;
}
