/* Both sides of an upgrade's conversation, as real processes: the binary that is executed is a
 * script, or this program itself, which then plays the part that the directory is named after. */
#include "master/upgrade.h"

#include "master/takeover.h"
#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { PATIENCE_MS = 30000 };

static struct world {
    char directory[SCRATCH_PATH], script[SCRATCH_PATH];
    int pipes[1][2];
    bool lent[1];
    struct handover handover;
    struct upgrade upgrade;
    int status; /* of the new one's end */
} world;

/* --- the new one's parts --- */

static void linger(void)
{
    for (;;)
        pause();
}

static void take_place(struct takeover *takeover)
{
    sigset_t blocked;
    struct sigaction action;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    sigaction(SIGPIPE, NULL, &action);
    if (!getenv("PREPARED") || sigismember(&blocked, SIGTERM) || action.sa_handler != SIG_DFL)
        takeover_fail(takeover, "is not prepared");
    if (!takeover_old_lives(takeover) || getpgrp() != getpid() || getenv(HANDOVER_VARIABLE))
        takeover_fail(takeover, "does not know who it is");
    if (!takeover_wait(takeover))
        takeover_fail(takeover, "may not go");
}

static void wait_for_over(const struct takeover *takeover)
{
    bool gone = false;
    while (!takeover_is_over(takeover, &gone) && !gone)
        poll(NULL, 0, 5);
    if (gone)
        _exit(2);
}

static void serve(struct takeover *takeover)
{
    take_place(takeover);
    takeover_say(takeover, "ready");
    wait_for_over(takeover);
    takeover_say(takeover, "serving");
    takeover_hang_up(takeover);
}

static void serve_on(struct takeover *takeover)
{
    serve(takeover);
    linger();
}

static void refuse(struct takeover *takeover)
{
    takeover_fail(takeover, "there is no room");
    _exit(1);
}

static void fail_when_ready(struct takeover *takeover)
{
    take_place(takeover);
    takeover_say(takeover, "ready");
    refuse(takeover);
}

static void mumble(struct takeover *takeover)
{
    takeover_say(takeover, "hello");
    linger();
}

static void hurry(struct takeover *takeover)
{
    takeover_say(takeover, "serving");
    linger();
}

static void hang_up(struct takeover *takeover)
{
    takeover_hang_up(takeover);
    linger();
}

/* One of its children has a child. */
static void have_children(struct takeover *takeover)
{
    if (fork() == 0) {
        fork();
        linger();
    }
    take_place(takeover);
    linger();
}

static int play(const char *part)
{
    static const struct {
        const char *name;
        void (*play)(struct takeover *takeover);
    } parts[] = {
        {"serves", serve_on},  {"serves-and-ends", serve},
        {"refuses", refuse},   {"fails-when-ready", fail_when_ready},
        {"mumbles", mumble},   {"hurries", hurry},
        {"hangs-up", hang_up}, {"has-children", have_children},
    };
    struct takeover takeover;
    if (!takeover_find(&takeover))
        return 3;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (strcmp(parts[i].name, part) == 0)
            parts[i].play(&takeover);
    _exit(0);
}

/* --- the old one --- */

static int set_up(void **state)
{
    (void)state;
    world = (struct world){.status = -1};
    if (!scratch_make(world.directory) || pipe2(world.pipes[0], O_CLOEXEC) != 0)
        return -1;
    scratch_path(world.directory, "binary", world.script);
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    world.handover = (struct handover){
        .layout = SHM_LAYOUT,
        .lock = fd,
        .counters = fd,
        .control.fd = fd,
        .keeper.fd = fd,
        .log_pipes = world.pipes,
        .lent = world.lent,
        .slots = 1,
        .fixed = (char *)"",
    };
    upgrade_init(&world.upgrade);
    upgrade_note_binary("a-name-without-a-slash");
    return fd >= 0 ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    pid_t left = world.upgrade.pid;
    if (left > 0)
        kill(-left, SIGKILL);
    if (left > 0 && !world.upgrade.ended)
        waitpid(left, NULL, 0);
    upgrade_deinit(&world.upgrade);
    close(world.handover.lock);
    close(world.pipes[0][0]);
    close(world.pipes[0][1]);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    scratch_remove(world.directory);
    return 0;
}

static void prepare(void *context)
{
    assert_ptr_equal(context, &world);
    setenv("PREPARED", "1", 1);
}

static void begin(const char *part)
{
    upgrade_ask(&world.upgrade);
    upgrade_begin(&world.upgrade, part, &world.handover, prepare, &world);
}

static void write_script(const char *text)
{
    FILE *file = fopen(world.script, "w");
    fprintf(file, "#!/bin/sh\n%s\n", text);
    fclose(file);
    chmod(world.script, 0700);
    upgrade_note_binary(world.script);
}

/* As the supervisor does at each turn. */
static void turn(void)
{
    int status;
    pid_t pid = waitpid(-1, &status, WNOHANG);
    if (pid > 0 && pid == world.upgrade.pid)
        world.status = status;
    if (pid > 0)
        upgrade_child_ended(&world.upgrade, pid, status);
    upgrade_tend(&world.upgrade);
}

static void wait_for(enum upgrade_state state)
{
    int64_t until_ms = clock_now_ms() + PATIENCE_MS;
    while (world.upgrade.state != state) {
        if (clock_now_ms() >= until_ms)
            fail_msg("in state %d, not %d: %s", (int)world.upgrade.state, (int)state,
                     buf_cstr(&world.upgrade.text));
        turn();
        poll(NULL, 0, 2);
    }
}

static int is_subreaper(void)
{
    int value = -1;
    prctl(PR_GET_CHILD_SUBREAPER, &value);
    return value;
}

/* Nothing of it is left, and the next one can begin. */
static void expect_undone(const char *reason)
{
    wait_for(UPGRADE_IDLE);
    assert_int_equal(world.upgrade.answered, world.upgrade.asked);
    assert_false(world.upgrade.good);
    if (!strstr(buf_cstr(&world.upgrade.text), reason))
        fail_msg("%s, not %s", buf_cstr(&world.upgrade.text), reason);
    assert_int_equal(world.upgrade.pid, 0);
    assert_int_equal(world.upgrade.channel, -1);
    assert_int_equal(is_subreaper(), 0);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void expect_failure(const char *part, const char *reason)
{
    begin(part);
    assert_int_equal(world.upgrade.state, UPGRADE_PREPARING);
    expect_undone(reason);
}

/* --- scripts --- */

static void a_script_that_ends(void **state)
{
    (void)state;
    write_script("exit 7");
    expect_failure("anywhere", "the new binary ended with status 7");
    write_script("kill -11 $$");
    expect_failure("anywhere", "the new binary was killed by signal 11");
    assert_int_equal(world.upgrade.answered, 2);
}

/* What it is told on its command line. */
static void its_arguments(void **state)
{
    (void)state;
    write_script("test $# = 3 && test $1 = serve && test $2 = --config && test \"$3\" = '/a b' && "
                 "test $PREPARED = 1 && test -n \"$PROMPTGATE_HANDOVER\" && exit 42");
    expect_failure("/a b", "status 42");
}

static void what_cannot_run(void **state)
{
    (void)state;
    char expected[SCRATCH_PATH + 64];
    upgrade_note_binary(world.script);
    snprintf(expected, sizeof expected, "cannot run %s: No such file", world.script);
    expect_failure("anywhere", expected);
    write_script("exit 0");
    chmod(world.script, 0600);
    expect_failure("anywhere", "Permission denied");
    assert_int_equal(WEXITSTATUS(world.status), 127);
}

/* A path that is relative counts from where it was noted. */
static void a_relative_path(void **state)
{
    (void)state;
    int before = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    write_script("exit 5");
    assert_int_equal(chdir(world.directory), 0);
    upgrade_note_binary("./binary");
    assert_int_equal(fchdir(before), 0);
    close(before);
    expect_failure("anywhere", "status 5");
}

static void the_whole_group_is_killed(void **state)
{
    (void)state;
    write_script("sleep 1000 & sleep 1001 & exec sleep 1002");
    begin("anywhere");
    pid_t pid = world.upgrade.pid;
    for (int i = 0; i < 20; i++) {
        turn();
        poll(NULL, 0, 5);
    }
    assert_int_equal(world.upgrade.state, UPGRADE_PREPARING);
    upgrade_cancel(&world.upgrade, "a change of mind");
    assert_int_equal(world.upgrade.state, UPGRADE_UNDOING);
    expect_undone("a change of mind");
    assert_int_equal(kill(-pid, 0), -1);
    assert_int_equal(errno, ESRCH);
    assert_int_equal(WTERMSIG(world.status), SIGKILL);
}

/* The one that was begun ends by itself; what it has begun does not. */
static void whoever_is_left_behind_is_killed(void **state)
{
    (void)state;
    write_script("sleep 1000 & exit 1");
    expect_failure("anywhere", "status 1");
}

static void who_says_nothing_has_its_time(void **state)
{
    (void)state;
    write_script("exec sleep 1000");
    begin("anywhere");
    assert_true(world.upgrade.deadline_ms > clock_now_ms() + 10000);
    assert_int_equal(upgrade_tend(&world.upgrade), UPGRADE_PREPARING);
    world.upgrade.deadline_ms = clock_now_ms();
    assert_int_equal(upgrade_tend(&world.upgrade), UPGRADE_UNDOING);
    expect_undone("was not ready in time");
}

/* --- beginnings that fail --- */

static void a_descriptor_that_is_not_open(void **state)
{
    (void)state;
    world.handover.counters = 999;
    expect_failure("serves", "cannot hand over descriptors");
}

static void no_descriptor_is_left(void **state)
{
    (void)state;
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = (struct rlimit){3, before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    begin("serves");
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(world.upgrade.state, UPGRADE_UNDOING);
    assert_int_equal(upgrade_tend(&world.upgrade), UPGRADE_IDLE);
    expect_undone("Too many open files");
}

static void a_cancel_before_it_begins(void **state)
{
    (void)state;
    assert_int_equal(upgrade_ask(&world.upgrade), 1);
    upgrade_cancel(&world.upgrade, "not now");
    assert_int_equal(world.upgrade.state, UPGRADE_UNDOING);
    assert_int_equal(upgrade_tend(&world.upgrade), UPGRADE_IDLE);
    expect_undone("not now");
}

/* --- the conversation --- */

static void go(const char *part)
{
    begin(part);
    wait_for(UPGRADE_CLEARING);
    assert_string_equal(world.upgrade.version, PROMPTGATE_VERSION);
    upgrade_go(&world.upgrade);
    assert_int_equal(world.upgrade.state, UPGRADE_TAKING);
}

static void another_takes_over(void **state)
{
    (void)state;
    sigset_t set, before;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &before);
    signal(SIGPIPE, SIG_IGN);
    go("serves");
    wait_for(UPGRADE_SWITCHING);
    upgrade_say_over(&world.upgrade);
    wait_for(UPGRADE_DONE);
    sigprocmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, SIG_DFL);
    assert_true(world.upgrade.good);
    assert_int_equal(world.upgrade.answered, 1);
    assert_non_null(strstr(buf_cstr(&world.upgrade.text), "version " PROMPTGATE_VERSION));
    assert_int_equal(is_subreaper(), 0);
    assert_int_equal(waitpid(world.upgrade.pid, NULL, WNOHANG), 0);
    assert_int_equal(upgrade_tend(&world.upgrade), UPGRADE_DONE);
}

/* Only who has heard that it serves leaves the clients to it. */
static void who_ends_before_it_is_heard_has_not_taken_over(void **state)
{
    int status;
    (void)state;
    go("serves-and-ends");
    wait_for(UPGRADE_SWITCHING);
    upgrade_say_over(&world.upgrade);
    assert_int_equal(waitpid(world.upgrade.pid, &status, 0), world.upgrade.pid);
    upgrade_child_ended(&world.upgrade, world.upgrade.pid, status);
    assert_int_equal(world.upgrade.state, UPGRADE_UNDOING);
    expect_undone("ended with status 0");
}

static void who_has_taken_over_may_end(void **state)
{
    (void)state;
    go("serves");
    wait_for(UPGRADE_SWITCHING);
    upgrade_say_over(&world.upgrade);
    wait_for(UPGRADE_DONE);
    assert_false(world.upgrade.ended);
    kill(world.upgrade.pid, SIGKILL);
    while (!world.upgrade.ended)
        turn();
    assert_int_equal(world.upgrade.state, UPGRADE_DONE);
    assert_true(world.upgrade.good);
}

static void its_reason_is_told(void **state)
{
    (void)state;
    expect_failure("refuses", "there is no room");
    go("fails-when-ready");
    expect_undone("there is no room");
}

/* Two words wait when it is reaped; the reason is the second. */
static void its_last_words_are_heard(void **state)
{
    int status;
    (void)state;
    go("fails-when-ready");
    assert_int_equal(waitpid(world.upgrade.pid, &status, 0), world.upgrade.pid);
    upgrade_child_ended(&world.upgrade, world.upgrade.pid, status);
    assert_int_equal(world.upgrade.state, UPGRADE_UNDOING);
    expect_undone("there is no room");
}

static void what_is_not_understood_ends_it(void **state)
{
    (void)state;
    expect_failure("mumbles", "does not understand");
    expect_failure("hurries", "does not understand");
}

static void who_hangs_up_has_its_time(void **state)
{
    (void)state;
    begin("hangs-up");
    int64_t until_ms = clock_now_ms() + PATIENCE_MS;
    while (world.upgrade.channel >= 0 && clock_now_ms() < until_ms)
        turn();
    assert_int_equal(world.upgrade.state, UPGRADE_PREPARING);
    world.upgrade.deadline_ms = clock_now_ms();
    expect_undone("was not ready in time");
}

static void children_of_the_new_one_are_killed(void **state)
{
    (void)state;
    go("has-children");
    upgrade_cancel(&world.upgrade, "the gateway is stopping");
    expect_undone("the gateway is stopping");
}

static void others_ends_do_not_matter(void **state)
{
    (void)state;
    upgrade_child_ended(&world.upgrade, 1, 0);
    upgrade_child_ended(&world.upgrade, 0, 0);
    assert_int_equal(world.upgrade.state, UPGRADE_IDLE);
    begin("serves");
    upgrade_child_ended(&world.upgrade, world.upgrade.pid + 1, 0);
    assert_int_equal(world.upgrade.state, UPGRADE_PREPARING);
    upgrade_cancel(&world.upgrade, "enough");
    expect_undone("enough");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(a_script_that_ends),
        TEST(its_arguments),
        TEST(what_cannot_run),
        TEST(a_relative_path),
        TEST(the_whole_group_is_killed),
        TEST(whoever_is_left_behind_is_killed),
        TEST(who_says_nothing_has_its_time),
        TEST(a_descriptor_that_is_not_open),
        TEST(no_descriptor_is_left),
        TEST(a_cancel_before_it_begins),
        TEST(another_takes_over),
        TEST(who_ends_before_it_is_heard_has_not_taken_over),
        TEST(who_has_taken_over_may_end),
        TEST(its_reason_is_told),
        TEST(its_last_words_are_heard),
        TEST(what_is_not_understood_ends_it),
        TEST(who_hangs_up_has_its_time),
        TEST(children_of_the_new_one_are_killed),
        TEST(others_ends_do_not_matter),
    };
    if (argc == 4 && getenv(HANDOVER_VARIABLE))
        return play(argv[3]);
    return cmocka_run_group_tests_name("upgrade", tests, NULL, NULL);
}
