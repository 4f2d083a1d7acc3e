/* "No death of processes, of one or all, loses a row": a request from its acceptance to the store,
 * with each process killed before each of its steps. */
#include "test/steps/log_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

#if defined __SANITIZE_ADDRESS__
enum { LESS = 1 };
#else
enum { LESS = 0 };
#endif

static struct log_world world;

static void explore(struct interleave_test test)
{
    test.world = &world;
    test.begin = log_world_begin;
    test.check = log_world_check;
    test.end = log_world_end;
    test.opens = true;
    if (test.preemptions > 1)
        test.preemptions -= LESS;
    assert_true(interleave_schedules(&test, NULL));
}

static void reset(struct log_world settings)
{
    world.slots_count = settings.slots_count ? settings.slots_count : 1;
    world.requests = settings.requests ? settings.requests : 1;
    world.body_bytes = settings.body_bytes;
    world.rounds = settings.rounds ? settings.rounds : 2;
    world.segment_bytes = settings.segment_bytes ? settings.segment_bytes : 1;
    world.pauses = settings.pauses;
    world.duplicates_are_fine = settings.duplicates_are_fine;
    world.poison = settings.poison;
}

/* Each record is in the store exactly once, in order. */
static void a_logger_dies(void **state)
{
    (void)state;
    reset((struct log_world){.requests = 2, .body_bytes = 5000});
    explore((struct interleave_test){
        .name = "a logger dies, and the next",
        .actors = {{"worker", log_world_worker_0},
                   {"logger", log_world_logger, .mortal = true},
                   {"next", log_world_logger, .mortal = true, .after = "logger"}},
        .preemptions = 1,
        .deaths = 2,
    });
}

static void a_logger_dies_beside_two_workers(void **state)
{
    (void)state;
    reset((struct log_world){.slots_count = 2});
    explore((struct interleave_test){
        .name = "a logger dies beside two workers",
        .actors = {{"worker 0", log_world_worker_0},
                   {"worker 1", log_world_worker_1},
                   {"logger", log_world_logger, .mortal = true},
                   {"next", log_world_logger, .after = "logger"}},
        .preemptions = 1,
        .deaths = 1,
    });
}

static void a_worker_dies(void **state)
{
    (void)state;
    reset((struct log_world){.rounds = 1, .body_bytes = 5000, .duplicates_are_fine = true});
    explore((struct interleave_test){
        .name = "a worker dies",
        .actors = {{"worker", log_world_worker_0, .mortal = true},
                   {"logger", log_world_logger},
                   {"master", log_world_master, .after = "worker"}},
        .preemptions = 3,
        .deaths = 1,
    });
}

static void worker_and_logger_die(void **state)
{
    (void)state;
    reset((struct log_world){.rounds = 1, .duplicates_are_fine = true});
    explore((struct interleave_test){
        .name = "worker and logger die",
        .actors = {{"worker", log_world_worker_0, .mortal = true},
                   {"logger", log_world_logger, .mortal = true},
                   {"master", log_world_master, .after = "worker"}},
        .preemptions = 2,
        .deaths = 2,
    });
}

static void all_die(void **state)
{
    (void)state;
    reset((struct log_world){.requests = 2, .duplicates_are_fine = true});
    explore((struct interleave_test){
        .name = "all die, and the next master",
        .actors = {{"worker", log_world_worker_0, .mortal = true, .takes_all = true},
                   {"logger", log_world_logger},
                   {"master", log_world_cold_master, .mortal = true, .after = "worker"},
                   {"next", log_world_cold_master, .after = "master"}},
        .preemptions = 1,
        .deaths = 2,
    });
}

/* First the worker, and while the master is at its rows, everything. */
static void a_worker_dies_then_all(void **state)
{
    (void)state;
    reset((struct log_world){.requests = 2, .duplicates_are_fine = true});
    explore((struct interleave_test){
        .name = "a worker dies, then all",
        .actors = {{"worker", log_world_worker_0, .mortal = true},
                   {"logger", log_world_logger},
                   {"master", log_world_master, .mortal = true, .takes_all = true,
                    .after = "worker"},
                   {"next", log_world_cold_master, .after = "master"}},
        .preemptions = 1,
        .deaths = 2,
    });
}

static void a_row_is_refused(void **state)
{
    (void)state;
    int told = dup(STDERR_FILENO); /* each time */
    assert_non_null(freopen("/dev/null", "w", stderr));
    reset((struct log_world){.requests = 2, .poison = 2, .duplicates_are_fine = true});
    explore((struct interleave_test){
        .name = "a row is refused",
        .actors = {{"worker", log_world_worker_0},
                   {"logger", log_world_logger, .mortal = true},
                   {"next", log_world_logger, .mortal = true, .after = "logger"}},
        .preemptions = 1,
        .deaths = 2,
    });
    dup2(told, STDERR_FILENO);
    close(told);
}

/* "a power cut loses at most the last second and tears nothing older" */
static void the_power_fails(void **state)
{
    (void)state;
    reset((struct log_world){
        .requests = 2, .pauses = true, .duplicates_are_fine = true, .segment_bytes = 1 << 20});
    struct interleave_test test = {
        .name = "the power fails, segments stay open",
        .actors = {{"worker", log_world_worker_0},
                   {"logger", log_world_logger, .mortal = true, .takes_all = true},
                   {"power cut", log_world_master_after_power_cut, .after = "logger"},
                   {"next", log_world_logger_afterwards, .mortal = true, .after = "logger"}},
        .preemptions = 1,
        .deaths = 2,
    };
    explore(test);
    world.segment_bytes = 1;
    test.name = "the power fails, segments are closed";
    explore(test);
}

/* An argument names the one to run. */
int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logger_dies),    cmocka_unit_test(a_logger_dies_beside_two_workers),
        cmocka_unit_test(a_worker_dies),    cmocka_unit_test(worker_and_logger_die),
        cmocka_unit_test(all_die),          cmocka_unit_test(a_worker_dies_then_all),
        cmocka_unit_test(a_row_is_refused), cmocka_unit_test(the_power_fails),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    log_world_open(&world);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    log_world_close(&world);
    return failed;
}
