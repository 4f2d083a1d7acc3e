/* Which values fit a variable, what text they become, and what is said of those that don't. */
#include "shared/prompt/variable.h"

#include "shared/base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static struct arena arena;

static struct variable of_type(enum variable_type type)
{
    return (struct variable){.name = "v", .type = type, .max_length = -1};
}

static void expect(const struct variable *variable, const char *json, const char *text,
                   const char *keyword)
{
    struct json_object *value;
    struct error error;
    struct variable_fault fault = {"", ""};
    struct str got;
    assert_true(json_read(str_of(json), &value, &error));
    bool fits = variable_read(variable, value, &arena, &got, &fault);
    if (fits != !keyword)
        fail_msg("%s: %s", json, fault.message);
    if (fits && !str_eq(got, str_of(text)))
        fail_msg("%s became %.*s", json, STR_ARG(got));
    if (!fits)
        assert_string_equal(fault.keyword, keyword);
    json_object_put(value);
}

static void good(enum variable_type type, const char *json, const char *text)
{
    const struct variable variable = of_type(type);
    expect(&variable, json, text, NULL);
}

static void bad(enum variable_type type, const char *json)
{
    const struct variable variable = of_type(type);
    expect(&variable, json, NULL, "type");
}

static void texts(void **state)
{
    (void)state;
    good(VARIABLE_STRING, "\"a {{b}} \\u00e4\"", "a {{b}} \xc3\xa4");
    good(VARIABLE_STRING, "\"\"", "");
    good(VARIABLE_TEXT, "\"a\\r\\nb\"", "a\r\nb");
    bad(VARIABLE_STRING, "\"a\\nb\"");
    bad(VARIABLE_STRING, "\"a\\rb\"");
    bad(VARIABLE_STRING, "7");
    bad(VARIABLE_TEXT, "true");
    bad(VARIABLE_TEXT, "[]");
    bad(VARIABLE_TEXT, "{}");
}

/* "Numeric and boolean strings are coerced". */
static void numbers_and_truth(void **state)
{
    (void)state;
    good(VARIABLE_INT, "7", "7");
    good(VARIABLE_INT, "\"-7\"", "-7");
    good(VARIABLE_INT, "7.0", "7");
    good(VARIABLE_INT, "1e3", "1000");
    good(VARIABLE_INT, "9223372036854775807", "9223372036854775807");
    bad(VARIABLE_INT, "9223372036854775808");
    bad(VARIABLE_INT, "7.5");
    bad(VARIABLE_INT, "\"7.0\"");
    bad(VARIABLE_INT, "\" 7\"");
    bad(VARIABLE_INT, "\"07\"");
    bad(VARIABLE_INT, "\"+7\"");
    bad(VARIABLE_INT, "\"0x7\"");
    bad(VARIABLE_INT, "\"\"");
    bad(VARIABLE_INT, "true");
    bad(VARIABLE_INT, "[7]");
    good(VARIABLE_FLOAT, "0.10", "0.10");
    good(VARIABLE_FLOAT, "\"-1.5e3\"", "-1.5e3");
    good(VARIABLE_FLOAT, "3", "3");
    bad(VARIABLE_FLOAT, "\"1e999\"");
    bad(VARIABLE_FLOAT, "1e999");
    bad(VARIABLE_FLOAT, "\"nan\"");
    bad(VARIABLE_FLOAT, "\"inf\"");
    bad(VARIABLE_FLOAT, "\"1 \"");
    bad(VARIABLE_FLOAT, "\"\\n1\"");
    bad(VARIABLE_FLOAT, "\"1\\t\"");
    bad(VARIABLE_FLOAT, "\"\"");
    bad(VARIABLE_FLOAT, "\"true\"");
    bad(VARIABLE_FLOAT, "\".5\"");
    good(VARIABLE_BOOL, "true", "true");
    good(VARIABLE_BOOL, "\"false\"", "false");
    bad(VARIABLE_BOOL, "1");
    bad(VARIABLE_BOOL, "\"True\"");
    bad(VARIABLE_BOOL, "\"yes\"");
}

static void dates(void **state)
{
    (void)state;
    good(VARIABLE_DATE, "\"2026-11-26\"", "2026-11-26");
    good(VARIABLE_DATE, "\"2024-02-29\"", "2024-02-29");
    good(VARIABLE_DATE, "\"2000-02-29\"", "2000-02-29");
    bad(VARIABLE_DATE, "\"2026-02-29\"");
    bad(VARIABLE_DATE, "\"1900-02-29\"");
    bad(VARIABLE_DATE, "\"2026-13-01\"");
    bad(VARIABLE_DATE, "\"2026-00-01\"");
    bad(VARIABLE_DATE, "\"2026-04-31\"");
    bad(VARIABLE_DATE, "\"2026-04-00\"");
    bad(VARIABLE_DATE, "\"2026-4-1\"");
    bad(VARIABLE_DATE, "\"2026-04-01T00:00:00Z\"");
    bad(VARIABLE_DATE, "20260401");
}

static void rules(void **state)
{
    struct variable count = of_type(VARIABLE_INT), share = of_type(VARIABLE_FLOAT);
    struct variable day = of_type(VARIABLE_DATE), name = of_type(VARIABLE_STRING);
    struct variable tone = of_type(VARIABLE_ENUM);
    struct str choices[] = {STR("kind"), STR("5"), STR("true")};
    struct pattern *pattern;
    struct error error;
    size_t offset;
    (void)state;
    count.has_min = count.has_max = true;
    count.min = 1, count.max = 5, count.min_text = "1", count.max_text = "5";
    expect(&count, "1", "1", NULL);
    expect(&count, "5", "5", NULL);
    expect(&count, "0", NULL, "min");
    expect(&count, "\"6\"", NULL, "max");
    share.has_max = true, share.max_decimal = 0.5, share.max_text = "0.5";
    expect(&share, "0.5", "0.5", NULL);
    expect(&share, "0.51", NULL, "max");
    expect(&share, "-9", "-9", NULL);
    day.has_min = true, day.min = 20260101, day.min_text = "2026-01-01";
    expect(&day, "\"2026-01-01\"", "2026-01-01", NULL);
    expect(&day, "\"2025-12-31\"", NULL, "min");
    name.max_length = 2; /* characters, not bytes */
    expect(&name, "\"\xc3\xa4\xc3\xa4\"", "\xc3\xa4\xc3\xa4", NULL);
    expect(&name, "\"abc\"", NULL, "max_length");
    assert_true(pattern_compile(STR("^[a-z]+$"), &arena, &pattern, &offset, &error));
    name.pattern = pattern;
    expect(&name, "\"ab\"", "ab", NULL);
    expect(&name, "\"A\"", NULL, "pattern");
    tone.choices = choices, tone.choices_count = 3;
    expect(&tone, "\"kind\"", "kind", NULL);
    expect(&tone, "5", "5", NULL);
    expect(&tone, "true", "true", NULL);
    expect(&tone, "\"Kind\"", NULL, "enum");
    expect(&tone, "{}", NULL, "type");
}

static int end(void **state)
{
    (void)state;
    arena_free(&arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(texts), cmocka_unit_test(numbers_and_truth),
                                       cmocka_unit_test(dates), cmocka_unit_test(rules)};
    return cmocka_run_group_tests_name("variables", tests, NULL, end);
}
