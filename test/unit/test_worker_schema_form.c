/* Schemas as providers' structured output takes them. */
#include "worker/provider/schema_form.h"

#include "shared/base/buf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void expect(enum schema_form form, const char *schema, const char *wanted)
{
    char *text = schema_form_write(form, str_of(schema));
    if (wanted && text)
        assert_string_equal(text, wanted);
    else if (wanted || text)
        fail_msg("form %d of %s: %s", (int)form, schema, text ? text : "none");
    free(text);
}

#define NAME_AND_AGE                                                                               \
    "{\"type\":\"object\",\"required\":[\"name\",\"age\"],\"properties\":{"                        \
    "\"name\":{\"type\":\"string\",\"minLength\":2,\"pattern\":\"^[A-Z]\"},"                       \
    "\"age\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"In years\"}}}"

static void what_a_form_has_no_word_for_is_told(void **state)
{
    (void)state;
    expect(
        FORM_STRICT, NAME_AND_AGE,
        "{\"type\":\"object\",\"properties\":{"
        "\"name\":{\"type\":\"string\",\"description\":\"minLength: 2, pattern: \\\"^[A-Z]\\\"\"},"
        "\"age\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"In years\"}},"
        "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}");
    expect(
        FORM_ANTHROPIC, NAME_AND_AGE,
        "{\"type\":\"object\",\"properties\":{"
        "\"name\":{\"type\":\"string\",\"description\":\"minLength: 2, pattern: \\\"^[A-Z]\\\"\"},"
        "\"age\":{\"type\":\"integer\",\"description\":\"In years (minimum: 0)\"}},"
        "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}");
    expect(
        FORM_GEMINI, NAME_AND_AGE,
        "{\"type\":\"object\",\"properties\":{"
        "\"name\":{\"type\":\"string\",\"description\":\"minLength: 2, pattern: \\\"^[A-Z]\\\"\"},"
        "\"age\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"In years\"}},"
        "\"required\":[\"name\",\"age\"]}");
    expect(FORM_OLLAMA, NAME_AND_AGE,
           "{\"type\":\"object\",\"properties\":{"
           "\"name\":{\"type\":\"string\",\"minLength\":2,\"description\":\"pattern: "
           "\\\"^[A-Z]\\\"\"},"
           "\"age\":{\"type\":\"integer\",\"minimum\":0,\"description\":\"In years\"}},"
           "\"required\":[\"name\",\"age\"]}");
    expect(FORM_WHOLE, NAME_AND_AGE, NAME_AND_AGE);
}

static void members_that_may_be_left_out(void **state)
{
    const char *optional = "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":"
                           "{\"a\":{\"type\":\"string\"},\"b\":{\"type\":\"string\"}}}";
    const char *nullable = "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":"
                           "{\"a\":{\"type\":\"string\"},\"b\":{\"type\":[\"string\",\"null\"]}}}";
    (void)state;
    expect(FORM_STRICT, optional, NULL);
    expect(FORM_STRICT, nullable,
           "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},"
           "\"b\":{\"type\":[\"string\",\"null\"]}},\"required\":[\"a\",\"b\"],"
           "\"additionalProperties\":false}");
    expect(FORM_ANTHROPIC, nullable,
           "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"},"
           "\"b\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"null\"}]}},\"required\":[\"a\"],"
           "\"additionalProperties\":false}");
    expect(FORM_COHERE, "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}}}", NULL);
}

/* Each of a value's types with what is about it, so that nested ones don't grow. */
static void several_types(void **state)
{
    (void)state;
    expect(
        FORM_ANTHROPIC,
        "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":[\"object\","
        "\"null\"],\"description\":\"x\",\"required\":[\"b\"],\"properties\":{\"b\":{\"type\":"
        "[\"string\",\"integer\",\"null\"],\"minLength\":1,\"minimum\":2,\"enum\":[\"c\",null,5]}}}"
        "}}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"anyOf\":[{\"type\":\"object\","
        "\"properties\":{\"b\":{\"anyOf\":[{\"type\":\"string\",\"enum\":[\"c\"],\"description\":"
        "\"minLength: 1\"},{\"type\":\"integer\",\"enum\":[5],\"description\":\"minimum: 2\"},"
        "{\"type\":\"null\",\"enum\":[null]}]}},\"required\":[\"b\"],\"additionalProperties\":"
        "false,"
        "\"description\":\"x\"},{\"type\":\"null\"}]}},\"required\":[\"a\"],"
        "\"additionalProperties\":false}");
    expect(FORM_COHERE,
           "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":[\"string\","
           "\"null\"],\"enum\":[\"c\"]}}}",
           "{\"type\":\"object\",\"properties\":{\"a\":{\"anyOf\":[{\"type\":\"string\",\"enum\":"
           "[\"c\"]}]}},\"required\":[\"a\"],\"additionalProperties\":false}");
}

static void values_and_branches(void **state)
{
    const char *choice = "{\"oneOf\":[{\"const\":\"a\"},{\"enum\":[1,2],\"format\":\"money\"}],"
                         "\"$comment\":\"x\",\"default\":1,\"x-own\":true}";
    (void)state;
    expect(FORM_GEMINI, choice,
           "{\"anyOf\":[{\"enum\":[\"a\"],\"type\":\"string\"},{\"enum\":[1,2],\"description\":"
           "\"format: \\\"money\\\"\",\"type\":\"integer\"}]}");
    expect(FORM_OLLAMA, choice,
           "{\"oneOf\":[{\"const\":\"a\"},{\"enum\":[1,2],\"description\":\"format: "
           "\\\"money\\\"\"}]}");
    expect(FORM_STRICT, choice, NULL);
    expect(FORM_GEMINI, "{\"enum\":[\"a\",1]}", NULL);
    expect(FORM_GEMINI, "{\"const\":null}", "{\"enum\":[null],\"type\":\"null\"}");
    expect(FORM_GEMINI, "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"format\":\"date\"}}",
           "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"format\":\"date\"}}");
}

static void references(void **state)
{
    const char *shared =
        "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":"
        "\"#/$defs/n\",\"title\":\"A\"}},\"$defs\":{\"n\":{\"type\":\"number\"}}}";
    const char *beside =
        "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"$ref\":"
        "\"#/$defs/n\",\"minimum\":1}},\"$defs\":{\"n\":{\"type\":\"number\"}}}";
    const char *named =
        "{\"type\":\"object\",\"required\":[\"enum\"],\"properties\":{\"enum\":{\"$ref\":"
        "\"#\"}}}";
    const char *values =
        "{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":{\"type\":"
        "\"string\",\"examples\":[{\"$ref\":\"#\"}]}}}";
    const char *endless = "{\"type\":\"object\",\"required\":[\"next\"],\"properties\":{\"next\":"
                          "{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":\"null\"}]}}}";
    (void)state;
    expect(FORM_STRICT, shared,
           "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/n\"}},\"$defs\":{\"n\":"
           "{\"type\":\"number\"}},\"required\":[\"a\"],\"additionalProperties\":false}");
    expect(FORM_OLLAMA, beside,
           "{\"type\":\"object\",\"properties\":{\"a\":{\"$ref\":\"#/$defs/n\",\"minimum\":1}},"
           "\"$defs\":{\"n\":{\"type\":\"number\"}},\"required\":[\"a\"]}");
    expect(FORM_STRICT, beside, NULL);
    expect(FORM_ANTHROPIC, named, NULL);
    expect(FORM_ANTHROPIC, values,
           "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"],"
           "\"additionalProperties\":false}");
    expect(FORM_STRICT, endless,
           "{\"type\":\"object\",\"properties\":{\"next\":{\"anyOf\":[{\"$ref\":\"#\"},{\"type\":"
           "\"null\"}]}},\"required\":[\"next\"],\"additionalProperties\":false}");
    expect(FORM_ANTHROPIC, endless, NULL);
    expect(FORM_GEMINI, endless, NULL);
    expect(FORM_OLLAMA, "{\"$ref\":\"other.json\"}", NULL);
    expect(FORM_OLLAMA, "{\"$ref\":\"#/$defs/none\"}", NULL);
    expect(FORM_OLLAMA, "{\"$ref\":\"#/properties/a\",\"properties\":{\"a\":{}}}", NULL);
    expect(FORM_WHOLE, "{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"object\"}}}", NULL);
}

/* What such a schema means would be lost. */
static void schemas_without_a_form(void **state)
{
    static const char *const schemas[] = {
        "{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
        "{\"type\":\"object\"}",
        "{\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"],"
        "\"additionalProperties\":true}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"b\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":true},\"required\":[\"a\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{}},\"required\":[\"a\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"],"
        "\"patternProperties\":{\"^b\":{\"type\":\"string\"}}}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"],"
        "\"anyOf\":[{\"properties\":{\"b\":{\"type\":\"string\"}}}]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"allOf\":[{\"type\":\"string\"}]}},"
        "\"required\":[\"a\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"],"
        "\"if\":{\"properties\":{\"a\":{\"const\":1}}},\"then\":false}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"items\":[{\"type\":\"string\"}]}},"
        "\"required\":[\"a\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"array\"}},\"required\":[\"a\"]}",
        "{\"type\":\"object\",\"properties\":{\"a\":{\"$id\":\"b\",\"type\":\"string\"}},"
        "\"required\":[\"a\"]}",
        "[]",
        "true",
        "no JSON",
    };
    (void)state;
    for (size_t i = 0; i < sizeof schemas / sizeof *schemas; i++) {
        expect(FORM_STRICT, schemas[i], NULL);
        expect(FORM_ANTHROPIC, schemas[i], NULL);
        expect(FORM_COHERE, schemas[i], NULL);
    }
    expect(FORM_WHOLE, schemas[0], NULL);
    expect(FORM_WHOLE, schemas[1], schemas[1]);
    expect(FORM_GEMINI, schemas[2], schemas[2]);
    expect(FORM_OLLAMA, schemas[11], NULL);
}

/* `levels` objects within each other. */
static char *nested(int levels, const char *type)
{
    struct buf text = {0};
    for (int i = 0; i < levels; i++)
        buf_printf(&text, "{\"type\":%s,\"required\":[\"a\"],\"properties\":{\"a\":",
                   i ? type : "\"object\"");
    buf_puts(&text, "{\"type\":\"string\"}");
    for (int i = 0; i < levels; i++)
        buf_puts(&text, "}}");
    char *copy = strdup(buf_cstr(&text));
    buf_free(&text);
    return copy;
}

static void nullable_ones_grow_in_proportion(void **state)
{
    (void)state;
    char *schema = nested(20, "[\"object\",\"null\"]");
    char *text = schema_form_write(FORM_ANTHROPIC, str_of(schema));
    assert_non_null(text);
    assert_true(strlen(text) < 4 * strlen(schema));
    free(text);
    free(schema);
}

static void depth(void **state)
{
    static const struct {
        enum schema_form form;
        int levels;
        bool fits;
    } cases[] = {
        {FORM_STRICT, 10, true}, {FORM_STRICT, 11, false},   {FORM_COHERE, 5, true},
        {FORM_COHERE, 6, false}, {FORM_ANTHROPIC, 12, true}, {FORM_ANTHROPIC, 200, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *schema = nested(cases[i].levels, "\"object\"");
        char *text = schema_form_write(cases[i].form, str_of(schema));
        assert_int_equal(text != NULL, cases[i].fits);
        free(text);
        free(schema);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_form_has_no_word_for_is_told),
        cmocka_unit_test(members_that_may_be_left_out),
        cmocka_unit_test(several_types),
        cmocka_unit_test(values_and_branches),
        cmocka_unit_test(references),
        cmocka_unit_test(schemas_without_a_form),
        cmocka_unit_test(nullable_ones_grow_in_proportion),
        cmocka_unit_test(depth),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
