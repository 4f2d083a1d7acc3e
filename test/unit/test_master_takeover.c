/* What a new master finds in its environment, and what it says when that is of no use. How both
 * sides speak with each other is in test_master_upgrade.c. */
#include "master/takeover.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

static struct world {
    int memory, ends[2]; /* the second end is the new one's */
    struct takeover takeover;
} world;

static int set_up(void **state)
{
    (void)state;
    world = (struct world){.takeover.channel = -1};
    world.memory = memfd_create("handover", MFD_CLOEXEC);
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, world.ends);
}

static int tear_down(void **state)
{
    (void)state;
    takeover_deinit(&world.takeover);
    unsetenv(HANDOVER_VARIABLE);
    close(world.memory);
    close(world.ends[0]);
    return 0;
}

static void hand_over(const char *text)
{
    char said[64];
    assert_int_equal(write(world.memory, text, strlen(text)), (ssize_t)strlen(text));
    snprintf(said, sizeof said, "%d:%d", dup(world.memory), world.ends[1]);
    setenv(HANDOVER_VARIABLE, said, 1);
}

static void expect_heard(const char *expected)
{
    char said[1024] = "";
    assert_true(recv(world.ends[0], said, sizeof said - 1, MSG_DONTWAIT) >= 0);
    if (strncmp(said, expected, strlen(expected)) != 0)
        fail_msg("%s, not %s", said, expected);
}

static void expect_failed(const char *text, const char *reason)
{
    hand_over(text);
    assert_false(takeover_find(&world.takeover));
    expect_heard(reason);
    assert_null(getenv(HANDOVER_VARIABLE));
}

static void most_have_no_other_master(void **state)
{
    (void)state;
    assert_true(takeover_find(&world.takeover));
    assert_int_equal(world.takeover.state, TAKEOVER_NONE);
    assert_int_equal(world.takeover.channel, -1);
    assert_false(takeover_old_lives(&world.takeover));
    takeover_say(&world.takeover, "ready"); /* to nobody */
    takeover_fail(&world.takeover, "a reason");
    close(world.ends[1]);
}

static void what_names_no_channel_is_of_no_use(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "abc", "5", "5:", ":5", "5:999", "5:-1"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        setenv(HANDOVER_VARIABLE, texts[i], 1);
        assert_false(takeover_find(&world.takeover));
        assert_int_equal(world.takeover.state, TAKEOVER_NONE);
        assert_int_equal(world.takeover.channel, -1);
        assert_null(getenv(HANDOVER_VARIABLE));
    }
    close(world.ends[1]);
}

static void what_is_no_handover_is_told(void **state)
{
    (void)state;
    expect_failed("{\"version\":1", "failed what was handed over is no JSON: ");
}

static void nothing_is_told(void **state)
{
    (void)state;
    expect_failed("", "failed what was handed over is no JSON: ");
}

static void a_newer_version_is_told(void **state)
{
    (void)state;
    expect_failed("{\"version\":9}", "failed what is handed over has version 9, and this binary "
                                     "reads up to 1: restart needed");
}

static void too_much_is_told(void **state)
{
    (void)state;
    assert_int_equal(ftruncate(world.memory, (1 << 20) + 1), 0);
    expect_failed("", "failed what was handed over cannot be read");
}

static void no_memory_is_told(void **state)
{
    char said[64];
    (void)state;
    snprintf(said, sizeof said, "999:%d", world.ends[1]);
    setenv(HANDOVER_VARIABLE, said, 1);
    assert_false(takeover_find(&world.takeover));
    expect_heard("failed what was handed over cannot be read");
}

static void write_whole(struct buf *text, int fd, int counters)
{
    int pipes[1][2] = {{fd, fd}};
    bool lent[1] = {true};
    const struct handover handover = {
        .layout = SHM_LAYOUT,
        .lock = fd,
        .counters = counters,
        .control.fd = fd,
        .keeper.fd = fd,
        .log_pipes = pipes,
        .lent = lent,
        .slots = 1,
        .fixed = (char *)"",
    };
    handover_write(&handover, text);
}

static void a_whole_one_is_taken(void **state)
{
    (void)state;
    struct buf text = {0};
    bool gone = true;
    fcntl(world.memory, F_SETFD, 0);
    write_whole(&text, world.memory, world.memory);
    hand_over(buf_cstr(&text));
    buf_free(&text);
    assert_true(takeover_find(&world.takeover));
    assert_int_equal(world.takeover.state, TAKEOVER_TAKING);
    assert_int_equal(world.takeover.old, getppid());
    assert_true(takeover_old_lives(&world.takeover));
    assert_int_equal(fcntl(world.memory, F_GETFD), FD_CLOEXEC);
    assert_int_equal(fcntl(world.ends[1], F_GETFD), FD_CLOEXEC);
    assert_int_equal(world.takeover.handover.slots, 1);
    assert_int_equal(send(world.ends[0], "go", 2, 0), 2);
    assert_true(takeover_wait(&world.takeover));
    expect_heard("prepared " PROMPTGATE_VERSION);
    assert_false(takeover_is_over(&world.takeover, &gone));
    assert_false(gone);
    world.takeover.old++;
    assert_false(takeover_old_lives(&world.takeover));
}

static void a_descriptor_that_is_not_open_is_told(void **state)
{
    (void)state;
    struct buf text = {0};
    write_whole(&text, world.memory, 999);
    expect_failed(buf_cstr(&text), "failed a descriptor that was handed over is not open");
    buf_free(&text);
}

static void the_other_one_says_over_or_goes(void **state)
{
    (void)state;
    bool gone = true;
    world.takeover.channel = world.ends[1];
    assert_int_equal(send(world.ends[0], "over", 4, 0), 4);
    assert_true(takeover_is_over(&world.takeover, &gone));
    assert_false(gone);
    assert_int_equal(send(world.ends[0], "overt", 5, 0), 5);
    assert_false(takeover_is_over(&world.takeover, &gone));
    assert_false(gone);
    assert_int_equal(send(world.ends[0], "stay", 4, 0), 4);
    assert_false(takeover_wait(&world.takeover));
    shutdown(world.ends[0], SHUT_RDWR);
    assert_false(takeover_wait(&world.takeover));
    assert_false(takeover_is_over(&world.takeover, &gone));
    assert_true(gone);
    takeover_say(&world.takeover, "ready"); /* without SIGPIPE */
    takeover_hang_up(&world.takeover);
    assert_int_equal(world.takeover.channel, -1);
    assert_false(takeover_is_over(&world.takeover, &gone));
    assert_true(gone);
}

/* As much of it as the other one reads. */
static void a_long_reason_is_cut(void **state)
{
    (void)state;
    char reason[2000], said[2000];
    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    world.takeover.channel = world.ends[1];
    takeover_fail(&world.takeover, reason);
    assert_int_equal(recv(world.ends[0], said, sizeof said, MSG_DONTWAIT), 7 + 500);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(most_have_no_other_master),
        TEST(what_names_no_channel_is_of_no_use),
        TEST(what_is_no_handover_is_told),
        TEST(nothing_is_told),
        TEST(a_newer_version_is_told),
        TEST(too_much_is_told),
        TEST(no_memory_is_told),
        TEST(a_whole_one_is_taken),
        TEST(a_descriptor_that_is_not_open_is_told),
        TEST(the_other_one_says_over_or_goes),
        TEST(a_long_reason_is_cut),
    };
    return cmocka_run_group_tests_name("takeover", tests, NULL, NULL);
}
