/* An endpoint's other targets: its failover chain, and its routing rules. */
#include "test/unit/config_folder.h"

#define OWN "    provider: openai\n    model: gpt-4o-mini\n    credential: main\n"

static void with(const struct config_folder *folder, const char *keys)
{
    char text[4096];
    setenv("ROUTING_TEST_KEY", "sk-routing-0123456789", 1); /* each load takes it away */
    folder_write(folder, "promptgate.yaml", "");
    folder_write(folder, "models.yaml",
                 "- { provider: openai, model: gpt-4o-mini, price: { input: 1, output: 2 } }\n"
                 "- { provider: openai, model: gpt-4o, price: { input: 1, output: 2 } }\n"
                 "- { provider: anthropic, model: claude, price: { input: 3, output: 4 } }\n");
    folder_write(folder, "credentials.d/main.yaml",
                 "provider: openai\napi_key: env:ROUTING_TEST_KEY\n");
    folder_write(folder, "credentials.d/spare.yaml",
                 "provider: openai\napi_key: env:ROUTING_TEST_KEY\n");
    folder_write(folder, "credentials.d/claude.yaml",
                 "provider: anthropic\napi_key: env:ROUTING_TEST_KEY\n");
    folder_write(folder, "templates.d/claude.yaml",
                 "provider: anthropic\nmodel: claude-x\ncredential: claude\ntemperature: 0.9\n"
                 "parameters: { effort: low }\n");
    snprintf(text, sizeof text,
             "id: " UUID_1 "\nendpoints:\n  a:\n" OWN
             "    temperature: 0.1\n    max_output_tokens: 50\n%s\n",
             keys);
    folder_write(folder, "projects.d/demo.yaml", text);
}

static const struct config_endpoint *endpoint_with(struct config_folder *folder, const char *keys)
{
    with(folder, keys);
    folder_expect_ok(folder);
    return &folder->config->projects[0].endpoints[0];
}

static void a_chain_of_targets(void **state)
{
    struct config_folder *folder = *state;
    const struct config_endpoint *endpoint =
        endpoint_with(folder, "    retries: 2\n    price: { input: 7, output: 8 }\n"
                              "    timeout: 9s\n    parameters: { store: true }\n    failover:\n"
                              "      - { credential: spare }\n      - { template: claude }\n"
                              "      - { provider: echo, model: echo }\n      - { model: gpt-4o }");
    assert_int_equal(endpoint->retries, 2);
    assert_int_equal(endpoint->failover_count, 4);
    const struct config_target *spare = &endpoint->failover[0], *claude = &endpoint->failover[1];
    const struct config_target *echo = &endpoint->failover[2], *other = &endpoint->failover[3];
    assert_string_equal(spare->credential->name, "spare");
    assert_string_equal(spare->model, "gpt-4o-mini");
    assert_int_equal(spare->known.prices.usual.input, 7000000); /* the same model's */
    assert_string_equal(spare->parameters, "\"store\":true");
    /* what the template doesn't say about how it is called is the endpoint's */
    assert_int_equal(claude->provider, PROVIDER_ANTHROPIC);
    assert_string_equal(claude->credential->name, "claude");
    assert_int_equal(claude->known.prices.usual.input, 3000000);
    assert_true(claude->temperature == 0.9);
    assert_int_equal(claude->max_output_tokens, 50);
    assert_int_equal(claude->timeout_ms, 9000);
    assert_string_equal(claude->parameters, "\"effort\":\"low\"");
    assert_true(echo->credential->built_in && !echo->known.prices.known && !echo->parameters);
    assert_string_equal(other->credential->name, "main");
    assert_int_equal(other->known.prices.usual.input, 1000000);
    assert_string_equal(other->parameters, "\"store\":true");
}

static void mistakes_in_a_chain(void **state)
{
    struct config_folder *folder = *state;
    static const struct {
        const char *keys, *report;
    } cases[] = {
        {"    failover: [{}]",
         "projects.d/demo.yaml:9:16: endpoints.a.failover[0]: names no target: give it a template, "
         "a credential, or a provider and its model\n"},
        {"    failover: [{ template: cluade }]",
         "projects.d/demo.yaml:9:28: endpoints.a.failover[0].template: there is no "
         "templates.d/cluade.yaml; did you mean claude?\n"},
        {"    failover: [{ provider: anthropic }]",
         "projects.d/demo.yaml:9:28: endpoints.a.failover[0].provider: needs a model beside it: "
         "the model of another provider isn't anthropic's\n"},
        {"    failover: [{ provider: anthropic, model: claude-y }]",
         "projects.d/demo.yaml:9:16: endpoints.a.failover[0].credential: missing: anthropic needs "
         "a "
         "key, so a file of credentials.d must be named\n"},
        {"    failover: [{ credential: claude }]",
         "projects.d/demo.yaml:9:30: endpoints.a.failover[0].credential: is a credential of "
         "anthropic, but the target's provider is openai\n"},
        {"    failover: [{ credential: mian }]",
         "projects.d/demo.yaml:9:30: endpoints.a.failover[0].credential: there is no "
         "credentials.d/mian.yaml; did you mean main?\n"},
        {"    budget: { monthly_usd: 5 }\n    failover: [{ provider: echo, model: echo }]",
         "projects.d/demo.yaml:10:28: endpoints.a.failover[0].provider: a budget needs price: "
         "models.yaml has none for its model; { input: 0, output: 0 } says free\n"},
        {"    budget: { monthly_usd: 5 }\n    failover: [{ model: gpt-4o-max }]",
         "projects.d/demo.yaml:10:25: warning: endpoints.a.failover[0].model: takes the price of "
         "gpt-4o, which may be another model's: give it a row in models.yaml\n"},
        {"    client_parameters: [store]\n    failover: [{ template: setting }]",
         "projects.d/demo.yaml:10:28: endpoints.a.failover[0].template: sets store, which clients "
         "of this endpoint may set: take it out of client_parameters, or of the template\n"},
        {"    retries: 11", "projects.d/demo.yaml:9:14: endpoints.a.retries: must be a whole "
                            "number, from 0 to 10, not 11\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        with(folder, cases[i].keys);
        folder_write(folder, "templates.d/setting.yaml",
                     "provider: echo\nmodel: echo\nparameters: { store: true }\n");
        folder_expect(folder, cases[i].report);
    }
    with(folder, "    failover: [{model: a}, {model: a}, {model: a}, {model: a}, {model: a}, "
                 "{model: a}, {model: a}, {model: a}, {model: a}, {model: a}, {model: a}, "
                 "{model: a}, {model: a}, {model: a}, {model: a}, {model: a}]");
    folder_expect(folder, "projects.d/demo.yaml:9:15: endpoints.a.failover: has 16 targets; more "
                          "than 15 are not tried\n");
}

static void rules_become_conditions(void **state)
{
    struct config_folder *folder = *state;
    const struct config_endpoint *endpoint = endpoint_with(
        folder, "    budget: { monthly_usd: 25 }\n    streaming_enabled: true\n"
                "    routing:\n      rules:\n"
                "        - when: { input_tokens: \">= 100000\", messages_count: \"<20\" }\n"
                "          use: { template: claude, model: null, credential: null }\n"
                "          decision: long-context\n"
                "        - when: { monthly_spend_pct: \"> 90.5\", streaming: false }\n"
                "          use: { credential: spare }\n"
                "        - when: { time_of_day: \"22:00-06:00\" }\n"
                "          use: { model: gpt-4o }\n"
                "          decision: off.peak_1\n"
                "        - decision: rest");
    assert_int_equal(endpoint->rules_count, 4);
    const struct routing_rule *first = &endpoint->rules[0].rule, *second = &endpoint->rules[1].rule;
    const struct routing_rule *third = &endpoint->rules[2].rule, *last = &endpoint->rules[3].rule;
    assert_string_equal(first->decision, "long-context");
    assert_int_equal(first->conditions_count, 2);
    assert_int_equal(first->conditions[0].fact, FACT_INPUT_TOKENS);
    assert_int_equal(first->conditions[0].comparison, COMPARISON_GE);
    assert_int_equal(first->conditions[0].value, 100000);
    assert_int_equal(first->conditions[1].fact, FACT_MESSAGES_COUNT);
    assert_int_equal(first->conditions[1].comparison, COMPARISON_LT);
    assert_int_equal(first->conditions[1].value, 20);
    assert_string_equal(endpoint->rules[0].target.model, "claude-x");
    assert_string_equal(second->decision, "rule-2");
    assert_int_equal(second->conditions[0].value, 90 * ROUTING_PCT + ROUTING_PCT / 2);
    assert_int_equal(second->conditions[1].fact, FACT_STREAMING);
    assert_int_equal(second->conditions[1].value, 0);
    assert_string_equal(endpoint->rules[1].target.credential->name, "spare");
    assert_int_equal(third->conditions[0].from_minute, 22 * 60);
    assert_int_equal(third->conditions[0].to_minute, 6 * 60);
    assert_string_equal(endpoint->rules[2].target.model, "gpt-4o");
    assert_int_equal(last->conditions_count, 0);
    assert_string_equal(endpoint->rules[3].target.model, "gpt-4o-mini");
}

/* One rule each: its `when`, and what is said of it. */
static void mistakes_in_conditions(void **state)
{
    struct config_folder *folder = *state;
    static const struct {
        const char *when, *report;
    } cases[] = {
        {"input_tokens: 1000", "when.input_tokens: must be a comparison (>=, >, <=, < or ==) with "
                               "a whole number, such as "
                               "\">= 1000\", not \"1000\"\n"},
        {"input_tokens: \"=> 1000\"", "when.input_tokens: must be a comparison (>=, >, <=, < or "
                                      "==) with a whole number, such as "
                                      "\">= 1000\", not \"=> 1000\"\n"},
        {"input_tokens: \">= 1.5\"", "when.input_tokens: must be a comparison (>=, >, <=, < or ==) "
                                     "with a whole number, such as "
                                     "\">= 1000\", not \">= 1.5\"\n"},
        {"monthly_spend_pct: \">= 90%\"", "when.monthly_spend_pct: must be a comparison (>=, >, "
                                          "<=, < or ==) with a percentage, such "
                                          "as \">= 90\", not \">= 90%\"\n"},
        {"input_tokens: \"< 0\"", "when.input_tokens: can never hold: nothing is less than 0\n"},
        {"messages_count: \">= 0\"", "when.messages_count: holds always: leave it out\n"},
        {"monthly_spend_pct: \"> 100\"",
         "when.monthly_spend_pct: can never hold: no more than 100 % of a budget is spent\n"},
        {"time_of_day: \"22:00-22:00\"", "when.time_of_day: can never hold: it ends when it "
                                         "begins; 00:00-24:00 is the whole day\n"},
        {"time_of_day: \"24:00-06:00\"",
         "when.time_of_day: must be two times of a day, such as \"22:00-06:00\", not "
         "\"24:00-06:00\"\n"},
        {"time_of_day: \"22:60-06:00\"",
         "when.time_of_day: must be two times of a day, such as \"22:00-06:00\", not "
         "\"22:60-06:00\"\n"},
        {"streaming: true", "when.streaming: never holds: streaming_enabled is false\n"},
        {"has_output_schema: true",
         "when.has_output_schema: never holds: the endpoint has no output_schema\n"},
        {"has_input_schema: true",
         "when.has_input_schema: never holds: the endpoint has no input_schema\n"},
        {"colour: red",
         "when.colour: unknown key; known here are input_tokens, messages_count, "
         "monthly_spend_pct, has_output_schema, has_input_schema, streaming, time_of_day\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char keys[512];
        snprintf(keys, sizeof keys,
                 "    budget: { monthly_usd: 5 }\n    routing:\n      rules: [ { when: { %s } } ]",
                 cases[i].when);
        with(folder, keys);
        folder_load(folder);
        const char *problems = folder_problems(folder);
        const char *at = strstr(problems, cases[i].report);
        if (!at || strchr(problems, '\n')[1] != '\0')
            fail_msg("%s: %s", cases[i].when, problems);
    }
    with(folder, "    routing: { rules: [ { when: { monthly_spend_pct: \">= 90\" } } ] }");
    folder_expect(folder, "projects.d/demo.yaml:9:54: "
                          "endpoints.a.routing.rules[0].when.monthly_spend_pct: needs a budget of "
                          "the endpoint's own: budget.monthly_usd is not set\n");
    with(folder, "    routing: { rules: [ { decision: \"a b\" } ] }");
    folder_expect(folder,
                  "projects.d/demo.yaml:9:37: endpoints.a.routing.rules[0].decision: must be "
                  "letters, digits, -, _ and ., for it becomes a header\n");
}

/* The first rule, the second, and whether the second is never reached. */
static void rules_that_are_never_reached(void **state)
{
    struct config_folder *folder = *state;
    static const struct {
        const char *first, *second;
        bool is_reached;
    } cases[] = {
        {"", "streaming: false", false},
        {"streaming: false", "", true},
        {"input_tokens: \">= 10\"", "input_tokens: \">= 11\"", false},
        {"input_tokens: \">= 10\"", "input_tokens: \"> 9\"", false},
        {"input_tokens: \">= 10\"", "input_tokens: \"> 8\"", true},
        {"input_tokens: \"<= 10\"", "input_tokens: \"== 10\"", false},
        {"input_tokens: \"< 10\"", "input_tokens: \"== 10\"", true},
        {"input_tokens: \">= 10\"", "messages_count: \">= 10\"", true},
        {"input_tokens: \">= 10\"", "input_tokens: \">= 10\", streaming: false", false},
        {"input_tokens: \">= 10\", streaming: false", "input_tokens: \">= 10\"", true},
        {"streaming: false", "streaming: true", true},
        {"time_of_day: \"21:00-07:00\"", "time_of_day: \"22:00-06:00\"", false},
        {"time_of_day: \"22:00-06:00\"", "time_of_day: \"21:00-07:00\"", true},
        {"time_of_day: \"00:00-24:00\"", "time_of_day: \"21:00-07:00\"", false},
        {"monthly_spend_pct: \">= 90\"", "monthly_spend_pct: \"> 90\"", false},
        {"monthly_spend_pct: \"> 90\"", "monthly_spend_pct: \">= 90\"", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char keys[512];
        snprintf(keys, sizeof keys,
                 "    budget: { monthly_usd: 5 }\n    streaming_enabled: true\n    routing:\n"
                 "      rules:\n        - when: { %s }\n        - when: { %s }",
                 cases[i].first, cases[i].second);
        with(folder, keys);
        folder_expect(folder,
                      cases[i].is_reached
                          ? ""
                          : "projects.d/demo.yaml:14:11: warning: endpoints.a.routing.rules[1]: is "
                            "never reached: the rule in line 13 holds wherever this one does\n");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, folder_setup, folder_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chain_of_targets),           TEST(mistakes_in_a_chain),
        TEST(rules_become_conditions),      TEST(mistakes_in_conditions),
        TEST(rules_that_are_never_reached),
    };
    return cmocka_run_group_tests_name("routing", tests, NULL, NULL);
}
