#include "shared/base/json.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct json_object *read_value(const char *text)
{
    struct json_object *value;
    struct error error = {{0}};
    if (!json_read(str_of(text), &value, &error))
        fail_msg("%s: %s", text, error.message);
    return value;
}

static void assert_written(struct json_object *value, const char *expected)
{
    struct buf out = {0};
    json_write(&out, value);
    assert_string_equal(buf_cstr(&out), expected);
    buf_free(&out);
}

static void assert_becomes(const char *text, const char *expected)
{
    struct json_object *value = read_value(text);
    assert_written(value, expected);
    json_object_put(value);
}

static const char *const kept[] = {
    "null",
    "true",
    "false",
    "0",
    "-1",
    "9223372036854775807",
    "-9223372036854775808",
    /* beyond int64, beyond uint64, beyond double */
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "12345678901234567890123",
    "1e400",
    "-1E+400",
    "1e-400",
    "[1e400,-1e400]",
    /* doubles as they were written */
    "-0",
    "-0.0",
    "0.1",
    "1.10",
    "1.0",
    "1E5",
    "1e+05",
    "0.30000000000000000000000000000000000000000000001",
    "5e-324",
    /* strings */
    "\"\"",
    "\"a\"",
    "\"\\\"\\\\\\b\\f\\n\\r\\t\\u0000\\u001f\"",
    "\"\x7F/\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80\xE2\x80\xA8\"",
    "\"\\ud83d\"",
    "\"a\\udc00\\u0041\\/b\"",
    "[\"\\ud83d\",\"\xEF\xBF\xBD\"]",
    /* containers */
    "[]",
    "{}",
    "[[],{},[{}]]",
    "{\"a\":[1,null,{\"b\":\"c\"}],\"\":{}}",
    "{\"z\":1,\"a\":2,\"m\":3}",
    "{\"\xC3\xA4\":1,\"\\n\":2}",
    "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10,\"k\":11}",
};

static void round_trips_keep_every_byte(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(kept); i++)
        assert_becomes(kept[i], kept[i]);
}

static void writes_compactly(void **state)
{
    (void)state;
    assert_becomes(" { \"a\" : [ 1 , 2 ] , \"b\" : { } } ", "{\"a\":[1,2],\"b\":{}}");
    assert_becomes("\"\\u0041\\/\\u000a\\ud83d\\ude00\"", "\"A/\\n\xF0\x9F\x98\x80\"");
}

static void copies_keep_the_source_text(void **state)
{
    (void)state;
    static const char text[] = "[1e400,1.10,\"\\ud83d\",18446744073709551615]";
    struct json_object *value = read_value(text), *copy = NULL;
    assert_int_equal(json_object_deep_copy(value, &copy, NULL), 0);
    json_object_put(value);
    assert_written(copy, text);
    json_object_put(copy);
}

static void values_read_can_be_changed(void **state)
{
    (void)state;
    struct json_object *value = read_value("{\"a\":{},\"b\":[]}");
    struct json_object *a = json_member(value, "a", NULL), *b = json_member(value, "b", NULL);
    for (int i = 0; i < 40; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        json_object_object_add(a, name, json_object_new_int(i));
        json_object_array_add(b, json_object_new_int(i));
    }
    assert_int_equal(json_object_object_length(a), 40);
    assert_int_equal(json_int_or(json_member(a, "39", NULL), -1), 39);
    json_object_object_del(a, "0");
    assert_null(json_member(a, "0", NULL));
    assert_int_equal(json_int_or(json_object_array_get_idx(b, 39), -1), 39);
    json_object_put(value);
}

static void refuses_what_json_check_refuses(void **state)
{
    (void)state;
    static const char *const bad[] = {"",        "{\"a\":1,\"a\":2}",    "[1,2", "{\"a\\u0000\":1}",
                                      "[[1],x]", "{\"a\":{\"b\":[1e]}}", "1 2",  "[\"\x80\"]"};
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct json_object *value = (void *)bad;
        struct error error = {{0}};
        assert_false(json_read(str_of(bad[i]), &value, &error));
        assert_null(value);
        assert_int_not_equal(strlen(error.message), 0);
    }
}

static void nests_64_deep(void **state)
{
    (void)state;
    char text[131] = "";
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    struct json_object *value;
    struct error error;
    assert_false(json_read((struct str){text, 130}, &value, &error));
    struct str deepest = {text + 1, 128};
    assert_true(json_read(deepest, &value, &error));
    struct buf out = {0};
    json_write(&out, value);
    assert_true(str_eq(buf_view(&out), deepest));
    buf_free(&out);
    json_object_put(value);
}

/* What the program builds may be deeper than what strangers may send. */
static void writes_any_depth(void **state)
{
    (void)state;
    struct json_object *value = json_object_new_array();
    for (int i = 0; i < 1000; i++) {
        struct json_object *outer = json_object_new_array();
        json_object_array_add(outer, value);
        value = outer;
    }
    struct buf out = {0};
    json_write(&out, value);
    assert_int_equal(out.len, 2002);
    buf_free(&out);
    json_object_put(value);
}

static void numbers_know_their_value(void **state)
{
    (void)state;
    struct json_object *value = read_value("[0.1,1e400,18446744073709551615,-0]");
    assert_true(json_object_get_double(json_object_array_get_idx(value, 0)) == 0.1);
    assert_true(isinf(json_object_get_double(json_object_array_get_idx(value, 1))));
    assert_true(json_object_get_uint64(json_object_array_get_idx(value, 2)) == UINT64_MAX);
    assert_true(signbit(json_object_get_double(json_object_array_get_idx(value, 3))));
    json_object_put(value);
}

static void int_or_takes_whole_numbers_alone(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int64_t expected;
    } cases[] = {
        {"7", 7},
        {"-7", -7},
        {"7.0", 7},
        {"1e3", 1000},
        {"-0", 0},
        {"9223372036854775807", INT64_MAX},
        {"-9223372036854775808", INT64_MIN},
        {"7.5", 42},
        {"1e400", 42},
        {"9223372036854775808", 42},
        {"9223372036854775808.0", 42},
        {"-9223372036854775808.0", INT64_MIN},
        {"-9223372036854777856.0", 42},
        {"12345678901234567890123", 42},
        {"\"7\"", 42},
        {"true", 42},
        {"null", 42},
        {"[7]", 42},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json_object *value = read_value(cases[i].text);
        assert_int_equal(json_int_or(value, 42), cases[i].expected);
        json_object_put(value);
    }
}

static void member_tells_null_from_none(void **state)
{
    (void)state;
    struct json_object *value = read_value("{\"a\":null,\"b\":1}");
    bool present = false;
    assert_null(json_member(value, "a", &present));
    assert_true(present);
    assert_null(json_member(value, "c", &present));
    assert_false(present);
    assert_non_null(json_member(value, "b", NULL));
    assert_null(json_member(json_member(value, "b", NULL), "x", &present));
    assert_false(present);
    assert_null(json_member(NULL, "x", NULL));
    json_object_put(value);
}

static void text_is_that_of_strings(void **state)
{
    (void)state;
    struct json_object *value = read_value("[\"a\\u0000b\",\"\\ud83d\",\"\",1]");
    assert_true(str_eq(json_text(json_object_array_get_idx(value, 0)), STR("a\0b")));
    assert_true(str_eq(json_text(json_object_array_get_idx(value, 1)), STR("\xEF\xBF\xBD")));
    assert_non_null(json_text(json_object_array_get_idx(value, 2)).at);
    assert_null(json_text(json_object_array_get_idx(value, 3)).at);
    assert_null(json_text(NULL).at);
    json_object_put(value);
}

static void assert_string_written(struct str text, const char *expected)
{
    struct buf out = {0};
    json_write_string(&out, text);
    assert_string_equal(buf_cstr(&out), expected);
    buf_free(&out);
}

static void strings_are_always_valid(void **state)
{
    (void)state;
    assert_string_written(STR("a\"\\/\x01\x1F\x7F"), "\"a\\\"\\\\/\\u0001\\u001f\x7F\"");
    assert_string_written(STR("\b\f\n\r\t"), "\"\\b\\f\\n\\r\\t\"");
    assert_string_written(STR("a\0b"), "\"a\\u0000b\"");
    assert_string_written(STR("\xC3\xA4\xF0\x9F\x98\x80"), "\"\xC3\xA4\xF0\x9F\x98\x80\"");
    assert_string_written(STR("x\x80y"), "\"x\xEF\xBF\xBDy\"");
    assert_string_written(STR("\xC3"), "\"\xEF\xBF\xBD\"");
    assert_string_written(STR("\xED\xA0\x80"), "\"\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    assert_string_written(STR_ABSENT, "\"\"");
    struct buf out = {0};
    json_write_string_or_null(&out, STR_ABSENT);
    json_write_string_or_null(&out, STR(""));
    assert_string_equal(buf_cstr(&out), "null\"\"");
    buf_free(&out);
}

static void doubles_are_short_and_exact(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *expected;
    } cases[] = {
        {0.1, "0.1"},
        {0.0000579, "5.79e-05"},
        {1.0 / 3, "0.3333333333333333"},
        {0.1 + 0.2, "0.30000000000000004"},
        {100, "100"},
        {-2.5, "-2.5"},
        {1e21, "1e+21"},
        {123456789012345678.0, "1.2345678901234568e+17"},
        {5e-324, "5e-324"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {-0.0, "-0"},
        {(double)INFINITY, "null"},
        {-(double)INFINITY, "null"},
        {(double)NAN, "null"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct json_object *value = json_object_new_double(cases[i].value);
        assert_written(value, cases[i].expected);
        json_object_put(value);
    }
}

/* A changed number loses its source text. */
static void set_numbers_are_written_anew(void **state)
{
    (void)state;
    struct json_object *value = read_value("1.10");
    json_object_set_double(value, 2.5);
    assert_written(value, "2.5");
    json_object_put(value);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips_keep_every_byte),
        cmocka_unit_test(writes_compactly),
        cmocka_unit_test(copies_keep_the_source_text),
        cmocka_unit_test(values_read_can_be_changed),
        cmocka_unit_test(refuses_what_json_check_refuses),
        cmocka_unit_test(nests_64_deep),
        cmocka_unit_test(writes_any_depth),
        cmocka_unit_test(numbers_know_their_value),
        cmocka_unit_test(int_or_takes_whole_numbers_alone),
        cmocka_unit_test(member_tells_null_from_none),
        cmocka_unit_test(text_is_that_of_strings),
        cmocka_unit_test(strings_are_always_valid),
        cmocka_unit_test(doubles_are_short_and_exact),
        cmocka_unit_test(set_numbers_are_written_anew),
    };
    return cmocka_run_group_tests_name("base/json", tests, NULL, NULL);
}
