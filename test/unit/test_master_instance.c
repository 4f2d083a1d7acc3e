#include "master/instance.h"
#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

/* A master that takes the lock and forks a child which outlives it, as real processes. */
struct family {
    char directory[SCRATCH_PATH];
    pid_t master, orphan;
    uint64_t orphan_started;
    int alive; /* a pipe that ends with the orphan */
};

static int setup(void **state)
{
    struct family *f = calloc(1, sizeof *f);
    *state = f;
    f->alive = -1;
    return scratch_make(f->directory) ? 0 : -1;
}

static int teardown(void **state)
{
    struct family *f = *state;
    if (f->master > 0 && kill(f->master, SIGKILL) == 0)
        waitpid(f->master, NULL, 0);
    if (f->orphan > 0 && process_start_time(f->orphan) == f->orphan_started)
        kill(f->orphan, SIGKILL);
    if (f->alive >= 0)
        close(f->alive);
    scratch_remove(f->directory);
    free(f);
    return 0;
}

_Noreturn static void sleep_for(int ms)
{
    poll(NULL, 0, ms);
    _exit(0);
}

_Noreturn static void be_master(const char *directory, int tell, int orphan_ms)
{
    struct instance instance;
    struct error error;
    if (!instance_take(&instance, directory, 0, NULL, 0, &error))
        _exit(1);
    pid_t orphan = orphan_ms ? fork() : 0;
    if (orphan == 0 && orphan_ms)
        sleep_for(orphan_ms); /* `tell` stays open as long as it lives */
    ssize_t ignored = write(tell, &orphan, sizeof orphan);
    (void)ignored;
    sleep_for(60000);
}

/* `orphan_ms` is how long its child lives; 0 = it has none. */
static void start_family(struct family *f, int orphan_ms)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    f->master = fork();
    if (f->master == 0) {
        close(ends[0]);
        be_master(f->directory, ends[1], orphan_ms);
    }
    close(ends[1]);
    f->alive = ends[0];
    assert_int_equal(read(f->alive, &f->orphan, sizeof f->orphan), sizeof f->orphan);
    f->orphan_started = f->orphan ? process_start_time(f->orphan) : 0;
}

static void kill_master(struct family *f)
{
    kill(f->master, SIGKILL);
    waitpid(f->master, NULL, 0);
    f->master = 0;
}

static bool orphan_lives(const struct family *f)
{
    return process_start_time(f->orphan) == f->orphan_started;
}

static bool take(struct family *f, int64_t wait_ms, const struct instance_process *orphans,
                 size_t count, struct error *error)
{
    struct instance instance;
    bool taken = instance_take(&instance, f->directory, wait_ms, orphans, count, error);
    assert_int_equal(instance.fd >= 0, taken);
    instance_release(&instance);
    return taken;
}

static void the_lock_names_its_holder(void **state)
{
    struct family *f = *state;
    struct instance instance;
    struct error error;
    char path[SCRATCH_PATH];
    int pid = 0;
    unsigned long long started = 0;
    assert_true(instance_take(&instance, f->directory, 0, NULL, 0, &error));
    FILE *file = fopen(scratch_path(f->directory, "lock", path), "r");
    assert_int_equal(fscanf(file, "%d %llu", &pid, &started), 2);
    fclose(file);
    assert_int_equal(pid, getpid());
    assert_true(started > 0 && started == process_start_time(getpid()));
    instance_release(&instance);
    assert_true(take(f, 0, NULL, 0, &error));
}

static void a_living_master_refuses_a_second_at_once(void **state)
{
    struct family *f = *state;
    struct error error;
    char expected[64];
    start_family(f, 0);
    const struct instance_process master = {f->master, process_start_time(f->master)};
    int64_t began_ms = clock_now_ms();
    assert_false(take(f, 60000, &master, 1, &error));
    assert_true(clock_now_ms() - began_ms < 30000);
    snprintf(expected, sizeof expected, "already running (pid %d)", (int)f->master);
    assert_string_equal(error.message, expected);
    assert_true(process_start_time(f->master) == master.started);
}

static void a_master_that_left_nobody_is_no_hindrance(void **state)
{
    struct family *f = *state;
    struct error error;
    start_family(f, 0);
    kill_master(f);
    assert_true(take(f, 0, NULL, 0, &error));
}

static void orphans_that_end_in_time_are_waited_for(void **state)
{
    struct family *f = *state;
    struct error error;
    start_family(f, 300);
    kill_master(f);
    int64_t began_ms = clock_now_ms();
    assert_true(take(f, 30000, NULL, 0, &error));
    assert_false(orphan_lives(f));
    assert_true(clock_now_ms() - began_ms < 30000);
}

static void orphans_that_do_not_end_are_killed(void **state)
{
    struct family *f = *state;
    struct error error;
    start_family(f, 60000);
    kill_master(f);
    const struct instance_process orphan = {f->orphan, f->orphan_started};
    int64_t began_ms = clock_now_ms();
    assert_true(take(f, 150, &orphan, 1, &error));
    int64_t took_ms = clock_now_ms() - began_ms;
    assert_true(took_ms >= 150 && took_ms < 30000);
    assert_false(orphan_lives(f));
}

/* The pid in the list belongs to another process by now: it is none of ours. */
static void a_process_of_another_start_time_is_spared(void **state)
{
    struct family *f = *state;
    struct error error;
    start_family(f, 60000);
    kill_master(f);
    pid_t bystander = fork();
    if (bystander == 0)
        sleep_for(60000);
    const struct instance_process list[] = {
        {bystander, process_start_time(bystander) + 1},
        {1, process_start_time(1)},
        {f->orphan, f->orphan_started},
    };
    assert_true(take(f, 50, list, 3, &error));
    assert_int_equal(waitpid(bystander, NULL, WNOHANG), 0);
    kill(bystander, SIGKILL);
    waitpid(bystander, NULL, 0);
    assert_false(orphan_lives(f));
}

static void a_stop_ends_the_wait(void **state)
{
    struct family *f = *state;
    struct error error;
    sigset_t set, old;
    start_family(f, 60000);
    kill_master(f);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, &old);
    raise(SIGTERM);
    assert_false(take(f, 60000, NULL, 0, &error));
    assert_non_null(strstr(error.message, "told to stop"));
    int number;
    sigwait(&set, &number);
    sigprocmask(SIG_SETMASK, &old, NULL);
    assert_true(orphan_lives(f));
}

/* A master that is dead and not yet reaped holds nothing and runs nothing. */
static void a_zombie_is_not_a_living_master(void **state)
{
    struct family *f = *state;
    struct error error;
    siginfo_t info;
    start_family(f, 60000);
    kill(f->master, SIGKILL);
    assert_int_equal(waitid(P_PID, (id_t)f->master, &info, WEXITED | WNOWAIT), 0);
    assert_int_equal(process_start_time(f->master), 0);
    const struct instance_process orphan = {f->orphan, f->orphan_started};
    assert_true(take(f, 50, &orphan, 1, &error));
}

/* Rubbish in the file, or a line of another boot, names nobody. */
static void what_the_file_says_of_another_boot_is_nothing(void **state)
{
    struct family *f = *state;
    struct error error;
    char path[SCRATCH_PATH];
    start_family(f, 60000);
    kill_master(f);
    FILE *file = fopen(scratch_path(f->directory, "lock", path), "r+");
    fprintf(file, "%d %llu another-boot\n%100s", (int)getpid(),
            (unsigned long long)process_start_time(getpid()), "");
    fclose(file);
    const struct instance_process orphan = {f->orphan, f->orphan_started};
    assert_true(take(f, 50, &orphan, 1, &error));
}

/* Who has locked a file that was removed since guards nothing. */
static void a_removed_file_is_made_anew(void **state)
{
    struct family *f = *state;
    struct instance first, second;
    struct error error;
    char path[SCRATCH_PATH];
    assert_true(instance_take(&first, f->directory, 0, NULL, 0, &error));
    unlink(scratch_path(f->directory, "lock", path));
    assert_true(instance_take(&second, f->directory, 0, NULL, 0, &error));
    assert_int_equal(access(path, F_OK), 0);
    instance_release(&first);
    instance_release(&second);
}

static void a_directory_that_is_not_there_is_told(void **state)
{
    struct family *f = *state;
    struct instance instance;
    struct error error;
    char path[SCRATCH_PATH];
    assert_false(
        instance_take(&instance, scratch_path(f->directory, "none", path), 0, NULL, 0, &error));
    assert_non_null(strstr(error.message, "none/lock: No such file"));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_lock_names_its_holder),
        TEST(a_living_master_refuses_a_second_at_once),
        TEST(a_master_that_left_nobody_is_no_hindrance),
        TEST(orphans_that_end_in_time_are_waited_for),
        TEST(orphans_that_do_not_end_are_killed),
        TEST(a_process_of_another_start_time_is_spared),
        TEST(a_stop_ends_the_wait),
        TEST(a_zombie_is_not_a_living_master),
        TEST(what_the_file_says_of_another_boot_is_nothing),
        TEST(a_removed_file_is_made_anew),
        TEST(a_directory_that_is_not_there_is_told),
    };
    return cmocka_run_group_tests_name("instance", tests, NULL, NULL);
}
