/* RFC 8259 by examples, and what json_check.h promises beyond it. */
#include "shared/base/json_check.h"

#include "shared/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct str accepted[] = {
    /* section 3: any value may be the whole text */
    STR("true"),
    STR("false"),
    STR("null"),
    STR("0"),
    STR("\"\""),
    STR("{}"),
    STR("[]"),
    /* section 2: white space */
    STR(" 1"),
    STR("1 "),
    STR("\t1"),
    STR("\n1"),
    STR("\r1"),
    STR(" \t\r\n1 \t\r\n"),
    STR("[ ]"),
    STR("{ }"),
    STR("[ 1 , 2 ]"),
    STR("{ \"a\" : 1 , \"b\" : 2 }"),
    STR("[\n1\n,\n2\n]"),
    STR("{\r\n\t\"a\"\r\n\t:\r\n\t1\r\n}"),
    STR("\n\n[]\n\n"),
    /* section 4: objects */
    STR("{\"a\":1}"),
    STR("{\"\":1}"),
    STR("{\"a\":1,\"b\":2}"),
    STR("{\"a\":{\"a\":{\"a\":1}}}"),
    STR("{\"a\":1,\"A\":2}"),
    STR("{\"a\":1,\"a \":2}"),
    STR("{\"a\":null}"),
    STR("{\"a\":[]}"),
    STR("{\"a\":{},\"b\":{}}"),
    STR("[{\"a\":1},{\"a\":1}]"),
    STR("{\"x\":{\"a\":1},\"a\":2}"),
    STR("{\"a\":{\"b\":1},\"b\":{\"a\":1}}"),
    STR("{\"\\n\":1,\"n\":2}"),
    STR("{\"\\\"\":1}"),
    STR("{\"\\\\\":1,\"\\\\\\\\\":2}"),
    STR("{\"\\u0001\":1}"),
    STR("{\"\\ud83d\\ude00\":1}"),
    STR("{\"\xC3\xA4\":1,\"a\":2}"),
    STR("{\"true\":true,\"null\":null}"),
    STR("{\"1\":1}"),
    STR("{\"\":1,\" \":2}"),
    STR("{\"0\":0,\"00\":0}"),
    STR("{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":10}"),
    /* section 5: arrays */
    STR("[1]"),
    STR("[1,2]"),
    STR("[[]]"),
    STR("[[],[]]"),
    STR("[[[[[]]]]]"),
    STR("[null]"),
    STR("[1,1,1]"),
    STR("[true,false,null,0,\"\",{},[]]"),
    STR("[{}]"),
    STR("[\"\"]"),
    STR("[{},[],{}]"),
    /* section 6: numbers */
    STR("-0"),
    STR("1"),
    STR("-1"),
    STR("10"),
    STR("-10"),
    STR("1234567890"),
    STR("0.0"),
    STR("-0.0"),
    STR("0.5"),
    STR("1.5"),
    STR("10.01"),
    STR("1.10"),
    STR("0e0"),
    STR("0E0"),
    STR("0e+0"),
    STR("0e-0"),
    STR("1e5"),
    STR("1E5"),
    STR("1e+5"),
    STR("1e-5"),
    STR("1E+5"),
    STR("1E-5"),
    STR("1e05"),
    STR("1e00"),
    STR("1.5e5"),
    STR("-1.5E-5"),
    STR("1e400"),
    STR("-1e400"),
    STR("1e-400"),
    STR("9223372036854775807"),
    STR("9223372036854775808"),
    STR("-9223372036854775808"),
    STR("-9223372036854775809"),
    STR("18446744073709551615"),
    STR("18446744073709551616"),
    STR("12345678901234567890123"),
    STR("0.1"),
    STR("0.30000000000000000000000000000000000000000000001"),
    STR("100e100"),
    STR("[0,-0]"),
    STR("[1.0,1e1]"),
    STR("0 "),
    STR("1e999999999999999999999"),
    /* section 7: strings */
    STR("\"a\""),
    STR("\" \""),
    STR("\"\\\"\""),
    STR("\"\\\\\""),
    STR("\"\\/\""),
    STR("\"/\""),
    STR("\"\\b\""),
    STR("\"\\f\""),
    STR("\"\\n\""),
    STR("\"\\r\""),
    STR("\"\\t\""),
    STR("\"\\u0000\""),
    STR("\"\\u001f\""),
    STR("\"\\u0041\""),
    STR("\"\\u00e4\""),
    STR("\"\\u00E4\""),
    STR("\"\\u20AC\""),
    STR("\"\\uFFFF\""),
    STR("\"\\ufffe\""),
    STR("\"\\uABCD\\uabcd\""),
    STR("\"\\ud83d\\ude00\""),
    STR("\"\\uD83D\\uDE00\""),
    STR("\"\\udbff\\udfff\""),
    STR("\"\\ud800\\udc00\""),
    STR("\"\x7F\""),
    STR("\"'\""),
    STR("\"{[]}:,\""),
    STR("\"// no comment\""),
    STR("\"\\\\u0000\""),
    STR("\"\\\\\\\"\""),
    STR("\"\\u0022\""),
    STR("\"\\u005c\""),
    STR("\"a\\u0000b\""),
    STR("\"\\u2028\\u2029\""),
    /* lone surrogates */
    STR("\"\\ud800\""),
    STR("\"\\udfff\""),
    STR("\"\\udbff\""),
    STR("\"\\ud83d\""),
    STR("\"\\ude00\\ud83d\""),
    STR("\"\\ud83d\\ud83d\\ude00\""),
    STR("\"\\ud83dx\""),
    STR("\"\\ud83d\\n\""),
    STR("\"\\ud83d\\u0041\""),
    STR("[\"\\udc00\"]"),
    /* RFC 3629: the ends of each row of its syntax */
    STR("\"\xC2\x80\""),
    STR("\"\xDF\xBF\""),
    STR("\"\xE0\xA0\x80\""),
    STR("\"\xE0\xBF\xBF\""),
    STR("\"\xE1\x80\x80\""),
    STR("\"\xEC\xBF\xBF\""),
    STR("\"\xED\x80\x80\""),
    STR("\"\xED\x9F\xBF\""),
    STR("\"\xEE\x80\x80\""),
    STR("\"\xEF\xBF\xBF\""),
    STR("\"\xEF\xBB\xBF\""),
    STR("\"\xF0\x90\x80\x80\""),
    STR("\"\xF0\xBF\xBF\xBF\""),
    STR("\"\xF1\x80\x80\x80\""),
    STR("\"\xF3\xBF\xBF\xBF\""),
    STR("\"\xF4\x80\x80\x80\""),
    STR("\"\xF4\x8F\xBF\xBF\""),
    STR("\"\xE2\x80\xA8\""),
    STR("\"\xF0\x9F\x98\x80\""),
};

static const struct {
    struct str text;
    const char *reason;
} refused[] = {
    /* nothing, or not a value */
    {STR(""), "a value is expected"},
    {STR(" "), "a value is expected"},
    {STR("\n\t"), "a value is expected"},
    {STR("a"), "a value"},
    {STR("'a'"), "a value"},
    {STR("`a`"), "a value"},
    {STR(","), "a value"},
    {STR(":"), "a value"},
    {STR("]"), "a value"},
    {STR("}"), "a value"},
    {STR("*"), "a value"},
    {STR("\\u0041"), "a value"},
    {STR("\0"), "byte 0x00"},
    {STR("\0{}"), "byte 0x00"},
    {STR("\x7F"), "byte 0x7F"},
    {STR("\xEF\xBB\xBF{}"), "byte order mark at byte 0"},
    {STR("\xEF\xBB\xBF"), "byte order mark"},
    {STR("\xFE\xFF"), "byte 0xFE"},
    {STR("\xFF\xFE{\0}\0"), "byte 0xFF"},
    {STR("\xC2\xA0{}"), "byte 0xC2"},
    {STR("\v1"), "byte 0x0B"},
    {STR("\f1"), "byte 0x0C"},
    {STR("1\f"), "the end"},
    {STR("1\xC2\xA0"), "the end"},
    {STR("1\xE2\x80\xA8"), "the end"},
    /* trailing bytes */
    {STR("1 2"), "the end"},
    {STR("{}{}"), "the end"},
    {STR("[][]"), "the end"},
    {STR("{}]"), "the end"},
    {STR("[]]"), "the end"},
    {STR("{}}"), "the end"},
    {STR("\"\"\"\""), "the end"},
    {STR("{},"), "the end"},
    {STR("{};"), "the end"},
    {STR("{}\0"), "the end"},
    {STR("1\0"), "the end"},
    {STR("{} x"), "the end"},
    {STR("{}//"), "the end"},
    {STR("{}#"), "the end"},
    {STR("nulls"), "the end"},
    {STR("truefalse"), "the end"},
    {STR("null\xEF\xBB\xBF"), "the end"},
    /* comments */
    {STR("/**/1"), "a value"},
    {STR("// x\n1"), "a value"},
    {STR("[1/**/]"), "',' or ']'"},
    {STR("{/**/}"), "a key in quotes"},
    {STR("# x\n1"), "a value"},
    /* literals */
    {STR("t"), "a value"},
    {STR("tru"), "a value"},
    {STR("True"), "a value"},
    {STR("TRUE"), "a value"},
    {STR("fals"), "a value"},
    {STR("False"), "a value"},
    {STR("nul"), "a value"},
    {STR("Null"), "a value"},
    {STR("NULL"), "a value"},
    {STR("nil"), "a value"},
    {STR("None"), "a value"},
    {STR("undefined"), "a value"},
    {STR("yes"), "a value"},
    {STR("[nul]"), "a value"},
    {STR("[tru"), "a value"},
    /* numbers */
    {STR("-"), "a digit is expected"},
    {STR("+"), "a value"},
    {STR("+1"), "a value"},
    {STR("--1"), "a digit"},
    {STR("-+1"), "a digit"},
    {STR("- 1"), "a digit"},
    {STR("00"), "leading zero"},
    {STR("01"), "leading zero"},
    {STR("-01"), "leading zero"},
    {STR("-00"), "leading zero"},
    {STR("012"), "leading zero"},
    {STR("00.5"), "leading zero"},
    {STR("1."), "a digit"},
    {STR("-1."), "a digit"},
    {STR("0."), "a digit"},
    {STR("1.e1"), "a digit"},
    {STR("1. "), "a digit"},
    {STR("1.x"), "a digit"},
    {STR(".5"), "a value"},
    {STR("-.5"), "a digit"},
    {STR("."), "a value"},
    {STR("1e"), "a digit"},
    {STR("1E"), "a digit"},
    {STR("1e+"), "a digit"},
    {STR("1e-"), "a digit"},
    {STR("1e+-1"), "a digit"},
    {STR("1e1.5"), "the end"},
    {STR("1e 1"), "a digit"},
    {STR("1.5e"), "a digit"},
    {STR("e5"), "a value"},
    {STR("1.2.3"), "the end"},
    {STR("1,2"), "the end"},
    {STR("1_000"), "the end"},
    {STR("0x1F"), "the end"},
    {STR("0b1"), "the end"},
    {STR("0o7"), "the end"},
    {STR("1f"), "the end"},
    {STR("1n"), "the end"},
    {STR("1a"), "the end"},
    {STR("NaN"), "a value"},
    {STR("nan"), "a value"},
    {STR("-NaN"), "a digit"},
    {STR("Infinity"), "a value"},
    {STR("-Infinity"), "a digit"},
    {STR("+Infinity"), "a value"},
    {STR("inf"), "a value"},
    {STR("1e1e1"), "the end"},
    {STR("\xEF\xBC\x91"), "a value"},
    {STR("[1 000]"), "',' or ']'"},
    {STR("[-]"), "a digit"},
    {STR("[1.]"), "a digit"},
    /* strings */
    {STR("\""), "closing quote"},
    {STR("\"a"), "closing quote"},
    {STR("\"\\"), "an escape"},
    {STR("\"\\\""), "closing quote"},
    {STR("\"\\a\""), "unknown escape"},
    {STR("\"\\v\""), "unknown escape"},
    {STR("\"\\0\""), "unknown escape"},
    {STR("\"\\x41\""), "unknown escape"},
    {STR("\"\\'\""), "unknown escape"},
    {STR("\"\\U0041\""), "unknown escape"},
    {STR("\"\\N\""), "unknown escape"},
    {STR("\"\\\n\""), "unknown escape"},
    {STR("\"\\\0\""), "unknown escape"},
    {STR("\"\\\xC3\xA4\""), "unknown escape"},
    {STR("\"\\ \""), "unknown escape"},
    {STR("\"\\u\""), "four hexadecimal"},
    {STR("\"\\u1\""), "four hexadecimal"},
    {STR("\"\\u12\""), "four hexadecimal"},
    {STR("\"\\u123\""), "four hexadecimal"},
    {STR("\"\\u123"), "four hexadecimal"},
    {STR("\"\\u123g\""), "four hexadecimal"},
    {STR("\"\\u+123\""), "four hexadecimal"},
    {STR("\"\\u 123\""), "four hexadecimal"},
    {STR("\"\\u-123\""), "four hexadecimal"},
    {STR("\"\\u0x12\""), "four hexadecimal"},
    {STR("\"\\u{1F600}\""), "four hexadecimal"},
    {STR("\"\\ud83d\\u\""), "four hexadecimal"},
    {STR("\"\\ud83d\\u12\""), "four hexadecimal"},
    {STR("\"\\ud83d\\"), "an escape"},
    {STR("\"\\ud83d\\x\""), "unknown escape"},
    {STR("\"\n\""), "control character"},
    {STR("\"\r\""), "control character"},
    {STR("\"\t\""), "control character"},
    {STR("\"\0\""), "control character"},
    {STR("\"\x01\""), "control character"},
    {STR("\"\x1F\""), "control character"},
    {STR("\"a\nb\""), "control character"},
    {STR("'single'"), "a value"},
    {STR("\"a' "), "closing quote"},
    /* not UTF-8 */
    {STR("\"\x80\""), "not UTF-8"},
    {STR("\"\xBF\""), "not UTF-8"},
    {STR("\"\xC0\x80\""), "not UTF-8"},
    {STR("\"\xC1\xBF\""), "not UTF-8"},
    {STR("\"\xC2\""), "not UTF-8"},
    {STR("\"\xC2"), "not UTF-8"},
    {STR("\"\xC3(\""), "not UTF-8"},
    {STR("\"\xE0\x80\x80\""), "not UTF-8"},
    {STR("\"\xE0\x9F\xBF\""), "not UTF-8"},
    {STR("\"\xE2\x82\""), "not UTF-8"},
    {STR("\"\xE2\x28\xA1\""), "not UTF-8"},
    {STR("\"\xED\xA0\x80\""), "not UTF-8"},
    {STR("\"\xED\xBF\xBF\""), "not UTF-8"},
    {STR("\"\xED\xA0\xBD\xED\xB8\x80\""), "not UTF-8"},
    {STR("\"\xF0\x80\x80\x80\""), "not UTF-8"},
    {STR("\"\xF0\x8F\xBF\xBF\""), "not UTF-8"},
    {STR("\"\xF0\x9F\x98\""), "not UTF-8"},
    {STR("\"\xF4\x90\x80\x80\""), "not UTF-8"},
    {STR("\"\xF5\x80\x80\x80\""), "not UTF-8"},
    {STR("\"\xF8\x88\x80\x80\x80\""), "not UTF-8"},
    {STR("\"\xFE\""), "not UTF-8"},
    {STR("\"\xFF\""), "not UTF-8"},
    {STR("\"\xE4\""), "not UTF-8"},
    {STR("{\"\xFF\":1}"), "not UTF-8"},
    {STR("[\"\xC3\"]"), "not UTF-8"},
    /* objects */
    {STR("{"), "a key in quotes is expected"},
    {STR("{ "), "a key in quotes is expected"},
    {STR("{,}"), "a key in quotes"},
    {STR("{:1}"), "a key in quotes"},
    {STR("{a:1}"), "a key in quotes"},
    {STR("{'a':1}"), "a key in quotes"},
    {STR("{1:1}"), "a key in quotes"},
    {STR("{null:1}"), "a key in quotes"},
    {STR("{[]:1}"), "a key in quotes"},
    {STR("{{}:1}"), "a key in quotes"},
    {STR("{\"a\"}"), "':'"},
    {STR("{\"a\""), "':' is expected"},
    {STR("{\"a\" 1}"), "':'"},
    {STR("{\"a\",1}"), "':'"},
    {STR("{\"a\"=1}"), "':'"},
    {STR("{\"a\"=>1}"), "':'"},
    {STR("{\"a\":}"), "a value"},
    {STR("{\"a\":"), "a value is expected"},
    {STR("{\"a\"::1}"), "a value"},
    {STR("{\"a\":,}"), "a value"},
    {STR("{\"a\":1"), "',' or '}' is expected"},
    {STR("{\"a\":1,}"), "a key in quotes"},
    {STR("{\"a\":1,,\"b\":2}"), "a key in quotes"},
    {STR("{\"a\":1 \"b\":2}"), "',' or '}'"},
    {STR("{\"a\":1;\"b\":2}"), "',' or '}'"},
    {STR("{\"a\":1]"), "',' or '}'"},
    {STR("{\"a\":1:2}"), "',' or '}'"},
    {STR("{\"a\":1,\"b\"}"), "':'"},
    {STR("{\"a"), "closing quote"},
    {STR("{]"), "a key in quotes"},
    {STR("{...{}}"), "a key in quotes"},
    {STR("{\"a\":(1)}"), "a value"},
    /* keys that are there already, and keys that can't be kept */
    {STR("{\"a\":1,\"a\":1}"), "has already at byte 7"},
    {STR("{\"a\":1,\"b\":2,\"a\":3}"), "has already"},
    {STR("{\"\":1,\"\":2}"), "has already"},
    {STR("{\"a\":1,\"\\u0061\":2}"), "has already"},
    {STR("{\"\\u0061\":1,\"a\":2}"), "has already"},
    {STR("{\"\\u0061\":1,\"\\u0061\":2}"), "has already"},
    {STR("{\"\\n\":1,\"\\u000a\":2}"), "has already"},
    {STR("{\"\\n\":1,\"\\u000A\":2}"), "has already"},
    {STR("{\"/\":1,\"\\/\":2}"), "has already"},
    {STR("{\"\xC3\xA4\":1,\"\\u00e4\":2}"), "has already"},
    {STR("{\"\xE2\x82\xAC\":1,\"\\u20ac\":2}"), "has already"},
    {STR("{\"\xF0\x9F\x98\x80\":1,\"\\ud83d\\ude00\":2}"), "has already"},
    {STR("[{\"x\":{\"a\":1,\"a\":2}}]"), "has already"},
    {STR("{\"a\":{\"b\":{}},\"c\":0,\"a\":1}"), "has already"},
    {STR("{\"a\":{\"\\n\":1},\"\\u0062\":0,\"b\":1}"), "has already"},
    {STR("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"i\":1}"),
     "has already"},
    {STR("{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"\\u0061\":1}"),
     "has already"},
    {STR("{\"\\u0000\":1}"), "NUL character in a key"},
    {STR("{\"a\\u0000\":1}"), "NUL character in a key"},
    {STR("{\"a\":{\"b\\u0000c\":1}}"), "NUL character in a key"},
    {STR("{\"a\0\":1}"), "control character"},
    {STR("{\"\\ud83d\":1}"), "lone surrogate in a key"},
    {STR("{\"\\ude00x\":1}"), "lone surrogate in a key"},
    /* arrays */
    {STR("["), "a value is expected"},
    {STR("[ "), "a value is expected"},
    {STR("[1"), "',' or ']' is expected"},
    {STR("[1,"), "a value is expected"},
    {STR("[,]"), "a value"},
    {STR("[,1]"), "a value"},
    {STR("[1,]"), "a value"},
    {STR("[1,,2]"), "a value"},
    {STR("[1 2]"), "',' or ']'"},
    {STR("[1;2]"), "',' or ']'"},
    {STR("[1}"), "',' or ']'"},
    {STR("[1:2]"), "',' or ']'"},
    {STR("[\"a\":1]"), "',' or ']'"},
    {STR("[}"), "a value"},
    {STR("[[1]"), "',' or ']' is expected"},
    {STR("[...]"), "a value"},
    {STR("[\"\"\"\"]"), "',' or ']'"},
    {STR("[a]"), "a value"},
    {STR("[(1)]"), "a value"},
};

/* No fewer than the public suites of the grammar have. */
_Static_assert(COUNT(accepted) >= 92 && COUNT(refused) >= 188, "cases were lost");

static void accepts_what_the_grammar_allows(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(accepted); i++) {
        struct error error = {{0}};
        if (!json_check(accepted[i], NULL, NULL, &error))
            fail_msg("refused: %.*s: %s", STR_ARG(accepted[i]), error.message);
    }
}

static void refuses_all_else_with_a_reason(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(refused); i++) {
        struct error error = {{0}};
        if (json_check(refused[i].text, NULL, NULL, &error))
            fail_msg("accepted: %.*s", STR_ARG(refused[i].text));
        if (!strstr(error.message, refused[i].reason))
            fail_msg("%.*s: \"%s\" lacks \"%s\"", STR_ARG(refused[i].text), error.message,
                     refused[i].reason);
    }
}

/* No text of the table becomes valid by being cut, unless it is a number or ends in space. */
static void refuses_every_cut_container(void **state)
{
    (void)state;
    struct error error;
    for (size_t i = 0; i < COUNT(accepted); i++) {
        struct str whole = accepted[i];
        char last = whole.at[whole.len - 1];
        if (last != '}' && last != ']' && last != '"')
            continue;
        for (size_t len = 0; len < whole.len; len++)
            assert_false(json_check((struct str){whole.at, len}, NULL, NULL, &error));
    }
}

static void error_names_the_place(void **state)
{
    (void)state;
    struct error error;
    assert_false(
        json_check(STR("{\n  \"\xC3\xA4\": 1,\n  \"\xC3\xB6\": x\n}"), NULL, NULL, &error));
    assert_string_equal(error.message,
                        "'x' where a value is expected at byte 21 (line 3, column 8)");
    assert_false(json_check(STR_ABSENT, NULL, NULL, &error));
    assert_string_equal(error.message,
                        "the text ends where a value is expected at byte 0 (line 1, column 1)");
}

static bool check_nested(const char *open, const char *close, int depth)
{
    struct buf text = {0};
    struct error error;
    for (int i = 0; i < depth; i++)
        buf_puts(&text, open);
    buf_puts(&text, "1");
    for (int i = 0; i < depth; i++)
        buf_puts(&text, close);
    bool ok = json_check(buf_view(&text), NULL, NULL, &error);
    if (!ok)
        assert_non_null(strstr(error.message, "nesting beyond 64 levels"));
    buf_free(&text);
    return ok;
}

static void nests_64_deep(void **state)
{
    (void)state;
    assert_true(check_nested("[", "]", 64));
    assert_false(check_nested("[", "]", 65));
    assert_true(check_nested("{\"a\":", "}", 64));
    assert_false(check_nested("{\"a\":", "}", 65));
    assert_true(check_nested("[{\"a\":", "}]", 32));
    assert_false(check_nested("[{\"a\":", "}]", 33));
    assert_false(check_nested("[", "]", 1000000));
}

/* --- the visitor --- */

static void note(void *context, const char *text)
{
    buf_puts(context, text);
}

static void note_object_begin(void *context)
{
    note(context, "{");
}

static void note_object_end(void *context)
{
    note(context, "}");
}

static void note_array_begin(void *context)
{
    note(context, "[");
}

static void note_array_end(void *context)
{
    note(context, "]");
}

static void note_key(void *context, struct str text)
{
    buf_printf(context, "k(%.*s)", STR_ARG(text));
}

static void note_string(void *context, struct str text, struct str raw, bool lossy)
{
    buf_printf(context, "s(%.*s|%.*s|%d)", STR_ARG(text), STR_ARG(raw), lossy);
}

static void note_number(void *context, struct str raw)
{
    buf_printf(context, "n(%.*s)", STR_ARG(raw));
}

static void note_literal(void *context, char which)
{
    buf_printf(context, "l(%c)", which);
}

static const struct json_visitor notes = {note_object_begin, note_object_end, note_array_begin,
                                          note_array_end,    note_key,        note_string,
                                          note_number,       note_literal};

static void assert_notes(struct str text, const char *expected)
{
    struct buf seen = {0};
    struct error error = {{0}};
    assert_true(json_check(text, &notes, &seen, &error));
    assert_string_equal(buf_cstr(&seen), expected);
    buf_free(&seen);
}

static void visitor_sees_everything_in_order(void **state)
{
    (void)state;
    assert_notes(STR(" { \"a\" : [ 1 , -2.50e+1 , true , false , null ] , \"b\" : { } } "),
                 "{k(a)[n(1)n(-2.50e+1)l(t)l(f)l(n)]k(b){}}");
    assert_notes(STR("\"plain\""), "s(plain|\"plain\"|0)");
    assert_notes(STR("\"\\\"\\\\\\/\\u0041\\u00e4\\u20ac\""),
                 "s(\"\\/A\xC3\xA4\xE2\x82\xAC|\"\\\"\\\\\\/\\u0041\\u00e4\\u20ac\"|0)");
    assert_notes(STR("\"\\b\\f\\n\\r\\t\""), "s(\b\f\n\r\t|\"\\b\\f\\n\\r\\t\"|0)");
    assert_notes(STR("\"\\ud83d\\ude00\""), "s(\xF0\x9F\x98\x80|\"\\ud83d\\ude00\"|0)");
    assert_notes(STR("{\"\\u0061\\n\":{\"\\u0062\":1}}"), "{k(a\n){k(b)n(1)}}");
}

static void lone_surrogates_are_marked(void **state)
{
    (void)state;
    assert_notes(
        STR("[\"\\ud800\\udc00\",\"\\udbff\\udfff\"]"),
        "[s(\xF0\x90\x80\x80|\"\\ud800\\udc00\"|0)s(\xF4\x8F\xBF\xBF|\"\\udbff\\udfff\"|0)]");
    assert_notes(STR("[\"\\udbff\",\"\\udc00\",\"\\udfff\"]"),
                 "[s(\xEF\xBF\xBD|\"\\udbff\"|1)s(\xEF\xBF\xBD|\"\\udc00\"|1)s(\xEF\xBF\xBD|"
                 "\"\\udfff\"|1)]");
    assert_notes(STR("[\"\\ud7ff\",\"\\ue000\"]"),
                 "[s(\xED\x9F\xBF|\"\\ud7ff\"|0)s(\xEE\x80\x80|\"\\ue000\"|0)]");
    assert_notes(STR("\"\\ud83d\""), "s(\xEF\xBF\xBD|\"\\ud83d\"|1)");
    assert_notes(STR("\"a\\ude00b\""), "s(a\xEF\xBF\xBD"
                                       "b|\"a\\ude00b\"|1)");
    assert_notes(STR("\"\\ud83d\\ud83d\\ude00\""),
                 "s(\xEF\xBF\xBD\xF0\x9F\x98\x80|\"\\ud83d\\ud83d\\ude00\"|1)");
    assert_notes(STR("\"\\ud83d\\u0041\""), "s(\xEF\xBF\xBD"
                                            "A|\"\\ud83d\\u0041\"|1)");
    assert_notes(STR("[\"\\ufffd\",\"\\ud800\",\"x\"]"),
                 "[s(\xEF\xBF\xBD|\"\\ufffd\"|0)s(\xEF\xBF\xBD|\"\\ud800\"|1)s(x|\"x\"|0)]");
}

static void count_nul(void *context, struct str text, struct str raw, bool lossy)
{
    (void)raw;
    (void)lossy;
    *(bool *)context = text.len == 3 && memcmp(text.at, "a\0b", 3) == 0;
}

static void a_string_value_may_hold_nul(void **state)
{
    (void)state;
    struct json_visitor visitor = {.string = count_nul};
    struct error error;
    bool seen = false;
    assert_true(json_check(STR("{\"k\":[\"a\\u0000b\",1,null]}"), &visitor, &seen, &error));
    assert_true(seen);
}

/* --- large texts: linear, and duplicates found at any size --- */

static void append_keys(struct buf *text, int count, const char *format)
{
    for (int i = 0; i < count; i++) {
        buf_puts(text, i ? ",\"" : "\"");
        buf_printf(text, format, i);
        buf_puts(text, "\":0");
    }
}

static void finds_duplicates_at_every_size(void **state)
{
    (void)state;
    for (int count = 1; count < 200; count++) {
        struct buf text = {0};
        struct error error;
        buf_putc(&text, '{');
        append_keys(&text, count, count % 2 ? "k%d" : "\\u006b%d");
        size_t distinct = text.len;
        buf_putc(&text, '}');
        assert_true(json_check(buf_view(&text), NULL, NULL, &error));
        for (int twice = 0; twice < count; twice += 1 + count / 7) {
            text.len = distinct;
            buf_printf(&text, ",\"k%d\":0}", twice);
            assert_false(json_check(buf_view(&text), NULL, NULL, &error));
            assert_non_null(strstr(error.message, "has already"));
        }
        buf_free(&text);
    }
}

/* Of the processor's time, of work that takes well under a second, sanitized too. */
enum { LIMIT_US = 20 * 1000 * 1000 };

static int64_t cpu_us(void)
{
    return (int64_t)clock() * 1000000 / CLOCKS_PER_SEC;
}

static void many_keys_are_no_quadratic_work(void **state)
{
    (void)state;
    struct buf text = {0};
    struct error error;
    buf_putc(&text, '{');
    append_keys(&text, 200000, "key-%d");
    buf_puts(&text, ",\"key-199999\":1}");
    int64_t start = cpu_us();
    assert_false(json_check(buf_view(&text), NULL, NULL, &error));
    assert_non_null(strstr(error.message, "has already"));
    text.len -= strlen(",\"key-199999\":1}");
    buf_putc(&text, '}');
    assert_true(json_check(buf_view(&text), NULL, NULL, &error));
    assert_true(cpu_us() - start < LIMIT_US);
    buf_free(&text);
}

static void values_are_counted(void **state)
{
    (void)state;
    struct buf text = {0};
    struct error error;
    buf_putc(&text, '[');
    for (int i = 0; i < JSON_MAX_VALUES - 2; i++)
        buf_puts(&text, "0,");
    buf_puts(&text, "0]");
    assert_true(json_check(buf_view(&text), NULL, NULL, &error));
    text.len--;
    buf_puts(&text, ",0]");
    assert_false(json_check(buf_view(&text), NULL, NULL, &error));
    assert_non_null(strstr(error.message, "more than 1048576 values"));
    buf_free(&text);
}

static void many_objects_are_no_quadratic_work(void **state)
{
    (void)state;
    struct buf text = {0};
    struct error error;
    buf_puts(&text, "{\"outer\":[");
    for (int i = 0; i < 500000; i++)
        buf_puts(&text, i ? ",{\"\\u0061\":{}}" : "{\"\\u0061\":{}}");
    buf_puts(&text, "],\"outer\":0}");
    int64_t start = cpu_us();
    assert_false(json_check(buf_view(&text), NULL, NULL, &error));
    assert_non_null(strstr(error.message, "has already"));
    assert_true(cpu_us() - start < LIMIT_US);
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accepts_what_the_grammar_allows),
        cmocka_unit_test(refuses_all_else_with_a_reason),
        cmocka_unit_test(refuses_every_cut_container),
        cmocka_unit_test(error_names_the_place),
        cmocka_unit_test(nests_64_deep),
        cmocka_unit_test(visitor_sees_everything_in_order),
        cmocka_unit_test(lone_surrogates_are_marked),
        cmocka_unit_test(a_string_value_may_hold_nul),
        cmocka_unit_test(finds_duplicates_at_every_size),
        cmocka_unit_test(many_keys_are_no_quadratic_work),
        cmocka_unit_test(values_are_counted),
        cmocka_unit_test(many_objects_are_no_quadratic_work),
    };
    return cmocka_run_group_tests_name("base/json_check", tests, NULL, NULL);
}
