#include "master/recovery.h"

#include "master/slots.h"
#include "shared/counters/accounts.h"
#include "shared/counters/requests.h"
#include "shared/record/frame.h"
#include "shared/record/record.h"
#include "test/unit/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SLOTS = 3, READ_BYTES = 64 * 1024 };

static struct test {
    char directory[SCRATCH_PATH];
    char path[SCRATCH_PATH];
    struct counters counters;
    struct requests requests; /* of slot 1 */
    uint32_t project, endpoint, token, target;
    struct buf read;
    struct record rows[64];
    size_t rows_count;
    struct error error;
} test;

static void claim_accounts(void)
{
    struct accounts accounts;
    char label[ACCOUNT_LABEL_BYTES];
    account_target_label(label, STR("openai"), STR("gpt-4o-mini"), STR("main"));
    assert_true(accounts_begin(&accounts, &test.counters, 1, 4, &test.error));
    test.project = accounts_claim(&accounts, ACCOUNT_PROJECT, STR("id"), STR("demo"));
    test.endpoint = accounts_claim(&accounts, ACCOUNT_ENDPOINT, STR("id/sum"), STR("sum"));
    test.token = accounts_claim(&accounts, ACCOUNT_TOKEN, STR("web"), STR("web"));
    test.target = accounts_claim(&accounts, ACCOUNT_TARGET, STR("openai/main/gpt-4o-mini"),
                                 (struct str){label, sizeof label});
    accounts_end(&accounts, 1);
}

static int set_up(void **state)
{
    (void)state;
    test = (struct test){0};
    if (!scratch_make(test.directory) ||
        !counters_create(&test.counters, scratch_path(test.directory, "counters", test.path), SLOTS,
                         &test.error))
        return -1;
    if (!counters_allot_table(&test.counters, 1, &test.error))
        return -1;
    claim_accounts();
    atomic_store(&test.counters.workers[1].index, 5);
    requests_init(&test.requests, &test.counters.workers[1], counters_requests(&test.counters, 1));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    requests_deinit(&test.requests);
    counters_close(&test.counters);
    buf_free(&test.read);
    scratch_remove(test.directory);
    return 0;
}

static struct shm_request *begin(uint8_t id)
{
    struct request_opening opening = {
        .id = {{id, [6] = 0x70, [8] = 0x80}},
        .created_wall_ms = 1795000000000 + id,
        .began_us = 1000,
        .project = test.project,
        .token = test.token,
        .client_ip = STR("192.0.2.7"),
    };
    struct shm_request *request = requests_open(&test.requests, &opening);
    assert_non_null(request);
    return request;
}

/* What the pipe holds, as rows. */
static void read_rows(int pipe)
{
    struct frame_reader reader = {0};
    struct str bytes, record;
    size_t consumed;
    buf_clear(&test.read);
    ssize_t got = read(pipe, buf_reserve(&test.read, READ_BYTES), READ_BYTES);
    test.read.len = got > 0 ? (size_t)got : 0;
    test.rows_count = 0;
    bytes = buf_view(&test.read);
    while (frame_reader_next(&reader, bytes, &consumed, &record) == FRAME_RECORD) {
        /* A record of one frame lies in the bytes themselves or in the reader: copy it. */
        static char kept[64][1024];
        assert_true(record.len < sizeof kept[0]);
        memcpy(kept[test.rows_count], record.at, record.len);
        assert_true(record_decode((struct str){kept[test.rows_count], record.len},
                                  &test.rows[test.rows_count], &test.error));
        test.rows_count++;
        bytes.at += consumed;
        bytes.len -= consumed;
    }
    assert_int_equal(reader.skipped_bytes, 0);
    frame_reader_free(&reader);
}

static const struct record *row(uint8_t id)
{
    for (size_t i = 0; i < test.rows_count; i++)
        if (test.rows[i].request_id.bytes[0] == id)
            return &test.rows[i];
    return NULL;
}

static bool is(struct str text, const char *expected)
{
    return str_eq(text, str_of(expected));
}

static struct slots open_slots(void)
{
    struct slots slots = {0};
    if (!slots_open(&slots, &test.counters, &test.error))
        fail_msg("%s", test.error.message);
    return slots;
}

/* "held and not sent …; the row (worker_died, or the final one) goes into that worker's own pipe"
 */
static void assert_died(const struct record *died)
{
    assert_true(is(died->status, "worker_died"));
    assert_true(is(died->project, "demo"));
    assert_null(died->endpoint.at);
    assert_null(died->provider.at);
    assert_null(died->attempts.at);
    assert_int_equal(died->http_status, RECORD_NULL);
    assert_int_equal(died->latency_ms, RECORD_NULL);
    assert_int_equal(died->bytes_in, RECORD_NULL);
    assert_int_equal(died->created_at, 1795000000001);
    assert_int_equal(died->worker, 5);
}

static void assert_died_at_provider(const struct record *at_provider)
{
    assert_true(is(at_provider->status, "worker_died"));
    assert_true(is(at_provider->endpoint, "sum"));
    assert_true(is(at_provider->token, "web"));
    assert_true(is(at_provider->client_ip, "192.0.2.7"));
    assert_true(is(at_provider->provider, "openai"));
    assert_true(is(at_provider->model, "gpt-4o-mini"));
    assert_true(is(at_provider->credential, "main"));
    assert_true(is(at_provider->attempts,
                   "[{\"provider\":\"openai\",\"model\":\"gpt-4o-mini\",\"credential\":\"main\","
                   "\"status\":\"worker_died\",\"http_status\":0,\"ms\":0,\"prompt_tokens\":0,"
                   "\"completion_tokens\":0,\"cost_nano_usd\":null,\"error\":null}]"));
}

static void assert_answered(const struct record *final)
{
    assert_true(is(final->status, "ok"));
    assert_int_equal(final->http_status, 200);
    assert_null(final->error_message.at);
    assert_int_equal(final->prompt_tokens, 11);
    assert_int_equal(final->total_tokens, 18);
    assert_int_equal(final->latency_ms, 60);
    assert_int_equal(final->upstream_ms, 50);
    assert_int_equal(final->bytes_in, 99);
}

static void every_state_has_its_row(void **state)
{
    (void)state;
    struct slots slots = open_slots();
    while (slots_take(&slots) != 1)
        continue;
    struct shm_request *open = begin(1), *sent = begin(2), *recorded = begin(3),
                       *written = begin(4);
    request_resolved(sent, test.endpoint);
    request_sent(sent, test.target, 2000);
    request_resolved(recorded, test.endpoint);
    request_sent(recorded, test.target, 2000);
    const struct ledger ledger = ledger_of(&test.counters, 1);
    const struct settlement settlement = {
        .usage = {.prompt_tokens = 11, .completion_tokens = 7, .total_tokens = 18},
        .upstream_us = 50000,
        .cost_nano_usd = 4200,
        .basis = COST_REPORTED,
    };
    ledger_settle(&ledger, recorded, &settlement);
    requests_record(
        &test.requests, recorded,
        &(struct request_outcome){
            .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = 60000});
    requests_record(
        &test.requests, written,
        &(struct request_outcome){
            .status = STR("not_found"), .http_status = 404, .bytes_in = 99, .latency_us = 2000});
    request_written(written);
    (void)open;
    slots_leave(&slots, 1);
    assert_int_equal(slots_available(&slots), 1); /* slot 2: the pipe is not empty */
    read_rows(slots.log_pipes[1][0]);
    assert_int_equal(test.rows_count, 3);

    assert_died(row(1));
    assert_died_at_provider(row(2));
    assert_answered(row(3));

    slots_clean(&slots);
    assert_int_equal(slots_available(&slots), 2);
    assert_false(recovery_is_needed(&test.counters, 1));
    assert_int_equal(atomic_load(&test.counters.workers[1].requests), 4);
    assert_int_equal(atomic_load(&test.counters.workers[1].rows), 4);
    slots_free(&slots);
}

/* A pipe that is full holds up the slot, not the master, and no row is left out or cut. */
static void a_full_pipe_is_waited_for(void **state)
{
    enum { MANY = 60 };
    (void)state;
    struct slots slots = open_slots();
    while (slots_take(&slots) != 1)
        continue;
    fcntl(slots.log_pipes[1][1], F_SETPIPE_SZ, 4096);
    for (uint8_t i = 1; i <= MANY; i++)
        request_resolved(begin(i), test.endpoint);
    slots_leave(&slots, 1);
    size_t seen = 0;
    for (unsigned turn = 0; slots_recovering(&slots) || seen < MANY; turn++) {
        assert_true(turn < 100);
        read_rows(slots.log_pipes[1][0]);
        seen += test.rows_count;
        slots_clean(&slots);
    }
    assert_int_equal(seen, MANY);
    slots_clean(&slots);
    assert_int_equal(slots_available(&slots), 2);
    slots_free(&slots);
}

/* No process is left, the pipes are gone: what was in one is written again. */
static void a_cold_start_writes_what_was_in_pipes(void **state)
{
    (void)state;
    struct shm_request *written = begin(1), *open = begin(2);
    requests_record(
        &test.requests, written,
        &(struct request_outcome){
            .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = 2000});
    request_written(written);
    (void)open;
    struct slots slots = open_slots();
    assert_int_equal(slots_available(&slots), SLOTS - 1);
    assert_true(slots_recovering(&slots));
    assert_int_equal(slots_oldest_generation(&slots, 7), 0);
    slots_clean(&slots);
    assert_false(slots_recovering(&slots));
    read_rows(slots.log_pipes[1][0]);
    assert_int_equal(test.rows_count, 2);
    assert_true(is(row(1)->status, "ok"));
    assert_true(is(row(2)->status, "worker_died"));
    slots_clean(&slots);
    assert_int_equal(slots_available(&slots), SLOTS);
    assert_int_equal(slots_oldest_generation(&slots, 7), 7);
    slots_free(&slots);
}

/* The logger has read to the end: nothing is left for the next start. */
static void a_whole_stop_leaves_nothing(void **state)
{
    (void)state;
    struct slots slots = open_slots();
    while (slots_take(&slots) != 1)
        continue;
    struct shm_request *written = begin(1), *recorded = begin(2);
    requests_record(
        &test.requests, written,
        &(struct request_outcome){
            .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = 2000});
    request_written(written);
    requests_record(
        &test.requests, recorded,
        &(struct request_outcome){
            .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = 2000});
    slots_emptied(&slots);
    assert_int_equal(request_state(written), REQUEST_FREE);
    assert_int_equal(request_state(recorded), REQUEST_RECORDED); /* was in no pipe */
    slots_free(&slots);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_state_has_its_row),
        TEST(a_full_pipe_is_waited_for),
        TEST(a_cold_start_writes_what_was_in_pipes),
        TEST(a_whole_stop_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
