/* Endpoints' variables and parameters in configuration files. */
#include "test/unit/config_folder.h"

static const struct config_endpoint *endpoint_named(const struct config_folder *folder,
                                                    const char *slug)
{
    const struct config_endpoint *endpoint =
        config_endpoint(&folder->config->projects[0], str_of(slug));
    assert_non_null(endpoint);
    return endpoint;
}

static void variables_and_parameters(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "promptgate.yaml", "");
    folder_write(folder, "projects.d/web.yaml",
                 "id: " UUID_2 "\nendpoints:\n  a:\n    provider: echo\n    model: echo\n"
                 "    system_prompt: \"{{tone}} {{n}}\"\n"
                 "    client_parameters: [stop, temperature]\n"
                 "    parameters: { reasoning_effort: low, seed: 7 }\n"
                 "    variables:\n"
                 "      - { name: tone, type: enum, enum: [kind, 5], default: 5 }\n"
                 "      - { name: n, type: int, min: -1, max: 9, default: 3 }\n"
                 "      - { name: store, type: text, max_length: 9, pattern: \"^a\" }\n"
                 "  plain: { provider: echo, model: echo }\n");
    folder_expect_ok(folder);
    const struct config_endpoint *endpoint = endpoint_named(folder, "a");
    assert_int_equal(endpoint->variables_count, 3);
    assert_int_equal(endpoint->variables[0].choices_count, 2);
    assert_true(str_eq(endpoint->variables[0].standard, STR("5")));
    assert_int_equal(endpoint->variables[1].min, -1);
    assert_int_equal(endpoint->variables[1].max_length, -1);
    assert_non_null(endpoint->variables[2].pattern);
    assert_int_equal(endpoint->client_parameters,
                     MEMBER_BIT(MEMBER_stop) | MEMBER_BIT(MEMBER_temperature));
    assert_string_equal(endpoint->target.parameters, "\"reasoning_effort\":\"low\",\"seed\":7");
    endpoint = endpoint_named(folder, "plain");
    assert_int_equal(endpoint->client_parameters, member_client_set());
    assert_null(endpoint->target.parameters);
}

/* Of an endpoint of the project web: these lines of it, and what is said of them. */
static void expect_endpoint(struct config_folder *folder, const char *lines, const char *problems)
{
    struct buf text = {0}, expected = {0};
    buf_printf(&text, "id: " UUID_2 "\nendpoints: { a: { provider: echo, model: echo,\n%s } }\n",
               lines);
    folder_write(folder, "promptgate.yaml", "");
    folder_write(folder, "projects.d/web.yaml", buf_cstr(&text));
    for (struct str rest = str_of(problems); rest.at;) {
        struct str line = str_split(&rest, '\n');
        buf_printf(&expected, "projects.d/web.yaml:%.*s\n", STR_ARG(line));
    }
    folder_expect(folder, buf_cstr(&expected));
    buf_free(&text);
    buf_free(&expected);
}

static void mistakes_in_variables(void **state)
{
    struct config_folder *folder = *state;
    expect_endpoint(
        folder, "variables: [{ name: a-b }, { name: 9 }, { name: input }, { name: stop }]",
        "3:21: endpoints.a.variables[0].name: must be letters, digits and _, and begin "
        "with no digit\n"
        "3:36: endpoints.a.variables[1].name: must be a text, 1 to 64 bytes long, not 9; "
        "put it in quotes\n"
        "3:49: endpoints.a.variables[2].name: means something else in a request's "
        "body: choose another name\n"
        "3:66: endpoints.a.variables[3].name: means something else in a request's "
        "body: choose another name");
    expect_endpoint(folder,
                    "variables: [{ name: a }, { name: a }, { type: int }, 7, { name: b, x: 1 }]",
                    "3:34: endpoints.a.variables[1].name: is the name of another variable already\n"
                    "3:39: endpoints.a.variables[2].name: missing: it must be a text, 1 to 64 "
                    "bytes long\n"
                    "3:54: endpoints.a.variables[3]: must be a mapping of keys, not 7\n"
                    "3:68: endpoints.a.variables[4].x: unknown key; known here are name, type, "
                    "required, default, min, max, max_length, pattern, enum");
    expect_endpoint(
        folder,
        "variables: [{ name: a, type: int, min: 2, max: 1 },\n"
        "{ name: b, type: int, min: 1.5 }, { name: c, type: date, max: 2026-02-30 },\n"
        "{ name: d, min: 1 }, { name: e, type: int, pattern: x, max_length: 3 },\n"
        "{ name: f, pattern: \"(\" }, { name: g, type: enum }, { name: h, enum: [a] },\n"
        "{ name: i, type: enum, enum: [null, []] }]",
        "3:48: endpoints.a.variables[0].max: is less than min: no value fits\n"
        "4:28: endpoints.a.variables[1].min: must be a whole number, as the variable's "
        "values\n"
        "4:63: endpoints.a.variables[2].max: must be a date such as 2026-11-26, as the "
        "variable's values\n"
        "5:17: endpoints.a.variables[3].min: is for int, float and date alone: leave "
        "the key out\n"
        "5:53: endpoints.a.variables[4].pattern: is for string and text alone: leave "
        "the key out\n"
        "5:68: endpoints.a.variables[4].max_length: is for string and text alone: "
        "leave the key out\n"
        "6:21: endpoints.a.variables[5].pattern: is no regular expression: missing "
        "closing parenthesis, at its byte 1\n"
        "6:28: endpoints.a.variables[6].enum: missing: an enum needs the list of its "
        "values\n"
        "6:70: endpoints.a.variables[7].enum: is for the type enum alone: leave the "
        "key out\n"
        "7:31: endpoints.a.variables[8].enum: must be texts, numbers, true or false, "
        "not null\n"
        "7:37: endpoints.a.variables[8].enum: must be texts, numbers, true or false, "
        "not a list");
    expect_endpoint(folder,
                    "variables: [{ name: a, type: int, max: 3, default: 4 },\n"
                    "{ name: b, type: enum, enum: [x], default: y }, { name: c, required: true, "
                    "default: x }]",
                    "3:52: endpoints.a.variables[0].default: breaks the variable's own rules: it "
                    "must be at most 3\n"
                    "4:44: endpoints.a.variables[1].default: breaks the variable's own rules: it "
                    "must be one of x\n"
                    "4:85: endpoints.a.variables[2].default: is never used, for the variable is "
                    "required: leave one of them out");
}

static void mistakes_in_parameters(void **state)
{
    struct config_folder *folder = *state;
    expect_endpoint(folder, "client_parameters: [stop, temprature, n, model, 7]",
                    "3:27: endpoints.a.client_parameters: must be names of parameters such as "
                    "max_tokens or temperature, not \"temprature\"; did you mean temperature?\n"
                    "3:39: endpoints.a.client_parameters: must be names of parameters such as "
                    "max_tokens or temperature, not \"n\"\n"
                    "3:42: endpoints.a.client_parameters: must be names of parameters such as "
                    "max_tokens or temperature, not \"model\"\n"
                    "3:49: endpoints.a.client_parameters: must be names of parameters such as "
                    "max_tokens or temperature, not 7");
    expect_endpoint(folder,
                    "parameters: { temperature: 1, max_tokens: 5, n: 2, stream: true, messages: [],"
                    " stop: x, a: 1. }",
                    "3:15: endpoints.a.parameters.temperature: has a key of its own on the "
                    "endpoint\n"
                    "3:31: endpoints.a.parameters.max_tokens: is set by max_output_tokens\n"
                    "3:46: endpoints.a.parameters.n: is set by the gateway itself\n"
                    "3:52: endpoints.a.parameters.stream: is set by the gateway itself\n"
                    "3:66: endpoints.a.parameters.messages: is set by the gateway itself\n"
                    "3:80: endpoints.a.parameters.stop: is one that clients may set: take it out "
                    "of client_parameters, or leave it out");
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(variables_and_parameters),
        TEST(mistakes_in_variables),
        TEST(mistakes_in_parameters),
    };
    return cmocka_run_group_tests_name("endpoints", tests, NULL, NULL);
}
