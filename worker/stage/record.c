/* The request's row goes to the logger. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"
#include "shared/record/attempts.h"
#include "worker/log_writer.h"
#include "worker/refusals.h"

#include <stdlib.h>

static int64_t to_ms(int64_t us)
{
    return (us + 500) / 1000;
}

static void write_attempts(const struct exchange *ex, struct buf *out)
{
    struct attempt_row *rows = xcalloc(ex->chain.notes_count, sizeof *rows);
    size_t count = 0;
    for (const struct attempt_note *note = ex->chain.notes; note; note = note->next)
        rows[count++] = note->row;
    attempts_write(out, rows, count);
    free(rows);
}

static void fill_target(const struct exchange *ex, struct record *record)
{
    const struct config_target *target = ex->attempt.target;
    if (!target)
        return;
    record->provider = str_of(provider_name(target->provider));
    record->model = str_of(target->model);
    record->credential = str_of(target->credential->name);
    record->provider_model = ex->completion.model;
    record->upstream_ms = to_ms(ex->upstream_us);
}

static void fill_usage(const struct exchange *ex, struct record *record)
{
    const struct shm_usage *usage = &request_sums(ex->entry)->usage;
    if (!ex->usage_known)
        return;
    record->prompt_tokens = usage->prompt_tokens;
    record->completion_tokens = usage->completion_tokens;
    record->total_tokens = usage->total_tokens;
    record->cached_tokens = usage->cached_tokens;
    record->cache_write_tokens = usage->cache_write_tokens;
    record->reasoning_tokens = usage->reasoning_tokens;
}

static void fill(const struct exchange *ex, struct record *record,
                 char session_id[UUID_TEXT_LEN + 1])
{
    int64_t now_us = clock_now_us();
    record->request_id = ex->id;
    record->created_at = ex->created_wall_ms;
    record->project = str_of(ex->project->name);
    record->endpoint = str_of(ex->endpoint ? ex->endpoint->slug : NULL);
    record->token = token_name(ex->token);
    record->client_ip = ex->client_ip;
    if (exchange_has_session(ex))
        record->session_id = str_of(uuid_format(&ex->session.id, session_id));
    record->status = exchange_status(ex);
    record->http_status = ex->client_gone ? RECORD_NULL : ex->http_status;
    record->error_message = ex->failure.message;
    if (ex->chain.rule)
        record->routing_decision = str_of(ex->chain.rule->rule.decision);
    record->streamed = ex->relay.asked;
    if (ex->relay.first_us)
        record->first_token_ms = to_ms(ex->relay.first_us - ex->began_us);
    if (ex->failure.code == API_OK && !ex->client_gone)
        record->finish_reason = str_of(ex->completion.finish_reason);
    fill_target(ex, record);
    fill_usage(ex, record);
    const struct shm_sums *sums = request_sums(ex->entry);
    record->cost_basis = str_of(cost_basis_name((enum cost_basis)sums->basis));
    if (sums->basis != COST_NONE)
        record->cost_nano_usd = sums->cost_nano_usd;
    if (ex->admitted_wall_ms)
        record->admitted_at = ex->admitted_wall_ms;
    record->latency_ms = to_ms(now_us - ex->began_us);
    record->gateway_us = exchange_gateway_us(ex, now_us);
    record->bytes_in = (int64_t)ex->bytes_in;
    record->bytes_out = (int64_t)ex->bytes_out;
    record->request_body = ex->request_kept.text;
    record->response_body = ex->response_kept.text;
    if (ex->request_kept.text.at)
        record->request_body_cut = ex->request_kept.cut;
    if (ex->response_kept.text.at)
        record->response_body_cut = ex->response_kept.cut;
    record->host = str_of(ex->services->host);
    record->worker = ex->services->worker;
}

enum stage_result stage_record(struct exchange *ex)
{
    if (!ex->token) {
        STEP(request_refused);
        atomic_fetch_add_explicit(&ex->services->counts->refused, 1, memory_order_relaxed);
        refusals_count(ex->services->refusals, ex->failure.code, ex->client_ip.at);
        return STAGE_NEXT;
    }
    struct record record;
    char session_id[UUID_TEXT_LEN + 1];
    struct buf attempts = {0};
    record_init(&record);
    fill(ex, &record, session_id);
    if (ex->chain.notes) {
        write_attempts(ex, &attempts);
        record.attempts = buf_view(&attempts);
    }
    log_writer_push(ex->services->log, &record, ex->entry);
    buf_free(&attempts);
    return STAGE_NEXT;
}
