#include "shared/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

static int64_t set_us, set_wall_ms;

static int64_t given_us(void)
{
    return set_us;
}

static int64_t given_wall_ms(void)
{
    return set_wall_ms;
}

static const struct clock_source given = {given_us, given_wall_ms};

static int real_again(void **state)
{
    (void)state;
    clock_set_source(NULL);
    return 0;
}

static void a_set_clock_stands_still(void **state)
{
    (void)state;
    set_us = 1234567;
    set_wall_ms = 99;
    clock_set_source(&given);
    assert_int_equal(clock_now_us(), 1234567);
    assert_int_equal(clock_now_ms(), 1234);
    assert_int_equal(clock_wall_ms(), 99);
    set_us += 1000;
    assert_int_equal(clock_now_ms(), 1235);
}

static void real_clocks_are_those_of_the_system(void **state)
{
    (void)state;
    clock_set_source(&given);
    clock_set_source(NULL);
    time_t before = time(NULL);
    int64_t wall = clock_wall_ms(), now = clock_now_us();
    assert_in_range(wall / 1000, before, before + 2);
    assert_true(clock_now_us() >= now);
    assert_true(now != set_us);
}

static void assert_stamp(int64_t wall_ms, const char *expected)
{
    char text[CLOCK_RFC3339_SIZE];
    assert_ptr_equal(clock_rfc3339(wall_ms, text), text);
    assert_string_equal(text, expected);
}

static void writes_rfc3339(void **state)
{
    (void)state;
    assert_stamp(0, "1970-01-01T00:00:00.000Z");
    assert_stamp(1763896516042, "2025-11-23T11:15:16.042Z");
    assert_stamp(951782400000, "2000-02-29T00:00:00.000Z");
    assert_stamp(253402300799999, "9999-12-31T23:59:59.999Z");
    assert_stamp(-1, "1969-12-31T23:59:59.999Z");
    assert_stamp(-1000, "1969-12-31T23:59:59.000Z");
    assert_stamp(-86400001, "1969-12-30T23:59:59.999Z");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(a_set_clock_stands_still, real_again),
        cmocka_unit_test_teardown(real_clocks_are_those_of_the_system, real_again),
        cmocka_unit_test(writes_rfc3339),
    };
    return cmocka_run_group_tests_name("base/clock", tests, NULL, NULL);
}
