#include "shared/base/str.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void compares(void **state)
{
    (void)state;
    assert_true(str_eq(STR("a\0b"), STR("a\0b")));
    assert_false(str_eq(STR("a\0b"), STR("a\0c")));
    assert_false(str_eq(STR("a"), STR("ab")));
    assert_true(str_eq(STR(""), STR_ABSENT));
    assert_true(str_starts(STR("abc"), STR("ab")));
    assert_true(str_starts(STR("abc"), STR("")));
    assert_false(str_starts(STR("a"), STR("ab")));
    assert_true(str_eq_nocase(STR("Content-TYPE"), STR("content-type")));
    assert_false(str_eq_nocase(STR("a"), STR("aa")));
    assert_true(str_starts_nocase(STR("BEARER x"), STR("bearer ")));
    assert_false(str_starts_nocase(STR("bear"), STR("bearer")));
}

static void folds_ascii_letters_alone(void **state)
{
    (void)state;
    assert_false(str_eq_nocase(STR("@"), STR("`")));
    assert_false(str_eq_nocase(STR("["), STR("{")));
    assert_false(str_eq_nocase(STR("\xC3\x84"), STR("\xC3\xA4")));
    assert_true(str_eq_nocase(STR("AZ"), STR("az")));
}

static void absent_is_not_empty(void **state)
{
    (void)state;
    assert_null(str_of(NULL).at);
    assert_non_null(str_of("").at);
    assert_int_equal(str_of("abc").len, 3);
}

static void trims_spaces_and_tabs(void **state)
{
    (void)state;
    assert_true(str_eq(str_trim(STR(" \t a b\t ")), STR("a b")));
    assert_true(str_eq(str_trim(STR(" \t ")), STR("")));
    assert_true(str_eq(str_trim(STR("")), STR("")));
    assert_true(str_eq(str_trim(STR("\na\r")), STR("\na\r")));
}

static void splits_at_each_separator(void **state)
{
    (void)state;
    struct str rest = STR("a,,b,");
    assert_true(str_eq(str_split(&rest, ','), STR("a")));
    assert_true(str_eq(str_split(&rest, ','), STR("")));
    assert_true(str_eq(str_split(&rest, ','), STR("b")));
    assert_non_null(rest.at);
    assert_true(str_eq(str_split(&rest, ','), STR("")));
    assert_null(rest.at);
    assert_null(str_split(&rest, ',').at);
}

static void reads_numbers(void **state)
{
    (void)state;
    unsigned long long value = 7;
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "0x1",
                                      "1.0",
                                      "a",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_false(str_to_u64(str_of(bad[i]), &value));
    assert_true(str_to_u64(STR("0"), &value));
    assert_int_equal(value, 0);
    assert_true(str_to_u64(STR("007"), &value));
    assert_int_equal(value, 7);
    assert_true(str_to_u64(STR("18446744073709551615"), &value));
    assert_true(value == UINT64_MAX);
    assert_false(str_to_u64(STR_ABSENT, &value));
}

/* The length RFC 3629 gives the sequence that encodes every code point, and none for surrogates. */
static size_t expected_length(unsigned point)
{
    if ((point >= 0xD800 && point <= 0xDFFF) || point > 0x10FFFF)
        return 0;
    return point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
}

static size_t encode(unsigned point, char *to)
{
    static const unsigned char lead[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t len = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t i = len; i-- > 1; point >>= 6)
        to[i] = (char)(0x80 | (point & 0x3F));
    to[0] = (char)(len == 1 ? point : lead[len] | point);
    return len;
}

static void knows_every_code_point(void **state)
{
    (void)state;
    char bytes[4];
    for (unsigned point = 0; point <= 0x10FFFF; point++) {
        size_t len = encode(point, bytes);
        if (utf8_sequence(bytes, len) != expected_length(point))
            fail_msg("U+%04X", point);
        if (len > 1 && utf8_sequence(bytes, len - 1) != 0)
            fail_msg("U+%04X cut", point);
    }
    encode(0x110000, bytes);
    assert_int_equal(utf8_sequence(bytes, 4), 0);
}

/* All sequences of up to three bytes, against a decoder that knows the ranges of code points. */
static size_t slow_sequence(const unsigned char *at, size_t len)
{
    size_t need = at[0] < 0x80 ? 1 : at[0] < 0xC0 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : 4;
    static const unsigned least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (need == 0 || need > len || at[0] > 0xF7)
        return 0;
    unsigned point = need == 1 ? at[0] : at[0] & (0x7Fu >> need);
    for (size_t i = 1; i < need; i++) {
        if ((at[i] & 0xC0) != 0x80)
            return 0;
        point = point << 6 | (at[i] & 0x3F);
    }
    return point < least[need] || expected_length(point) != need ? 0 : need;
}

static void agrees_on_all_short_sequences(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 1u << 24; i += 1) {
        unsigned char bytes[4] = {(unsigned char)(i >> 16), (unsigned char)(i >> 8),
                                  (unsigned char)i, 0x80};
        if (utf8_sequence((char *)bytes, 4) != slow_sequence(bytes, 4))
            fail_msg("%02X %02X %02X 80", bytes[0], bytes[1], bytes[2]);
    }
    assert_int_equal(utf8_sequence("", 0), 0);
}

static void measures_edit_distance(void **state)
{
    (void)state;
    assert_int_equal(str_distance(STR("timeout"), STR("timeout"), 9), 0);
    assert_int_equal(str_distance(STR("tiemout"), STR("timeout"), 9), 2);
    assert_int_equal(str_distance(STR("kitten"), STR("sitting"), 9), 3);
    assert_int_equal(str_distance(STR(""), STR("abc"), 9), 3);
    assert_int_equal(str_distance(STR("abc"), STR(""), 9), 3);
    assert_int_equal(str_distance(STR("abc"), STR("xyz"), 2), 2);
    char text[100] = "";
    memset(text, 'a', sizeof text);
    assert_int_equal(str_distance((struct str){text, 100}, (struct str){text, 100}, 5), 5);
    assert_int_equal(str_distance((struct str){text, 63}, (struct str){text, 63}, 5), 0);
}

static void test_hex_digit(void **state)
{
    (void)state;
    static const char digits[] = "0123456789abcdefABCDEF";
    for (int c = -128; c < 128; c++) {
        const char *at = c ? strchr(digits, c) : NULL;
        int place = at ? (int)(at - digits) : -1;
        assert_int_equal(hex_digit((char)c), place > 15 ? place - 6 : place);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hex_digit),
        cmocka_unit_test(compares),
        cmocka_unit_test(folds_ascii_letters_alone),
        cmocka_unit_test(absent_is_not_empty),
        cmocka_unit_test(trims_spaces_and_tabs),
        cmocka_unit_test(splits_at_each_separator),
        cmocka_unit_test(reads_numbers),
        cmocka_unit_test(knows_every_code_point),
        cmocka_unit_test(agrees_on_all_short_sequences),
        cmocka_unit_test(measures_edit_distance),
    };
    return cmocka_run_group_tests_name("base/str", tests, NULL, NULL);
}
