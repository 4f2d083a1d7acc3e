/* Sealed keys: what is sealed is opened by who has the secret half, and by nobody else; the pair
 * can be changed. */
#include "master/config/key_pair.h"
#include "master/config/secret.h"

#include "test/unit/config_folder.h"

#include <sodium.h>
#include <sys/wait.h>

static int set_up(void **state)
{
    unsetenv("PROMPTGATE_SECRET_KEY");
    unsetenv("CREDENTIALS_DIRECTORY");
    int status = folder_setup(state);
    folder_write(*state, "promptgate.yaml", "listen: 127.0.0.1:0\n");
    return status;
}

static void make_pair(const struct config_folder *folder)
{
    struct error error;
    enum key_pair_made made;
    if (!key_pair_make(folder->path, &made, &error))
        fail_msg("%s", error.message);
    assert_int_equal(made, KEY_PAIR_MADE);
}

/* "api_key: sealed:…" of the folder's pair. */
static void write_sealed(const struct config_folder *folder, const char *name, const char *secret)
{
    struct sealing_public key;
    struct error error;
    struct buf text = {0};
    if (!key_pair_public(folder->path, &key, &error))
        fail_msg("%s", error.message);
    buf_puts(&text, "# keep me\nprovider: openai\napi_key: ");
    sealed_write(&key, str_of(secret), &text);
    buf_puts(&text, " # and me\n");
    folder_write(folder, name, buf_cstr(&text));
    buf_free(&text);
}

static void expect_key(struct config_folder *folder, size_t place, const char *key)
{
    folder_expect_ok(folder);
    assert_string_equal(folder->config->credentials[place].api_key, key);
    assert_true(
        secret_memory_holds(folder->config->secrets, folder->config->credentials[place].api_key));
}

static void a_sealed_key_is_opened(void **state)
{
    struct config_folder *folder = *state;
    make_pair(folder);
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    assert_null(strstr(folder_read(folder, "credentials.d/main.yaml"), "sk-sealed"));
    expect_key(folder, 0, "sk-sealed");
}

static void files_have_their_modes(void **state)
{
    struct config_folder *folder = *state;
    struct stat status;
    make_pair(folder);
    assert_int_equal(stat(folder_path(folder, "secret.key"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(stat(folder_path(folder, "secret.pub"), &status), 0);
    assert_int_equal(status.st_mode & 0777, 0644);
    folder_expect_ok(folder);
    chmod(folder_path(folder, "secret.key"), 0640);
    folder_expect(folder,
                  "secret.key: warning: others than its owner may read it (mode 0640): 0600 is "
                  "wanted\n");
    assert_non_null(folder->config);
}

static void a_half_is_completed_or_named(void **state)
{
    struct config_folder *folder = *state;
    static char public_text[256];
    struct error error;
    enum key_pair_made made;
    make_pair(folder);
    strcpy(public_text, folder_read(folder, "secret.pub"));
    assert_true(key_pair_make(folder->path, &made, &error));
    assert_int_equal(made, KEY_PAIR_THERE);
    unlink(folder_path(folder, "secret.pub"));
    assert_true(key_pair_make(folder->path, &made, &error));
    assert_int_equal(made, KEY_PAIR_COMPLETED);
    assert_string_equal(folder_read(folder, "secret.pub"), public_text);
    unlink(folder_path(folder, "secret.key"));
    unsetenv("PROMPTGATE_SECRET_KEY");
    assert_false(key_pair_make(folder->path, &made, &error));
    assert_non_null(strstr(error.message, "has secret.pub and no secret.key"));
    folder_write(folder, "secret.key", "");
    assert_false(key_pair_make(folder->path, &made, &error));
    assert_non_null(strstr(error.message, "secret.key holds no key"));
}

static void line_ends_of_another_system_are_no_harm(void **state)
{
    struct config_folder *folder = *state;
    struct sealing_public key;
    struct error error;
    char text[512];
    make_pair(folder);
    for (size_t i = 0; i < 2; i++) {
        const char *name = i ? "secret.key" : "secret.pub";
        snprintf(text, sizeof text, "%.200s", folder_read(folder, name));
        strcpy(strchr(text, '\n'), "\r\n");
        folder_write(folder, name, text);
    }
    assert_true(key_pair_public(folder->path, &key, &error));
}

static void two_boxes_of_one_secret_differ(void **state)
{
    struct config_folder *folder = *state;
    static char first[4096];
    make_pair(folder);
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    strcpy(first, folder_read(folder, "credentials.d/main.yaml"));
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    assert_string_not_equal(first, folder_read(folder, "credentials.d/main.yaml"));
}

/* The key of the folder's only credential is `text`. */
static void expect_problem(struct config_folder *folder, const char *text, const char *problem)
{
    char lines[512], wanted[512];
    snprintf(lines, sizeof lines, "provider: openai\napi_key: %s\n", text);
    snprintf(wanted, sizeof wanted, "credentials.d/main.yaml:2:10: api_key: %s\n", problem);
    folder_write(folder, "credentials.d/main.yaml", lines);
    folder_expect(folder, wanted);
}

static void what_is_damaged_is_said(void **state)
{
    struct config_folder *folder = *state;
    const char *damaged =
        "the sealed text is damaged: seal it again with `promptgate credential add`";
    make_pair(folder);
    expect_problem(folder, "'sealed:'", damaged);
    expect_problem(folder, "sealed:abc", damaged);
    expect_problem(folder, "'sealed:!!!'", damaged);
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    char *text = folder_read(folder, "credentials.d/main.yaml"), *end = strstr(text, " # and");
    end[-8] = end[-8] == 'A' ? 'B' : 'A';
    folder_write(folder, "credentials.d/main.yaml", text);
    folder_expect(folder,
                  "credentials.d/main.yaml:3:10: api_key: it was sealed for another key than "
                  "that of secret.key: seal it again with `promptgate credential add`\n");
}

static void another_pair_opens_nothing(void **state)
{
    struct config_folder *folder = *state;
    make_pair(folder);
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    unlink(folder_path(folder, "secret.key"));
    unlink(folder_path(folder, "secret.pub"));
    unsetenv("PROMPTGATE_SECRET_KEY");
    make_pair(folder);
    folder_expect(folder,
                  "credentials.d/main.yaml:3:10: api_key: it was sealed for another key than "
                  "that of secret.key: seal it again with `promptgate credential add`\n");
    folder_write(folder, "secret.key", "nonsense\n");
    folder_expect(folder, "credentials.d/main.yaml:3:10: api_key: secret.key holds no key: "
                          "\"promptgate-secret-key:…\" is wanted\n");
}

/* Each test of what is remembered is a process of its own. */
static void in_a_child(void (*test)(struct config_folder *folder), struct config_folder *folder)
{
    int status;
    pid_t pid = fork();
    if (pid == 0) {
        test(folder);
        _exit(0);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void needs(bool what)
{
    if (!what)
        _exit(1);
}

static bool opens(struct config_folder *folder)
{
    folder_load(folder);
    return folder->config && strcmp(folder->config->credentials[0].api_key, "sk-sealed") == 0;
}

static void reads_away(struct config_folder *folder)
{
    folder_load(folder);
    needs(!folder->config &&
          strstr(folder_problems(folder), "it is sealed, and cannot be opened: "));
    config_free(&folder->config);
    config_report_free(&folder->report);
    folder->config = config_load_look(folder->path, &folder->report);
    needs(folder->config && !folder->config->credentials[0].api_key);
    needs(folder->report.warnings == 1 && folder->report.errors == 0);
    needs(strstr(folder_problems(folder), "it is sealed, and stays closed here: ") != NULL);
}

static void who_has_no_key_only_looks(void **state)
{
    struct config_folder *folder = *state;
    make_pair(folder);
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    rename(folder_path(folder, "secret.key"), folder_path(folder, "away"));
    unsetenv("PROMPTGATE_SECRET_KEY");
    in_a_child(reads_away, folder);
}

static void reads_and_remembers(struct config_folder *folder)
{
    needs(opens(folder));
    rename(folder_path(folder, "secret.key"), folder_path(folder, "away"));
    needs(opens(folder));
    secret_restore_environment();
    needs(strstr(getenv("PROMPTGATE_SECRET_KEY"), "promptgate-secret-key:") != NULL);
}

static void a_key_that_was_read_is_remembered(void **state)
{
    struct config_folder *folder = *state;
    make_pair(folder);
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    in_a_child(reads_and_remembers, folder);
}

static void reads_elsewhere(struct config_folder *folder)
{
    needs(!opens(folder));
    setenv("CREDENTIALS_DIRECTORY", folder_path(folder, "system"), 1);
    needs(opens(folder));
}

static void reads_the_variable(struct config_folder *folder)
{
    setenv("PROMPTGATE_SECRET_KEY", folder_read(folder, "system/secret.key"), 1);
    needs(opens(folder));
    needs(strcmp(getenv("PROMPTGATE_SECRET_KEY"), "") == 0);
    needs(opens(folder));
}

static void the_key_may_come_from_elsewhere(void **state)
{
    struct config_folder *folder = *state;
    make_pair(folder);
    write_sealed(folder, "credentials.d/main.yaml", "sk-sealed");
    mkdir(folder_path(folder, "system"), 0700);
    rename(folder_path(folder, "secret.key"), folder_path(folder, "system/secret.key"));
    unsetenv("PROMPTGATE_SECRET_KEY");
    in_a_child(reads_elsewhere, folder);
    in_a_child(reads_the_variable, folder);
}

/* --- another pair --- */

static unsigned change(const struct config_folder *folder)
{
    struct error error;
    unsigned resealed;
    if (!key_pair_change(folder->path, &resealed, &error))
        fail_msg("%s", error.message);
    return resealed;
}

static void everything_is_sealed_anew(void **state)
{
    struct config_folder *folder = *state;
    static char key[256], public_key[256], text[4096];
    make_pair(folder);
    write_sealed(folder, "credentials.d/a.yaml", "sk-a");
    write_sealed(folder, "credentials.d/b.yaml", "sk-b");
    folder_write(folder, "credentials.d/c.yaml", "provider: echo\n");
    strcpy(key, folder_read(folder, "secret.key"));
    strcpy(public_key, folder_read(folder, "secret.pub"));
    strcpy(text, folder_read(folder, "credentials.d/a.yaml"));
    assert_int_equal(change(folder), 2);
    assert_string_not_equal(key, folder_read(folder, "secret.key"));
    assert_string_not_equal(public_key, folder_read(folder, "secret.pub"));
    assert_string_not_equal(text, folder_read(folder, "credentials.d/a.yaml"));
    assert_non_null(strstr(folder_read(folder, "credentials.d/a.yaml"), "# keep me\n"));
    assert_non_null(strstr(folder_read(folder, "credentials.d/a.yaml"), " # and me\n"));
    assert_int_equal(sealing_count(folder_read(folder, "secret.key")), 1);
    assert_null(strstr(folder_read(folder, "secret.key"), key));
    expect_key(folder, 0, "sk-a");
    expect_key(folder, 1, "sk-b");
}

static void a_change_that_was_broken_off_goes_on(void **state)
{
    struct config_folder *folder = *state;
    struct buf fresh = {0}, unused = {0}, both = {0};
    make_pair(folder);
    write_sealed(folder, "credentials.d/a.yaml", "sk-a");
    sealing_new_pair(&unused, &fresh);
    buf_str(&both, buf_view(&fresh));
    buf_puts(&both, folder_read(folder, "secret.key"));
    folder_write(folder, "secret.key", buf_cstr(&both));
    expect_key(folder, 0, "sk-a"); /* meanwhile */
    assert_int_equal(change(folder), 1);
    assert_string_equal(folder_read(folder, "secret.key"), buf_cstr(&fresh));
    assert_string_equal(folder_read(folder, "secret.pub"), buf_cstr(&unused));
    expect_key(folder, 0, "sk-a");
    buf_free(&fresh);
    buf_free(&unused);
    buf_free(&both);
}

static void what_cannot_be_opened_stops_it(void **state)
{
    struct config_folder *folder = *state;
    struct error error;
    unsigned resealed;
    make_pair(folder);
    write_sealed(folder, "credentials.d/a.yaml", "sk-a");
    folder_write(folder, "credentials.d/b.yaml", "provider: openai\napi_key: sealed:abc\n");
    assert_false(key_pair_change(folder->path, &resealed, &error));
    assert_non_null(strstr(error.message, "credentials.d/b.yaml: the sealed text is damaged"));
    write_sealed(folder, "credentials.d/b.yaml", "sk-b");
    assert_int_equal(sealing_count(folder_read(folder, "secret.key")), 2);
    assert_int_equal(change(folder), 2);
    expect_key(folder, 0, "sk-a");
    expect_key(folder, 1, "sk-b");
}

static void the_halves_must_fit(void **state)
{
    struct config_folder *folder = *state;
    struct sealing_public key;
    struct error error;
    struct buf secret_text = {0}, public_text = {0};
    make_pair(folder);
    sealing_new_pair(&public_text, &secret_text);
    folder_write(folder, "secret.pub", buf_cstr(&public_text));
    assert_false(key_pair_public(folder->path, &key, &error));
    assert_non_null(strstr(error.message, "are not of one pair"));
    folder_write(folder, "secret.pub", "nonsense");
    assert_false(key_pair_public(folder->path, &key, &error));
    assert_non_null(strstr(error.message, "holds no public key"));
    unlink(folder_path(folder, "secret.pub"));
    assert_false(key_pair_public(folder->path, &key, &error));
    assert_non_null(strstr(error.message, "credential init"));
    buf_free(&secret_text);
    buf_free(&public_text);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(who_has_no_key_only_looks),
        TEST(a_key_that_was_read_is_remembered),
        TEST(the_key_may_come_from_elsewhere),
        TEST(a_sealed_key_is_opened),
        TEST(files_have_their_modes),
        TEST(a_half_is_completed_or_named),
        TEST(line_ends_of_another_system_are_no_harm),
        TEST(two_boxes_of_one_secret_differ),
        TEST(what_is_damaged_is_said),
        TEST(another_pair_opens_nothing),
        TEST(everything_is_sealed_anew),
        TEST(a_change_that_was_broken_off_goes_on),
        TEST(what_cannot_be_opened_stops_it),
        TEST(the_halves_must_fit),
    };
    if (sodium_init() < 0)
        return 1;
    return cmocka_run_group_tests_name("sealed keys", tests, NULL, NULL);
}
