/* The stages that count, with a driver that answers later, as one that has to ask somebody would;
 * and the queue of those that wait for room in a budget. */
#include "test/unit/worker_gateway.h"

#define PROVIDER_ANSWER                                                                            \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 67\r\n\r\n"              \
    "{\"choices\":[{\"message\":{\"content\":\"fine\"},\"finish_reason\":\"stop\"}]}"

static struct {
    struct counters_driver driver, *real;
    /* the answer that is to come */
    counted_fn *done;
    void *context;
    struct rate_verdict *verdict;
    struct shm_request *request;
    int64_t nano_usd;
    enum budget *refused;
    unsigned admits, reserves, cancels;
} late;

static enum counted admit_late(struct counters_driver *driver, const struct shm_request *request,
                               struct rate_verdict *verdict, counted_fn *done, void *context)
{
    (void)driver, (void)request;
    late.admits++;
    late.done = done;
    late.context = context;
    late.verdict = verdict;
    return COUNTED_LATER;
}

static enum counted reserve_late(struct counters_driver *driver, struct shm_request *request,
                                 int64_t nano_usd, enum budget *refused, counted_fn *done,
                                 void *context)
{
    (void)driver;
    late.reserves++;
    late.done = done;
    late.context = context;
    late.request = request;
    late.nano_usd = nano_usd;
    late.refused = refused;
    return COUNTED_LATER;
}

static void release_now(struct counters_driver *driver, struct shm_request *request)
{
    (void)driver;
    late.real->release(late.real, request);
}

static void settle_now(struct counters_driver *driver, struct shm_request *request,
                       const struct settlement *settlement)
{
    (void)driver;
    late.real->settle(late.real, request, settlement);
}

static void cancel_late(struct counters_driver *driver, void *context)
{
    (void)driver;
    assert_ptr_equal(context, late.context);
    late.done = NULL;
    late.cancels++;
}

static void answer(enum counted answer)
{
    counted_fn *done = late.done;
    late.done = NULL;
    done(late.context, answer);
}

/* What the real driver says to the reservation. */
static enum counted reserve_really(void)
{
    return late.real->reserve(late.real, late.request, late.nano_usd, late.refused, NULL, NULL);
}

static int set_up(void **state)
{
    if (gateway_setup(state) != 0)
        return -1;
    struct gateway *g = *state;
    memset(&late, 0, sizeof late);
    g->mock.answer = STR(PROVIDER_ANSWER);
    late.real = g->services.counting;
    late.driver = *late.real;
    late.driver.admit = admit_late;
    late.driver.reserve = reserve_late;
    late.driver.release = release_now;
    late.driver.settle = settle_now;
    late.driver.cancel = cancel_late;
    g->services.counting = &late.driver;
    g->config.budget_wait_ms = 2000;
    return 0;
}

static int tear_down(void **state)
{
    struct gateway *g = *state;
    assert_null(late.done);
    g->services.counting = late.real;
    return gateway_teardown(state);
}

static void post(struct gateway *g, const char *slug)
{
    char path[128];
    snprintf(path, sizeof path, "/api/" DEMO "/%s", slug);
    gateway_post(g, path, GOOD, "{\"message\":\"x\"}");
}

static void admitted_and_reserved_later(void **state)
{
    struct gateway *g = *state;
    post(g, "net");
    turn_until(g, late.admits == 1);
    assert_int_equal(g->mock.requests, 0);
    *late.verdict = (struct rate_verdict){.admitted = true};
    answer(COUNTED_YES);
    turn_until(g, late.reserves == 1);
    assert_int_equal(g->mock.requests, 0);
    assert_int_equal(reserve_really(), COUNTED_YES);
    answer(COUNTED_YES);
    gateway_await_answer(g);
    expect_ok(g);
    expect_text(only_row(g).status, "ok");
    assert_int_equal(late.cancels, 0);
}

static void refused_later(void **state)
{
    struct gateway *g = *state;
    post(g, "net");
    turn_until(g, late.admits == 1);
    *late.verdict = (struct rate_verdict){
        .limited = true,
        .retry_after_s = 9,
        .tightest = {.of = BUDGET_TOKEN, .hourly = true, .cap = 5, .reset_s = 3725}};
    answer(COUNTED_NO);
    gateway_await_answer(g);
    expect_error_row(g, 429, "rate_limited", NULL);
    assert_string_equal(at(g, "error.scope"), "\"token:hour\"");
    assert_string_equal(at(g, "error.retry_after"), "9");
    assert_true(has_line(g, "Retry-After: 9"));
    assert_true(has_line(g, "x-ratelimit-reset-requests: 1h2m5s"));
    assert_int_equal(g->mock.requests, 0);
}

static void the_client_leaves_before_the_answer(void **state)
{
    struct gateway *g = *state;
    for (unsigned stage = 0; stage < 2; stage++) {
        unsigned ended = g->ended;
        post(g, "net");
        turn_until(g, late.admits == stage + 1);
        if (stage == 1) {
            *late.verdict = (struct rate_verdict){.admitted = true};
            answer(COUNTED_YES);
            turn_until(g, late.reserves == 1);
        }
        gateway_hang_up(g);
        turn_until(g, g->ended == ended + 1);
        assert_int_equal(late.cancels, stage + 1);
        expect_text(only_row(g).status, "client_closed");
    }
    assert_int_equal(g->mock.requests, 0);
}

/* --- room in a budget, at once from here on --- */

static struct shm_account *account_of(struct gateway *g, const char *slug)
{
    const struct config_endpoint *endpoint = config_endpoint(&g->config.projects[0], str_of(slug));
    return &g->counters.accounts[endpoint->account];
}

/* An endpoint whose calls may cost so much at most, each. */
static void give_price(struct gateway *g, const char *slug, int64_t cap)
{
    struct config_endpoint *endpoint =
        (struct config_endpoint *)(uintptr_t)config_endpoint(&g->config.projects[0], str_of(slug));
    endpoint->target.known.prices =
        (struct prices){.known = true, .usual = {.output = 1000000}}; /* 1,000 nano-USD a token */
    endpoint->target.max_output_tokens = 100;
    atomic_store(&account_of(g, slug)->caps[CAP_MONTHLY_NANO_USD], cap);
    g->services.counting = late.real;
}

static uint32_t month_now(void)
{
    const struct months utc = {0};
    return month_number(&utc, gateway_wall_ms);
}

/* Somebody else's reservation, with a living entry, or money that is gone. */
static struct shm_request *occupy(struct gateway *g, const char *slug, int64_t nano_usd, bool spent)
{
    static struct shm_request entry;
    const struct config_endpoint *endpoint = config_endpoint(&g->config.projects[0], str_of(slug));
    const struct ledger ledger = ledger_of(&g->counters, 0);
    struct shm_request *at = spent ? &entry : &g->table[SHM_REQUESTS_PER_SLOT - 1];
    memset((void *)at, 0, sizeof *at);
    at->endpoint = endpoint->account;
    at->token = at->project = ACCOUNT_NONE;
    at->month = month_now();
    request_set_state(at, REQUEST_OPEN);
    assert_int_equal(ledger_reserve(&ledger, at, nano_usd), BUDGETS);
    atomic_store(&g->counts.entries, SHM_REQUESTS_PER_SLOT);
    return at;
}

static void free_entry(struct gateway *g, struct shm_request *entry)
{
    const struct ledger ledger = ledger_of(&g->counters, 0);
    ledger_release(&ledger, entry);
    request_set_state(entry, REQUEST_FREE);
    budget_queue_wake(g->services.waiting);
}

static void money_that_is_gone_refuses_at_once(void **state)
{
    struct gateway *g = *state;
    give_price(g, "net", 150000);
    occupy(g, "net", 60000, true);
    ask_endpoint(g, "net", "{\"message\":\"x\"}");
    expect_error_row(g, 422, "budget_exceeded", NULL);
    assert_string_equal(at(g, "error.scope"), "\"endpoint\"");
    assert_string_equal(at(g, "error.spent_usd"), "0.00006");
    assert_string_equal(at(g, "error.reserved_usd"), "0");
    assert_string_equal(at(g, "error.cap_usd"), "0.00015");
    assert_true(has_line(g, "x-should-retry: false"));
}

static void a_reservation_is_waited_for(void **state)
{
    struct gateway *g = *state;
    give_price(g, "net", 150000);
    struct shm_request *other = occupy(g, "net", 60000, false);
    post(g, "net");
    for (int i = 0; i < 20; i++)
        gateway_turn(g);
    assert_int_equal(gateway_in_flight(g), 1);
    assert_int_equal(g->mock.requests, 0);
    gateway_now_us += 1900000;
    free_entry(g, other);
    gateway_await_answer(g);
    expect_ok(g);
    struct record row = only_row(g);
    assert_int_equal(row.gateway_us, 0); /* the wait is not the gateway's work */
    expect_text(row.cost_basis, "bound");
}

/* "at most `budget_wait`" */
static void not_for_ever(void **state)
{
    struct gateway *g = *state;
    give_price(g, "net", 150000);
    struct shm_request *other = occupy(g, "net", 60000, false);
    post(g, "net");
    for (int i = 0; i < 20; i++)
        gateway_turn(g);
    assert_int_equal(gateway_in_flight(g), 1);
    gateway_now_us += 2000000;
    gateway_await_answer(g);
    expect_error_row(g, 422, "budget_exceeded", NULL);
    assert_string_equal(at(g, "error.spent_usd"), "0");
    assert_string_equal(at(g, "error.reserved_usd"), "0.00006");
    free_entry(g, other);
}

static void expect_refused_with(struct gateway *g, const char *spent, const char *reserved)
{
    ask_endpoint(g, "net", "{\"message\":\"x\"}");
    assert_string_equal(at(g, "error.code"), "\"budget_exceeded\"");
    assert_string_equal(at(g, "error.spent_usd"), spent);
    assert_string_equal(at(g, "error.reserved_usd"), reserved);
}

static void with_no_wait_it_is_refused_at_once(void **state)
{
    struct gateway *g = *state;
    give_price(g, "net", 150000);
    g->config.budget_wait_ms = 0;
    struct shm_request *other = occupy(g, "net", 60000, false);
    for (int i = 0; i < 3; i++)
        expect_refused_with(g, "0", "0.00006");
    free_entry(g, other);
}

/* A dead worker's call costs what was reserved for it, and nobody waits for that. */
static void what_the_dead_reserved_is_gone(void **state)
{
    struct gateway *g = *state;
    give_price(g, "net", 150000);
    g->config.budget_wait_ms = 0;
    struct shm_request *other = occupy(g, "net", 60000, false);
    request_set_state(other, REQUEST_SENT);
    expect_refused_with(g, "0", "0.00006");
    const struct ledger ledger = ledger_of(&g->counters, 0);
    ledger_abandon(&ledger, other);
    for (int i = 0; i < 2; i++)
        expect_refused_with(g, "0.00006", "0");
    request_set_state(other, REQUEST_FREE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(admitted_and_reserved_later),         TEST(refused_later),
        TEST(the_client_leaves_before_the_answer), TEST(money_that_is_gone_refuses_at_once),
        TEST(a_reservation_is_waited_for),         TEST(not_for_ever),
        TEST(with_no_wait_it_is_refused_at_once),  TEST(what_the_dead_reserved_is_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
