#include "test/unit/config_folder.h"

#include "shared/base/buf.h"

/* A key that is commented out, "#key" or "#  key"; words for people are "# words". */
static bool is_commented_key(const char *at)
{
    return at[0] == '#' && at[1] != '\n' && (at[1] != ' ' || at[2] == ' ');
}

/* Copies a sample, with the keys that are commented out taken in when `uncomment`. */
static void copy_sample(const struct config_folder *folder, const char *sample, const char *name,
                        bool uncomment)
{
    char line[512];
    struct buf text = {0};
    FILE *file = fopen(sample, "r");
    assert_non_null(file);
    while (fgets(line, sizeof line, file)) {
        char *at = line + strspn(line, " ");
        if (uncomment && is_commented_key(at))
            memmove(at, at + 1, strlen(at));
        buf_puts(&text, line);
    }
    fclose(file);
    folder_write(folder, name, buf_cstr(&text));
    buf_free(&text);
}

static void copy_all(const struct config_folder *folder, bool uncomment)
{
    copy_sample(folder, "etc/promptgate.yaml", "promptgate.yaml", uncomment);
    copy_sample(folder, "etc/models.yaml", "models.yaml", false);
    copy_sample(folder, "etc/credentials.d/openai-main.yaml.example",
                "credentials.d/openai-main.yaml", uncomment);
    copy_sample(folder, "etc/templates.d/fast.yaml.example", "templates.d/fast.yaml", uncomment);
    copy_sample(folder, "etc/projects.d/demo.yaml.example", "projects.d/demo.yaml", uncomment);
    copy_sample(folder, "etc/tokens.d/web.yaml.example", "tokens.d/web.yaml", uncomment);
}

static void the_samples_are_right(void **state)
{
    struct config_folder *folder = *state;
    setenv("OPENAI_API_KEY", "sk-sample", 1);
    copy_all(folder, false);
    folder_expect_ok(folder);
    assert_int_equal(folder->config->projects_count, 1);
    assert_int_equal(folder->config->tokens_count, 1);
    copy_all(folder, true);
    folder_expect_ok(folder);
    assert_int_equal(folder->config->tokens[0].endpoints_count, 1);
    unsetenv("OPENAI_API_KEY");
}

/* As installed, before anything is renamed. */
static void the_folder_as_it_is_installed(void **state)
{
    (void)state;
    struct config_report report = {0};
    struct config *config = config_load("etc", &report);
    assert_non_null(config);
    assert_int_equal(report.warnings, 0);
    assert_int_equal(config->projects_count, 0);
    config_free(&config);
    config_report_free(&report);
}

/* The commented lines of the main file say what holds without them. */
static void the_main_file_shows_the_defaults(void **state)
{
    struct config_folder *folder = *state;
    struct config_report report = {0};
    copy_sample(folder, "etc/promptgate.yaml", "promptgate.yaml", true);
    assert_non_null(strstr(folder_read(folder, "promptgate.yaml"), "\n  queue: 16MiB"));
    folder_expect_ok(folder);
    struct config *plain = config_load("etc", &report), *shown = folder->config;
    assert_non_null(plain);
    assert_memory_equal(&shown->http, &plain->http, sizeof plain->http);
    assert_memory_equal(&shown->upstream, &plain->upstream, sizeof plain->upstream);
    assert_string_equal(shown->listens[0].text, plain->listens[0].text);
    assert_string_equal(shown->state_dir, plain->state_dir);
    assert_string_equal(shown->runtime_dir, plain->runtime_dir);
    assert_string_equal(shown->store.driver, plain->store.driver);
    assert_string_equal(shown->store.path, plain->store.path);
    assert_int_equal(shown->workers, plain->workers);
    assert_int_equal(shown->shutdown_timeout_ms, plain->shutdown_timeout_ms);
    assert_int_equal(shown->log_queue, plain->log_queue);
    assert_int_equal(shown->log_bodies, plain->log_bodies);
    assert_int_equal(shown->log_retention_ms, plain->log_retention_ms);
    assert_int_equal(shown->log_max_body, plain->log_max_body);
    assert_string_equal(shown->timezone, plain->timezone);
    assert_int_equal(shown->log_level, plain->log_level);
    assert_int_equal(shown->log_format, plain->log_format);
    config_free(&plain);
    config_report_free(&report);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, folder_setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_samples_are_right),
        cmocka_unit_test(the_folder_as_it_is_installed),
        TEST(the_main_file_shows_the_defaults),
    };
    return cmocka_run_group_tests_name("etc", tests, NULL, NULL);
}
