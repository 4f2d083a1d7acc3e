/* Transfers to hosts by name: only the scripted name server knows them, and nobody else is asked.
 */
#include "test/unit/mock_upstream.h"
#include "test/unit/scripted_names.h"
#include "worker/upstream/transfer.h"

#include <curl/curl.h>
#include <signal.h>
#include <unistd.h>

static unsigned system_look_ups;

/* Takes the place of libc's for all libraries of this program. */
int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints,
                struct addrinfo **found)
{
    (void)name, (void)service, (void)hints, (void)found;
    __atomic_add_fetch(&system_look_ups, 1, __ATOMIC_SEQ_CST);
    return EAI_NONAME;
}

/* Pools live as long as their process, so each test's lies in static memory. */
static struct world {
    uv_loop_t loop;
    struct scripted_names names;
    struct transfer_pool *pool;
    struct mock mock;
    char url[96]; /* of provider.test */
} worlds[32];

static unsigned worlds_begun;

struct call {
    struct world *world;
    struct transfer *transfer;
    const char *url; /* NULL = the world's */
    int64_t timeout_ms, first_byte_timeout_ms;
    unsigned dones;
    int status;
    enum transfer_result result;
    char detail[256];
    struct call *also_cancel; /* in `done` */
    struct call *also_start;
};

static void new_pool(struct world *world, int64_t connect_timeout_ms)
{
    struct transfer_settings settings = {.connect_timeout_ms = connect_timeout_ms,
                                         .keepalive = 128,
                                         .hosts = 2,
                                         .names = &world->names.source};
    world->pool = transfer_pool_new(&world->loop, &settings);
}

static int set_up(void **state)
{
    struct world *world = &worlds[worlds_begun++];
    scripted_clock();
    uv_loop_init(&world->loop);
    scripted_init(&world->names);
    new_pool(world, 5000);
    mock_start(&world->mock, &world->loop);
    world->mock.answer = STR("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
    snprintf(world->url, sizeof world->url, "http://provider.test:%u/v1", world->mock.port);
    system_look_ups = 0;
    *state = world;
    return 0;
}

static int tear_down(void **state)
{
    struct world *world = *state;
    assert_int_equal(transfer_pool_running(world->pool), 0);
    assert_int_equal(system_look_ups, 0);
    mock_stop(&world->mock);
    return 0;
}

static void on_head(void *context, int status)
{
    ((struct call *)context)->status = status;
}

static void on_header(void *context, struct str name, struct str value)
{
    (void)context, (void)name, (void)value;
}

static void on_data(void *context, struct str bytes)
{
    (void)context, (void)bytes;
}

static void start(struct world *world, struct call *call);

static void on_done(void *context, enum transfer_result result, const char *detail)
{
    struct call *call = context;
    call->transfer = NULL;
    call->dones++;
    call->result = result;
    snprintf(call->detail, sizeof call->detail, "%s", detail);
    if (call->also_cancel)
        transfer_cancel(&call->also_cancel->transfer);
    if (call->also_start)
        start(call->world, call->also_start);
}

static void start(struct world *world, struct call *call)
{
    static const struct transfer_events events = {on_head, on_header, on_data, NULL, on_done};
    struct transfer_request request = {
        .url = call->url ? call->url : world->url,
        .body = STR("{}"),
        .timeout_ms = call->timeout_ms ? call->timeout_ms : 20000,
        .first_byte_timeout_ms = call->first_byte_timeout_ms ? call->first_byte_timeout_ms : 20000,
        .max_response = 1000,
    };
    call->world = world;
    uv_update_time(&world->loop);
    call->transfer = transfer_start(world->pool, &request, &events, call);
    assert_int_equal(call->dones, 0); /* never from inside the call */
}

/* Without sleep: a transfer may end in a timer, and then nothing else would wake the loop. */
static void turn_until_done(struct call *call)
{
    while (call->dones == 0)
        uv_run(&call->world->loop, UV_RUN_NOWAIT);
}

static void stop_waiting(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
    uv_close((uv_handle_t *)timer, NULL);
}

static void turn_for(struct world *world, unsigned ms)
{
    uv_timer_t timer;
    bool over = false;
    uv_timer_init(&world->loop, &timer);
    timer.data = &over;
    uv_update_time(&world->loop);
    uv_timer_start(&timer, stop_waiting, ms, 0);
    while (!over)
        uv_run(&world->loop, UV_RUN_ONCE);
    uv_run(&world->loop, UV_RUN_NOWAIT);
}

static void provider_is_at(struct world *world, const char *addresses)
{
    scripted_answer(&world->names, "provider.test", 0, addresses);
}

/* Asks once more, and gets this answer. */
static void provider_moves_to(struct world *world, const char *addresses)
{
    scripted_now_ms += 120 * 1000;
    while (world->names.open_count == 0)
        uv_run(&world->loop, UV_RUN_ONCE);
    provider_is_at(world, addresses);
}

static void expect_good(struct world *world)
{
    struct call call = {0};
    start(world, &call);
    turn_until_done(&call);
    if (call.result != TRANSFER_OK)
        fail_msg("result %d: %s", call.result, call.detail);
    assert_int_equal(call.status, 200);
}

static int64_t real_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* --- libcurl asks nobody --- */

static void a_look_up_of_libcurl_would_be_seen(void **state)
{
    (void)state;
    CURL *easy = curl_easy_init();
    curl_easy_setopt(easy, CURLOPT_URL, "http://other.test/");
    assert_int_equal(curl_easy_perform(easy), CURLE_COULDNT_RESOLVE_HOST);
    curl_easy_cleanup(easy);
    assert_int_equal(system_look_ups, 1);
    system_look_ups = 0;
}

static void known_host(void **state)
{
    struct world *world = *state;
    char host[64];
    transfer_pool_expect(world->pool, world->url);
    provider_is_at(world, "127.0.0.1");
    for (unsigned i = 0; i < 3; i++)
        expect_good(world);
    snprintf(host, sizeof host, "\r\nHost: provider.test:%u\r\n", world->mock.port);
    assert_non_null(strstr(buf_cstr(&world->mock.request), host));
    assert_int_equal(world->names.asked, 1);
    assert_int_equal(world->mock.accepted, 1);
}

/* As libcurl knows them: any case, a dot at the end, the scheme's own port. */
static void host_however_it_is_written(void **state)
{
    struct world *world = *state;
    char upper[96], dot[96];
    snprintf(upper, sizeof upper, "HTTP://PROVIDER.Test:%u/v1", world->mock.port);
    snprintf(dot, sizeof dot, "http://provider.test.:0%u/v1", world->mock.port);
    transfer_pool_expect(world->pool, upper);
    scripted_answer(&world->names, "PROVIDER.Test", 0, "127.0.0.1");
    struct call calls[] = {{.url = upper}, {.url = dot}, {.url = "http://ports.test/"}};
    start(world, &calls[0]);
    turn_until_done(&calls[0]);
    assert_int_equal(calls[0].result, TRANSFER_OK);
    start(world, &calls[1]);
    scripted_answer(&world->names, "provider.test.", 0, "127.0.0.1");
    turn_until_done(&calls[1]);
    assert_int_equal(calls[1].result, TRANSFER_OK);
    start(world, &calls[2]);
    scripted_answer(&world->names, "ports.test", 0, "127.83.9.4"); /* nobody is there */
    turn_until_done(&calls[2]);
    assert_int_equal(calls[2].result, TRANSFER_UNREACHABLE);
}

static void addresses_in_the_url(void **state)
{
    struct world *world = *state;
    static const char *const hosts[] = {"127.0.0.1", "127.1", "0x7f000001", "localhost"};
    for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++) {
        snprintf(world->url, sizeof world->url, "http://%s:%u/", hosts[i], world->mock.port);
        expect_good(world);
    }
    struct call call = {.url = "http://[::1]:1/"};
    start(world, &call);
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_UNREACHABLE);
    assert_int_equal(world->names.asked, 0);
}

static void malformed_url(void **state)
{
    struct world *world = *state;
    struct call call = {.url = "http://a b/"};
    start(world, &call);
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_BROKEN);
    assert_int_equal(world->names.asked, 0);
}

/* --- several addresses, and others --- */

static void next_address_when_one_refuses(void **state)
{
    struct world *world = *state;
    transfer_pool_expect(world->pool, world->url);
    provider_is_at(world, "::1,127.83.9.4,127.83.9.5,127.0.0.1");
    expect_good(world);
    assert_int_equal(world->mock.accepted, 1);
}

static void first_address_first(void **state)
{
    struct world *world = *state;
    struct mock other;
    mock_start_at(&other, &world->loop, INADDR_LOOPBACK + 1, world->mock.port);
    transfer_pool_expect(world->pool, world->url);
    provider_is_at(world, "127.0.0.1,127.0.0.2");
    for (unsigned i = 1; i <= 5; i++) {
        expect_good(world);
        assert_int_equal(world->mock.accepted, i);
        mock_close_all(&world->mock);
        turn_for(world, 1);
    }
    assert_int_equal(other.accepted, 0);
    mock_stop(&other);
}

/* A connection to the old address goes on until it is closed; the next one is to the new one. */
static void host_that_moves(void **state)
{
    struct world *world = *state;
    struct mock other;
    mock_start_at(&other, &world->loop, INADDR_LOOPBACK + 1, world->mock.port);
    other.answer = world->mock.answer;
    transfer_pool_expect(world->pool, world->url);
    provider_is_at(world, "127.0.0.1");
    expect_good(world);
    provider_moves_to(world, "127.0.0.2");
    expect_good(world);
    assert_int_equal(world->mock.requests, 2);
    assert_int_equal(other.requests, 0);
    mock_close_all(&world->mock);
    turn_for(world, 1);
    expect_good(world);
    assert_int_equal(world->mock.requests, 2);
    assert_int_equal(other.requests, 1);
    provider_moves_to(world, "127.0.0.1");
    mock_close_all(&other);
    turn_for(world, 1);
    expect_good(world);
    assert_int_equal(world->mock.requests, 3);
    mock_stop(&other);
}

static void failed_refresh_is_not_noticed(void **state)
{
    struct world *world = *state;
    transfer_pool_expect(world->pool, world->url);
    provider_is_at(world, "127.0.0.1");
    expect_good(world);
    scripted_now_ms += 120 * 1000;
    while (world->names.open_count == 0)
        uv_run(&world->loop, UV_RUN_ONCE);
    expect_good(world); /* while it hangs */
    scripted_answer(&world->names, "provider.test", UV_EAI_NONAME, NULL);
    mock_close_all(&world->mock);
    turn_for(world, 1);
    expect_good(world);
    assert_int_equal(world->mock.accepted, 2);
}

/* --- waiting for the name --- */

static void late_answer(void **state)
{
    struct world *world = *state;
    struct call call = {0};
    char url[96];
    snprintf(url, sizeof url, "%s", world->url);
    call.url = url;
    start(world, &call);
    memset(url, 'x', sizeof url - 1); /* it may go, as ever */
    turn_for(world, 30);
    assert_int_equal(transfer_pool_running(world->pool), 1);
    assert_int_equal(world->mock.accepted, 0);
    provider_is_at(world, "127.0.0.1");
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_OK);
}

static void no_such_host(void **state)
{
    struct world *world = *state;
    struct call call = {0};
    start(world, &call);
    scripted_answer(&world->names, "provider.test", UV_EAI_NONAME, NULL);
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_UNREACHABLE);
    assert_string_equal(call.detail, "there is no host named provider.test");
}

static void name_server_never_answers(void **state)
{
    struct world *world = *state;
    struct call call = {0}, shorter = {.timeout_ms = 20};
    new_pool(world, 500);
    start(world, &call);
    start(world, &shorter);
    int64_t began_ms = real_ms();
    turn_until_done(&shorter);
    assert_int_equal(shorter.result, TRANSFER_CONNECT_TIMEOUT);
    assert_int_equal(call.dones, 0);
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_CONNECT_TIMEOUT);
    assert_string_equal(call.detail, "the address of provider.test was not found in time");
    assert_in_range(real_ms() - began_ms, 490, 10000);
    provider_is_at(world, "127.0.0.1"); /* too late for that one */
    expect_good(world);
    assert_int_equal(world->names.asked, 1);
}

static void temporary_failure_is_waited_out(void **state)
{
    struct world *world = *state;
    struct call call = {0};
    start(world, &call);
    scripted_answer(&world->names, "provider.test", UV_EAI_AGAIN, NULL);
    turn_for(world, 5);
    assert_int_equal(call.dones, 0);
    provider_moves_to(world, "127.0.0.1");
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_OK);
}

/* A listener whose queue is full answers no further connection. */
static int full_listener(int waiting[4], uint16_t *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(listener, 0), 0);
    getsockname(listener, (struct sockaddr *)&address, &len);
    for (size_t i = 0; i < 4; i++) {
        waiting[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connect(waiting[i], (struct sockaddr *)&address, len);
    }
    *port = ntohs(address.sin_port);
    return listener;
}

static void waiting_counts_as_connecting(void **state)
{
    struct world *world = *state;
    int waiting[4];
    uint16_t port;
    int listener = full_listener(waiting, &port);
    struct call call = {.url = world->url};
    new_pool(world, 2000);
    snprintf(world->url, sizeof world->url, "http://provider.test:%u/", port);
    start(world, &call);
    int64_t began_ms = real_ms();
    turn_for(world, 1500);
    provider_is_at(world, "127.0.0.1");
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_CONNECT_TIMEOUT);
    assert_in_range(real_ms() - began_ms, 1990, 3400); /* not 1500 and 2000 */
    for (size_t i = 0; i < 4; i++)
        close(waiting[i]);
    close(listener);
}

static void first_byte_timeout_counts_too(void **state)
{
    struct world *world = *state;
    struct call call = {.first_byte_timeout_ms = 30};
    start(world, &call);
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_NO_FIRST_BYTE);
    provider_is_at(world, "127.0.0.1");
    turn_for(world, 10);
    assert_int_equal(world->mock.accepted, 0);
}

static void hundred_wait_for_one_look_up(void **state)
{
    struct world *world = *state;
    static struct call calls[100];
    for (unsigned i = 0; i < 100; i++)
        start(world, &calls[i]);
    turn_for(world, 5);
    provider_is_at(world, "127.0.0.1");
    for (unsigned i = 0; i < 100; i++) {
        turn_until_done(&calls[i]);
        assert_int_equal(calls[i].result, TRANSFER_OK);
    }
    assert_int_equal(world->names.asked, 1);
    assert_int_equal(world->mock.requests, 100);
}

static void hanging_host_delays_no_other(void **state)
{
    struct world *world = *state;
    struct call hanging = {.url = "http://hangs.test/"};
    start(world, &hanging);
    turn_for(world, 5);
    struct call call = {0};
    start(world, &call);
    provider_is_at(world, "127.0.0.1");
    turn_until_done(&call);
    assert_int_equal(call.result, TRANSFER_OK);
    assert_int_equal(hanging.dones, 0);
    transfer_cancel(&hanging.transfer);
}

/* --- cancelling --- */

static void cancel_while_waiting(void **state)
{
    struct world *world = *state;
    struct call call = {0};
    new_pool(world, 300);
    start(world, &call);
    transfer_cancel(&call.transfer);
    assert_null(call.transfer);
    assert_int_equal(transfer_pool_running(world->pool), 0);
    turn_for(world, 350); /* past its time limit */
    provider_is_at(world, "127.0.0.1");
    turn_for(world, 10);
    assert_int_equal(call.dones, 0);
    assert_int_equal(world->mock.accepted, 0);
    expect_good(world);
}

static void cancel_another_that_waits(void **state)
{
    struct world *world = *state;
    struct call first = {0}, second = {0}, third = {0};
    first.also_cancel = &second;
    first.also_start = &third;
    start(world, &first);
    start(world, &second);
    scripted_answer(&world->names, "provider.test", UV_EAI_NONAME, NULL);
    assert_int_equal(first.dones, 1);
    assert_int_equal(second.dones, 0);
    assert_int_equal(third.dones, 0);
    assert_int_equal(transfer_pool_running(world->pool), 1);
    provider_is_at(world, "127.0.0.1"); /* asked once more, for the third */
    turn_until_done(&third);
    assert_int_equal(third.result, TRANSFER_OK);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_look_up_of_libcurl_would_be_seen),
        TEST(known_host),
        TEST(host_however_it_is_written),
        TEST(addresses_in_the_url),
        TEST(malformed_url),
        TEST(next_address_when_one_refuses),
        TEST(first_address_first),
        TEST(host_that_moves),
        TEST(failed_refresh_is_not_noticed),
        TEST(late_answer),
        TEST(no_such_host),
        TEST(name_server_never_answers),
        TEST(temporary_failure_is_waited_out),
        TEST(waiting_counts_as_connecting),
        TEST(first_byte_timeout_counts_too),
        TEST(hundred_wait_for_one_look_up),
        TEST(hanging_host_delays_no_other),
        TEST(cancel_while_waiting),
        TEST(cancel_another_that_waits),
    };
    signal(SIGPIPE, SIG_IGN);
    alarm(120);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
