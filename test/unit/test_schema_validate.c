/* JSON Schema beyond the suite: what is said of errors, exact numbers, and hostile input. */
#include "shared/base/buf.h"
#include "shared/base/json.h"
#include "shared/schema/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct json_object *json(const char *text)
{
    struct json_object *value;
    struct error error;
    if (!json_read(str_of(text), &value, &error))
        fail_msg("%s: %s", text, error.message);
    return value;
}

static struct schema *compile(const char *text)
{
    static const struct schema_options options = {.draft = SCHEMA_2020_12};
    struct json_object *document = json(text);
    struct schema_fault fault;
    struct schema *schema = schema_compile(document, STR(""), &options, &fault);
    json_object_put(document);
    if (!schema)
        fail_msg("%s: %s %s", text, fault.pointer, fault.message);
    return schema;
}

static bool fits(const char *schema_text, const char *instance_text)
{
    struct schema *schema = compile(schema_text);
    struct json_object *instance = json(instance_text);
    struct arena arena = {0};
    bool valid = schema_validate(schema, schema_instance(instance, &arena), NULL);
    arena_free(&arena);
    json_object_put(instance);
    schema_free(&schema);
    return valid;
}

/* "instance path | schema path | message" of each error, a line each. */
static void expect_errors(const char *schema_text, const char *instance_text, const char *expected)
{
    struct schema *schema = compile(schema_text);
    struct json_object *instance = json(instance_text);
    struct schema_errors errors = {0};
    struct buf told = {0};
    assert_false(schema_validate(schema, schema_instance(instance, &errors.arena), &errors));
    for (size_t i = 0; i < errors.count; i++)
        buf_printf(&told, "%s | %s | %s\n", errors.at[i].instance_path, errors.at[i].schema_path,
                   errors.at[i].message);
    assert_string_equal(buf_cstr(&told), expected);
    buf_free(&told);
    schema_errors_free(&errors);
    json_object_put(instance);
    schema_free(&schema);
}

static void errors_say_where_and_why(void **state)
{
    (void)state;
    expect_errors(
        "{\"type\":\"object\",\"required\":[\"id\",\"name\"],\"properties\":{\"id\":"
        "{\"type\":\"integer\",\"minimum\":1},\"a/b~c\":{\"enum\":[\"x\",2]},\"tags\":"
        "{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/tag\"},\"minItems\":3}},"
        "\"additionalProperties\":false,\"$defs\":{\"tag\":{\"type\":\"string\","
        "\"minLength\":2,\"pattern\":\"^[a-z]+$\"}}}",
        "{\"id\":0,\"a/b~c\":\"y\",\"tags\":[\"ab\",\"C\"],\"more\":null}",
        "/id | /properties/id/minimum | must be at least 1\n"
        "/a~1b~0c | /properties/a~1b~0c/enum | must be one of [\"x\",2]\n"
        "/tags | /properties/tags/minItems | must have at least 3 elements, not 2\n"
        "/tags/1 | /properties/tags/items/$ref/minLength | must have at least 2 "
        "characters, not 1\n"
        "/tags/1 | /properties/tags/items/$ref/pattern | must match the pattern ^[a-z]+$\n"
        "/more | /additionalProperties | must not be there\n"
        " | /required | must have the member name\n");
    expect_errors("{\"type\":[\"string\",\"null\"]}", "7",
                  " | /type | must be null or a string, not an integer\n");
    expect_errors("{\"anyOf\":[{\"type\":\"string\"},{\"const\":{\"a\":[1]}}]}", "{\"a\":[2]}",
                  " | /anyOf | must fit one of 2 schemas at least, and fits none\n"
                  " | /anyOf/1/const | must be {\"a\":[1]}\n");
    expect_errors("{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2}]}", "3",
                  " | /oneOf | must fit exactly one of 2 schemas, and fits more\n");
    expect_errors("{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]}}", "{\"a\":1}",
                  " | /then/required | must have the member b\n");
    expect_errors("{\"properties\":{\"a\":true},\"unevaluatedProperties\":false}",
                  "{\"a\":1,\"b\":2}", "/b | /unevaluatedProperties | must not be there\n");
    expect_errors("{\"propertyNames\":{\"maxLength\":2}}", "{\"abc\":1}",
                  "/abc | /propertyNames/maxLength | must have at most 2 characters, not 3\n");
    expect_errors("{\"dependentRequired\":{\"card\":[\"address\"]}}", "{\"card\":1}",
                  " | /dependentRequired/card | must have the member address, for "
                  "it has card\n");
}

static void numbers_are_exact(void **state)
{
    (void)state;
    assert_true(fits("{\"maximum\":9007199254740992}", "9007199254740992"));
    assert_false(fits("{\"maximum\":9007199254740992}", "9007199254740993"));
    assert_false(fits("{\"maximum\":9007199254740992}", "9007199254740992.5"));
    assert_false(fits("{\"maximum\":18446744073709551615}", "18446744073709551616"));
    assert_false(fits("{\"const\":0.1}", "0.10000000000000000001"));
    assert_true(fits("{\"const\":0.1}", "1e-1"));
    assert_true(fits("{\"const\":100}", "1.00e2"));
    assert_true(fits("{\"multipleOf\":0.0001}", "0.0075"));
    assert_true(fits("{\"multipleOf\":0.01}", "19.99"));
    assert_false(fits("{\"multipleOf\":0.01}", "19.999"));
    assert_true(fits("{\"multipleOf\":0.1}", "1e300"));
    assert_true(fits("{\"multipleOf\":7}", "700000000000000000000000000000000000000"));
    assert_false(fits("{\"multipleOf\":7}", "700000000000000000000000000000000000001"));
    assert_true(fits("{\"type\":\"integer\"}", "12345678901234567890123.0"));
    assert_false(fits("{\"type\":\"integer\"}", "1e-1"));
    assert_true(fits("{\"type\":\"integer\"}", "1E400"));
    assert_false(fits("{\"uniqueItems\":true}", "[1,2,1.0]"));
    assert_true(fits("{\"minimum\":-1e400}", "-1e399"));
    assert_false(fits("{\"exclusiveMinimum\":-0.0}", "0"));
}

static void errors_end_at_twenty(void **state)
{
    (void)state;
    struct schema *schema = compile("{\"items\":{\"type\":\"string\"}}");
    struct json_object *instance = json("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21]");
    struct schema_errors errors = {0};
    assert_false(schema_validate(schema, schema_instance(instance, &errors.arena), &errors));
    assert_int_equal(errors.count, SCHEMA_ERRORS_MAX);
    assert_true(errors.more);
    schema_errors_free(&errors);
    json_object_put(instance);
    schema_free(&schema);
}

/* A pattern whose every try takes another, a schema in itself, an array in an array in an array. */
static void hostile_input_ends(void **state)
{
    (void)state;
    struct buf deep = {0};
    expect_errors(
        "{\"pattern\":\"^(a+)+$\"}", "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\"",
        " | /pattern | cannot be held against the pattern ^(a+)+$: that takes too long\n");
    expect_errors("{\"patternProperties\":{\"^(a+)+$\":true},\"additionalProperties\":false}",
                  "{\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\":1}",
                  "/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa! | /patternProperties | has a "
                  "name that cannot be held against the pattern ^(a+)+$: that takes too long\n");
    expect_errors("{\"$ref\":\"#\"}", "1",
                  " |  | cannot be checked: the schema refers to itself without an end\n");
    expect_errors(
        "{\"allOf\":[{\"$ref\":\"#/$defs/a\"}],\"$defs\":{\"a\":{\"anyOf\":[{\"$ref\":\"#\"}]}}}",
        "1", " |  | cannot be checked: the schema refers to itself without an end\n");
    expect_errors("{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#\"},{\"not\":{\"$ref\":\"#\"}}]}", "1",
                  " |  | cannot be checked: the schema refers to itself without an end\n");
    for (int i = 0; i < 60; i++)
        buf_putc(&deep, '[');
    buf_putc(&deep, '1');
    for (int i = 0; i < 60; i++)
        buf_putc(&deep, ']');
    expect_errors("{\"type\":\"array\",\"anyOf\":[{\"items\":{\"$ref\":\"#\"},\"minItems\":1},"
                  "{\"items\":{\"$ref\":\"#\"}}]}",
                  buf_cstr(&deep), " |  | cannot be checked: that takes too long\n");
    buf_clear(&deep);
    for (int i = 0; i < 60; i++)
        buf_putc(&deep, '[');
    for (int i = 0; i < 60; i++)
        buf_putc(&deep, ']');
    assert_true(fits("{\"items\":{\"$ref\":\"#\"},\"type\":\"array\"}", buf_cstr(&deep)));
    buf_free(&deep);
}

static void schemas_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *schema, *pointer, *message;
    } cases[] = {
        {"{\"type\":\"strnig\"}", "/type",
         "must be one of "
         "[\"array\",\"boolean\",\"integer\",\"null\",\"number\",\"object\",\"strin…"},
        {"{\"properties\":{\"a\":{\"minLength\":-1}}}", "/properties/a/minLength",
         "must be at least 0"},
        {"{\"properties\":{\"a\":1}}", "/properties/a",
         "must be true or false or an object, not an integer"},
        {"{\"required\":\"a\"}", "/required", "must be an array, not a string"},
        {"7", "", "must be true or false or an object, not an integer"},
        {"{\"items\":[{\"a\":[]},{\"allOf\":[{\"pattern\":\"[\"}]}]}", "/items",
         "must be true or false or an object, not an array"},
        {"{\"prefixItems\":[true,{\"allOf\":[{\"pattern\":\"[\"}]}]}", "/prefixItems/1/allOf/0",
         "the pattern [ is none: missing terminating ] for character class"},
        {"{\"$ref\":\"#/$defs/nothing\"}", "", "$ref leads nowhere: #/$defs/nothing"},
        {"{\"$ref\":\"https://example.com/schema\"}", "",
         "$ref leads nowhere: https://example.com/schema"},
        {"{\"pattern\":\"(\"}", "", "the pattern ( is none: missing closing parenthesis"},
        {"{\"$schema\":\"https://example.com/mine\"}", "",
         "there is no metaschema https://example.com/mine"},
    };
    static const struct schema_options options = {.draft = SCHEMA_2020_12};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct json_object *document = json(cases[i].schema);
        struct schema_fault fault;
        assert_null(schema_compile(document, STR(""), &options, &fault));
        assert_string_equal(fault.message, cases[i].message);
        assert_string_equal(fault.pointer, cases[i].pointer);
        json_object_put(document);
    }
}

static void values_can_be_hidden(void **state)
{
    (void)state;
    struct schema *schema = compile("{\"const\":1}");
    struct json_object *instance = json("\"secret\"");
    struct schema_errors errors = {.hide_values = true};
    assert_false(schema_validate(schema, schema_instance(instance, &errors.arena), &errors));
    assert_string_equal(errors.at[0].message, "must be …");
    schema_errors_free(&errors);
    json_object_put(instance);
    schema_free(&schema);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_say_where_and_why), cmocka_unit_test(numbers_are_exact),
        cmocka_unit_test(errors_end_at_twenty),     cmocka_unit_test(hostile_input_ends),
        cmocka_unit_test(schemas_that_are_none),    cmocka_unit_test(values_can_be_hidden),
    };
    return cmocka_run_group_tests_name("schema", tests, NULL, NULL);
}
