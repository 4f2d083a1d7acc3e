#include "test/unit/scripted_names.h"

#include <stdio.h>
#include <unistd.h>

/* Caches live as long as their process, so each test's lies in static memory. */
static struct world {
    uv_loop_t loop;
    struct scripted_names names;
    struct resolve_cache *cache;
} worlds[32];

static unsigned worlds_begun;

static int set_up(void **state)
{
    struct world *world = &worlds[worlds_begun++];
    scripted_clock();
    uv_loop_init(&world->loop);
    scripted_init(&world->names);
    world->cache = resolve_cache_new(&world->loop, &world->names.source);
    *state = world;
    return 0;
}

static struct resolve_host *named(struct world *world, const char *name)
{
    return resolve_host(world->cache, str_of(name));
}

static void pass(struct world *world, int64_t ms)
{
    scripted_now_ms += ms;
    resolve_refresh(world->cache);
}

enum { SECOND = 1000, MINUTE = 60 * SECOND };

/* Named and found at 192.0.2.1. */
static struct resolve_host *found(struct world *world, const char *name)
{
    struct resolve_host *host = named(world, name);
    scripted_answer(&world->names, name, 0, "192.0.2.1");
    assert_string_equal(resolve_addresses(host), "192.0.2.1");
    return host;
}

struct waiter {
    struct resolve_wait wait; /* first, for on_done */
    unsigned calls;
    bool exists;
    struct waiter *also_leaves;
    struct resolve_host *waits_again_for;
};

static void on_done(struct resolve_wait *wait, bool exists)
{
    struct waiter *waiter = (struct waiter *)wait;
    waiter->calls++;
    waiter->exists = exists;
    if (waiter->also_leaves)
        resolve_leave(&waiter->also_leaves->wait);
    if (waiter->waits_again_for)
        resolve_wait(waiter->waits_again_for, wait);
}

static void begin_waiting(struct resolve_host *host, struct waiter *waiter)
{
    waiter->wait.done = on_done;
    resolve_wait(host, &waiter->wait);
}

/* --- what is looked up --- */

static void addresses_need_no_look_up(void **state)
{
    struct world *world = *state;
    static const char *const names[] = {"127.0.0.1",     "255.255.255.255", "[::1]",
                                        "[2001:db8::1]", "localhost",       "LocalHost"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        assert_null(named(world, names[i]));
    assert_int_equal(world->names.asked, 0);
    assert_non_null(named(world, "127.0.0.1.example"));
    assert_int_equal(world->names.asked, 1);
}

static void looked_up_when_first_named(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = named(world, "api.example");
    assert_int_equal(scripted_open(&world->names, "api.example"), 1);
    assert_null(resolve_addresses(host));
    assert_ptr_equal(named(world, "API.Example"), host);
    assert_int_equal(world->names.asked, 1);
    scripted_answer(&world->names, "api.example", 0, "2001:db8::2,192.0.2.9,2001:db8::1");
    assert_string_equal(resolve_addresses(host), "[2001:db8::2],192.0.2.9,[2001:db8::1]");
}

static void addresses_of_one_link_are_left_out(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = named(world, "api.example");
    scripted_answer(&world->names, "api.example", 0, "fe80::1%2,192.0.2.1,fe80::2%3,192.0.2.2");
    assert_string_equal(resolve_addresses(host), "192.0.2.1,192.0.2.2");
}

static void many_addresses_are_cut(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = named(world, "api.example");
    struct buf all = {0}, first = {0};
    for (unsigned i = 1; i <= 20; i++)
        buf_printf(&all, "%s192.0.2.%u", i > 1 ? "," : "", i);
    for (unsigned i = 1; i <= 16; i++)
        buf_printf(&first, "%s192.0.2.%u", i > 1 ? "," : "", i);
    scripted_answer(&world->names, "api.example", 0, buf_cstr(&all));
    assert_string_equal(resolve_addresses(host), buf_cstr(&first));
    buf_free(&all);
    buf_free(&first);
}

/* --- kept fresh --- */

static void fresh_once_a_minute_while_used(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = found(world, "api.example");
    for (unsigned round = 2; round <= 4; round++) {
        char address[16];
        pass(world, 44 * SECOND);
        assert_int_equal(world->names.open_count, 0);
        pass(world, 32 * SECOND);
        pass(world, 1 * SECOND);
        assert_int_equal(scripted_open(&world->names, "api.example"), 1);
        snprintf(address, sizeof address, "192.0.2.%u", round);
        scripted_answer(&world->names, "api.example", 0, address);
        assert_string_equal(resolve_addresses(host), address);
    }
}

static void fresh_every_ten_minutes_else(void **state)
{
    struct world *world = *state;
    found(world, "api.example");
    pass(world, 2 * MINUTE); /* for the use by found() */
    scripted_answer(&world->names, "api.example", 0, "192.0.2.1");
    for (unsigned minutes = 1; minutes < 10; minutes++) {
        pass(world, MINUTE);
        assert_int_equal(world->names.open_count, 0);
    }
    pass(world, MINUTE);
    assert_int_equal(scripted_open(&world->names, "api.example"), 1);
}

static void not_all_at_once(void **state)
{
    struct world *world = *state;
    enum { HOSTS = 64 };
    unsigned early = 0;
    for (unsigned i = 0; i < HOSTS; i++) {
        char name[32];
        snprintf(name, sizeof name, "api%u.example", i);
        found(world, name);
    }
    for (pass(world, MINUTE); world->names.open_count > 0; early++)
        scripted_answer(&world->names, world->names.open[0].name, 0, "192.0.2.1");
    assert_in_range(early, 1, HOSTS - 1);
}

static void failed_refresh_leaves_addresses(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = found(world, "api.example");
    static const int failures[] = {UV_EAI_AGAIN, UV_EAI_NONAME, UV_ENOMEM, 0};
    pass(world, 2 * MINUTE);
    for (size_t i = 0; i < sizeof failures / sizeof *failures; i++) {
        scripted_answer(&world->names, "api.example", failures[i], NULL);
        assert_string_equal(resolve_addresses(host), "192.0.2.1");
        pass(world, 7 * SECOND); /* and the next one is soon */
        assert_int_equal(world->names.open_count, 0);
        pass(world, 6 * SECOND);
        assert_int_equal(scripted_open(&world->names, "api.example"), 1);
    }
    scripted_answer(&world->names, "api.example", 0, "192.0.2.7");
    assert_string_equal(resolve_addresses(host), "192.0.2.7");
}

static void hanging_refresh_leaves_addresses(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = found(world, "api.example");
    for (unsigned i = 0; i < 10; i++) {
        pass(world, 2 * MINUTE);
        assert_int_equal(world->names.open_count, 1);
        assert_string_equal(resolve_addresses(host), "192.0.2.1");
    }
    scripted_answer(&world->names, "api.example", 0, "192.0.2.7"); /* late is better than never */
    assert_string_equal(resolve_addresses(host), "192.0.2.7");
}

/* --- waiting --- */

static void one_look_up_for_all_who_wait(void **state)
{
    struct world *world = *state;
    static struct waiter waiters[100];
    struct resolve_host *host = named(world, "api.example");
    for (unsigned i = 0; i < 100; i++)
        begin_waiting(host, &waiters[i]);
    assert_int_equal(world->names.asked, 1);
    scripted_answer(&world->names, "api.example", 0, "192.0.2.1");
    for (unsigned i = 0; i < 100; i++)
        assert_true(waiters[i].calls == 1 && waiters[i].exists);
    assert_int_equal(world->names.asked, 1);
}

static void no_such_host_is_told_at_once(void **state)
{
    struct world *world = *state;
    static const int definite[] = {UV_EAI_NONAME, UV_EAI_NODATA, UV_EAI_FAIL, 0};
    struct resolve_host *host = named(world, "api.example");
    for (size_t i = 0; i < sizeof definite / sizeof *definite; i++) {
        struct waiter waiter = {.exists = true};
        begin_waiting(host, &waiter); /* asks again: it may exist by now */
        scripted_answer(&world->names, "api.example", definite[i], NULL);
        assert_int_equal(waiter.calls, 1);
        assert_false(waiter.exists);
    }
    assert_int_equal(world->names.asked, 4);
}

/* A name server that is away or just starting may be there again before the patience ends. */
static void other_failures_are_waited_out(void **state)
{
    struct world *world = *state;
    struct waiter first = {0}, second = {0};
    struct resolve_host *host = named(world, "api.example");
    begin_waiting(host, &first);
    for (unsigned i = 0; i < 3; i++) {
        scripted_answer(&world->names, "api.example", UV_EAI_AGAIN, NULL);
        assert_int_equal(world->names.open_count, 0); /* but not without a pause */
        pass(world, 499);
        assert_int_equal(world->names.open_count, 0);
        pass(world, 1);
        assert_int_equal(world->names.open_count, 1);
    }
    begin_waiting(host, &second);
    assert_int_equal(first.calls + second.calls, 0);
    scripted_answer(&world->names, "api.example", 0, "192.0.2.1");
    assert_true(first.calls == 1 && first.exists);
    assert_true(second.calls == 1 && second.exists);
}

static void who_left_is_not_called(void **state)
{
    struct world *world = *state;
    struct waiter first = {0}, second = {0}, third = {0};
    struct resolve_host *host = named(world, "api.example");
    begin_waiting(host, &first);
    begin_waiting(host, &second);
    begin_waiting(host, &third);
    resolve_leave(&first.wait);
    resolve_leave(&first.wait);
    second.also_leaves = &third;
    scripted_answer(&world->names, "api.example", 0, "192.0.2.1");
    assert_int_equal(first.calls, 0);
    assert_int_equal(second.calls, 1);
    assert_int_equal(third.calls, 0);
}

static void who_waits_anew_waits_for_the_next_answer(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = named(world, "api.example");
    struct waiter waiter = {.waits_again_for = host};
    begin_waiting(host, &waiter);
    for (unsigned i = 1; i <= 3; i++) {
        scripted_answer(&world->names, "api.example", UV_EAI_NONAME, NULL);
        assert_int_equal(waiter.calls, i);
        assert_int_equal(world->names.open_count, 1);
    }
}

/* --- how many at once --- */

static void two_at_once_one_of_them_unawaited(void **state)
{
    struct world *world = *state;
    struct resolve_host *hosts[6];
    struct waiter waiters[6] = {0};
    char name[32];
    for (unsigned i = 0; i < 6; i++) {
        snprintf(name, sizeof name, "%u.example", i);
        hosts[i] = named(world, name);
        assert_int_equal(world->names.open_count, 1);
    }
    begin_waiting(hosts[4], &waiters[4]);
    assert_int_equal(scripted_open(&world->names, "4.example"), 1); /* before 1, 2 and 3 */
    begin_waiting(hosts[5], &waiters[5]);
    for (unsigned i = 0; i < 5; i++) {
        pass(world, MINUTE);
        assert_int_equal(world->names.open_count, 2);
    }
    scripted_answer(&world->names, "4.example", 0, "192.0.2.1");
    assert_int_equal(scripted_open(&world->names, "5.example"), 1);
    scripted_answer(&world->names, "5.example", 0, "192.0.2.1");
    assert_int_equal(world->names.open_count, 1); /* 0.example, for nobody */
    scripted_answer(&world->names, "0.example", 0, "192.0.2.1");
    assert_int_equal(scripted_open(&world->names, "1.example"), 1);
    assert_int_equal(world->names.open_count, 1);
}

static void hanging_host_delays_no_other(void **state)
{
    struct world *world = *state;
    struct waiter lost = {0}, waiter = {0};
    begin_waiting(named(world, "hangs.example"), &lost);
    begin_waiting(named(world, "api.example"), &waiter);
    scripted_answer(&world->names, "api.example", 0, "192.0.2.1");
    assert_true(waiter.calls == 1 && waiter.exists);
    for (unsigned i = 0; i < 10; i++) { /* and it is kept fresh */
        resolve_addresses(named(world, "api.example"));
        pass(world, 76 * SECOND);
        assert_int_equal(scripted_open(&world->names, "api.example"), 1);
        scripted_answer(&world->names, "api.example", 0, "192.0.2.1");
    }
    assert_int_equal(scripted_open(&world->names, "hangs.example"), 1);
    assert_int_equal(lost.calls, 0);
}

/* Where several wait for a place, those go first that never were at theirs. */
static void who_had_a_turn_goes_last(void **state)
{
    struct world *world = *state;
    struct waiter waiters[4] = {0};
    begin_waiting(named(world, "hangs1.example"), &waiters[0]);
    scripted_answer(&world->names, "hangs1.example", UV_EAI_AGAIN, NULL);
    begin_waiting(named(world, "hangs2.example"), &waiters[1]);
    begin_waiting(named(world, "hangs3.example"), &waiters[2]);
    scripted_now_ms += SECOND;
    begin_waiting(named(world, "api.example"), &waiters[3]);
    assert_int_equal(world->names.open_count, 2);
    scripted_answer(&world->names, "hangs2.example", UV_EAI_AGAIN, NULL);
    assert_int_equal(scripted_open(&world->names, "api.example"), 1);
    scripted_answer(&world->names, "api.example", 0, "192.0.2.1");
    assert_int_equal(scripted_open(&world->names, "hangs1.example"), 1);
}

/* --- the system's look-up --- */

static void stop_turning(uv_timer_t *timer)
{
    *(bool *)timer->data = true;
}

/* "127.1" is a name to us and an address to getaddrinfo, which asks nobody. */
static void asks_the_system(void **state)
{
    struct world *world = *state;
    struct waiter waiter = {0};
    world->cache = resolve_cache_new(&world->loop, NULL);
    struct resolve_host *host = named(world, "127.1");
    begin_waiting(host, &waiter);
    assert_int_equal(waiter.calls, 0);
    while (waiter.calls == 0)
        uv_run(&world->loop, UV_RUN_ONCE);
    assert_true(waiter.exists);
    assert_string_equal(resolve_addresses(host), "127.0.0.1");
}

/* Nobody calls resolve_refresh but the cache's own timer. */
static void goes_on_by_itself(void **state)
{
    struct world *world = *state;
    struct resolve_host *host = found(world, "api.example");
    uv_timer_t timer;
    bool over = false;
    resolve_addresses(host);
    scripted_now_ms += 2 * MINUTE;
    uv_timer_init(&world->loop, &timer);
    timer.data = &over;
    uv_timer_start(&timer, stop_turning, 3000, 0);
    while (!over && world->names.open_count == 0)
        uv_run(&world->loop, UV_RUN_ONCE);
    uv_timer_stop(&timer);
    assert_int_equal(scripted_open(&world->names, "api.example"), 1);
}

#define TEST(name) cmocka_unit_test_setup(name, set_up)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(addresses_need_no_look_up),
        TEST(looked_up_when_first_named),
        TEST(addresses_of_one_link_are_left_out),
        TEST(many_addresses_are_cut),
        TEST(fresh_once_a_minute_while_used),
        TEST(fresh_every_ten_minutes_else),
        TEST(not_all_at_once),
        TEST(failed_refresh_leaves_addresses),
        TEST(hanging_refresh_leaves_addresses),
        TEST(one_look_up_for_all_who_wait),
        TEST(no_such_host_is_told_at_once),
        TEST(other_failures_are_waited_out),
        TEST(who_left_is_not_called),
        TEST(who_waits_anew_waits_for_the_next_answer),
        TEST(two_at_once_one_of_them_unawaited),
        TEST(hanging_host_delays_no_other),
        TEST(who_had_a_turn_goes_last),
        TEST(asks_the_system),
        TEST(goes_on_by_itself),
    };
    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
