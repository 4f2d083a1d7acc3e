/* Answers that come piece by piece. */
#include "test/unit/transfer_world.h"

#define PIECES "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n1\r\nc\r\n"

static struct mock_connection *begin(struct world *world, struct call *call, struct str answer)
{
    world->mock.answer = answer;
    start(call);
    while (call->batches == 0 && call->dones == 0)
        uv_run(&world->loop, UV_RUN_ONCE);
    return world->mock.connections;
}

static struct mock_connection *begin_pieces(struct world *world, struct call *call)
{
    return begin(world, call, STR(PIECES));
}

/* Three chunks in one packet are one batch, however the client library tells them. */
static void what_comes_together_is_one_batch(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    struct mock_connection *c = begin_pieces(world, call);
    assert_int_equal(call->batches, 1);
    assert_string_equal(buf_cstr(&call->body), "abc");
    mock_send(c, STR("1\r\nd\r\n0\r\n\r\n"));
    turn_until_done(call);
    assert_int_equal(call->batches, 2);
    expect_body(call, 200, "abcd");
}

/* Nothing is read while it is paused, and all of it afterwards. */
static void a_pause_holds(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->pause_in_batch = true;
    call->request.idle_timeout_ms = 100; /* a pause is not idle time */
    struct mock_connection *c = begin_pieces(world, call);
    mock_send(c, STR("1\r\nd\r\n"));
    turn_for(world, 300);
    assert_int_equal(call->dones, 0);
    assert_string_equal(buf_cstr(&call->body), "abc");
    call->pause_in_batch = false;
    transfer_resume(call->transfer);
    assert_string_equal(buf_cstr(&call->body), "abc"); /* never from inside the call */
    mock_send(c, STR("0\r\n\r\n"));
    turn_until_done(call);
    expect_body(call, 200, "abcd");
}

static void a_pause_does_not_keep_the_loop_awake(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->pause_in_batch = true;
    mock_send(begin_pieces(world, call), STR("1\r\nd\r\n"));
    turn_for(world, 20);
    assert_true(turn_for(world, 200) < 50);
    transfer_cancel(&call->transfer);
    turn_for(world, 20);
    assert_int_equal(world->mock.open, 0);
}

static void silence_ends_it(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->request.idle_timeout_ms = 150;
    struct mock_connection *c = begin_pieces(world, call);
    for (int i = 0; i < 4; i++) {
        turn_for(world, 60);
        mock_send(c, STR("1\r\nd\r\n"));
    }
    assert_int_equal(call->dones, 0);
    turn_until_done(call);
    assert_int_equal(call->result, TRANSFER_IDLE);
    assert_string_equal(buf_cstr(&call->body), "abcdddd");
    turn_for(world, 20);
    assert_int_equal(world->mock.open, 0);
}

/* The answer's end still comes, and its connection serves the next one. */
static void a_released_one_keeps_its_connection(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->release_in_batch = true;
    struct mock_connection *c = begin_pieces(world, call);
    assert_null(call->transfer);
    mock_send(c, STR("1\r\nd\r\n0\r\n\r\n"));
    turn_for(world, 50);
    assert_int_equal(call->callbacks, 1 + 1 + 3 + 1); /* head, header, data, batch */
    assert_int_equal(transfer_pool_running(world->pool), 0);
    expect(world, STR(OK_ANSWER), TRANSFER_OK);
    assert_int_equal(world->mock.accepted, 1);
}

static void a_released_one_does_not_wait_for_ever(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->release_in_batch = true;
    begin_pieces(world, call);
    turn_for(world, 500);
    assert_int_equal(transfer_pool_running(world->pool), 1);
    turn_for(world, 700);
    assert_int_equal(transfer_pool_running(world->pool), 0);
    assert_int_equal(world->mock.open, 0);
}

/* Its body may be gone: nothing more of it can be sent. */
static void released_before_the_request_is_sent(void **state)
{
    struct world *world = *state;
    static char large[16 << 20];
    struct call *call = call_new(world);
    call->request.body = (struct str){large, sizeof large};
    call->release_in_batch = true;
    world->mock.answer_any_byte = true;
    call->request.max_response = SIZE_MAX;
    begin(world, call, STR("HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\nabc"));
    assert_null(call->transfer);
    assert_int_equal(transfer_pool_running(world->pool), 0); /* at once */
    turn_for(world, 20);
    assert_int_equal(world->mock.open, 0);
}

static void cancel_in_batch(void **state)
{
    struct world *world = *state;
    struct call *call = call_new(world);
    call->cancel_in = BATCH;
    begin_pieces(world, call);
    turn_for(world, 20);
    assert_int_equal(call->dones, 0);
    assert_int_equal(call->batches, 1);
    assert_int_equal(world->mock.open, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_comes_together_is_one_batch),     TEST(a_pause_holds),
        TEST(a_pause_does_not_keep_the_loop_awake), TEST(silence_ends_it),
        TEST(a_released_one_keeps_its_connection),  TEST(a_released_one_does_not_wait_for_ever),
        TEST(released_before_the_request_is_sent),  TEST(cancel_in_batch),
    };
    signal(SIGPIPE, SIG_IGN);
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
