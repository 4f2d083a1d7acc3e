#include "shared/base/buf.h"
#include "test/unit/config_folder.h"

#include <arpa/inet.h>
#include <math.h>

static void assert_text(const char *text, const char *expected)
{
    assert_non_null(text);
    assert_string_equal(text, expected);
}

static void write_good(struct config_folder *folder)
{
    folder_write(folder, "promptgate.yaml", "# all defaults\n");
    folder_write(folder, "credentials.d/main.yaml",
                 "provider: openai\napi_key: file:key\nbase_url: http://127.0.0.1:9/v1/\n"
                 "headers: { X-Org: acme }\n");
    folder_write(folder, "key", "sk-secret\n");
    folder_write(folder, "projects.d/demo.yaml",
                 "id: " UUID_1 "\nname: Demo\nendpoints:\n"
                 "  zeta: { provider: echo, model: echo }\n"
                 "  sum:\n    provider: openai\n    model: gpt\n    credential: main\n"
                 "    temperature: 0.5\n    max_output_tokens: 512\n    timeout: 30s\n"
                 "    system_prompt: Be brief.\n    user_prompt: \"T: {{input}}\"\n");
    folder_write(folder, "tokens.d/web.yaml",
                 "- { project: demo, hash: " HASH_2 ", prefix: pg_live_b, endpoints: [sum],\n"
                 "    scopes: [chat, usage], expires: 2027-06-30T00:00:00Z, active: false,\n"
                 "    metadata: { a: [1, {b: c}] } }\n"
                 "- { project: demo, hash: " HASH_1 " }\n");
    folder_write(folder, "tokens.d/root.yaml", "hash: " HASH_3 "\nscopes: [admin]\n");
}

static void defaults_are_the_documented_ones(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_expect_ok(folder);
    const struct config *config = folder->config;
    assert_int_equal(config->listens_count, 1);
    assert_text(config->listens[0].text, "0.0.0.0:8080");
    assert_int_equal(ntohs(config->listens[0].address.v4.sin_port), 8080);
    assert_true(config->workers >= 1 && config->workers <= 256);
    assert_text(config->state_dir, "/var/lib/promptgate");
    assert_text(config->runtime_dir, "/run/promptgate");
    assert_text(config->store.driver, "sqlite");
    assert_text(config->store.path, "/var/lib/promptgate/promptgate.db");
    assert_int_equal(config->shutdown_timeout_ms, 30000);
    assert_int_equal(config->http.max_body, 10 << 20);
    assert_int_equal(config->http.max_header, 16 << 10);
    assert_int_equal(config->http.header_timeout_ms, 10000);
    assert_int_equal(config->http.body_timeout_ms, 30000);
    assert_int_equal(config->http.idle_timeout_ms, 75000);
    assert_int_equal(config->http.write_timeout_ms, 60000);
    assert_int_equal(config->http.backlog, 4096);
    assert_int_equal(config->http.max_connections, 0);
    assert_int_equal(config->http.trusted_proxies_count, 0);
    assert_false(config->http.trusts_local);
    assert_int_equal(config->projects[0].origins_count, 0);
    assert_int_equal(config->upstream.connect_timeout_ms, 5000);
    assert_int_equal(config->upstream.timeout_ms, 120000);
    assert_int_equal(config->upstream.first_byte_timeout_ms, 60000);
    assert_int_equal(config->upstream.max_response, 32 << 20);
    assert_int_equal(config->upstream.keepalive, 64);
    assert_null(config->upstream.ca_file);
    assert_int_equal(config->log_queue, 16 << 20);
    assert_int_equal(config->log_level, LOG_INFO);
    assert_int_equal(config->log_format, LOG_AUTO);
}

static void what_is_written_is_what_counts(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "promptgate.yaml",
                 "listen: [ \"127.0.0.1:0\", \"[::1]:443\", \"127.0.0.1:0\" ]\nworkers: 3\n"
                 "state_dir: /tmp/s\nstore: { driver: sqlite }\nhttp: { max_body: 1KiB }\n"
                 "upstream: { timeout: 7s, keepalive: 0 }\ngateway_logs: { queue: 64KiB }\n"
                 "log: { level: debug, format: json }\n");
    folder_expect_ok(folder);
    const struct config *config = folder->config;
    assert_int_equal(config->listens_count, 3);
    assert_int_equal(config->listens[1].address.any.sa_family, AF_INET6);
    assert_int_equal(ntohs(config->listens[1].address.v6.sin6_port), 443);
    assert_int_equal(config->workers, 3);
    assert_text(config->store.path, "/tmp/s/promptgate.db");
    assert_int_equal(config->http.max_body, 1024);
    assert_int_equal(config->http.max_header, 16 << 10);
    assert_int_equal(config->upstream.timeout_ms, 7000);
    assert_int_equal(config->upstream.keepalive, 0);
    assert_int_equal(config->log_queue, 65536);
    assert_int_equal(config->log_level, LOG_DEBUG);
    assert_int_equal(config->log_format, LOG_JSON);
}

static const struct config_project *project_of(const struct config *config, const char *id)
{
    struct uuid uuid;
    assert_true(uuid_parse(str_of(id), &uuid));
    return config_project(config, &uuid);
}

static void projects_and_endpoints_are_found(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_expect_ok(folder);
    const struct config_project *project = project_of(folder->config, UUID_1);
    assert_non_null(project);
    assert_text(project->name, "demo");
    assert_text(project->title, "Demo");
    assert_true(project->active);
    assert_null(project_of(folder->config, UUID_2));
    const struct config_endpoint *sum = config_endpoint(project, STR("sum"));
    const struct config_endpoint *zeta = config_endpoint(project, STR("zeta"));
    assert_non_null(sum);
    assert_non_null(zeta);
    assert_null(config_endpoint(project, STR("nope")));
    assert_ptr_equal(sum->project, project);
    assert_text(sum->target.model, "gpt");
    assert_text(sum->target.credential->name, "main");
    assert_text(sum->target.credential->api_key, "sk-secret");
    assert_text(sum->target.credential->base_url, "http://127.0.0.1:9/v1");
    assert_text(sum->target.credential->headers[0].name, "X-Org");
    assert_text(sum->target.credential->headers[0].value, "acme");
    assert_true(sum->target.temperature == 0.5 && isnan(sum->target.top_p));
    assert_int_equal(sum->target.max_output_tokens, 512);
    assert_int_equal(sum->target.timeout_ms, 30000);
    assert_non_null(sum->system_prompt);
    assert_int_equal(sum->user_prompt->count, 2);
    assert_text(sum->description, "");
    /* No credential was named: the provider's own. */
    assert_int_equal(zeta->target.provider, PROVIDER_ECHO);
    assert_true(zeta->target.credential->built_in);
    assert_int_equal(zeta->target.credential->provider, PROVIDER_ECHO);
    assert_null(zeta->target.credential->api_key);
    assert_text(zeta->target.credential->base_url, "");
    assert_int_equal(zeta->target.timeout_ms, 120000);
    assert_int_equal(zeta->target.max_output_tokens, 0);
    assert_null(zeta->user_prompt);
}

static void tokens_are_found_by_hash(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_expect_ok(folder);
    uint8_t hash[SHA256_BYTES];
    memset(hash, 0x22, sizeof hash);
    const struct config_token *token = folder_token(folder, hash);
    assert_non_null(token);
    assert_text(token->name, "web:pg_live_b");
    assert_int_equal(token->scopes, SCOPE_CHAT | SCOPE_USAGE);
    assert_false(token->active);
    assert_false(token->all_endpoints);
    assert_int_equal(token->endpoints_count, 1);
    assert_text(token->endpoints[0]->slug, "sum");
    assert_ptr_equal(token->endpoints[0],
                     config_endpoint(project_of(folder->config, UUID_1), STR("sum")));
    assert_int_equal(token->expires_wall_ms, 1814313600000);
    memset(hash, 0x11, sizeof hash);
    token = folder_token(folder, hash);
    assert_text(token->name, "web:2");
    assert_text(token->prefix, "");
    assert_int_equal(token->scopes, SCOPE_CHAT | SCOPE_MODELS);
    assert_true(token->active && token->all_endpoints);
    assert_true(token->expires_wall_ms == INT64_MAX);
    assert_text(token->project->name, "demo");
    memset(hash, 0x33, sizeof hash);
    token = folder_token(folder, hash);
    assert_text(token->name, "root");
    assert_null(token->project);
    hash[31] = 0;
    assert_null(folder_token(folder, hash));
}

static void many_entries_are_sorted(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "promptgate.yaml", "");
    struct buf text = {0};
    for (int i = 0; i < 40; i++) {
        char name[64];
        int scattered = i * 17 % 40;
        snprintf(name, sizeof name, "projects.d/p%d.yaml", i);
        buf_clear(&text);
        buf_printf(&text, "id: 0192f0c1-7e7a-7cc3-98c4-dc0c0c0739%02d\nendpoints:\n", scattered);
        for (int j = 0; j < 20; j++)
            buf_printf(&text, "  e%d: { provider: echo, model: m%d }\n", j * 7 % 20, i);
        folder_write(folder, name, buf_cstr(&text));
        snprintf(name, sizeof name, "tokens.d/t%d.yaml", i);
        buf_clear(&text);
        buf_printf(&text, "project: p%d\nhash: sha256:%02d%062d\n", i, scattered, 0);
        folder_write(folder, name, buf_cstr(&text));
    }
    buf_free(&text);
    folder_expect_ok(folder);
    for (int i = 0; i < 40; i++) {
        char id[64], name[16];
        int scattered = i * 17 % 40;
        snprintf(id, sizeof id, "0192f0c1-7e7a-7cc3-98c4-dc0c0c0739%02d", scattered);
        snprintf(name, sizeof name, "p%d", i);
        const struct config_project *project = project_of(folder->config, id);
        assert_text(project->name, name);
        for (int j = 0; j < 20; j++) {
            char slug[16];
            snprintf(slug, sizeof slug, "e%d", j);
            assert_ptr_equal(config_endpoint(project, str_of(slug))->project, project);
        }
        uint8_t hash[SHA256_BYTES] = {0};
        hash[0] = (uint8_t)(scattered / 10 << 4 | scattered % 10);
        assert_ptr_equal(folder_token(folder, hash)->project, project);
    }
}

static void ten_mistakes_are_ten_reports(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "promptgate.yaml",
                 "listen: localhost:8080\n"
                 "http:\n"
                 "  max_bdy: 10MiB\n"
                 "  idle_timeout: 75\n");
    folder_write(folder, "credentials.d/main.yaml",
                 "provider: opanai\napi_key: env:PROMPTGATE_TEST_UNSET\n");
    folder_write(folder, "projects.d/demo.yaml",
                 "id: " UUID_1 "\n"
                 "endpoints:\n"
                 "  sum:\n"
                 "    provider: openai\n"
                 "    model: gpt\n"
                 "    credential: mian\n"
                 "    system_prompt: |\n"
                 "      Speak \xC3\xA9 {{language}}.\n"
                 "  chat: { provider: echo, model: echo }\n");
    folder_write(folder, "projects.d/torn.yaml", "id: [\n");
    folder_write(folder, "tokens.d/root.yaml",
                 "project: demo\nhash: " HASH_3 "\nhash: " HASH_3 "\nendpoints: [sum]\n");
    folder_expect(
        folder,
        "promptgate.yaml:1:9: listen: must be HOST:PORT with a numeric address, such as "
        "0.0.0.0:8080 or [::]:8080, or unix: and an absolute path of at most 107 bytes, not "
        "\"localhost:8080\"\n"
        "promptgate.yaml:3:3: http.max_bdy: unknown key; did you mean max_body?\n"
        "promptgate.yaml:4:17: http.idle_timeout: must be a time with its unit: ms, s, m, h or d, "
        "from 1ms to 1d, not 75\n"
        "credentials.d/main.yaml:1:11: provider: must be one of openai, anthropic, gemini, "
        "mistral, "
        "groq, together, ollama, cohere, "
        "echo, not \"opanai\"; did "
        "you mean openai?\n"
        "credentials.d/main.yaml:2:10: api_key: the environment variable PROMPTGATE_TEST_UNSET is "
        "not set\n"
        "projects.d/demo.yaml:6:17: endpoints.sum.credential: there is no credentials.d/mian.yaml; "
        "did you mean main?\n"
        "projects.d/demo.yaml:8:15: endpoints.sum.system_prompt: {{language}}: unknown name: a "
        "template knows {{input}}, its members and the endpoint's variables\n"
        "projects.d/demo.yaml:9:3: endpoints.\"chat\": is the name of a route: choose another "
        "slug\n"
        "projects.d/torn.yaml:2:1: not valid YAML: did not find expected node content, while "
        "parsing a flow node from line 2 on\n"
        "tokens.d/root.yaml:3:1: the key \"hash\" is there twice: first on line 2, column 1\n");
    assert_int_equal(folder->report.errors, 10);
    assert_int_equal(folder->report.warnings, 0);
}

/* The reference is right: only what it leads to is wrong. */
static void broken_things_are_reported_once(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "credentials.d/main.yaml", "a: [\n");
    folder_load(folder);
    assert_int_equal(folder->report.errors, 1);
    write_good(folder);
    folder_write(folder, "projects.d/demo.yaml", "a: [\n");
    folder_load(folder);
    assert_int_equal(folder->report.errors, 1);
    write_good(folder);
    folder_write(folder, "projects.d/demo.yaml",
                 "id: nonsense\nendpoints: { sum: { provider: echo } }\n");
    folder_expect(folder, "projects.d/demo.yaml:1:5: id: must be a UUID such as "
                          "0192f0c1-7e7a-7cc3-98c4-dc0c0c07398f, not \"nonsense\"\n"
                          "projects.d/demo.yaml:2:14: endpoints.sum.model: missing: it must be a "
                          "text, 1 to 256 bytes long\n");
    write_good(folder);
    folder_write(folder, "projects.d/demo.yaml", "id: " UUID_1 "\nendpoints: 5\n");
    folder_expect(folder, "projects.d/demo.yaml:2:12: endpoints: must be a mapping, not 5\n");
}

static void names_that_lead_nowhere(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "projects.d/demo.yaml",
                 "id: " UUID_1 "\nendpoints:\n"
                 "  sum: { provider: openai, model: m }\n"
                 "  two: { provider: echo, model: m, credential: main }\n"
                 "  bad: { provider: echo, model: m, credential: other }\n");
    folder_write(folder, "tokens.d/web.yaml",
                 "- { project: dmeo, hash: " HASH_1 " }\n"
                 "- { project: demo, hash: " HASH_2 ", endpoints: [sum, sun] }\n");
    folder_expect(
        folder,
        "projects.d/demo.yaml:3:3: endpoints.sum.credential: missing: openai needs a key, so a "
        "file of credentials.d must be named\n"
        "projects.d/demo.yaml:4:48: endpoints.two.credential: is a credential of openai, but the "
        "endpoint's provider is echo\n"
        "projects.d/demo.yaml:5:48: endpoints.bad.credential: there is no "
        "credentials.d/other.yaml; there is only main\n"
        "tokens.d/web.yaml:1:14: [0].project: there is no projects.d/dmeo.yaml; did you mean "
        "demo?\n"
        "tokens.d/web.yaml:2:116: [1].endpoints: project demo has no endpoint \"sun\"; did you "
        "mean sum?\n");
}

static void what_is_there_twice_names_both_places(void **state)
{
    struct config_folder *folder = *state;
    char expected[1024];
    write_good(folder);
    folder_write(folder, "projects.d/copy.yaml", "id: " UUID_1 "\n");
    folder_write(folder, "tokens.d/a.yaml", "project: copy\nhash: " HASH_3 "\n");
    snprintf(expected, sizeof expected,
             "projects.d/demo.yaml:1:5: id: is the id of the project at %s/projects.d/"
             "copy.yaml:1:5 already: give this one another\n"
             "tokens.d/root.yaml:1:7: hash: is the hash of a token at %s/tokens.d/a.yaml:2:7 "
             "already: remove one of them\n",
             folder->path, folder->path);
    folder_expect(folder, expected);
}

static void proxies_and_origins(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "promptgate.yaml",
                 "http: { trusted_proxies: [10.0.0.0/8, \"::1\", unix], max_connections: 7 }\n");
    folder_write(folder, "projects.d/web.yaml",
                 "id: " UUID_2 "\ncors: { origins: [https://a.example, \"http://[::1]:3000\"] }\n");
    folder_expect_ok(folder);
    const struct config_http *http = &folder->config->http;
    assert_int_equal(http->trusted_proxies_count, 2);
    assert_int_equal(http->trusted_proxies[0].bits, 104);
    assert_true(http->trusts_local);
    assert_int_equal(http->max_connections, 7);
    const struct config_project *project = project_of(folder->config, UUID_2);
    assert_int_equal(project->origins_count, 2);
    assert_text(project->origins[1], "http://[::1]:3000");

    folder_write(folder, "promptgate.yaml",
                 "http:\n  trusted_proxies: [10.0.0.1/8, localhost, 7]\n  max_connections: 0\n");
    folder_write(folder, "projects.d/web.yaml",
                 "id: " UUID_2
                 "\ncors: { origins: [\"*\", https://A.example, https://a/x, null] }\n");
    folder_expect(
        folder,
        "promptgate.yaml:2:21: http.trusted_proxies: must be networks such as 10.0.0.0/8 or ::1, "
        "whose bits behind the prefix are 0, or unix; not \"10.0.0.1/8\"\n"
        "promptgate.yaml:2:33: http.trusted_proxies: must be networks such as 10.0.0.0/8 or ::1, "
        "whose bits behind the prefix are 0, or unix; not \"localhost\"\n"
        "promptgate.yaml:2:44: http.trusted_proxies: must be networks such as 10.0.0.0/8 or ::1, "
        "whose bits behind the prefix are 0, or unix; not 7\n"
        "promptgate.yaml:3:20: http.max_connections: must be auto or a whole number, from 1 to "
        "1000000, not 0\n"
        "projects.d/web.yaml:2:19: cors.origins: must be origins such as https://app.example.com, "
        "in lower case and without a path, not \"*\"\n"
        "projects.d/web.yaml:2:24: cors.origins: must be origins such as https://app.example.com, "
        "in lower case and without a path, not \"https://A.example\"\n"
        "projects.d/web.yaml:2:43: cors.origins: must be origins such as https://app.example.com, "
        "in lower case and without a path, not \"https://a/x\"\n"
        "projects.d/web.yaml:2:56: cors.origins: must be origins such as https://app.example.com, "
        "in lower case and without a path, not null\n");
}

static void projects_of_tokens(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "tokens.d/root.yaml",
                 "- { hash: " HASH_3 ", scopes: [admin, chat] }\n"
                 "- { project: null, scopes: [admin], endpoints: [sum],\n"
                 "    hash: sha256:"
                 "4444444444444444444444444444444444444444444444444444444444444444 }\n"
                 "- { hash: 5, project: demo, endpoints: null, scopes: [] }\n"
                 "- { hash: 5, scopes: [Chat], project: 1 }\n");
    folder_expect(
        folder,
        "tokens.d/root.yaml:1:3: [0].project: missing: a file of projects.d must be named, unless "
        "scopes is [admin]\n"
        "tokens.d/root.yaml:2:48: [1].endpoints: a token without a project has no endpoints: leave "
        "the key out\n"
        "tokens.d/root.yaml:4:11: [2].hash: must be sha256: and 64 hexadecimal digits, not what "
        "stands here\n"
        "tokens.d/root.yaml:4:40: [2].endpoints: must be a list, not null; leave the key out for "
        "the default, all of the project\n"
        "tokens.d/root.yaml:4:54: [2].scopes: must name at least one of chat, models, usage, "
        "admin\n"
        "tokens.d/root.yaml:5:11: [3].hash: must be sha256: and 64 hexadecimal digits, not what "
        "stands here\n"
        "tokens.d/root.yaml:5:23: [3].scopes: a scope must be chat, models, usage or admin, not "
        "\"Chat\"; did you mean chat?\n"
        "tokens.d/root.yaml:5:39: [3].project: must be a name of lower-case letters, digits, - and "
        "_, not 1; put it in quotes\n");
}

/* Runs one credential with the given lines and returns what is said of it. */
static const char *credential(struct config_folder *folder, const char *lines)
{
    write_good(folder);
    folder_write(folder, "credentials.d/main.yaml", lines);
    folder_load(folder);
    return folder_problems(folder);
}

static void keys_are_opened(void **state)
{
    struct config_folder *folder = *state;
    setenv("PROMPTGATE_TEST_KEY", "sk-env", 1);
    assert_string_equal(credential(folder, "provider: openai\napi_key: env:PROMPTGATE_TEST_KEY\n"),
                        "");
    assert_text(folder->config->credentials[0].api_key, "sk-env");
    assert_text(folder->config->credentials[0].base_url, "https://api.openai.com/v1");
    unsetenv("PROMPTGATE_TEST_KEY");
    assert_string_equal(credential(folder, "provider: openai\napi_key: sk-plain\n"),
                        "credentials.d/main.yaml:2:10: warning: api_key: the key itself stands in "
                        "this file and in every "
                        "process's memory: seal it with `promptgate credential add`, or use "
                        "file:PATH or env:NAME\n");
    assert_int_equal(folder->report.warnings, 1);
    assert_text(folder->config->credentials[0].api_key, "sk-plain");
    assert_string_equal(credential(folder, "provider: openai\n"),
                        "credentials.d/main.yaml:1:1: api_key: missing: openai needs a key, "
                        "sealed with `promptgate credential add`, or as env:NAME or file:PATH\n");
    assert_non_null(
        strstr(credential(folder, "provider: openai\napi_key: file:nope\n"), "api_key: the file"));
}

/* Finds `text` anywhere in this process's environment. */
static bool environment_holds(const char *text)
{
    for (char **variable = environ; *variable; variable++)
        if (strstr(*variable, text))
            return true;
    return false;
}

static void keys_live_in_secret_memory(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "other", "sk-from-file\n");
    assert_string_equal(credential(folder, "provider: openai\napi_key: file:other\n"), "");
    const struct config *config = folder->config;
    assert_text(config->credentials[0].api_key, "sk-from-file");
    assert_true(secret_memory_holds(config->secrets, config->credentials[0].api_key));
    setenv("PROMPTGATE_TEST_KEY", "sk-from-environment", 1);
    assert_string_equal(credential(folder, "provider: openai\napi_key: env:PROMPTGATE_TEST_KEY\n"),
                        "");
    config = folder->config;
    assert_true(secret_memory_holds(config->secrets, config->credentials[0].api_key));
    unsetenv("PROMPTGATE_TEST_KEY");
}

/* The service's `store` is `lines`. */
static const char *store_of(struct config_folder *folder, const char *lines)
{
    static char text[512];
    write_good(folder);
    snprintf(text, sizeof text, "store:\n%s", lines);
    folder_write(folder, "promptgate.yaml", text);
    folder_load(folder);
    return folder_problems(folder);
}

static void the_dsn_is_a_secret(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "dsn", "host=db user=me password='two words'\n");
    assert_string_equal(store_of(folder, "  driver: postgres\n  dsn: file:dsn\n"), "");
    const struct config *config = folder->config;
    assert_text(config->store.driver, "postgres");
    assert_text(config->store.dsn, "host=db user=me password='two words'");
    assert_true(secret_memory_holds(config->store_secrets, config->store.dsn));
    assert_string_equal(store_of(folder, "  driver: postgres\n  dsn: host=/run/postgresql\n"), "");
    assert_text(folder->config->store.dsn, "host=/run/postgresql");
    const char *warned = "promptgate.yaml:3:8: warning: store.dsn: the password itself stands in "
                         "this file and in every process's memory: better file:PATH or env:NAME\n";
    assert_string_equal(store_of(folder, "  driver: postgres\n  dsn: postgresql://me:pw@db/x\n"),
                        warned);
    assert_string_equal(store_of(folder, "  driver: postgres\n  dsn: host=db password=pw\n"),
                        warned);
    assert_string_equal(store_of(folder, "  driver: postgres\n"),
                        "promptgate.yaml:1:1: store.dsn: missing: the driver postgres needs it, as "
                        "file:PATH, env:NAME or host=… dbname=… user=…\n");
    folder_write(folder, "dsn", "host=db\nuser=me\n");
    assert_string_equal(store_of(folder, "  driver: postgres\n  dsn: file:dsn\n"),
                        "promptgate.yaml:3:8: store.dsn: the text holds a line break or other "
                        "control character\n");
}

/* A reload finds what the first load took; a value that was set anew counts. */
static void variables_are_overwritten_and_remembered(void **state)
{
    static const char *const lines = "provider: openai\napi_key: env:PROMPTGATE_TEST_KEY\n";
    struct config_folder *folder = *state;
    setenv("PROMPTGATE_TEST_KEY", "sk-once-only", 1);
    for (int i = 0; i < 3; i++) {
        assert_string_equal(credential(folder, lines), "");
        assert_text(folder->config->credentials[0].api_key, "sk-once-only");
        assert_false(environment_holds("sk-once"));
    }
    setenv("PROMPTGATE_TEST_KEY", "sk-anew", 1);
    for (int i = 0; i < 2; i++) {
        assert_string_equal(credential(folder, lines), "");
        assert_text(folder->config->credentials[0].api_key, "sk-anew");
    }
    unsetenv("PROMPTGATE_TEST_KEY");
    assert_non_null(strstr(credential(folder, lines), "PROMPTGATE_TEST_KEY is not set"));
    setenv("PROMPTGATE_TEST_EMPTY", "", 1);
    assert_non_null(strstr(
        credential(folder, "provider: openai\napi_key: env:PROMPTGATE_TEST_EMPTY\n"), "is empty"));
    unsetenv("PROMPTGATE_TEST_EMPTY");
}

static void files_of_keys_are_whole_and_small(void **state)
{
    static const char *const lines = "provider: openai\napi_key: file:other\n";
    struct config_folder *folder = *state;
    struct buf text = {0};
    folder_bytes(folder, "other", "sk\0x", 4);
    assert_non_null(strstr(credential(folder, lines), "/other holds a NUL"));
    folder_write(folder, "other", "sk-1\n\n");
    assert_non_null(strstr(credential(folder, lines), "line break"));
    folder_write(folder, "other", "\n");
    assert_non_null(strstr(credential(folder, lines), "the key is empty"));
    folder_write(folder, "other", "");
    assert_non_null(strstr(credential(folder, lines), "the key is empty"));
    for (int i = 0; i < 16 << 10; i++)
        buf_putc(&text, 'k');
    folder_write(folder, "other", buf_cstr(&text));
    assert_string_equal(credential(folder, lines), "");
    assert_text(folder->config->credentials[0].api_key, buf_cstr(&text));
    buf_putc(&text, 'k');
    folder_write(folder, "other", buf_cstr(&text));
    assert_non_null(strstr(credential(folder, lines), "/other is too large: 16 KiB at most"));
    buf_free(&text);
    unlink(folder_path(folder, "other"));
    mkdir(folder_path(folder, "other"), 0750);
    assert_non_null(strstr(credential(folder, lines), "/other is not a regular file"));
}

static const char *service(struct config_folder *folder, const char *lines)
{
    folder_write(folder, "promptgate.yaml", lines);
    folder_load(folder);
    return folder_problems(folder);
}

static void unix_sockets_are_listened_on(void **state)
{
    struct config_folder *folder = *state;
    char line[256], path[120];
    assert_string_equal(service(folder, "listen: [ unix:/run/a.sock, \"[::1]:1\" ]\n"), "");
    const struct config_listen *listen = &folder->config->listens[0];
    assert_int_equal(listen->address.any.sa_family, AF_UNIX);
    assert_text(listen->address.local.sun_path, "/run/a.sock");
    assert_text(listen->text, "unix:/run/a.sock");
    memset(path, 'p', sizeof path);
    path[0] = '/';
    snprintf(line, sizeof line, "listen: unix:%.107s\n", path);
    assert_string_equal(service(folder, line), "");
    snprintf(line, sizeof line, "listen: unix:%.108s\n", path);
    assert_non_null(strstr(service(folder, line), "listen: must be HOST:PORT"));
    static const char *const wrong[] = {"\"unix:\"", "unix:run/a.sock", "unix:/", "unix:/run/",
                                        "\"unix:/a\\u0001\""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(line, sizeof line, "listen: %s\n", wrong[i]);
        assert_non_null(strstr(service(folder, line), "listen: must be HOST:PORT"));
    }
    assert_string_equal(service(folder, "listen: [ unix:/a, unix:/b, unix:/a ]\n"),
                        "promptgate.yaml:1:29: listen: unix:/a is there twice: name each address "
                        "once\n");
}

static void users_and_groups_must_be_there(void **state)
{
    struct config_folder *folder = *state;
    assert_string_equal(service(folder, "user: root\ngroup: root\n"), "");
    assert_text(folder->config->user, "root");
    assert_text(folder->config->group, "root");
    assert_string_equal(service(folder, "user: \"54321\"\n"), "");
    assert_null(folder->config->group);
    assert_string_equal(service(folder, "user: no-such-user\n"),
                        "promptgate.yaml:1:7: user: there is no user no-such-user on this host\n");
    assert_string_equal(service(folder, "user: root\ngroup: no-such-group\n"),
                        "promptgate.yaml:2:8: group: there is no group no-such-group on this "
                        "host\n");
    assert_string_equal(service(folder, "group: root\n"),
                        "promptgate.yaml:1:8: group: needs user: name both, or neither\n");
}

/* No report may hold a key, or a part of it. */
static void keys_are_never_shown(void **state)
{
    struct config_folder *folder = *state;
    assert_null(strstr(credential(folder, "provider: openai\napi_key: \"geheim 1\"\n"), "geheim"));
    assert_int_equal(folder->report.errors, 1);
    assert_null(strstr(credential(folder, "provider: openai\napi_key: 123456\n"), "123456"));
    assert_int_equal(folder->report.errors, 1);
    assert_null(strstr(credential(folder, "provider: openai\napi_key: [geheim]\n"), "geheim"));
    assert_int_equal(folder->report.errors, 1);
    write_good(folder);
    folder_write(folder, "key", "geheim\nzwei\n");
    folder_load(folder);
    assert_int_equal(folder->report.errors, 1);
    assert_null(strstr(folder_problems(folder), "geheim"));
}

static void headers_cannot_be_injected(void **state)
{
    struct config_folder *folder = *state;
    assert_string_equal(
        credential(folder, "provider: echo\nheaders:\n  A: \"x\\r\\nB: y\"\n  \"C\\n\": x\n"
                           "  Content-Length: \"3\"\n  D: 5\n  E: fine\n  authorization: Bearer x\n"
                           "  Accept-Encoding: gzip\n"),
        "credentials.d/main.yaml:3:3: headers.\"A\": holds a line break or control character, "
        "which a header cannot carry\n"
        "credentials.d/main.yaml:4:3: headers.\"C?\": is not a header's name: letters, digits and "
        "!#$%&'*+-.^_`|~ alone\n"
        "credentials.d/main.yaml:5:3: headers.\"Content-Length\": is set by the gateway itself: "
        "leave it out\n"
        "credentials.d/main.yaml:6:3: headers.\"D\": must be a text; put it in quotes\n"
        "credentials.d/main.yaml:8:3: headers.\"authorization\": is set by the gateway itself: "
        "leave it out\n"
        "credentials.d/main.yaml:9:3: headers.\"Accept-Encoding\": is set by the gateway itself: "
        "leave it out\n"
        "projects.d/demo.yaml:8:17: endpoints.sum.credential: is a credential of echo, but the "
        "endpoint's provider is openai\n");
}

static void headers_are_counted(void **state)
{
    struct config_folder *folder = *state;
    struct buf yaml = {0};
    buf_puts(&yaml, "provider: openai\napi_key: k\nheaders:\n");
    for (int i = 0; i < CONFIG_HEADERS_MAX; i++)
        buf_printf(&yaml, "  H%d: x\n", i);
    assert_null(strstr(credential(folder, buf_cstr(&yaml)), "too many"));
    buf_puts(&yaml, "  More: x\n");
    assert_non_null(strstr(credential(folder, buf_cstr(&yaml)),
                           "credentials.d/main.yaml:4:3: headers: are too many: 20 at most\n"));
    buf_free(&yaml);
}

static void prompts_are_pointed_into(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "projects.d/demo.yaml",
                 "id: " UUID_1 "\nendpoints:\n  sum:\n    provider: echo\n    model: m\n"
                 "    system_prompt: >- # a {{ in a comment\n\n"
                 "      One {{input}}\n      two {{a}} {{{{ {{input..x}}\n"
                 "    user_prompt: 'it''s {{b}}'\n");
    folder_expect(folder,
                  "projects.d/demo.yaml:9:11: endpoints.sum.system_prompt: {{a}}: unknown name: a "
                  "template knows {{input}}, its members and the endpoint's variables\n"
                  "projects.d/demo.yaml:9:22: endpoints.sum.system_prompt: {{input..x}}: an empty "
                  "step in the path\n"
                  "projects.d/demo.yaml:10:25: endpoints.sum.user_prompt: {{b}}: unknown name: a "
                  "template knows {{input}}, its members and the endpoint's variables\n");
}

static void types_are_checked(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "promptgate.yaml",
                 "state_dir: run\nlog: info\nworkers: \"2\"\nhttp:\nstore: { driver: mysql }\n"
                 "upstream: { keepalive: \"5\", ca_file: /nonexistent/ca.pem }\nadmin: null\n"
                 "shutdown_timeout: null\nmax_body: 1\nlisten: []\nruntime_dir: no\n"
                 "gateway_logs: { queue: 1e6 }\ntimezone: Europe/Berlni\n");
    folder_expect(
        folder,
        "promptgate.yaml:1:12: state_dir: must be an absolute path, not \"run\"\n"
        "promptgate.yaml:2:6: log: must be a mapping of keys, not \"info\"\n"
        "promptgate.yaml:5:18: store.driver: must be one of sqlite, postgres, not \"mysql\"\n"
        "promptgate.yaml:6:24: upstream.keepalive: must be a whole number, from 0 to 10000, not "
        "\"5\"\n"
        "promptgate.yaml:6:38: upstream.ca_file: the file /nonexistent/ca.pem cannot be read: No "
        "such file or directory\n"
        "promptgate.yaml:7:1: admin: unknown key; known here are listen, user, group, workers, "
        "state_dir, runtime_dir, timezone, shutdown_timeout, store, http, upstream, "
        "gateway_logs, budget_wait, log\n"
        "promptgate.yaml:8:19: shutdown_timeout: must be a time with its unit: ms, s, m, h or d, "
        "from 0s to 1h, not null; leave the key out for the default, 30s\n"
        "promptgate.yaml:9:1: max_body: unknown key; did you mean http.max_body?\n"
        "promptgate.yaml:10:9: listen: must name at least one address, such as 0.0.0.0:8080\n"
        "promptgate.yaml:11:14: runtime_dir: must be an absolute path, not \"no\"\n"
        "promptgate.yaml:12:24: gateway_logs.queue: must be a size in bytes, or with KiB, MiB or "
        "GiB, from 64KiB to 1GiB, not \"1e6\"\n"
        "promptgate.yaml:13:11: timezone: must be a time zone that this host knows, such as UTC or "
        "Europe/Berlin (a file of /usr/share/zoneinfo), not \"Europe/Berlni\"\n");
}

static void files_and_folders(void **state)
{
    struct config_folder *folder = *state;
    write_good(folder);
    folder_write(folder, "tokens.d/.hidden.yaml", "nonsense");
    folder_write(folder, "tokens.d/web.yaml~", "nonsense");
    folder_write(folder, "projects.d/demo.yaml.example", "nonsense");
    folder_expect_ok(folder);
    folder_write(folder, "modules.yaml", "");
    folder_write(folder, "project.d", "");
    folder_expect(folder, "modules.yaml: warning: nothing reads this; did you mean models.yaml?\n"
                          "project.d: warning: nothing reads this; did you mean projects.d?\n");
    assert_int_equal(folder->report.warnings, 2);
    assert_non_null(folder->config);
    unlink(folder_path(folder, "modules.yaml"));
    unlink(folder_path(folder, "project.d"));
    folder_write(folder, "tokens.d/Web.yaml", "scopes: [admin]\nhash: " HASH_OF("4444") "\n");
    mkdir(folder_path(folder, "tokens.d/dir.yaml"), 0700);
    unlink(folder_path(folder, "promptgate.yaml"));
    folder_expect(folder, "promptgate.yaml: cannot be read: No such file or directory\n"
                          "tokens.d/Web.yaml: the name before .yaml must be lower-case letters, "
                          "digits, - and _, begin with a letter or digit, and be at most 64 long\n"
                          "tokens.d/dir.yaml: is not a regular file\n");
}

static void a_lone_main_file_is_enough(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "promptgate.yaml", "http:\n  # nothing set\nlog: {}\n");
    rmdir(folder_path(folder, "credentials.d"));
    rmdir(folder_path(folder, "projects.d"));
    rmdir(folder_path(folder, "tokens.d"));
    folder_expect_ok(folder);
    assert_int_equal(folder->config->projects_count, 0);
    struct config_report report = {0};
    assert_null(config_load(folder_path(folder, "none"), &report));
    assert_int_equal(report.errors, 1);
    assert_null(report.first->next);
    config_report_free(&report);
}

static void the_service_alone(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "promptgate.yaml", "store: { path: /srv/rows.db }\n");
    folder_write(folder, "credentials.d/main.yaml", "provider: openai\napi_key: env:NOWHERE_SET\n");
    folder_write(folder, "projects.d/half.yaml", "id: [");
    struct config_report report = {0};
    struct config *config = config_load_service(folder->path, &report);
    assert_non_null(config);
    assert_null(report.first);
    assert_text(config->store.path, "/srv/rows.db");
    assert_int_equal(config->projects_count, 0);
    config_free(&config);
    config_report_free(&report);
    folder_write(folder, "promptgate.yaml", "store: { pth: /srv/rows.db }\n");
    assert_null(config_load_service(folder->path, &report));
    assert_int_equal(report.errors, 1);
    config_report_free(&report);
}

static void absurd_numbers_are_cut(void **state)
{
    struct config_folder *folder = *state;
    struct buf text = {0};
    for (int i = 0; i < 500; i++)
        buf_printf(&text, "zzzzzzzzzz%d: 1\n", i);
    folder_write(folder, "promptgate.yaml", buf_cstr(&text));
    buf_free(&text);
    folder_load(folder);
    unsigned lines = 0;
    for (const struct config_problem *p = folder->report.first; p; p = p->next)
        lines++;
    assert_int_equal(lines, 201);
    assert_int_equal(folder->report.errors, 500);
    assert_string_equal(folder->report.last->text, "and 300 more problems");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(defaults_are_the_documented_ones),
        TEST(what_is_written_is_what_counts),
        TEST(projects_and_endpoints_are_found),
        TEST(tokens_are_found_by_hash),
        TEST(many_entries_are_sorted),
        TEST(ten_mistakes_are_ten_reports),
        TEST(broken_things_are_reported_once),
        TEST(names_that_lead_nowhere),
        TEST(what_is_there_twice_names_both_places),
        TEST(proxies_and_origins),
        TEST(projects_of_tokens),
        TEST(keys_are_opened),
        TEST(keys_live_in_secret_memory),
        TEST(the_dsn_is_a_secret),
        TEST(variables_are_overwritten_and_remembered),
        TEST(files_of_keys_are_whole_and_small),
        TEST(unix_sockets_are_listened_on),
        TEST(users_and_groups_must_be_there),
        TEST(keys_are_never_shown),
        TEST(headers_cannot_be_injected),
        TEST(headers_are_counted),
        TEST(prompts_are_pointed_into),
        TEST(types_are_checked),
        TEST(files_and_folders),
        TEST(a_lone_main_file_is_enough),
        TEST(the_service_alone),
        TEST(absurd_numbers_are_cut),
    };
    return cmocka_run_group_tests_name("config_load", tests, NULL, NULL);
}
