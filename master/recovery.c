#include "master/recovery.h"

#include "shared/base/buf.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/counters/accounts.h"
#include "shared/counters/requests.h"
#include "shared/record/attempts.h"
#include "shared/record/frame.h"
#include "shared/record/record.h"

#include <errno.h>
#include <unistd.h>

static int64_t to_ms(int64_t us)
{
    return (us + 500) / 1000;
}

static size_t entries_of(const struct counters *counters, unsigned slot)
{
    return atomic_load(&counters->workers[slot].entries);
}

void recovery_begin(struct counters *counters, unsigned slot)
{
    const struct ledger ledger = ledger_of(counters, slot);
    requests_settle_dead(&counters->workers[slot], counters_requests(counters, slot), &ledger);
}

const struct shm_request *recovery_oldest(const struct counters *counters, unsigned slot)
{
    return requests_oldest(&counters->workers[slot], counters_requests(counters, slot));
}

void recovery_begin_cold(struct counters *counters, unsigned slot)
{
    struct shm_request *table = counters_requests(counters, slot);
    recovery_begin(counters, slot);
    for (size_t i = 0; i < entries_of(counters, slot); i++)
        if (request_state(&table[i]) == REQUEST_WRITTEN) {
            request_set_state(&table[i], REQUEST_RECORDED);
            STEP(recovery_row_taken_back);
        }
}

static void fill_target(const struct counters *counters, const struct shm_request *request,
                        struct record *record, struct buf *attempts)
{
    const struct shm_sums *sums = request_sums(request);
    struct attempt_row attempt = {
        .provider = account_label(counters, sums->target, 0),
        .model = account_label(counters, sums->target, 1),
        .credential = account_label(counters, sums->target, 2),
        .status = str_of(request->status),
        .ms = to_ms(sums->upstream_us),
        .prompt_tokens = sums->usage.prompt_tokens,
        .completion_tokens = sums->usage.completion_tokens,
        .cost_nano_usd = sums->basis != COST_NONE ? sums->cost_nano_usd : ATTEMPT_NO_COST,
    };
    attempt.tries = sums->attempts; /* what each came to died with the worker */
    attempts_write(attempts, &attempt, 1);
    record->attempts = buf_view(attempts);
    record->provider = attempt.provider;
    record->model = attempt.model;
    record->credential = attempt.credential;
    record->upstream_ms = attempt.ms;
}

/* As a worker's record stage does, as far as the table knows. */
static void fill(const struct counters *counters, const struct shm_request *request,
                 const char *host, struct record *record)
{
    const struct shm_sums *sums = request_sums(request);
    const struct shm_usage *usage = &sums->usage;
    record_init(record);
    record->request_id = request->id;
    record->created_at = request->created_wall_ms;
    record->project = account_label(counters, request->project, 0);
    record->endpoint = account_label(counters, request->endpoint, 0);
    record->token = account_label(counters, request->token, 0);
    record->client_ip = str_of(request->client_ip);
    record->status = str_of(request->status);
    record->http_status = request->http_status ? request->http_status : RECORD_NULL;
    bool good = str_eq(record->status, STR("ok")) || str_eq(record->status, STR("replayed"));
    if (!good)
        record->error_message = STR("The worker that served the request died.");
    record->streamed = 0;
    if (usage->total_tokens > 0) {
        record->prompt_tokens = usage->prompt_tokens;
        record->completion_tokens = usage->completion_tokens;
        record->total_tokens = usage->total_tokens;
        record->cached_tokens = usage->cached_tokens;
        record->cache_write_tokens = usage->cache_write_tokens;
        record->reasoning_tokens = usage->reasoning_tokens;
    }
    record->cost_basis = str_of(cost_basis_name((enum cost_basis)sums->basis));
    if (sums->basis != COST_NONE)
        record->cost_nano_usd = sums->cost_nano_usd;
    record->latency_ms = request->latency_us >= 0 ? to_ms(request->latency_us) : RECORD_NULL;
    record->bytes_in = request->latency_us >= 0 ? (int64_t)request->bytes_in : RECORD_NULL;
    record->host = str_of(host);
    record->worker = request->index;
}

static void encode(const struct counters *counters, const struct shm_request *request,
                   struct buf *frames)
{
    char host[256] = "";
    struct record record;
    struct buf attempts = {0}, encoded = {0};
    gethostname(host, sizeof host - 1);
    fill(counters, request, host, &record);
    if (request_sums(request)->attempts > 0)
        fill_target(counters, request, &record, &attempts);
    record_encode(&record, &encoded);
    if (!frames_encode(&request->id, buf_view(&encoded), frames))
        log_error("a row of %zu bytes is too long to be logged", encoded.len);
    buf_free(&attempts);
    buf_free(&encoded);
}

/* One frame holds all there can be of such a row (accounts' labels and a few numbers), so a single
 * write(2) takes it whole or not at all. */
static bool write_row(const struct counters *counters, const struct shm_request *request, int pipe)
{
    struct buf frames = {0};
    encode(counters, request, &frames);
    ssize_t written;
    do
        written = write(pipe, frames.data, frames.len);
    while (written < 0 && errno == EINTR);
    bool done = written == (ssize_t)frames.len;
    buf_free(&frames);
    return done;
}

bool recovery_write(struct counters *counters, unsigned slot, int pipe)
{
    struct shm_request *table = counters_requests(counters, slot);
    for (size_t i = 0; i < entries_of(counters, slot); i++) {
        if (request_state(&table[i]) != REQUEST_RECORDED)
            continue;
        if (!write_row(counters, &table[i], pipe))
            return false;
        STEP(recovery_row_in_pipe);
        request_set_state(&table[i], REQUEST_WRITTEN);
        STEP(recovery_row_written);
    }
    return true;
}

void recovery_end(struct counters *counters, unsigned slot)
{
    struct shm_request *table = counters_requests(counters, slot);
    for (size_t i = 0; i < entries_of(counters, slot); i++)
        if (request_state(&table[i]) == REQUEST_WRITTEN) {
            request_set_state(&table[i], REQUEST_FREE);
            STEP(recovery_row_freed);
        }
}

bool recovery_is_needed(const struct counters *counters, unsigned slot)
{
    const struct shm_request *table = counters_requests(counters, slot);
    for (size_t i = 0; i < entries_of(counters, slot); i++)
        if (request_state(&table[i]) != REQUEST_FREE)
            return true;
    return false;
}
