/* One file of tokens read again: into the tables of all generations, or into none. */
#include "master/token_changes.h"

#include "master/accounts_adopt.h"

#include "test/unit/config_folder.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static struct {
    struct config_folder *folder;
    struct counters counters;
    struct generation *generations[2];
    struct token_changes changes;
    struct token_scene scene;
    struct buf text;
    uint64_t requests;
} test;

/* In the child that parses, before it does. */
static void (*in_child)(void);

static void on_fork_in_child(void)
{
    if (in_child)
        in_child();
}

static const uint8_t *hash_of(uint8_t digit)
{
    static uint8_t hash[SHA256_BYTES];
    memset(hash, digit, sizeof hash);
    return hash;
}

static const struct token_entry *known(unsigned generation, uint8_t digit)
{
    return token_find(test.generations[generation]->tokens, hash_of(digit));
}

static struct generation *new_generation(int64_t number, enum generation_state state)
{
    struct error error;
    struct config_report report = {0};
    struct config *config = config_load(test.folder->path, &report);
    assert_non_null(config);
    config_report_free(&report);
    assert_true(accounts_adopt(config, &test.counters, number, 1, &error));
    struct generation *generation = generation_new(
        number, config, token_table_new(config->tokens, config->tokens_count, &error));
    generation->state = state;
    generation->accounts = counters_accounts_mapped(&test.counters);
    return generation;
}

#define DEMO "id: " UUID_1 "\nendpoints: { sum: { provider: echo, model: m } }\n"
#define WEB "project: demo\nhash: " HASH_1 "\n"

static int set_up(void **state)
{
    struct error error;
    if (folder_setup(state) != 0)
        return -1;
    memset(&test, 0, sizeof test);
    in_child = NULL;
    test.folder = *state;
    folder_write(test.folder, "promptgate.yaml", "workers: 1\n");
    folder_write(test.folder, "projects.d/demo.yaml", DEMO);
    folder_write(test.folder, "tokens.d/web.yaml", WEB);
    if (!counters_create(&test.counters, folder_path(test.folder, "counters"), 1, &error))
        return -1;
    test.generations[0] = new_generation(1, GENERATION_RETIRING);
    test.generations[1] = new_generation(2, GENERATION_SERVING);
    test.scene = (struct token_scene){.generations = test.generations,
                                      .count = 2,
                                      .serving = test.generations[1],
                                      .counters = &test.counters};
    token_changes_init(&test.changes, test.folder->path);
    return 0;
}

static int tear_down(void **state)
{
    token_changes_deinit(&test.changes);
    generation_free(&test.generations[0]);
    generation_free(&test.generations[1]);
    counters_close(&test.counters);
    buf_free(&test.text);
    return folder_teardown(state);
}

/* Asks and sees it through; the answer is in test.text. */
static enum token_change_state change(const char *name)
{
    uint64_t request = 0;
    int status;
    buf_clear(&test.text);
    assert_true(token_changes_ask(&test.changes, name, ++test.requests));
    assert_int_equal(token_changes_tend(&test.changes, &test.scene, &request, &test.text),
                     TOKENS_IDLE);
    pid_t pid = test.changes.trial.child;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    trial_child_ended(&test.changes.trial, pid, status);
    enum token_change_state state =
        token_changes_tend(&test.changes, &test.scene, &request, &test.text);
    assert_int_equal(request, test.requests);
    return state;
}

static void a_file_says_which_tokens_there_are(void **state)
{
    (void)state;
    folder_write(test.folder, "tokens.d/list.yaml",
                 "- { project: demo, hash: " HASH_2 ", prefix: b }\n"
                 "- { project: demo, hash: " HASH_3 ", prefix: c, endpoints: [sum] }\n");
    assert_int_equal(change("list"), TOKENS_TAKEN);
    for (unsigned i = 0; i < 2; i++) {
        assert_string_equal(known(i, 0x22)->texts, "list:b");
        assert_false(known(i, 0x33)->all_endpoints);
        assert_string_equal(known(i, 0x11)->texts, "web");
    }
    /* Both generations count in the same account. */
    uint32_t account = known(1, 0x22)->account;
    assert_int_equal(known(0, 0x22)->account, account);
    assert_true(str_eq(account_label(&test.counters, account, 0), STR("list:b")));
    assert_true(account != known(1, 0x33)->account && account != known(1, 0x11)->account);
    folder_write(test.folder, "tokens.d/list.yaml",
                 "- { project: demo, hash: " HASH_3 ", prefix: c }\n");
    assert_int_equal(change("list"), TOKENS_TAKEN);
    assert_null(known(0, 0x22));
    assert_null(known(1, 0x22));
    assert_true(known(1, 0x33)->all_endpoints);
    unlink(folder_path(test.folder, "tokens.d/list.yaml"));
    assert_int_equal(change("list"), TOKENS_TAKEN);
    assert_null(known(1, 0x33));
    assert_non_null(known(1, 0x11));
}

static void refused(const char *name, const char *reason)
{
    assert_int_equal(change(name), TOKENS_REFUSED);
    if (!strstr(buf_cstr(&test.text), reason))
        fail_msg("\"%s\" does not say \"%s\"", buf_cstr(&test.text), reason);
    assert_non_null(known(0, 0x11));
    assert_non_null(known(1, 0x11));
    assert_null(known(1, 0x22));
}

static void what_is_wrong_changes_nothing(void **state)
{
    (void)state;
    folder_write(test.folder, "tokens.d/web.yaml", "project: demo\nhash: sha256:1\n");
    refused("web", "web.yaml:2:7: hash: ");
    folder_write(test.folder, "tokens.d/web.yaml", "project: other\nhash: " HASH_2 "\n");
    refused("web", "web.yaml:1:10: project: the running gateway does not know the project other");
    folder_write(test.folder, "tokens.d/web.yaml",
                 "project: demo\nendpoints: [sum, none]\nhash: " HASH_2 "\n");
    refused("web", "web.yaml:2:12: endpoints: the running gateway does not know all of these");
    folder_write(test.folder, "tokens.d/new.yaml", WEB);
    refused("new", "new.yaml:2:7: hash: is the hash of the token web already");
    folder_write(test.folder, "tokens.d/new.yaml",
                 "- { project: demo, hash: " HASH_2 " }\n- { project: demo, hash: " HASH_2 " }\n");
    refused("new", "is the hash of a token at ");
    assert_false(token_changes_ask(&test.changes, "../web", 9));
    assert_false(token_changes_ask(&test.changes, "", 9));
}

static void die(void)
{
    raise(SIGKILL);
}

static void a_file_that_kills_the_parser_kills_a_child(void **state)
{
    (void)state;
    in_child = die;
    refused("web", "the parser was killed by ");
    in_child = NULL;
    assert_int_equal(change("web"), TOKENS_TAKEN);
}

/* A table of an old generation that is full does without; one of the newest needs a reload. What
 * goes, goes. */
static void where_there_is_no_room_a_reload_makes_it(void **state)
{
    (void)state;
    test.generations[0]->accounts = 0;
    folder_write(test.folder, "tokens.d/web.yaml", "project: demo\nhash: " HASH_2 "\n");
    assert_int_equal(change("web"), TOKENS_TAKEN);
    assert_null(known(0, 0x22));
    assert_non_null(known(1, 0x22));
    test.generations[1]->accounts = 0;
    folder_write(test.folder, "tokens.d/web.yaml", "project: demo\nhash: " HASH_3 "\n");
    assert_int_equal(change("web"), TOKENS_NO_ROOM);
    assert_null(known(1, 0x22));
    assert_null(known(1, 0x33));
}

/* The reload had read the files before. */
static void a_generation_of_older_files_gets_the_changes(void **state)
{
    (void)state;
    struct generation *stale = new_generation(3, GENERATION_STARTING);
    test.scene.reloading = true;
    folder_write(test.folder, "tokens.d/web.yaml", "project: demo\nhash: " HASH_2 "\n");
    assert_int_equal(change("web"), TOKENS_TAKEN);
    folder_write(test.folder, "tokens.d/web.yaml", "project: demo\nhash: " HASH_3 "\n");
    assert_int_equal(change("web"), TOKENS_TAKEN);
    assert_non_null(token_find(stale->tokens, hash_of(0x11)));
    assert_true(token_changes_repeat(&test.changes, stale, &test.counters));
    assert_null(token_find(stale->tokens, hash_of(0x11)));
    assert_null(token_find(stale->tokens, hash_of(0x22)));
    assert_non_null(token_find(stale->tokens, hash_of(0x33)));
    generation_free(&stale);
    stale = new_generation(4, GENERATION_STARTING);
    /* Once a reload has ended, the files say all. */
    uint64_t request;
    test.scene.reloading = false;
    assert_int_equal(token_changes_tend(&test.changes, &test.scene, &request, &test.text),
                     TOKENS_IDLE);
    token_table_drop(stale->tokens, hash_of(0x33));
    assert_true(token_changes_repeat(&test.changes, stale, &test.counters));
    assert_null(token_find(stale->tokens, hash_of(0x33)));
    generation_free(&stale);
}

static void older_generations_are_narrowed(void **state)
{
    (void)state;
    folder_write(test.folder, "tokens.d/new.yaml", "project: demo\nhash: " HASH_2 "\n");
    unlink(folder_path(test.folder, "tokens.d/web.yaml"));
    struct generation *newest = new_generation(3, GENERATION_SERVING);
    tokens_narrow(test.generations[1], newest);
    assert_null(known(1, 0x11));
    assert_null(known(1, 0x22));
    generation_free(&newest);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_file_says_which_tokens_there_are),
        TEST(what_is_wrong_changes_nothing),
        TEST(a_file_that_kills_the_parser_kills_a_child),
        TEST(where_there_is_no_room_a_reload_makes_it),
        TEST(a_generation_of_older_files_gets_the_changes),
        TEST(older_generations_are_narrowed),
    };
    pthread_atfork(NULL, NULL, on_fork_in_child);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
