#include "master/title.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

extern char **environ;

static char cmdline_bytes[8192];

static size_t read_cmdline(void)
{
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t len = read(fd, cmdline_bytes, sizeof cmdline_bytes - 1);
    close(fd);
    assert_true(len >= 0);
    cmdline_bytes[len] = '\0';
    return (size_t)len;
}

static void what_ps_shows(void **state)
{
    char name[16];
    (void)state;
    title_set("worker 0 (gen 3)");
    read_cmdline();
    assert_string_equal(cmdline_bytes, "promptgate: worker 0 (gen 3)");
    prctl(PR_GET_NAME, name);
    assert_string_equal(name, "worker 0 (gen 3");
}

/* Nothing of an earlier, longer one shows behind it. */
static void a_shorter_one_after_a_longer(void **state)
{
    (void)state;
    title_set("worker 1000000 (gen 1000000)");
    title_set("m");
    size_t len = read_cmdline();
    assert_string_equal(cmdline_bytes, "promptgate: m");
    for (size_t i = strlen("promptgate: m"); i < len; i++)
        assert_int_equal(cmdline_bytes[i], 0);
}

static void a_very_long_one_is_cut(void **state)
{
    (void)state;
    static char role[7000];
    memset(role, 'r', sizeof role - 1);
    title_set(role);
    read_cmdline();
    assert_true(strlen(cmdline_bytes) < sizeof role);
    assert_memory_equal(cmdline_bytes, "promptgate: rrr", 15);
    title_set("m");
}

/* The environment lived where titles are written now. */
static void the_environment_is_kept(void **state)
{
    (void)state;
    title_set("a title that reaches beyond the arguments into what was the environment once");
    /* setenv(3) lets go of the old value; leak checks see it here. */
    static const char *volatile kept;
    kept = getenv("TITLE_TEST");
    assert_string_equal(kept, "kept");
    assert_int_equal(setenv("TITLE_TEST", "changed", 1), 0);
    assert_string_equal(getenv("TITLE_TEST"), "changed");
    assert_int_equal(unsetenv("TITLE_TEST"), 0);
    assert_null(getenv("TITLE_TEST"));
    setenv("TITLE_TEST", "kept", 1);
}

static void each_process_has_its_own(void **state)
{
    int status;
    (void)state;
    title_set("master");
    pid_t child = fork();
    if (child == 0) {
        title_set("logger");
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    read_cmdline();
    assert_string_equal(cmdline_bytes, "promptgate: master");
}

/* The environment a program is started with lies behind its arguments: so it starts itself once. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_ps_shows),
        cmocka_unit_test(a_shorter_one_after_a_longer),
        cmocka_unit_test(a_very_long_one_is_cut),
        cmocka_unit_test(the_environment_is_kept),
        cmocka_unit_test(each_process_has_its_own),
    };
    if (!getenv("TITLE_TEST")) {
        setenv("TITLE_TEST", "kept", 1);
        execv("/proc/self/exe", argv);
        return 1;
    }
    title_setup(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
