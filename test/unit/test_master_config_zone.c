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
    struct months months;
    struct error error;
    assert_true(zone_months("UTC", &arena, &months, &error));
    assert_null(months.starts);
    arena_free(&arena);
}

static void months_begin_at_the_zones_midnight(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct months months;
    struct error error;
    char text[MONTH_SIZE];
    setenv("TZ", "Asia/Tokyo", 1);
    assert_true(zone_months("Europe/Berlin", &arena, &months, &error));
    assert_string_equal(getenv("TZ"), "Asia/Tokyo");
    /* Summer time: 2026-10-01T00:00 is 22:00 UTC of the day before; in winter 23:00. */
    assert_string_equal(month_name(&months, 1790805599999, text), "2026-09");
    assert_string_equal(month_name(&months, 1790805600000, text), "2026-10");
    assert_string_equal(month_name(&months, 1796079599999, text), "2026-11");
    assert_string_equal(month_name(&months, 1796079600000, text), "2026-12");
    unsetenv("TZ");
    assert_true(zone_months("Asia/Kathmandu", &arena, &months, &error));
    assert_null(getenv("TZ"));
    assert_string_equal(month_name(&months, 1790792099999, text), "2026-09"); /* 18:15 UTC */
    assert_string_equal(month_name(&months, 1790792100000, text), "2026-10");
    for (int i = 0; i < MONTHS_COUNT; i++)
        assert_true(months.starts[i] < months.starts[i + 1]);
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
        struct months months;
        struct error error;
        if (zone_months(names[i], &arena, &months, &error))
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
        cmocka_unit_test(names_that_are_no_zone),
    };
    return cmocka_run_group_tests_name("zone", tests, NULL, NULL);
}
