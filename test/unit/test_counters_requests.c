#include "shared/counters/requests.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct place {
    struct shm_worker slot;
    struct shm_request *table;
    struct shm_account *accounts;
    struct requests requests;
    struct ledger ledger;
};

enum { ACCOUNTS = 8 };

static int set_up(void **state)
{
    struct place *place = aligned_alloc(_Alignof(struct place), sizeof *place);
    memset(place, 0, sizeof *place);
    place->table = aligned_alloc(128, SHM_REQUESTS_PER_SLOT * sizeof *place->table);
    memset((void *)place->table, 0, SHM_REQUESTS_PER_SLOT * sizeof *place->table);
    place->accounts = aligned_alloc(128, ACCOUNTS * sizeof *place->accounts);
    memset((void *)place->accounts, 0, ACCOUNTS * sizeof *place->accounts);
    for (size_t i = 0; i < ACCOUNTS; i++)
        atomic_store(&place->accounts[i].caps[CAP_MONTHLY_NANO_USD], CAP_UNLIMITED);
    place->ledger = (struct ledger){place->accounts, &place->slot, 1, 0};
    requests_init(&place->requests, &place->slot, place->table);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    requests_deinit(&place->requests);
    free(place->table);
    free((void *)place->accounts);
    free(place);
    return 0;
}

static struct shm_request *begin(struct place *place, uint8_t id)
{
    struct request_opening opening = {
        .id = {{id}},
        .created_wall_ms = 1000 + id,
        .began_us = 5000,
        .project = 3,
        .token = 4,
        .month = 323,
        .client_ip = STR("2001:db8:ffff:ffff:ffff:ffff:ffff:fff1"),
    };
    struct shm_request *request = requests_open(&place->requests, &opening);
    assert_non_null(request);
    return request;
}

static void expect_counts(const struct place *place, uint64_t requests, uint64_t rows)
{
    assert_int_equal(atomic_load(&place->slot.requests), requests);
    assert_int_equal(atomic_load(&place->slot.rows), rows);
}

static void from_open_to_free(void **state)
{
    struct place *place = *state;
    atomic_store(&place->slot.index, 6);
    struct shm_request *request = begin(place, 1);
    assert_int_equal(request_state(request), REQUEST_OPEN);
    assert_int_equal(request->project, 3);
    assert_int_equal(request->token, 4);
    assert_int_equal(request->endpoint, ACCOUNT_NONE);
    assert_int_equal(request->target, ACCOUNT_NONE);
    assert_int_equal(request->index, 6);
    assert_string_equal(request->client_ip, "2001:db8:ffff:ffff:ffff:ffff:ffff:fff1");
    expect_counts(place, 1, 0);
    request_resolved(request, 5);
    request_sent(request, 7, 6000);
    assert_int_equal(request_state(request), REQUEST_SENT);
    assert_int_equal(request->target, 7);
    struct settlement settlement = {
        .usage = {.prompt_tokens = 10, .completion_tokens = 5, .total_tokens = 15},
        .upstream_us = 3000,
        .cost_nano_usd = 70,
        .basis = COST_BOUND,
    };
    ledger_settle(&place->ledger, request, &settlement);
    assert_int_equal(request_state(request), REQUEST_OPEN);
    request_sent(request, 6, 9500);
    settlement.upstream_us = 100;
    settlement.basis = COST_REPORTED;
    ledger_settle(&place->ledger, request, &settlement);
    const struct shm_sums *sums = request_sums(request);
    assert_int_equal(sums->attempts, 2);
    assert_int_equal(sums->target, 6);
    assert_int_equal(sums->usage.total_tokens, 30);
    assert_int_equal(sums->upstream_us, 3100);
    assert_int_equal(sums->cost_nano_usd, 140);
    assert_int_equal(sums->basis, COST_BOUND); /* the less sure one */
    requests_record(
        &place->requests, request,
        &(struct request_outcome){
            .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = 7000});
    assert_int_equal(request_state(request), REQUEST_RECORDED);
    assert_string_equal(request->status, "ok");
    assert_int_equal(request->latency_us, 7000);
    assert_int_equal(request->bytes_in, 99);
    expect_counts(place, 1, 1);
    request_written(request);
    assert_int_equal(request_state(request), REQUEST_WRITTEN);
    requests_free(&place->requests, request);
    assert_int_equal(request_state(request), REQUEST_FREE);
    expect_counts(place, 1, 1);
}

/* Nothing of the entry's former user is left in it. */
static void entries_are_used_again(void **state)
{
    struct place *place = *state;
    struct shm_request *request = begin(place, 1);
    request_resolved(request, 5);
    request_sent(request, 7, 6000);
    ledger_settle(&place->ledger, request,
                  &(struct settlement){.usage = {.total_tokens = 9}, .cost_nano_usd = 5});
    requests_record(&place->requests, request,
                    &(struct request_outcome){.status = STR("system_message_not_allowed"),
                                              .http_status = 422,
                                              .bytes_in = 99,
                                              .latency_us = 7000});
    assert_string_equal(request->status, "system_message_not_allowed"); /* the longest */
    request_written(request);
    requests_free(&place->requests, request);
    assert_ptr_equal(begin(place, 2), request);
    assert_int_equal(request->id.bytes[0], 2);
    assert_int_equal(request->endpoint, ACCOUNT_NONE);
    assert_int_equal(request->target, ACCOUNT_NONE);
    assert_int_equal(request_sums(request)->attempts, 0);
    assert_int_equal(request_sums(request)->usage.total_tokens, 0);
    assert_int_equal(request_sums(request)->upstream_us, 0);
    assert_int_equal(request->http_status, 0);
    expect_counts(place, 2, 1);
}

static void a_full_table_takes_nothing(void **state)
{
    struct place *place = *state;
    struct request_opening opening = {.client_ip = STR("unix")};
    struct shm_request *last = NULL, *next;
    for (size_t i = 0; i < SHM_REQUESTS_PER_SLOT; i++) {
        next = requests_open(&place->requests, &opening);
        assert_non_null(next);
        assert_ptr_not_equal(next, last);
        last = next;
    }
    assert_null(requests_open(&place->requests, &opening));
    expect_counts(place, SHM_REQUESTS_PER_SLOT, 0);
    requests_record(
        &place->requests, last,
        &(struct request_outcome){
            .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = -5000});
    request_written(last);
    requests_free(&place->requests, last);
    assert_ptr_equal(requests_open(&place->requests, &opening), last);
}

/* "every state that a killed process can leave behind is one that another process knows how to
 * repair": also the counts that lag behind their entries. */
static void the_dead_are_settled(void **state)
{
    struct place *place = *state;
    struct shm_request *open = begin(place, 1), *sent = begin(place, 2), *done = begin(place, 3),
                       *written = begin(place, 4);
    request_sent(sent, 7, 6000);
    requests_record(&place->requests, done,
                    &(struct request_outcome){.status = STR("provider_error"),
                                              .http_status = 502,
                                              .bytes_in = 99,
                                              .latency_us = 4000});
    requests_record(
        &place->requests, written,
        &(struct request_outcome){
            .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = 4000});
    request_written(written);
    assert_ptr_equal(requests_oldest(&place->slot, place->table), open);
    atomic_store(&place->slot.requests, 3);
    atomic_store(&place->slot.rows, 1);
    requests_settle_dead(&place->slot, place->table, &place->ledger);
    expect_counts(place, 4, 4);
    assert_null(requests_oldest(&place->slot, place->table));
    assert_int_equal(request_state(open), REQUEST_RECORDED);
    assert_int_equal(request_state(sent), REQUEST_RECORDED);
    assert_string_equal(open->status, "worker_died");
    assert_string_equal(sent->status, "worker_died");
    assert_int_equal(sent->target, 7);
    assert_int_equal(sent->http_status, 0);
    assert_int_equal(sent->latency_us, -1);
    assert_string_equal(done->status, "provider_error");
    assert_int_equal(done->http_status, 502);
    assert_int_equal(request_state(written), REQUEST_WRITTEN);
    requests_settle_dead(&place->slot, place->table,
                         &place->ledger); /* once more changes nothing */
    expect_counts(place, 4, 4);
}

/* Texts are cut to what there is room for, never inside a character. */
static void long_texts_are_cut(void **state)
{
    struct place *place = *state;
    struct shm_request *request = begin(place, 1);
    char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\xC3\xA4\xC3\xA4";
    requests_record(
        &place->requests, request,
        &(struct request_outcome){
            .status = str_of(text), .http_status = 200, .bytes_in = 99, .latency_us = -5000});
    assert_int_equal(strlen(request->status), 30);
    requests_record(
        &place->requests, request,
        &(struct request_outcome){
            .status = STR_ABSENT, .http_status = 200, .bytes_in = 99, .latency_us = -5000});
    assert_string_equal(request->status, "");
}

static void entries_fill_cache_lines(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct shm_request), 384);
}

/* The one that a worker is asked about when it dies is at the provider. */
static void the_oldest_may_be_at_a_provider(void **state)
{
    struct place *place = *state;
    struct shm_request *sent = begin(place, 1), *open = begin(place, 2);
    request_sent(sent, 7, 6000);
    assert_ptr_equal(requests_oldest(&place->slot, place->table), sent);
    requests_record(&place->requests, sent,
                    &(struct request_outcome){.status = STR("ok"), .http_status = 200});
    assert_ptr_equal(requests_oldest(&place->slot, place->table), open);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(from_open_to_free),
        TEST(entries_are_used_again),
        TEST(a_full_table_takes_nothing),
        TEST(the_dead_are_settled),
        TEST(long_texts_are_cut),
        TEST(the_oldest_may_be_at_a_provider),
        cmocka_unit_test(entries_fill_cache_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
