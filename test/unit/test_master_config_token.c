#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "test/unit/config_folder.h"

#include <ctype.h>
#include <fcntl.h>

static char output[65536];

/* Runs `promptgate token …` in the folder; its exit status. `output` is what it printed on stdout,
 * what it says on stderr is passed over. */
static int token(const struct config_folder *folder, const char *arguments)
{
    char line[512], *argv[32] = {"token"};
    int argc = 1;
    snprintf(line, sizeof line, "%s --config %s", arguments, folder->path);
    for (char *word = strtok(line, " "); word; word = strtok(NULL, " "))
        argv[argc++] = word;
    argv[argc] = NULL;
    fflush(NULL);
    int out = dup(1), err = dup(2);
    int caught = open(folder_path(folder, "output"), O_CREAT | O_TRUNC | O_RDWR, 0600);
    int null = open("/dev/null", O_WRONLY);
    dup2(caught, 1);
    dup2(null, 2);
    int status = cmd_token(argc, argv);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    close(null);
    close(caught);
    strcpy(output, folder_read(folder, "output"));
    return status;
}

static int setup(void **state)
{
    if (folder_setup(state) != 0)
        return -1;
    folder_write(*state, "promptgate.yaml", "");
    folder_write(*state, "projects.d/demo.yaml",
                 "id: " UUID_1 "\nendpoints:\n  sum: { provider: echo, model: m }\n"
                 "  two: { provider: echo, model: m }\n");
    return 0;
}

/* The token that was printed; its newline is cut off. */
static struct str printed(void)
{
    size_t len = strlen(output);
    assert_true(len > 1 && output[len - 1] == '\n');
    output[len - 1] = '\0';
    return (struct str){output, len - 1};
}

static const struct config_token *loaded(struct config_folder *folder, struct str text)
{
    uint8_t hash[SHA256_BYTES];
    sha256(text, hash);
    folder_expect_ok(folder);
    return folder_token(folder, hash);
}

static void a_token_is_printed_once_and_kept_as_a_hash(void **state)
{
    struct config_folder *folder = *state;
    assert_int_equal(token(folder, "create --project demo --name web"), 0);
    struct str text = printed();
    assert_int_equal(text.len, 8 + 43);
    assert_true(str_starts(text, STR("pg_live_")));
    for (size_t i = 8; i < text.len; i++)
        assert_true(isalnum((unsigned char)text.at[i]) || text.at[i] == '-' || text.at[i] == '_');
    assert_null(strstr(folder_read(folder, "tokens.d/web.yaml"), text.at + 12));
    struct stat status;
    assert_int_equal(stat(folder_path(folder, "tokens.d/web.yaml"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    const struct config_token *found = loaded(folder, text);
    assert_non_null(found);
    assert_string_equal(found->name, "web");
    assert_int_equal(strlen(found->prefix), 12);
    assert_memory_equal(found->prefix, text.at, 12);
    assert_int_equal(found->scopes, SCOPE_CHAT | SCOPE_MODELS);
    assert_true(found->active && found->all_endpoints);
    assert_true(found->expires_wall_ms == INT64_MAX);
    char first[64];
    strcpy(first, output);
    assert_int_equal(token(folder, "create --project demo --name web2"), 0);
    assert_string_not_equal(output, first);
}

static void a_token_can_be_narrow(void **state)
{
    struct config_folder *folder = *state;
    assert_int_equal(token(folder, "create --project=demo --scopes chat,usage --endpoints sum,two "
                                   "--expires 2199-01-01T00:00:00Z"),
                     0);
    const struct config_token *found = loaded(folder, printed());
    assert_string_equal(found->name, "demo");
    assert_int_equal(found->scopes, SCOPE_CHAT | SCOPE_USAGE);
    assert_int_equal(found->endpoints_count, 2);
    assert_true(found->expires_wall_ms == 7226582400000);
    assert_int_equal(token(folder, "create --project demo"), 0);
    assert_string_equal(loaded(folder, printed())->name, "demo-2");
    assert_int_equal(token(folder, "create --scopes admin"), 0);
    found = loaded(folder, printed());
    assert_string_equal(found->name, "admin");
    assert_null(found->project);
}

static void the_tokens_folder_is_made(void **state)
{
    struct config_folder *folder = *state;
    rmdir(folder_path(folder, "tokens.d"));
    assert_int_equal(token(folder, "create --project demo"), 0);
    assert_non_null(loaded(folder, printed()));
}

static void wrong_requests_change_nothing(void **state)
{
    struct config_folder *folder = *state;
    assert_int_equal(token(folder, "create --project demo --name web"), 0);
    static const struct {
        const char *arguments;
        int status;
    } cases[] = {
        {"create --project demo --name web", 1},
        {"create --project nope", 1},
        {"create --project ../projects.d/demo", 1},
        {"create --project demo --name ../x", 1},
        {"create --project demo --name X", 1},
        {"create --project demo --scopes chat,all", 1},
        {"create --project demo --scopes=,", 1},
        {"create --project demo --endpoints sum,nope", 1},
        {"create --project demo --expires tomorrow", 1},
        {"create --project demo --expires 2001-01-01T00:00:00Z", 1},
        {"create", 2},
        {"create --scopes admin,chat", 2},
        {"create --scopes admin --endpoints sum", 2},
        {"create --project demo extra", 2},
        {"create --project demo --colour red", 2},
        {"create --project demo --json", 2},
        {"list extra", 2},
        {"revoke", 2},
        {"revoke a b", 2},
        {"revoke --all", 2},
        {"revoke nope", 1},
        {"grant", 2},
        {"", 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (token(folder, cases[i].arguments) != cases[i].status)
            fail_msg("token %s: another status", cases[i].arguments);
        assert_string_equal(output, "");
    }
    folder_expect_ok(folder);
    assert_int_equal(folder->config->tokens_count, 1);
}

static void listings_show_the_state(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "tokens.d/web.yaml",
                 "- { project: demo, hash: " HASH_1 ", prefix: pg_live_aaaa, endpoints: [sum] }\n"
                 "- { project: demo, hash: " HASH_2 ", active: false }\n"
                 "- { project: demo, hash: " HASH_3 ", expires: 2001-01-01T00:00:00Z }\n");
    assert_int_equal(token(folder, "list --json"), 0);
    assert_string_equal(
        output,
        "[{\"name\":\"web:pg_live_aaaa\",\"prefix\":\"pg_live_aaaa\",\"project\":\"demo\","
        "\"scopes\":[\"chat\",\"models\"],\"endpoints\":[\"sum\"],\"active\":true,\"state\":"
        "\"active\","
        "\"expires\":null},\n"
        "{\"name\":\"web:2\",\"prefix\":null,\"project\":\"demo\",\"scopes\":[\"chat\",\"models\"],"
        "\"endpoints\":null,\"active\":false,\"state\":\"revoked\",\"expires\":null},\n"
        "{\"name\":\"web:3\",\"prefix\":null,\"project\":\"demo\",\"scopes\":[\"chat\",\"models\"],"
        "\"endpoints\":null,\"active\":true,\"state\":\"expired\",\"expires\":\"2001-01-01T00:00:"
        "00.000Z\"}]\n");
    assert_int_equal(token(folder, "list"), 0);
    assert_non_null(strstr(output, "web:2 "));
    folder_write(folder, "tokens.d/web.yaml", "[]");
    assert_int_equal(token(folder, "list --json"), 0);
    assert_string_equal(output, "[]\n");
    folder_write(folder, "tokens.d/torn.yaml", "[");
    assert_int_equal(token(folder, "list --json"), 1);
}

/* Revokes `name` in a token file and compares the text after it. */
static void revoked(struct config_folder *folder, const char *name, const char *before,
                    const char *after)
{
    folder_write(folder, "tokens.d/web.yaml", before);
    chmod(folder_path(folder, "tokens.d/web.yaml"), 0604);
    char command[64];
    snprintf(command, sizeof command, "revoke %s", name);
    assert_int_equal(token(folder, command), 0);
    assert_string_equal(folder_read(folder, "tokens.d/web.yaml"), after);
    struct stat status;
    assert_int_equal(stat(folder_path(folder, "tokens.d/web.yaml"), &status), 0);
    assert_int_equal(status.st_mode & 07777, 0604);
    folder_expect_ok(folder);
}

static void revoking_edits_one_word(void **state)
{
    struct config_folder *folder = *state;
    revoked(
        folder, "web",
        "# w\xC3\xA4re\n\nproject: demo # \xE2\x82\xAC\nhash: " HASH_1 "\nactive:   true  # x\n",
        "# w\xC3\xA4re\n\nproject: demo # \xE2\x82\xAC\nhash: " HASH_1 "\nactive:   false  # x\n");
    revoked(folder, "web", "project: demo\nhash: " HASH_1 "\n",
            "active: false\nproject: demo\nhash: " HASH_1 "\n");
    revoked(folder, "web", "{ \"project\": demo, hash: " HASH_1 " }",
            "{ active: false, \"project\": demo, hash: " HASH_1 " }");
    revoked(folder, "web", "{ \"active\": true, project: demo, hash: " HASH_1 " }",
            "{ \"active\": false, project: demo, hash: " HASH_1 " }");
}

static void revoking_in_a_list_leaves_the_others(void **state)
{
    struct config_folder *folder = *state;
    revoked(folder, "bbb",
            "# mine\n-  project: demo # a\n   hash: " HASH_1 "\n"
            "-\n    project: demo # b\n    hash: " HASH_2 "\n    prefix: bbb\n# end\n",
            "# mine\n-  project: demo # a\n   hash: " HASH_1 "\n"
            "-\n    active: false\n    project: demo # b\n    hash: " HASH_2
            "\n    prefix: bbb\n# end\n");
    revoked(folder, "web:1",
            "- project: demo # a\n  hash: " HASH_1 "\n- { project: demo, hash: " HASH_2 " }\n",
            "- active: false\n  project: demo # a\n  hash: " HASH_1
            "\n- { project: demo, hash: " HASH_2 " }\n");
    revoked(
        folder, "web:2", "[ {project: demo, hash: " HASH_1 "}, {project: demo, hash: " HASH_2 "} ]",
        "[ {project: demo, hash: " HASH_1 "}, {active: false, project: demo, hash: " HASH_2 "} ]");
    uint8_t hash[SHA256_BYTES];
    memset(hash, 0x11, sizeof hash);
    assert_true(folder_token(folder, hash)->active);
    memset(hash, 0x22, sizeof hash);
    assert_false(folder_token(folder, hash)->active);
}

/* Another hash and prefix, whatever stands around them. */
static void rotating_edits_two_words(void **state)
{
    struct config_folder *folder = *state;
    static const char *const files[][2] = {
        {"# x\nproject: demo\nhash: " HASH_1 " # h\nprefix: abc # p\nactive: true\n",
         "# x\nproject: demo\nhash: %s # h\nprefix: %s # p\nactive: true\n"},
        {"prefix: abc\nhash: " HASH_1 "\nproject: demo\n",
         "prefix: %2$s\nhash: %1$s\nproject: demo\n"},
        {"hash: " HASH_1 "\nproject: demo\n", "prefix: %2$s\nhash: %1$s\nproject: demo\n"},
        {"- { project: demo, hash: " HASH_2 ", prefix: x }\n- { project: demo, hash: " HASH_1
         ", prefix: web }\n",
         "- { project: demo, hash: " HASH_2 ", prefix: x }\n- { project: demo, hash: %s, prefix: "
         "%s }\n"},
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char hash[80], prefix[16], expected[512];
        folder_write(folder, "tokens.d/web.yaml", files[i][0]);
        assert_int_equal(token(folder, i == 3 ? "rotate web:web" : "rotate web"), 0);
        const char *after = folder_read(folder, "tokens.d/web.yaml");
        const char *found = strstr(after, i == 3 ? "hash: sha256:" : "hash: ");
        if (i == 3)
            found = strstr(found + 1, "hash: ");
        assert_int_equal(sscanf(found, "hash: %71s", hash), 1);
        assert_int_equal(sscanf(strstr(after, "pg_live_"), "%12s", prefix), 1);
        assert_string_not_equal(hash, HASH_1);
        snprintf(expected, sizeof expected, files[i][1], hash, prefix);
        assert_string_equal(after, expected);
        folder_expect_ok(folder);
    }
    folder_write(folder, "tokens.d/web.yaml", "project: demo\nhash: " HASH_1 "\nactive: false\n");
    assert_int_equal(token(folder, "rotate web"), 1);
    assert_int_equal(token(folder, "rotate nobody"), 1);
}

/* What a textual edit would get wrong is left to a person, and the file as it was. */
static void unsafe_edits_are_refused(void **state)
{
    struct config_folder *folder = *state;
    static const char *const files[] = {
        "- { project: demo, hash: " HASH_1 ", active: &a true, prefix: x }\n"
        "- { project: demo, hash: " HASH_2 ", active: *a, prefix: y }\n",
        "? project\n: demo\n? hash\n: " HASH_1 "\n? prefix\n: y\n",
    };
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        folder_write(folder, "tokens.d/web.yaml", files[i]);
        folder_expect_ok(folder);
        assert_int_equal(token(folder, "revoke y"), 1);
        assert_string_equal(folder_read(folder, "tokens.d/web.yaml"), files[i]);
    }
    folder_write(folder, "tokens.d/web.yaml",
                 "- { project: demo, hash: " HASH_1 ", prefix: y }\n"
                 "- { project: demo, hash: " HASH_2 ", prefix: y }\n");
    assert_int_equal(token(folder, "revoke y"), 1);
}

static void a_link_stays_a_link(void **state)
{
    struct config_folder *folder = *state;
    folder_write(folder, "real", "project: demo\nhash: " HASH_1 "\nactive: true\n");
    assert_int_equal(symlink("../real", folder_path(folder, "tokens.d/web.yaml")), 0);
    assert_int_equal(token(folder, "revoke web"), 0);
    struct stat status;
    assert_int_equal(lstat(folder_path(folder, "tokens.d/web.yaml"), &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_non_null(strstr(folder_read(folder, "real"), "active: false"));
}

static void options_are_taken_out_of_argv(void **state)
{
    (void)state;
    char *argv[] = {"x", "--config", "/a/b//", "stay", "--json", "--", "--config=no", NULL};
    int argc = 7;
    struct cli_options options;
    assert_true(cli_take_options(&argc, argv, &options));
    assert_string_equal(options.config, "/a/b");
    assert_true(options.json);
    assert_int_equal(argc, 4);
    assert_string_equal(argv[1], "stay");
    assert_string_equal(argv[3], "--config=no");
    assert_null(argv[4]);
    char *other[] = {"x", "--config=/c", NULL};
    argc = 2;
    setenv("PROMPTGATE_CONFIG", "/from/env", 1);
    assert_true(cli_take_options(&argc, other, &options));
    assert_string_equal(options.config, "/c");
    assert_false(options.json);
    assert_true(cli_take_options(&argc, other, &options));
    assert_string_equal(options.config, "/from/env");
    unsetenv("PROMPTGATE_CONFIG");
    assert_true(cli_take_options(&argc, other, &options));
    assert_string_equal(options.config, "/etc/promptgate");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, folder_teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_token_is_printed_once_and_kept_as_a_hash),
        TEST(a_token_can_be_narrow),
        TEST(the_tokens_folder_is_made),
        TEST(wrong_requests_change_nothing),
        TEST(listings_show_the_state),
        TEST(revoking_edits_one_word),
        TEST(revoking_in_a_list_leaves_the_others),
        TEST(rotating_edits_two_words),
        TEST(unsafe_edits_are_refused),
        TEST(a_link_stays_a_link),
        cmocka_unit_test(options_are_taken_out_of_argv),
    };
    return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
