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
        "models.yaml:3:3: [2].provider: missing: it must be one of openai, anthropic, gemini, "
        "mistral, groq, together, ollama, cohere, echo\n"
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

static void prices_are_completed(void **state)
{
    struct config_folder *folder = *state;
    const struct prices *prices =
        &target_with(folder, "- { provider: echo, model: echo, price: { input: 0.15, output: 1 } }",
                     "")
             ->known.prices;
    assert_true(prices->known);
    assert_int_equal(prices->usual.input, 150000);
    assert_int_equal(prices->usual.cached_input, 150000);
    assert_int_equal(prices->usual.cache_write, 150000);
    assert_int_equal(prices->above_tokens, 0);
    prices = &target_with(folder,
                          "- { provider: echo, model: echo, price: { input: 0.000002, output: 5, "
                          "cached_input: 0.000001, cache_write: 0 },\n"
                          "    price_above: { input_tokens: 100, input: 0.000003, output: 6 } }",
                          "")
                  ->known.prices;
    assert_int_equal(prices->usual.input, 2);
    assert_int_equal(prices->usual.cache_write, 0);
    assert_int_equal(prices->above_tokens, 100);
    assert_int_equal(prices->above.output, 6000000);
    assert_int_equal(prices->above.cached_input, 2); /* 1.5, rounded up */
    assert_int_equal(prices->above.cache_write, 0);
    /* An endpoint's own takes the place of all of it. */
    prices = &target_with(folder,
                          "- { provider: echo, model: echo, price: { input: 1, output: 5 },\n"
                          "    price_above: { input_tokens: 100, input: 2, output: 6 } }",
                          ", price: { input: 0, output: 0 }")
                  ->known.prices;
    assert_true(prices->known);
    assert_int_equal(prices->usual.output, 0);
    assert_int_equal(prices->above_tokens, 0);
    assert_false(target_with(folder, "[]", "")->known.prices.known);
}

static void prices_that_are_not_whole(void **state)
{
    struct config_folder *folder = *state;
    expect_problems(
        folder,
        "- { provider: echo, model: a, price: { input: 1 } }\n"
        "- { provider: echo, model: b, price: { output: 1, cached_input: 2 } }\n"
        "- { provider: echo, model: c, price_above: { input: 1, output: 2 } }\n"
        "- { provider: echo, model: d, price: { input: 1.0000001, output: 1e3 } }\n"
        "- { provider: echo, model: e, price: { input: 1, output: 1 }, price_above: { "
        "input_tokens: 5 } }",
        "",
        "models.yaml:1:3: [0].price.output: missing: there is an input price\n"
        "models.yaml:2:3: [1].price.input: missing: there is an output price\n"
        "models.yaml:3:53: [2].price_above.input: says nothing without price.input\n"
        "models.yaml:4:47: [3].price.input: must be USD for a million tokens, with six decimals at "
        "most, from 0 to 1000000, not 1.0000001\n"
        "models.yaml:4:66: [3].price.output: must be USD for a million tokens, with six decimals "
        "at "
        "most, from 0 to 1000000, not \"1e3\"\n"
        "models.yaml:5:92: [4].price_above.input_tokens: says nothing without price_above.input\n");
}

/* "A budget without price or without max_output_tokens is a config error" */
static void budgets_need_a_price_and_a_longest_answer(void **state)
{
    struct config_folder *folder = *state;
    const char *free = "- { provider: echo, model: '', price: { input: 0, output: 0 } }";
    const char *priced = "- { provider: echo, model: echo-2, price: { input: 1, output: 2 } }";
    expect_problems(folder, "[]", ", budget: { monthly_usd: 5 }",
                    "projects.d/demo.yaml:3:67: endpoints.a.budget.monthly_usd: a budget needs "
                    "max_output_tokens: without it no answer has a longest\n");
    expect_problems(
        folder, "[]", ", max_output_tokens: 9, budget: { monthly_usd: 5 }",
        "projects.d/demo.yaml:3:89: endpoints.a.budget.monthly_usd: a budget needs "
        "price: models.yaml has none for its model; { input: 0, output: 0 } says free\n");
    expect_problems(folder, priced, ", max_output_tokens: 9, budget: { monthly_usd: 5 }",
                    "projects.d/demo.yaml:3:31: warning: endpoints.a.model: takes the price of "
                    "echo-2, which may be another model's: give it a row in models.yaml\n");
    target_with(folder, free, ", max_output_tokens: 9, budget: { monthly_usd: 5 }");
    target_with(folder, "- { provider: echo, model: echo-2-mini, price: { input: 1, output: 2 } }",
                ", max_output_tokens: 9, budget: { monthly_usd: 5 }");
    const struct config_endpoint *endpoint = &folder->config->projects[0].endpoints[0];
    assert_true(endpoint->caps.monthly_nano_usd == INT64_C(5000000000));
    assert_true(endpoint->caps.per_minute == INT64_MAX);
    /* A token's. */
    with(folder, "[]", ", max_output_tokens: 9");
    folder_write(folder, "tokens.d/web.yaml",
                 "project: demo\nhash: " HASH_1 "\nbudget: { monthly_usd: 0.000000001 }\n");
    folder_expect(folder, "tokens.d/web.yaml:3:24: budget.monthly_usd: a budget needs on its "
                          "endpoint a price: models.yaml has none for its model; { input: 0, "
                          "output: 0 } says free\n");
    with(folder, free, ", max_output_tokens: 9");
    folder_expect_ok(folder);
    assert_int_equal(folder->config->tokens[0].caps.monthly_nano_usd, 1);
    unlink(folder_path(folder, "tokens.d/web.yaml"));
    /* A project's. */
    folder_write(folder, "models.yaml", "[]");
    folder_write(folder, "projects.d/demo.yaml",
                 "id: " UUID_1 "\nbudget: { monthly_usd: 1 }\nendpoints:\n"
                 "  a: { provider: echo, model: e, max_output_tokens: 9 }\n");
    folder_expect(folder,
                  "projects.d/demo.yaml:4:31: endpoints.a.model: the project's budget "
                  "needs price: models.yaml has none for its model; { input: 0, output: 0 } "
                  "says free\n");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_longest_beginning_counts),
        TEST(what_a_model_lacks),
        TEST(parameters_of_endpoint_model_and_clients),
        TEST(mistakes_are_reported),
        TEST(prices_are_completed),
        TEST(prices_that_are_not_whole),
        TEST(budgets_need_a_price_and_a_longest_answer),
        TEST(endpoints_that_ask_for_what_the_model_lacks_are_warned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
