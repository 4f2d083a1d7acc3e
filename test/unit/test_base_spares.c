/* How many things that are kept for their next use are given up. */
#include "shared/base/spares.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static struct spares with(unsigned count)
{
    struct spares spares = {0};
    for (unsigned i = 0; i < count; i++)
        spares_kept(&spares);
    return spares;
}

static void nothing_is_kept(void **state)
{
    (void)state;
    struct spares spares = {0};
    assert_int_equal(spares_surplus(&spares), 0);
    assert_int_equal(spares_surplus(&spares), 0);
}

/* They have only just come back: what was not there at the last question may be needed. */
static void the_first_question_takes_none(void **state)
{
    (void)state;
    struct spares spares = with(8);
    assert_int_equal(spares_surplus(&spares), 0);
    assert_int_equal(spares.count, 8);
}

static void unused_they_go_by_halves(void **state)
{
    (void)state;
    struct spares spares = with(8);
    spares_surplus(&spares);
    assert_int_equal(spares_surplus(&spares), 4);
    assert_int_equal(spares_surplus(&spares), 2);
    assert_int_equal(spares_surplus(&spares), 1);
    assert_int_equal(spares_surplus(&spares), 1);
    assert_int_equal(spares_surplus(&spares), 0);
    assert_int_equal(spares.count, 0);
}

static void what_was_needed_stays(void **state)
{
    (void)state;
    struct spares spares = with(8);
    spares_surplus(&spares);
    for (unsigned i = 0; i < 6; i++)
        spares_taken(&spares);
    for (unsigned i = 0; i < 6; i++)
        spares_kept(&spares);
    assert_int_equal(spares_surplus(&spares), 1); /* of two */
    assert_int_equal(spares.count, 7);
}

static void all_are_needed(void **state)
{
    (void)state;
    struct spares spares = with(2);
    spares_surplus(&spares);
    for (unsigned turn = 0; turn < 5; turn++) {
        spares_taken(&spares);
        spares_taken(&spares);
        spares_kept(&spares);
        spares_kept(&spares);
        assert_int_equal(spares_surplus(&spares), 0);
    }
    assert_int_equal(spares.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_kept),          cmocka_unit_test(the_first_question_takes_none),
        cmocka_unit_test(unused_they_go_by_halves), cmocka_unit_test(what_was_needed_stays),
        cmocka_unit_test(all_are_needed),
    };
    return cmocka_run_group_tests_name("things kept for their next use", tests, NULL, NULL);
}
