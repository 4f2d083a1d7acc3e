#include "shared/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void grows_and_keeps_what_it_has(void **state)
{
    (void)state;
    struct buf b = {0};
    for (int i = 0; i < 5000; i++)
        buf_putc(&b, (char)('a' + i % 26));
    assert_int_equal(b.len, 5000);
    for (size_t i = 0; i < b.len; i++)
        assert_int_equal(b.data[i], 'a' + (int)i % 26);
    buf_free(&b);
    assert_null(b.data);
    assert_int_equal(b.len + b.cap, 0);
}

static void appends_every_kind(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_puts(&b, "a");
    buf_append(&b, "\0b", 2);
    buf_str(&b, STR("c"));
    buf_str(&b, STR_ABSENT);
    buf_append(&b, NULL, 0);
    buf_printf(&b, "%d-%s", 7, "x");
    assert_true(str_eq(buf_view(&b), STR("a\0bc7-x")));
    assert_string_equal(buf_cstr(&b) + 2, "bc7-x");
    assert_int_equal(b.len, 7);
    buf_free(&b);
}

static void writes_integers(void **state)
{
    (void)state;
    static const struct {
        int64_t value;
        const char *text;
    } cases[] = {{0, "0"},
                 {-1, "-1"},
                 {1234567890, "1234567890"},
                 {INT64_MAX, "9223372036854775807"},
                 {INT64_MIN, "-9223372036854775808"}};
    struct buf b = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_clear(&b);
        buf_i64(&b, cases[i].value);
        assert_string_equal(buf_cstr(&b), cases[i].text);
    }
    buf_clear(&b);
    buf_u64(&b, UINT64_MAX);
    assert_string_equal(buf_cstr(&b), "18446744073709551615");
    buf_free(&b);
}

static void long_formats_fit(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_puts(&b, "head ");
    buf_printf(&b, "%10000d", 1);
    assert_int_equal(b.len, 10005);
    assert_int_equal(b.data[10004], '1');
    assert_memory_equal(b.data, "head  ", 6);
    buf_free(&b);
}

static void consumes_from_the_front(void **state)
{
    (void)state;
    struct buf b = {0};
    buf_puts(&b, "abcdef");
    buf_consume(&b, 2);
    assert_string_equal(buf_cstr(&b), "cdef");
    buf_consume(&b, 0);
    assert_string_equal(buf_cstr(&b), "cdef");
    buf_consume(&b, 99);
    assert_int_equal(b.len, 0);
    buf_free(&b);
}

static void reserve_gives_room_and_no_length(void **state)
{
    (void)state;
    struct buf b = {0};
    char *room = buf_reserve(&b, 1000);
    memset(room, 'x', 1000);
    assert_int_equal(b.len, 0);
    assert_true(b.cap >= 1000);
    b.len = 1000;
    assert_ptr_equal(buf_reserve(&b, 1), b.data + 1000);
    buf_free(&b);
}

static void an_empty_one_has_a_view(void **state)
{
    (void)state;
    struct buf b = {0};
    assert_non_null(buf_view(&b).at);
    assert_int_equal(buf_view(&b).len, 0);
    assert_string_equal(buf_cstr(&b), "");
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(grows_and_keeps_what_it_has),
        cmocka_unit_test(appends_every_kind),
        cmocka_unit_test(writes_integers),
        cmocka_unit_test(long_formats_fit),
        cmocka_unit_test(consumes_from_the_front),
        cmocka_unit_test(reserve_gives_room_and_no_length),
        cmocka_unit_test(an_empty_one_has_a_view),
    };
    return cmocka_run_group_tests_name("base/buf", tests, NULL, NULL);
}
