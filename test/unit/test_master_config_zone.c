#include "master/config/zone.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void utc_needs_no_table(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct zone zone;
    struct error error;
    assert_true(zone_read("UTC", &arena, &zone, &error));
    assert_null(zone.months.starts);
    arena_free(&arena);
}

static void months_begin_at_the_zones_midnight(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct zone zone;
    struct error error;
    char text[MONTH_SIZE];
    setenv("TZ", "Asia/Tokyo", 1);
    assert_true(zone_read("Europe/Berlin", &arena, &zone, &error));
    assert_string_equal(getenv("TZ"), "Asia/Tokyo");
    /* Summer time: 2026-10-01T00:00 is 22:00 UTC of the day before; in winter 23:00. */
    assert_string_equal(month_name(&zone.months, 1790805599999, text), "2026-09");
    assert_string_equal(month_name(&zone.months, 1790805600000, text), "2026-10");
    assert_string_equal(month_name(&zone.months, 1796079599999, text), "2026-11");
    assert_string_equal(month_name(&zone.months, 1796079600000, text), "2026-12");
    unsetenv("TZ");
    assert_true(zone_read("Asia/Kathmandu", &arena, &zone, &error));
    assert_null(getenv("TZ"));
    assert_string_equal(month_name(&zone.months, 1790792099999, text), "2026-09"); /* 18:15 UTC */
    assert_string_equal(month_name(&zone.months, 1790792100000, text), "2026-10");
    for (int i = 0; i < MONTHS_COUNT; i++)
        assert_true(zone.months.starts[i] < zone.months.starts[i + 1]);
    arena_free(&arena);
}

static int minute_at(const struct zone *zone, int64_t wall_ms)
{
    return minute_of_day(&zone->offsets, wall_ms);
}

static void days_begin_at_the_zones_midnight(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct zone zone;
    struct error error;
    assert_true(zone_read("UTC", &arena, &zone, &error));
    assert_int_equal(minute_at(&zone, 0), 0);
    assert_int_equal(minute_at(&zone, -1), 23 * 60 + 59);
    assert_int_equal(minute_at(&zone, 1790805599999), 21 * 60 + 59);
    assert_true(zone_read("Europe/Berlin", &arena, &zone, &error));
    assert_int_equal(minute_at(&zone, 1790805599999), 23 * 60 + 59); /* summer */
    assert_int_equal(minute_at(&zone, 1790805600000), 0);
    /* 2026-10-25: at 01:00 UTC it is 02:00 for the second time. */
    assert_int_equal(minute_at(&zone, 1792889999999), 2 * 60 + 59);
    assert_int_equal(minute_at(&zone, 1792890000000), 2 * 60);
    /* 2027-03-28: behind 01:59 comes 03:00. */
    assert_int_equal(minute_at(&zone, 1806195599999), 1 * 60 + 59);
    assert_int_equal(minute_at(&zone, 1806195600000), 3 * 60);
    assert_true(zone_read("Asia/Kathmandu", &arena, &zone, &error));
    assert_int_equal(minute_at(&zone, 1790792099999), 23 * 60 + 59);
    assert_int_equal(minute_at(&zone, 1790792100000), 0);
    arena_free(&arena);
}

static void names_that_are_no_zone(void **state)
{
    (void)state;
    static const char *const names[] = {"Europe/Berlni", "",       "Europe",    "/etc/passwd",
                                        "../zoneinfo/x", ":UTC",   "tzdata.zi", "Europe//Berlin",
                                        "CET-1CEST",     "Europe/"};
    struct arena arena = {0};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        struct zone zone;
        struct error error;
        if (zone_read(names[i], &arena, &zone, &error))
            fail_msg("%s is taken for a zone", names[i]);
        assert_non_null(strstr(error.message, "must be a time zone"));
    }
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(utc_needs_no_table),
        cmocka_unit_test(months_begin_at_the_zones_midnight),
        cmocka_unit_test(days_begin_at_the_zones_midnight),
        cmocka_unit_test(names_that_are_no_zone),
    };
    return cmocka_run_group_tests_name("zone", tests, NULL, NULL);
}
