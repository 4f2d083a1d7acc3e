#include "shared/base/uuid.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_in_order(struct uuid *last, int64_t wall_ms)
{
    struct uuid next = uuid_v7(wall_ms);
    assert_true(uuid_compare(last, &next) < 0);
    *last = next;
}

static void version_and_variant_are_set(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        struct uuid id = uuid_v7(1700000000000 + i);
        assert_int_equal(id.bytes[6] >> 4, 7);
        assert_int_equal(id.bytes[8] >> 6, 2);
    }
}

/* The tests share the generator's memory of the last time: each begins later than the one before.
 */
static void carries_the_time(void **state)
{
    (void)state;
    struct uuid id = uuid_v7(1800000000123);
    assert_int_equal(uuid_wall_ms(&id), 1800000000123);
}

static void sorts_strictly_within_one_millisecond(void **state)
{
    (void)state;
    struct uuid last = uuid_v7(1800000001000);
    for (int i = 0; i < 20000; i++)
        assert_in_order(&last, 1800000001000);
    assert_true(uuid_wall_ms(&last) > 1800000001000);
    assert_true(uuid_wall_ms(&last) < 1800000001000 + 20);
}

static void sorts_strictly_when_the_clock_goes_back(void **state)
{
    (void)state;
    struct uuid last = uuid_v7(1800000002000);
    for (int i = 0; i < 10000; i++)
        assert_in_order(&last, 1800000002000 - i);
    assert_in_order(&last, 0);
    assert_in_order(&last, -1);
    assert_in_order(&last, 1800000009000);
    assert_int_equal(uuid_wall_ms(&last), 1800000009000);
}

static void random_bits_differ(void **state)
{
    (void)state;
    struct uuid a = uuid_v7(1800000010000), b = uuid_v7(1800000010001);
    assert_memory_not_equal(a.bytes + 8, b.bytes + 8, 8);
}

static void text_goes_both_ways(void **state)
{
    (void)state;
    char text[UUID_TEXT_LEN + 1];
    struct uuid id, again;
    assert_true(uuid_parse(STR("0192F0c1-7e7a-7CC3-98c4-dc0c0c07398f"), &id));
    assert_int_equal(id.bytes[0], 0x01);
    assert_int_equal(id.bytes[3], 0xC1);
    assert_int_equal(id.bytes[15], 0x8F);
    assert_ptr_equal(uuid_format(&id, text), text);
    assert_string_equal(text, "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f");
    for (int i = 0; i < 100; i++) {
        id = uuid_v7(1800000020000 + i);
        assert_true(uuid_parse(str_of(uuid_format(&id, text)), &again));
        assert_int_equal(uuid_compare(&id, &again), 0);
    }
}

static void refuses_other_texts(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "0192f0c1",
        "0192f0c17e7a7cc398c4dc0c0c07398f",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f0",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398g",
        "0192f0c1 7e7a-7cc3-98c4-dc0c0c07398f",
        "0192f0c17-e7a-7cc3-98c4-dc0c0c07398f",
        "{192f0c1-7e7a-7cc3-98c4-dc0c0c07398}",
        " 192f0c1-7e7a-7cc3-98c4-dc0c0c07398f",
        "0192f0c1-7e7a-7cc3-98c4-dc0c0c0739 f",
        "------------------------------------",
    };
    struct uuid id;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (uuid_parse(str_of(bad[i]), &id))
            fail_msg("accepted: %s", bad[i]);
    assert_false(uuid_parse(STR_ABSENT, &id));
    assert_false(uuid_parse(STR("0192f0c1-7e7a-7cc3-98c4-dc0c0c07398\0"), &id));
}

static void the_first_id_of_a_moment(void **state)
{
    (void)state;
    char text[UUID_TEXT_LEN + 1];
    struct uuid first = uuid_first(0x0192f0c17e7a);
    assert_string_equal(uuid_format(&first, text), "0192f0c1-7e7a-7000-8000-000000000000");
    struct uuid made = uuid_v7(1999999999999), next = uuid_first(2000000000000);
    first = uuid_first(1999999999999);
    assert_true(uuid_compare(&first, &made) < 0);
    assert_true(uuid_compare(&made, &next) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_and_variant_are_set),
        cmocka_unit_test(carries_the_time),
        cmocka_unit_test(sorts_strictly_within_one_millisecond),
        cmocka_unit_test(sorts_strictly_when_the_clock_goes_back),
        cmocka_unit_test(random_bits_differ),
        cmocka_unit_test(text_goes_both_ways),
        cmocka_unit_test(refuses_other_texts),
        cmocka_unit_test(the_first_id_of_a_moment),
    };
    return cmocka_run_group_tests_name("base/uuid", tests, NULL, NULL);
}
