/* models.yaml: what is known of models, and what it means for endpoints. */
#include "test/unit/config_folder.h"

#include "shared/base/buf.h"

#include <math.h>

static void with(const struct config_folder *folder, const char *models, const char *endpoint)
{
    char text[1024];
    folder_write(folder, "promptgate.yaml", "");
    folder_write(folder, "models.yaml", models);
    snprintf(text, sizeof text,
             "id: " UUID_1 "\nendpoints:\n  a: { provider: echo, model: echo-2-mini%s }\n",
             endpoint);
    folder_write(folder, "projects.d/demo.yaml", text);
}

static const struct config_target *target_with(struct config_folder *folder, const char *models,
                                               const char *endpoint)
{
    with(folder, models, endpoint);
    folder_expect_ok(folder);
    return &folder->config->projects[0].endpoints[0].target;
}

static void the_longest_beginning_counts(void **state)
{
    struct config_folder *folder = *state;
    static const struct {
        const char *rows;
        int64_t limit;
    } cases[] = {
        {"[]", 0},
        {"", 0},
        {"# nothing\n", 0},
        {"- { provider: echo, model: '', limits: { output: 1 } }", 1},
        {"- { provider: echo, model: echo-2, limits: { output: 2 } }\n"
         "- { provider: echo, model: echo-2-mini, limits: { output: 3 } }\n"
         "- { provider: echo, model: echo, limits: { output: 4 } }",
         3},
        {"- { provider: echo, model: echo-2-mini-x, limits: { output: 2 } }\n"
         "- { provider: openai, model: echo-2-mini, limits: { output: 3 } }\n"
         "- { provider: echo, model: echo, limits: { output: 4 } }",
         4},
        {"- { provider: echo, model: Echo, limits: { output: 4 } }", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_int_equal(target_with(folder, cases[i].rows, "")->known.output_limit,
                         cases[i].limit);
    unlink(folder_path(folder, "models.yaml"));
    folder_expect_ok(folder);
}

static void what_a_model_lacks(void **state)
{
    struct config_folder *folder = *state;
    const struct config_target *target = target_with(
        folder,
        "- { provider: echo, model: echo, lacks: [temperature, stop, logprobs, prefill, stop] }\n"
        "- { provider: echo, model: x, lacks: [forced_tool_choice] }",
        "");
    assert_true(
        target->known.lacks.parameters ==
        (MEMBER_BIT(MEMBER_temperature) | MEMBER_BIT(MEMBER_stop) | MEMBER_BIT(MEMBER_logprobs)));
    assert_true(target->known.lacks.prefill);
    assert_false(target->known.lacks.forced_tool_choice);
}

#define PARAMETERS(list) "- { provider: echo, model: echo, parameters: " list " }"

static void parameters_of_endpoint_model_and_clients(void **state)
{
    struct config_folder *folder = *state;
    static const struct {
        const char *model, *endpoint, *joined;
    } cases[] = {
        {PARAMETERS("{}"), "", NULL},
        {PARAMETERS("{ store: false, effort: low }"), "", "\"store\":false,\"effort\":\"low\""},
        {PARAMETERS("{ store: false, effort: low }"), ", parameters: { effort: high, x: [1] }",
         "\"effort\":\"high\",\"x\":[1],\"store\":false"},
        {PARAMETERS("{ reasoning_effort: low }"), ", client_parameters: [reasoning_effort]", NULL},
        {PARAMETERS("{ user: u }"), "", NULL}, /* clients may set it by default */
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *joined = target_with(folder, cases[i].model, cases[i].endpoint)->parameters;
        assert_true((joined == NULL) == (cases[i].joined == NULL));
        if (joined)
            assert_string_equal(joined, cases[i].joined);
    }
}

static void expect_problems(struct config_folder *folder, const char *models, const char *endpoint,
                            const char *problems)
{
    with(folder, models, endpoint);
    folder_expect(folder, problems);
}

static void mistakes_are_reported(void **state)
{
    struct config_folder *folder = *state;
    expect_problems(folder, "provider: echo", "",
                    "models.yaml:1:1: must be a list of models, not a mapping\n");
    expect_problems(
        folder,
        "- { provider: echo, model: e, lacks: [temprature, max_tokens, 7], limits: { output: 0 } "
        "}\n"
        "- { provider: echo, model: e }\n"
        "- { model: e, limit: 5 }\n"
        "- echo\n"
        "- { provider: echo, model: f, parameters: { top_p: 1, stream: true } }\n",
        "",
        "models.yaml:1:39: [0].lacks: must be parameters such as temperature, or prefill or "
        "forced_tool_choice, not \"temprature\"; did you mean temperature?\n"
        "models.yaml:1:51: [0].lacks: must be parameters such as temperature, or prefill or "
        "forced_tool_choice, not \"max_tokens\"\n"
        "models.yaml:1:63: [0].lacks: must be parameters such as temperature, or prefill or "
        "forced_tool_choice, not 7\n"
        "models.yaml:1:85: [0].limits.output: must be a whole number, from 1 to 100000000, not 0\n"
        "models.yaml:2:28: [1].model: has a row at line 1 already: remove one of them\n"
        "models.yaml:3:3: [2].provider: missing: it must be one of openai, echo\n"
        "models.yaml:3:15: [2].limit: unknown key; did you mean limits?\n"
        "models.yaml:4:3: [3]: must be a mapping of keys, not \"echo\"\n"
        "models.yaml:5:45: [4].parameters.top_p: has a key of its own on the endpoint\n"
        "models.yaml:5:55: [4].parameters.stream: is set by the gateway itself\n");
}

static void endpoints_that_ask_for_what_the_model_lacks_are_warned(void **state)
{
    struct config_folder *folder = *state;
    const char *models =
        "- { provider: echo, model: echo, lacks: [temperature, top_p], limits: { output: 100 } }";
    expect_problems(
        folder, models, ", temperature: 1, top_p: 0.5, max_output_tokens: 101",
        "projects.d/demo.yaml:3:57: warning: endpoints.a.temperature: is not sent: the model does "
        "not take it (models.yaml)\n"
        "projects.d/demo.yaml:3:67: warning: endpoints.a.top_p: is not sent: the model does not "
        "take it (models.yaml)\n"
        "projects.d/demo.yaml:3:91: warning: endpoints.a.max_output_tokens: is more than the model "
        "gives: 100 are asked for (models.yaml)\n");
    assert_non_null(folder->config);
    target_with(folder, models, ", max_output_tokens: 100");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_longest_beginning_counts),
        TEST(what_a_model_lacks),
        TEST(parameters_of_endpoint_model_and_clients),
        TEST(mistakes_are_reported),
        TEST(endpoints_that_ask_for_what_the_model_lacks_are_warned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
