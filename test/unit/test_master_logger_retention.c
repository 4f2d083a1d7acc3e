#include "master/logger/retention.h"
#include "shared/base/clock.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static int64_t now_ms, wall_ms;

static int64_t set_now_us(void)
{
    return now_ms * 1000;
}

static int64_t set_wall_ms(void)
{
    return wall_ms;
}

static const struct clock_source set_clock = {set_now_us, set_wall_ms};

static int64_t slice(struct retention *retention, int64_t took_ms, bool done, bool more)
{
    retention_begin(retention, 3600000);
    retention->expiry.more = more;
    now_ms += took_ms;
    return retention_end(retention, done);
}

static void slices_take_their_share(void **state)
{
    (void)state;
    struct retention retention;
    clock_set_source(&set_clock);
    wall_ms = 1790812800000;
    retention_init(&retention);
    assert_int_equal(slice(&retention, 12, true, true), 36);
    assert_int_equal(retention.expiry.before_wall_ms, 1790812800000 - 3600000);
    assert_int_equal(slice(&retention, 1, true, true), 10);
    assert_int_equal(slice(&retention, 1, true, false), 5000);
    assert_int_equal(slice(&retention, 1, false, true), 5000);
    clock_set_source(NULL);
}

static void slow_slices_get_smaller(void **state)
{
    (void)state;
    struct retention retention;
    clock_set_source(&set_clock);
    retention_init(&retention);
    size_t most = retention.expiry.rows_max;
    slice(&retention, 500, true, true);
    assert_int_equal(retention.expiry.rows_max, most / 2);
    for (int i = 0; i < 20; i++)
        slice(&retention, 500, true, true);
    assert_int_equal(retention.expiry.rows_max, 16);
    slice(&retention, 10, true, true);
    assert_int_equal(retention.expiry.rows_max, 16);
    for (int i = 0; i < 20; i++)
        slice(&retention, 1, true, true);
    assert_int_equal(retention.expiry.rows_max, most);
    clock_set_source(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_take_their_share),
        cmocka_unit_test(slow_slices_get_smaller),
    };
    return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
