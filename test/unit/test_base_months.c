#include "shared/base/months.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void assert_month(const struct months *months, int64_t wall_ms, const char *expected)
{
    char text[MONTH_SIZE];
    assert_string_equal(month_name(months, wall_ms, text), expected);
    /* Its number says the same. */
    int year = atoi(expected), number = (year - MONTHS_FIRST_YEAR) * 12 + atoi(expected + 5);
    assert_int_equal(month_number(months, wall_ms), year >= MONTHS_FIRST_YEAR ? number : 0);
}

static void without_a_table_it_is_utc(void **state)
{
    (void)state;
    const struct months utc = {0};
    assert_month(&utc, 1790812799999, "2026-09"); /* 2026-09-30T23:59:59.999Z */
    assert_month(&utc, 1790812800000, "2026-10");
    assert_month(&utc, 0, "1970-01");
    assert_month(&utc, -1, "1969-12");
}

/* Months of 30 days, so that places can be reckoned. */
static void a_table_decides(void **state)
{
    (void)state;
    static int64_t starts[MONTHS_COUNT + 1];
    const int64_t first = 946684800000, length = INT64_C(30) * 86400000;
    for (int i = 0; i <= MONTHS_COUNT; i++)
        starts[i] = first + i * length;
    const struct months months = {starts};
    assert_month(&months, first, "2000-01");
    assert_month(&months, first + length - 1, "2000-01");
    assert_month(&months, first + length, "2000-02");
    assert_month(&months, first + 12 * length, "2001-01");
    assert_month(&months, starts[MONTHS_COUNT] - 1, "2099-12");
    assert_month(&months, first - 1, "1999-12");
    assert_month(&months, starts[MONTHS_COUNT], "2098-07"); /* out of it: UTC */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_table_it_is_utc),
        cmocka_unit_test(a_table_decides),
    };
    return cmocka_run_group_tests_name("months", tests, NULL, NULL);
}
