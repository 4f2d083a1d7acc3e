/* Endpoints' schemas: written there, or in files of schemas/. */
#include "test/unit/config_folder.h"

#include "shared/base/json.h"

static void with(const struct config_folder *folder, const char *keys)
{
    char text[2048];
    folder_write(folder, "promptgate.yaml", "");
    mkdir(folder_path(folder, "schemas"), 0700);
    folder_write(folder, "schemas/ticket.json",
                 "{ \"required\": [\"title\"],\n  \"properties\": { \"title\": { \"$ref\": "
                 "\"title.json\" } } }");
    folder_write(folder, "schemas/title.json", "{\"type\":\"string\",\"format\":\"date\"}");
    folder_write(folder, "schemas/broken.json",
                 "{\n \"properties\":\n  { \"a\": { \"type\": 7 } } }");
    folder_write(folder, "schemas/text.json", "no JSON");
    snprintf(text, sizeof text,
             "id: " UUID_1 "\nendpoints:\n  a:\n    provider: echo\n    model: echo\n%s\n", keys);
    folder_write(folder, "projects.d/demo.yaml", text);
}

static bool fits(struct config_folder *folder, const char *keys, const char *instance)
{
    struct arena arena = {0};
    struct json_object *value;
    struct error error;
    with(folder, keys);
    folder_expect_ok(folder);
    const struct schema *schema = folder->config->projects[0].endpoints[0].input_schema;
    assert_non_null(schema);
    assert_true(json_read(str_of(instance), &value, &error));
    bool valid = schema_validate(schema, schema_instance(value, &arena), NULL);
    json_object_put(value);
    arena_free(&arena);
    return valid;
}

static void in_the_file_or_beside_it(void **state)
{
    struct config_folder *folder = *state;
    const char *own = "    input_schema: { type: object, properties: { n: { minimum: 1.5 } } }";
    const char *named = "    input_schema: { file: schemas/ticket.json }";
    const char *asserted = "    formats: assert\n    input_schema: { file: schemas/ticket.json }";
    const char *refers = "    input_schema: { items: { $ref: ticket.json } }";
    assert_true(fits(folder, own, "{\"n\":1.5}"));
    assert_false(fits(folder, own, "{\"n\":1.4}"));
    assert_true(fits(folder, named, "{\"title\":\"x\"}"));
    assert_false(fits(folder, named, "{\"title\":7}"));
    assert_false(fits(folder, asserted, "{\"title\":\"x\"}"));
    assert_true(fits(folder, asserted, "{\"title\":\"2026-11-27\"}"));
    assert_false(fits(folder, refers, "[{}]"));
    with(folder, "    description: x");
    folder_expect_ok(folder);
    assert_null(folder->config->projects[0].endpoints[0].input_schema);
}

static void mistakes(void **state)
{
    struct config_folder *folder = *state;
    static const struct {
        const char *keys, *report;
    } cases[] = {
        {"    input_schema: { type: strng }",
         "projects.d/demo.yaml:6:27: endpoints.a.input_schema: is no JSON Schema: /type must be "
         "one "
         "of [\"array\",\"boolean\",\"integer\",\"null\",\"number\",\"object\",\"strin…\n"},
        {"    input_schema: { properties: { a: { pattern: '(' } } }",
         "projects.d/demo.yaml:6:38: endpoints.a.input_schema: is no JSON Schema: /properties/a "
         "the "
         "pattern ( is none: missing closing parenthesis\n"},
        {"    input_schema: { $ref: 'https://example.com/x' }",
         "projects.d/demo.yaml:6:19: endpoints.a.input_schema: is no JSON Schema: $ref leads "
         "nowhere: https://example.com/x\n"},
        {"    input_schema: { file: schemas/nothing.json }",
         "projects.d/demo.yaml:6:19: endpoints.a.input_schema: there is no schemas/nothing.json\n"},
        {"    input_schema: { file: ../promptgate.yaml }",
         "projects.d/demo.yaml:6:19: endpoints.a.input_schema: file: must be schemas/NAME.json, "
         "not "
         "\"../promptgate.yaml\"\n"},
        {"    input_schema: { file: schemas/text.json }",
         "projects.d/demo.yaml:6:19: endpoints.a.input_schema: schemas/text.json is not JSON: 'n' "
         "where a value is expected at byte 0 (line 1, column 1)\n"},
        {"    input_schema: { file: schemas/broken.json }",
         "schemas/broken.json:3:20: is no JSON Schema: /properties/a/type must be one of "
         "[\"array\",\"boolean\",\"integer\",\"null\",\"number\",\"object\",\"strin…\n"},
        {"    input_schema: true",
         "projects.d/demo.yaml:6:19: endpoints.a.input_schema: must be a mapping, not true\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        with(folder, cases[i].keys);
        folder_expect(folder, cases[i].report);
    }
}

static void of_answers(void **state)
{
    struct config_folder *folder = *state;
    const char *keys = "    output_schema: { items: { $ref: title.json } }\n    output_repair: 3\n"
                       "    routing: { rules: [ { when: { has_output_schema: true }, use: { model: "
                       "x }, decision: d } ] }";
    with(folder, keys);
    folder_expect_ok(folder);
    const struct config_endpoint *endpoint = &folder->config->projects[0].endpoints[0];
    assert_int_equal(endpoint->output_repair, 3);
    assert_true(endpoint->output_schema->refers_to_files);
    assert_string_equal(endpoint->output_schema->text,
                        "{\"items\":{\"$ref\":\"title.json\"}}\n\nschemas/title.json:\n"
                        "{\"type\":\"string\",\"format\":\"date\"}");
    with(folder, "    output_schema: { type: object }");
    folder_expect_ok(folder);
    endpoint = &folder->config->projects[0].endpoints[0];
    assert_int_equal(endpoint->output_repair, 1);
    assert_false(endpoint->output_schema->refers_to_files);
    assert_string_equal(endpoint->output_schema->text, "{\"type\":\"object\"}");
}

static void mistakes_of_answers(void **state)
{
    struct config_folder *folder = *state;
    with(folder, "    output_schema: { type: strng }");
    folder_expect(folder,
                  "projects.d/demo.yaml:6:28: endpoints.a.output_schema: is no JSON Schema: /type "
                  "must be one of "
                  "[\"array\",\"boolean\",\"integer\",\"null\",\"number\",\"object\",\"strin…\n");
    with(folder, "    output_repair: 6");
    folder_expect(folder, "projects.d/demo.yaml:6:20: endpoints.a.output_repair: must be a whole "
                          "number, from 0 to 5, not 6\n");
    with(folder, "    output_repair: 2");
    folder_expect(folder, "projects.d/demo.yaml:6:20: warning: endpoints.a.output_repair: has no "
                          "effect: the endpoint has no output_schema\n");
    with(folder, "    parameters: { response_format: { type: text } }\n"
                 "    output_schema: { type: object }");
    folder_expect(folder, "projects.d/demo.yaml:7:20: endpoints.a.output_schema: sets the answer's "
                          "format, and so does response_format in the parameters of echo: remove "
                          "one of them\n");
    with(folder, "    output_schema: { type: object }\n    failover: [ { template: t } ]");
    mkdir(folder_path(folder, "templates.d"), 0700);
    folder_write(folder, "templates.d/t.yaml",
                 "provider: echo\nmodel: x\nparameters: { output_format: { type: text } }\n");
    folder_expect(folder, "projects.d/demo.yaml:6:20: endpoints.a.output_schema: sets the answer's "
                          "format, and so does output_format in the parameters of x: remove one of "
                          "them\n");
    with(folder, "    output_schema: { type: object }");
    folder_write(folder, "models.yaml",
                 "- { provider: echo, model: ec, parameters: { response_format: {} } }");
    folder_expect(folder, "projects.d/demo.yaml:6:20: endpoints.a.output_schema: sets the answer's "
                          "format, and so does response_format in the parameters of echo "
                          "(models.yaml): remove one of them\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(in_the_file_or_beside_it), TEST(mistakes),
                                       TEST(of_answers), TEST(mistakes_of_answers)};
    return cmocka_run_group_tests_name("schemas", tests, NULL, NULL);
}
