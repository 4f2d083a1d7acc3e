/* For tests of transfers: a pool on a loop, a mock upstream, and calls that note all that their
 * callbacks said. */
#pragma once

#include "test/unit/mock_upstream.h"
#include "worker/upstream/transfer.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

/* Pools live as long as their process, so each test's lies in static memory. */
static struct world {
    uv_loop_t loop;
    struct transfer_pool *pool;
    struct mock mock;
    struct buf url;
} worlds[64];

static unsigned worlds_begun;

enum callback { NONE, HEAD, HEADER, DATA, BATCH, DONE };

/* One transfer and all that its callbacks said. */
struct call {
    struct world *world;
    struct transfer *transfer;
    struct transfer_request request;
    struct transfer_header headers[4];
    enum callback cancel_in;
    struct call *also_cancel; /* in `done` */
    struct call *also_start;  /* in `done` */
    bool pause_in_batch, release_in_batch;
    unsigned heads, dones, callbacks, batches;
    int status;
    struct buf told_headers, body;
    enum transfer_result result;
    char detail[256];
    struct call *next; /* of those to be released */
};

static struct call *calls;

static inline struct call *call_new(struct world *world)
{
    struct call *call = calloc(1, sizeof *call);
    call->world = world;
    call->request = (struct transfer_request){
        .headers = call->headers,
        .body = STR("{\"x\":1}"),
        .timeout_ms = 20000,
        .first_byte_timeout_ms = 20000,
        .max_response = 1 << 20,
    };
    call->headers[0] = (struct transfer_header){STR("Content-Type"), STR("application/json")};
    call->request.headers_count = 1;
    call->next = calls;
    calls = call;
    return call;
}

static inline int set_up(void **state)
{
    struct world *world = &worlds[worlds_begun++];
    struct transfer_settings settings = {.connect_timeout_ms = 5000, .keepalive = 64, .hosts = 1};
    uv_loop_init(&world->loop);
    world->pool = transfer_pool_new(&world->loop, &settings);
    mock_start(&world->mock, &world->loop);
    buf_printf(&world->url, "%s/v1/chat", world->mock.base);
    *state = world;
    return 0;
}

static inline int tear_down(void **state)
{
    struct world *world = *state;
    assert_int_equal(transfer_pool_running(world->pool), 0);
    mock_stop(&world->mock);
    while (calls) {
        struct call *call = calls;
        calls = call->next;
        buf_free(&call->told_headers);
        buf_free(&call->body);
        free(call);
    }
    buf_free(&world->url);
    return 0;
}

static inline bool cancels(struct call *call, enum callback now)
{
    if (call->dones > 0 || (!call->transfer && call->callbacks > 0))
        fail_msg("a callback after the end");
    call->callbacks++;
    if (call->cancel_in != now)
        return false;
    transfer_cancel(&call->transfer);
    assert_null(call->transfer);
    return true;
}

static inline void on_head(void *context, int status)
{
    struct call *call = context;
    call->heads++;
    call->status = status;
    cancels(call, HEAD);
}

static inline void on_header(void *context, struct str name, struct str value)
{
    struct call *call = context;
    buf_printf(&call->told_headers, "%.*s=%.*s;", STR_ARG(name), STR_ARG(value));
    cancels(call, HEADER);
}

static inline void on_data(void *context, struct str bytes)
{
    struct call *call = context;
    buf_str(&call->body, bytes);
    cancels(call, DATA);
}

static inline void on_batch(void *context)
{
    struct call *call = context;
    call->batches++;
    if (cancels(call, BATCH))
        return;
    if (call->pause_in_batch)
        transfer_pause(call->transfer);
    if (call->release_in_batch)
        transfer_release(&call->transfer);
}

static inline void start(struct call *call);

static inline void on_done(void *context, enum transfer_result result, const char *detail)
{
    struct call *call = context;
    cancels(call, DONE);
    call->transfer = NULL;
    call->dones++;
    call->result = result;
    snprintf(call->detail, sizeof call->detail, "%s", detail);
    if (call->also_cancel)
        transfer_cancel(&call->also_cancel->transfer);
    if (call->also_start)
        start(call->also_start);
}

static inline void start(struct call *call)
{
    static const struct transfer_events events = {on_head, on_header, on_data, on_batch, on_done};
    if (!call->request.url)
        call->request.url = buf_cstr(&call->world->url);
    call->transfer = transfer_start(call->world->pool, &call->request, &events, call);
    assert_non_null(call->transfer);
    assert_int_equal(call->callbacks, 0); /* never from inside the call */
}

static inline void turn_until_done(struct call *call)
{
    while (call->dones == 0)
        uv_run(&call->world->loop, UV_RUN_ONCE);
}

static inline void stop_waiting(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
    uv_close((uv_handle_t *)timer, NULL);
}

/* Turns the loop for so long; returns how often it came round. */
static inline unsigned turn_for(struct world *world, unsigned ms)
{
    uv_timer_t timer;
    unsigned turns = 0;
    bool over = false;
    uv_timer_init(&world->loop, &timer);
    timer.data = &over;
    uv_update_time(&world->loop);
    uv_timer_start(&timer, stop_waiting, ms, 0);
    for (; !over; turns++)
        uv_run(&world->loop, UV_RUN_ONCE);
    uv_run(&world->loop, UV_RUN_NOWAIT);
    return turns;
}

static inline struct call *finished_call(struct world *world)
{
    struct call *call = call_new(world);
    start(call);
    turn_until_done(call);
    return call;
}

static inline struct call *expect(struct world *world, struct str answer,
                                  enum transfer_result result)
{
    world->mock.answer = answer;
    struct call *call = finished_call(world);
    if (call->result != result)
        fail_msg("result %d (%s) instead of %d", call->result, call->detail, result);
    assert_int_equal(call->dones, 1);
    assert_true(call->detail[0] != '\0');
    assert_true(call->heads <= 1);
    return call;
}

static inline void expect_body(struct call *call, int status, const char *body)
{
    assert_int_equal(call->result, TRANSFER_OK);
    assert_int_equal(call->heads, 1);
    assert_int_equal(call->status, status);
    assert_string_equal(buf_cstr(&call->body), body);
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nhello"

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
