/* templates.d: who answers, shared by name. */
#include "test/unit/config_folder.h"

#include <math.h>

#define FAST                                                                                       \
    "provider: echo\nmodel: echo-fast\ntemperature: 0.5\nmax_output_tokens: 100\ntimeout: 9s\n"    \
    "price: { input: 1, output: 2, cached_input: 0.5 }\nparameters: { effort: low }\n"

static void with(const struct config_folder *folder, const char *template, const char *endpoint)
{
    char text[1024];
    folder_write(folder, "promptgate.yaml", "");
    folder_write(folder, "templates.d/fast.yaml", template);
    snprintf(text, sizeof text, "id: " UUID_1 "\nendpoints:\n  a: { template: fast%s }\n",
             endpoint);
    folder_write(folder, "projects.d/demo.yaml", text);
}

static const struct config_endpoint *endpoint_with(struct config_folder *folder,
                                                   const char *template, const char *endpoint)
{
    with(folder, template, endpoint);
    folder_expect_ok(folder);
    return &folder->config->projects[0].endpoints[0];
}

static void an_endpoint_has_all_of_it(void **state)
{
    struct config_folder *folder = *state;
    const struct config_target *target = &endpoint_with(folder, FAST, "")->target;
    assert_int_equal(target->provider, PROVIDER_ECHO);
    assert_string_equal(target->model, "echo-fast");
    assert_true(target->temperature == 0.5);
    assert_true(isnan(target->top_p));
    assert_int_equal(target->max_output_tokens, 100);
    assert_int_equal(target->timeout_ms, 9000);
    assert_true(target->known.prices.known);
    assert_int_equal(target->known.prices.usual.cached_input, 500000);
    assert_string_equal(target->parameters, "\"effort\":\"low\"");
}

static void what_the_endpoint_says_counts(void **state)
{
    struct config_folder *folder = *state;
    const struct config_endpoint *endpoint =
        endpoint_with(folder, FAST,
                      ", model: echo-own, temperature: 1, top_p: 0.1, timeout: 1s, "
                      "price: { input: 3, output: 4 }, parameters: { x: 1 }");
    const struct config_target *target = &endpoint->target;
    assert_string_equal(target->model, "echo-own");
    assert_true(target->temperature == 1 && target->top_p == 0.1);
    assert_int_equal(target->max_output_tokens, 100);
    assert_int_equal(target->timeout_ms, 1000);
    assert_int_equal(target->known.prices.usual.cached_input, 3000000); /* not the template's */
    assert_string_equal(target->parameters, "\"x\":1");
}

static void what_clients_may_set(void **state)
{
    struct config_folder *folder = *state;
    const char *template = "provider: echo\nmodel: m\nclient_parameters: [stop]\n";
    assert_true(endpoint_with(folder, template, "")->client_parameters == MEMBER_BIT(MEMBER_stop));
    assert_true(endpoint_with(folder, template, ", client_parameters: [seed]")->client_parameters ==
                MEMBER_BIT(MEMBER_seed));
    assert_true(endpoint_with(folder, "provider: echo\nmodel: m\n", "")->client_parameters ==
                member_client_set());
}

/* By its longest beginning, as an endpoint's. */
static void the_models_row_is_that_of_the_merged_target(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "models.yaml",
                 "- { provider: echo, model: echo, limits: { output: 5 } }\n"
                 "- { provider: echo, model: echo-own, limits: { output: 6 } }\n");
    const char *template = "provider: echo\nmodel: echo-fast\n";
    assert_int_equal(endpoint_with(folder, template, "")->target.known.output_limit, 5);
    assert_int_equal(
        endpoint_with(folder, template, ", model: echo-own")->target.known.output_limit, 6);
    unlink(folder_path(folder, "models.yaml"));
}

static void mistakes_are_reported(void **state)
{
    struct config_folder *folder = *state;
    static const struct {
        const char *template, *endpoint, *report;
    } cases[] = {
        /* in the template, once, however many use it */
        {"provider: echo\n", "",
         "templates.d/fast.yaml:1:1: model: missing: it must be a text, 1 to 256 bytes long\n"},
        {"provider: echoo\nmodel: m\n", "",
         "templates.d/fast.yaml:1:11: provider: must be one of openai, anthropic, gemini, mistral, "
         "groq, together, ollama, cohere, echo, not \"echoo\"; did you mean echo?\n"},
        {"provider: openai\nmodel: m\ncredential: nobody\n", "",
         "templates.d/fast.yaml:3:13: credential: there is no credentials.d/nobody.yaml; there are "
         "none\n"},
        {"provider: echo\nmodel: m\nprice: { input: 1 }\n", "",
         "templates.d/fast.yaml:1:1: price.output: missing: there is an input price\n"},
        {"provider: echo\nmodel: m\nsystem_prompt: x\n", "",
         "templates.d/fast.yaml:3:1: system_prompt: unknown key; known here are provider, model, "
         "credential, temperature, top_p, max_output_tokens, price, timeout, client_parameters, "
         "parameters\n"},
        /* at the endpoint */
        {"provider: openai\nmodel: m\n", "",
         "projects.d/demo.yaml:3:3: endpoints.a.credential: missing: openai needs a key, so a file "
         "of credentials.d must be named\n"},
        {"provider: echo\nmodel: m\nparameters: { effort: low, store: true }\n",
         ", client_parameters: [store]",
         "projects.d/demo.yaml:3:43: endpoints.a.client_parameters: store is set by the endpoint, "
         "and by clients, too: one of them is the template's (fast)\n"},
        {"provider: echo\nmodel: m\nclient_parameters: [store]\n", ", parameters: { store: true }",
         "projects.d/demo.yaml:3:36: endpoints.a.parameters: store is set by the endpoint, and by "
         "clients, too: one of them is the template's (fast)\n"},
        {"provider: echo\nmodel: m\n", ", budget: { monthly_usd: 1 }",
         "projects.d/demo.yaml:3:47: endpoints.a.budget.monthly_usd: a budget needs "
         "max_output_tokens: without it no answer has a longest\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        with(folder, cases[i].template, cases[i].endpoint);
        folder_expect(folder, cases[i].report);
    }
    with(folder, FAST, "");
    folder_write(folder, "projects.d/demo.yaml",
                 "id: " UUID_1 "\nendpoints:\n  a: { template: fats }\n  b: {}\n");
    folder_expect(folder,
                  "projects.d/demo.yaml:3:18: endpoints.a.template: there is no "
                  "templates.d/fats.yaml; did you mean fast?\n"
                  "projects.d/demo.yaml:4:3: endpoints.b.provider: missing: it must be one "
                  "of openai, anthropic, gemini, mistral, groq, together, ollama, cohere, "
                  "echo\n"
                  "projects.d/demo.yaml:4:3: endpoints.b.model: missing: it must be a text, "
                  "1 to 256 bytes long\n");
}

/* A template whose provider the endpoint changes is no longer what its credential is for. */
static void another_provider_needs_another_credential(void **state)
{
    struct config_folder *folder = *state;
    setenv("TEMPLATE_TEST_KEY", "sk-template-0123456789", 1);
    folder_write(folder, "credentials.d/main.yaml",
                 "provider: openai\napi_key: env:TEMPLATE_TEST_KEY\n");
    with(folder, "provider: openai\nmodel: m\ncredential: main\n", "");
    folder_expect_ok(folder);
    setenv("TEMPLATE_TEST_KEY", "sk-template-0123456789", 1); /* it was taken away */
    with(folder, "provider: openai\nmodel: m\ncredential: main\n", ", provider: groq");
    folder_expect(folder, "projects.d/demo.yaml:3:3: endpoints.a.credential: is a credential of "
                          "openai, but the endpoint's provider is groq\n");
    unlink(folder_path(folder, "credentials.d/main.yaml"));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_endpoint_has_all_of_it), TEST(what_the_endpoint_says_counts),
        TEST(what_clients_may_set),      TEST(the_models_row_is_that_of_the_merged_target),
        TEST(mistakes_are_reported),     TEST(another_provider_needs_another_credential),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
