/* Slots of two masters: what one lends the other, gives up, takes back and inherits. */
#include "master/slots.h"

#include "master/instance.h"
#include "master/recovery.h"
#include "shared/base/clock.h"
#include "shared/base/xalloc.h"
#include "shared/counters/requests.h"
#include "test/unit/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { SLOTS = 5 };

static struct world {
    char directory[SCRATCH_PATH];
    struct counters counters, joined;
    struct slots first, second;
    struct requests requests;
    bool lent[SLOTS];
    pid_t child;
    struct error error;
} world;

static int set_up(void **state)
{
    char path[SCRATCH_PATH];
    (void)state;
    world = (struct world){0};
    return scratch_make(world.directory) &&
                   counters_create(&world.counters, scratch_path(world.directory, "counters", path),
                                   SLOTS, &world.error) &&
                   slots_open(&world.first, &world.counters, &world.error)
               ? 0
               : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (world.child > 0) {
        kill(world.child, SIGKILL);
        waitpid(world.child, NULL, 0);
    }
    slots_free(&world.first);
    slots_free(&world.second);
    counters_close(&world.joined);
    counters_close(&world.counters);
    scratch_remove(world.directory);
    return 0;
}

static struct shm_worker *shared(unsigned slot)
{
    return &world.counters.workers[slot];
}

/* The second master with its own ends of the first one's pipes. */
static void adopt(void)
{
    int(*pipes)[2] = xcalloc(SLOTS, sizeof *pipes);
    for (unsigned i = 0; i < SLOTS; i++)
        for (int end = 0; end < 2; end++)
            pipes[i][end] = fcntl(world.first.log_pipes[i][end], F_DUPFD_CLOEXEC, 0);
    int fd = fcntl(world.counters.fd, F_DUPFD_CLOEXEC, 0);
    assert_true(counters_join(&world.joined, fd, &world.error));
    slots_adopt(&world.second, &world.joined, pipes, world.lent);
}

static void publish(unsigned slot, enum shm_worker_state state, pid_t pid)
{
    atomic_store(&shared(slot)->generation, 3);
    atomic_store(&shared(slot)->start_ticks, pid ? process_start_time(pid) : 0);
    atomic_store(&shared(slot)->pid, pid);
    atomic_store(&shared(slot)->heartbeat_ms, clock_now_ms());
    atomic_store(&shared(slot)->state, state);
}

/* A request that the slot's process has in hand. */
static struct shm_request *begin(unsigned slot)
{
    struct request_opening opening = {
        .id = {{7, [6] = 0x70, [8] = 0x80}},
        .created_wall_ms = 1795000000000,
        .client_ip = STR("192.0.2.7"),
        .project = ACCOUNT_NONE,
        .token = ACCOUNT_NONE,
    };
    assert_true(counters_allot_table(&world.counters, slot, &world.error));
    requests_init(&world.requests, shared(slot), counters_requests(&world.counters, slot));
    struct shm_request *request = requests_open(&world.requests, &opening);
    requests_deinit(&world.requests);
    assert_non_null(request);
    return request;
}

static pid_t sleeper(void)
{
    world.child = fork();
    if (world.child == 0) {
        pause();
        _exit(0);
    }
    return world.child;
}

static void end_sleeper(void)
{
    kill(world.child, SIGKILL);
    assert_int_equal(waitpid(world.child, NULL, 0), world.child);
    world.child = 0;
}

/* Reads what `pool` has in the slot's pipe; how many bytes. */
static ssize_t drain(const struct slots *pool, unsigned slot)
{
    char bytes[8192];
    return read(pool->log_pipes[slot][0], bytes, sizeof bytes);
}

/* --- the first master --- */

static void expect_lent(const char *expected)
{
    char said[SLOTS + 1] = "";
    for (unsigned i = 0; i < SLOTS; i++)
        said[i] = world.lent[i] ? '+' : '-';
    assert_string_equal(said, expected);
}

static void free_slots_but_some_are_lent(void **state)
{
    (void)state;
    assert_int_equal(slots_take(&world.first), 0);
    assert_int_equal(slots_lend(&world.first, 1, world.lent), 3);
    expect_lent("--+++");
    assert_int_equal(slots_available(&world.first), 1);
    assert_int_equal(slots_take(&world.first), 1);
    assert_int_equal(slots_take(&world.first), -1);
    assert_int_equal(slots_foreign(&world.first, false), 0); /* nobody has taken one */
    slots_take_back(&world.first);
    assert_int_equal(slots_available(&world.first), 3);
}

static void as_many_as_there_are(void **state)
{
    (void)state;
    world.lent[0] = world.lent[4] = true;
    assert_int_equal(slots_lend(&world.first, SLOTS, world.lent), 0);
    expect_lent("-----");
    assert_int_equal(slots_lend(&world.first, SLOTS + 1, world.lent), 0);
    assert_int_equal(slots_lend(&world.first, 0, world.lent), SLOTS);
    expect_lent("+++++");
    assert_int_equal(slots_take(&world.first), -1);
    assert_int_equal(slots_lend(&world.first, 0, world.lent), 0); /* they are lent already */
    expect_lent("-----");
}

static void lent_slots_are_not_in_use(void **state)
{
    (void)state;
    assert_false(slots_in_use(&world.first));
    slots_lend(&world.first, 1, world.lent);
    publish(3, SHM_SLOT_READY, getpid());
    assert_false(slots_in_use(&world.first));
    int slot = slots_take(&world.first);
    assert_true(slots_in_use(&world.first));
    begin((unsigned)slot);
    slots_leave(&world.first, (unsigned)slot);
    assert_true(slots_in_use(&world.first)); /* the row is on its way */
    assert_true(drain(&world.first, (unsigned)slot) > 0);
    slots_clean(&world.first);
    assert_false(slots_in_use(&world.first));
}

static void workers_of_lent_slots_are_counted(void **state)
{
    (void)state;
    slots_lend(&world.first, 1, world.lent);
    publish(0, SHM_SLOT_READY, getpid()); /* is not lent */
    publish(1, SHM_SLOT_STARTING, 0);
    publish(2, SHM_SLOT_READY, getpid());
    publish(3, SHM_SLOT_DRAINING, getpid());
    assert_int_equal(slots_foreign(&world.first, false), 3);
    assert_int_equal(slots_foreign(&world.first, true), 1);
    atomic_store(&shared(3)->state, SHM_SLOT_FREE); /* dead, and its rows not written */
    assert_int_equal(slots_foreign(&world.first, false), 3);
    assert_int_equal(slots_oldest_generation(&world.first, 9), 0);
}

/* The second master and its workers were killed. */
static void what_was_in_hand_there_is_recovered(void **state)
{
    (void)state;
    slots_lend(&world.first, 2, world.lent);
    publish(3, SHM_SLOT_READY, 1);
    publish(4, SHM_SLOT_READY, 1);
    struct shm_request *request = begin(4);
    slots_take_back(&world.first);
    assert_int_equal(slots_available(&world.first), SLOTS - 1);
    assert_int_equal(atomic_load(&shared(3)->pid), 0);
    assert_int_equal(atomic_load(&shared(3)->state), SHM_SLOT_FREE);
    assert_true(slots_recovering(&world.first));
    slots_clean(&world.first);
    assert_false(slots_recovering(&world.first));
    assert_int_equal(slots_available(&world.first), SLOTS - 1);
    assert_true(drain(&world.first, 4) > 0);
    slots_clean(&world.first);
    assert_int_equal(slots_available(&world.first), SLOTS);
    assert_int_equal(request_state(request), REQUEST_FREE);
    assert_int_equal(atomic_load(&shared(4)->pid), 0);
    assert_int_equal(atomic_load(&shared(4)->state), SHM_SLOT_FREE);
    assert_false(recovery_is_needed(&world.counters, 4));
}

/* --- the second master --- */

static void only_what_was_lent_is_taken(void **state)
{
    (void)state;
    assert_int_equal(slots_take(&world.first), 0);
    publish(0, SHM_SLOT_READY, getpid());
    slots_lend(&world.first, 2, world.lent);
    adopt();
    assert_int_equal(world.second.count, SLOTS);
    assert_int_equal(slots_available(&world.second), 2);
    assert_false(slots_in_use(&world.second));
    assert_int_equal(slots_foreign(&world.second, true), 1);
    assert_int_equal(slots_take(&world.second), 3);
    assert_int_equal(slots_take(&world.second), 4);
    assert_int_equal(slots_take(&world.second), -1);
    assert_true(slots_in_use(&world.second));
    slots_leave(&world.second, 3);
    assert_int_equal(slots_take(&world.second), 3);
}

/* What the first one gives up is free when it starts nothing any more, and not before. */
static void what_is_given_up_is_free_for_one_alone(void **state)
{
    (void)state;
    slots_take(&world.first);
    slots_take(&world.first);
    publish(0, SHM_SLOT_READY, getpid());
    publish(1, SHM_SLOT_READY, getpid());
    slots_lend(&world.first, 1, world.lent);
    adopt();
    slots_clean(&world.second);
    assert_int_equal(slots_available(&world.second), 2);
    world.second.alone = true;
    slots_clean(&world.second);
    assert_int_equal(slots_available(&world.second), 3); /* the one that was kept */
    begin(1);
    slots_leave(&world.first, 0);
    slots_leave(&world.first, 1);
    slots_clean(&world.second);
    assert_int_equal(slots_available(&world.second), 4);
    assert_int_equal(slots_foreign(&world.second, false), 1); /* its rows are in the pipe */
    assert_true(drain(&world.second, 1) > 0);
    slots_clean(&world.first);
    slots_clean(&world.second);
    assert_int_equal(slots_available(&world.second), SLOTS);
    assert_int_equal(slots_foreign(&world.second, false), 0);
}

static void expect_orphan(unsigned slot, bool expected)
{
    enum slot_state before = world.second.states[slot];
    assert_int_equal(before, SLOT_FOREIGN);
    slots_adopt_orphans(&world.second);
    assert_int_equal(world.second.states[slot], expected ? SLOT_RECOVERING : SLOT_FOREIGN);
}

/* The first master has died: its workers are waited for, and then their rows are written. */
static void orphans_are_adopted_when_they_end(void **state)
{
    (void)state;
    slots_take(&world.first);
    publish(0, SHM_SLOT_DRAINING, sleeper());
    slots_lend(&world.first, 0, world.lent);
    adopt();
    struct shm_request *request = begin(0);
    expect_orphan(0, false);
    slots_kill_foreign(&world.second);
    end_sleeper();
    expect_orphan(0, true);
    assert_int_equal(slots_foreign(&world.second, false), 0);
    slots_clean(&world.second);
    assert_true(drain(&world.second, 0) > 0);
    slots_clean(&world.second);
    assert_int_equal(slots_available(&world.second), SLOTS);
    assert_int_equal(request_state(request), REQUEST_FREE);
}

static void foreign_workers_are_killed(void **state)
{
    int status;
    (void)state;
    slots_take(&world.first);
    slots_take(&world.first);
    publish(0, SHM_SLOT_READY, sleeper());
    publish(1, SHM_SLOT_STARTING, 0); /* has no name yet */
    slots_lend(&world.first, 0, world.lent);
    publish(2, SHM_SLOT_READY, getpid()); /* the second one's own */
    adopt();
    slots_kill_foreign(&world.second);
    assert_int_equal(waitpid(world.child, &status, 0), world.child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
    world.child = 0;
}

/* The pid is somebody else's by now, or nobody's. */
static void a_process_of_another_start_is_none(void **state)
{
    (void)state;
    pid_t pid = sleeper();
    for (int i = 0; i < 3; i++)
        slots_take(&world.first);
    publish(0, SHM_SLOT_READY, pid);
    publish(1, SHM_SLOT_READY, pid);
    atomic_fetch_add(&shared(1)->start_ticks, 1);
    slots_lend(&world.first, 0, world.lent);
    adopt();
    expect_orphan(1, true);
    assert_int_equal(world.second.states[0], SLOT_FOREIGN);
    assert_int_equal(world.second.states[2], SLOT_RECOVERING); /* never had one */
    end_sleeper();
    atomic_store(&shared(0)->start_ticks, 0); /* was dead before it could be named */
    expect_orphan(0, true);
}

/* Forked when its master was killed, before its name stood in the table. */
static void one_without_a_name_may_live(void **state)
{
    (void)state;
    slots_take(&world.first);
    publish(0, SHM_SLOT_STARTING, 0);
    slots_lend(&world.first, 0, world.lent);
    adopt();
    expect_orphan(0, false);
    atomic_fetch_sub(&shared(0)->heartbeat_ms, 9000);
    expect_orphan(0, false);
    atomic_fetch_sub(&shared(0)->heartbeat_ms, 1000);
    expect_orphan(0, true);
    assert_int_equal(atomic_load(&shared(0)->state), SHM_SLOT_FREE);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(free_slots_but_some_are_lent),
        TEST(as_many_as_there_are),
        TEST(lent_slots_are_not_in_use),
        TEST(workers_of_lent_slots_are_counted),
        TEST(what_was_in_hand_there_is_recovered),
        TEST(only_what_was_lent_is_taken),
        TEST(what_is_given_up_is_free_for_one_alone),
        TEST(orphans_are_adopted_when_they_end),
        TEST(foreign_workers_are_killed),
        TEST(a_process_of_another_start_is_none),
        TEST(one_without_a_name_may_live),
    };
    return cmocka_run_group_tests_name("slots", tests, NULL, NULL);
}
