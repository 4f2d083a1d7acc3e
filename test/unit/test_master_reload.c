/* Reading the configuration again: what the throw-away child finds, and its own death. */
#include "master/reload.h"

#include "master/title.h"
#include "shared/base/clock.h"
#include "test/unit/config_folder.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct {
    struct reload reload;
    struct config_folder *folder;
    int log; /* what was logged */
    int stderr_copy;
} test;

/* In the child that parses, before it does. */
static void (*in_child)(void);

static void on_fork_in_child(void)
{
    if (in_child)
        in_child();
}

static int64_t now_ms;

static int64_t test_now_us(void)
{
    return now_ms * 1000;
}

static int64_t test_wall_ms(void)
{
    return 1795000000000;
}

#define MAIN(more) "state_dir: /var/lib/here\n" more

static int set_up(void **state)
{
    static const struct clock_source source = {test_now_us, test_wall_ms};
    if (folder_setup(state) != 0)
        return -1;
    now_ms = 100000;
    clock_set_source(&source);
    in_child = NULL;
    test.folder = *state;
    folder_write(test.folder, "promptgate.yaml", MAIN("workers: 2\n"));
    folder_load(test.folder);
    test.log = memfd_create("log", MFD_CLOEXEC);
    test.stderr_copy = dup(STDERR_FILENO);
    dup2(test.log, STDERR_FILENO);
    reload_init(&test.reload, test.folder->path);
    return 0;
}

static int tear_down(void **state)
{
    reload_deinit(&test.reload);
    dup2(test.stderr_copy, STDERR_FILENO);
    close(test.stderr_copy);
    close(test.log);
    clock_set_source(NULL);
    return folder_teardown(state);
}

static const char *logged(void)
{
    static char text[65536];
    ssize_t len = pread(test.log, text, sizeof text - 1, 0);
    text[len > 0 ? len : 0] = '\0';
    return text;
}

static struct config *tend(void)
{
    return reload_tend(&test.reload, test.folder->config, true);
}

/* As the supervisor does when the child has ended. */
static void reap(void)
{
    int status;
    pid_t pid = test.reload.trial.child;
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    trial_child_ended(&test.reload.trial, pid, status);
}

/* A whole reload; NULL when it failed. */
static struct config *read_again(void)
{
    reload_ask(&test.reload);
    assert_null(tend()); /* the child begins */
    reap();
    return tend();
}

static void expect_failure(const char *words)
{
    assert_null(read_again());
    assert_int_equal(test.reload.answered, test.reload.asked);
    assert_false(test.reload.good);
    if (!strstr(buf_cstr(&test.reload.text), words))
        fail_msg("\"%s\" is not in: %s", words, buf_cstr(&test.reload.text));
    assert_non_null(strstr(logged(), words));
    assert_non_null(strstr(logged(), "the reload failed: nothing has changed"));
}

static unsigned descriptors(void)
{
    unsigned count = 0;
    for (int fd = 0; fd < 256; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void a_good_one(void **state)
{
    (void)state;
    unsigned before = descriptors();
    assert_null(tend()); /* nobody asked */
    assert_int_equal(test.reload.trial.child, 0);
    folder_write(test.folder, "promptgate.yaml", MAIN("workers: 3\n"));
    struct config *config = read_again();
    assert_non_null(config);
    assert_int_equal(config->workers, 3);
    /* What is forked now must not have more than it needs. */
    assert_int_equal(descriptors(), before);
    assert_int_not_equal(test.reload.answered, test.reload.asked);
    reload_succeeded(&test.reload, 8);
    assert_int_equal(test.reload.answered, test.reload.asked);
    assert_true(test.reload.good);
    assert_string_equal(buf_cstr(&test.reload.text), "generation 8 serves");
    config_free(&config);
}

static void every_error_is_reported(void **state)
{
    (void)state;
    folder_write(test.folder, "promptgate.yaml", MAIN("wrokers: 3\nbogus: 1\n"));
    folder_write(test.folder, "projects.d/demo.yaml", "id: nonsense\n");
    expect_failure("promptgate.yaml:2:1: wrokers: unknown key; did you mean workers?\n");
    assert_non_null(strstr(buf_cstr(&test.reload.text), "promptgate.yaml:3:1: bogus: "));
    assert_non_null(strstr(buf_cstr(&test.reload.text), "demo.yaml:1:5: id: "));
    /* Set right, the next one is good. */
    folder_write(test.folder, "promptgate.yaml", MAIN("workers: 3\n"));
    unlink(folder_path(test.folder, "projects.d/demo.yaml"));
    struct config *config = read_again();
    assert_non_null(config);
    reload_succeeded(&test.reload, 2);
    config_free(&config);
}

static void a_directory_that_is_gone(void **state)
{
    (void)state;
    test.reload.directory = "/nonexistent/promptgate";
    expect_failure("the configuration directory cannot be read: No such file or directory");
}

static void crash(void)
{
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
}

/* "A config that crashes the parser cannot take the master down." */
static void a_crash_of_the_parser(void **state)
{
    (void)state;
    in_child = crash;
    expect_failure("the configuration could not be read: the parser was killed by Segmentation "
                   "fault");
    in_child = NULL;
    struct config *config = read_again();
    assert_non_null(config);
    config_free(&config);
}

static void wait_for_ever(void)
{
    for (;;)
        pause();
}

static void a_parser_that_never_ends(void **state)
{
    (void)state;
    in_child = wait_for_ever;
    reload_ask(&test.reload);
    assert_null(tend());
    now_ms += 29999;
    assert_null(tend());
    assert_int_equal(waitpid(test.reload.trial.child, NULL, WNOHANG), 0);
    now_ms += 1;
    assert_null(tend());
    reap();
    assert_null(tend());
    assert_string_equal(buf_cstr(&test.reload.text),
                        "the configuration could not be read: the parser was killed by Killed\n");
    assert_int_equal(test.reload.answered, test.reload.asked);
}

static void fixed_keys_are_refused_by_name(void **state)
{
    (void)state;
    folder_write(test.folder, "promptgate.yaml", "state_dir: /var/lib/elsewhere\nworkers: 3\n");
    expect_failure("state_dir cannot change by reload: restart needed");
}

/* The bytes are those the child has parsed, whatever the files hold by then. */
static void the_files_are_read_once(void **state)
{
    (void)state;
    folder_write(test.folder, "promptgate.yaml", MAIN("workers: 3\n"));
    reload_ask(&test.reload);
    assert_null(tend());
    folder_write(test.folder, "promptgate.yaml", MAIN("workers: 4\nbogus: 1\n"));
    reap();
    struct config *config = tend();
    assert_non_null(config);
    assert_int_equal(config->workers, 3);
    config_free(&config);
}

/* Requests that come while one is under way are answered by one more, all together. */
static void one_at_a_time(void **state)
{
    (void)state;
    assert_int_equal(reload_ask(&test.reload), 1);
    assert_int_equal(reload_ask(&test.reload), 2);
    assert_null(tend());
    pid_t child = test.reload.trial.child;
    assert_int_equal(reload_ask(&test.reload), 3);
    assert_non_null(strstr(logged(), "a reload is under way; the next one follows it"));
    assert_null(tend());
    assert_int_equal(test.reload.trial.child, child);
    reap();
    struct config *config = tend();
    assert_non_null(config);
    config_free(&config);
    assert_null(tend()); /* the generation is starting */
    reload_succeeded(&test.reload, 2);
    assert_int_equal(test.reload.answered, 2);
    assert_null(tend());
    assert_int_not_equal(test.reload.trial.child, 0);
    reap();
    reload_failed(&test.reload, "the new generation's workers could not start");
    assert_int_equal(test.reload.answered, 3);
    assert_false(test.reload.good);
}

/* "At most … four generations alive; further ones wait and say so." */
static void without_room_it_waits(void **state)
{
    (void)state;
    reload_ask(&test.reload);
    for (int i = 0; i < 3; i++)
        assert_null(reload_tend(&test.reload, test.folder->config, false));
    assert_int_equal(test.reload.trial.child, 0);
    const char *said = strstr(logged(), "the reload waits: four generations are alive");
    assert_non_null(said);
    assert_null(strstr(said + 1, "the reload waits")); /* once */
    assert_null(tend());
    assert_int_not_equal(test.reload.trial.child, 0);
    reap();
    struct config *config = tend();
    assert_non_null(config);
    config_free(&config);
}

static void other_children_are_not_its_own(void **state)
{
    (void)state;
    trial_child_ended(&test.reload.trial, 4711, SIGKILL);
    trial_child_ended(&test.reload.trial, 0, SIGKILL);
    assert_false(test.reload.trial.failed);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_good_one),
        TEST(every_error_is_reported),
        TEST(a_directory_that_is_gone),
        TEST(a_crash_of_the_parser),
        TEST(a_parser_that_never_ends),
        TEST(fixed_keys_are_refused_by_name),
        TEST(the_files_are_read_once),
        TEST(one_at_a_time),
        TEST(without_room_it_waits),
        TEST(other_children_are_not_its_own),
    };
    title_setup(argc, argv);
    pthread_atfork(NULL, NULL, on_fork_in_child);
    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
