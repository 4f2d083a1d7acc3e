/* Generations: which worker accepts where, when one is ready, how one is sent away. Workers that
 * need a process are children that only wait. */
#include "master/generation.h"
#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { WORKERS = 3, SOCKETS = 5, SLOTS = 12 };

static struct {
    struct counters counters;
    struct generation *generation;
    char directory[SCRATCH_PATH];
} test;

static int64_t now_ms;

static int64_t test_now_us(void)
{
    return now_ms * 1000;
}

static int64_t test_wall_ms(void)
{
    return 1795000000000;
}

static int set_up(void **state)
{
    static const struct clock_source source = {test_now_us, test_wall_ms};
    char path[SCRATCH_PATH];
    struct error error;
    (void)state;
    now_ms = 100000;
    clock_set_source(&source);
    if (!scratch_make(test.directory) ||
        !counters_create(&test.counters, scratch_path(test.directory, "counters", path), SLOTS,
                         &error))
        return -1;
    struct arena arena = {0};
    struct config *config = arena_alloc(&arena, sizeof *config);
    config->arena = arena;
    config->workers = WORKERS;
    config->shutdown_timeout_ms = 30000;
    struct token_table *tokens = token_table_new(NULL, 0, &error);
    test.generation = generation_new(7, config, tokens);
    return tokens ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++) {
        pid_t pid = test.generation->workers[i].pid;
        if (pid > 0 && kill(pid, SIGKILL) == 0)
            waitpid(pid, NULL, 0);
    }
    generation_free(&test.generation);
    assert_null(test.generation);
    counters_close(&test.counters);
    scratch_remove(test.directory);
    clock_set_source(NULL);
    return 0;
}

static struct shm_worker *shared_of(unsigned index)
{
    return &test.counters.workers[test.generation->workers[index].slot];
}

/* A process that does nothing until a signal ends it. */
static void give_process(unsigned index, enum shm_worker_state worker_state)
{
    struct process *worker = &test.generation->workers[index];
    worker->pid = fork();
    if (worker->pid == 0)
        for (;;)
            pause();
    assert_true(worker->pid > 0);
    worker->slot = (int)(2 * index + 1);
    atomic_store(&shared_of(index)->state, (int32_t)worker_state);
    atomic_store(&shared_of(index)->heartbeat_ms, now_ms);
}

static void all_ready(void)
{
    for (unsigned i = 0; i < WORKERS; i++)
        give_process(i, SHM_SLOT_READY);
}

static int owner(unsigned socket)
{
    return atomic_load(&test.counters.header->socket_owners[socket]);
}

static void publish(void)
{
    generation_publish_owners(test.generation, SOCKETS, &test.counters);
}

/* Time in which all beat. */
static void pass(int64_t ms)
{
    now_ms += ms;
    for (unsigned i = 0; i < SLOTS; i++)
        atomic_store(&test.counters.workers[i].heartbeat_ms, now_ms);
}

static void a_new_one(void **state)
{
    const struct generation *generation = test.generation;
    (void)state;
    assert_int_equal(generation->state, GENERATION_STARTING);
    assert_int_equal(generation->count, WORKERS);
    assert_int_equal(generation_living(generation), 0);
    assert_false(generation_is_ready(generation, &test.counters));
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_int_equal(generation->workers[i].index, i);
        assert_int_equal(generation->workers[i].of, WORKERS);
        assert_int_equal(generation->workers[i].generation, 7);
        assert_ptr_equal(generation->workers[i].config, generation->config);
    }
}

static void ready_when_all_are(void **state)
{
    (void)state;
    give_process(0, SHM_SLOT_READY);
    give_process(1, SHM_SLOT_READY);
    assert_false(generation_is_ready(test.generation, &test.counters));
    give_process(2, SHM_SLOT_STARTING);
    assert_false(generation_is_ready(test.generation, &test.counters));
    atomic_store(&shared_of(2)->state, SHM_SLOT_READY);
    assert_true(generation_is_ready(test.generation, &test.counters));
    assert_int_equal(generation_living(test.generation), 3);
    assert_ptr_equal(generation_find(test.generation, test.generation->workers[1].pid),
                     &test.generation->workers[1]);
    assert_null(generation_find(test.generation, getpid()));
}

/* "Worker i of n accepts from every socket j with j mod n = i." */
static void owners_are_by_number(void **state)
{
    (void)state;
    all_ready();
    publish();
    for (unsigned j = 0; j < SOCKETS; j++)
        assert_int_equal(owner(j), j % WORKERS);
    assert_int_equal(atomic_load(&test.counters.header->serving_generation), 7);
}

/* "A slot without a ready worker for 1 s is served by a neighbour." */
static void neighbour_stands_in(void **state)
{
    (void)state;
    all_ready();
    publish();
    atomic_store(&shared_of(1)->state, SHM_SLOT_STARTING);
    publish();
    pass(999);
    publish();
    assert_int_equal(owner(1), 1);
    pass(1);
    publish();
    assert_int_equal(owner(0), 0);
    assert_int_equal(owner(1), 2);
    assert_int_equal(owner(2), 2);
    assert_int_equal(owner(4), 2);
    /* Back again at once. */
    atomic_store(&shared_of(1)->state, SHM_SLOT_READY);
    publish();
    assert_int_equal(owner(1), 1);
    assert_int_equal(owner(4), 1);
}

/* It looks ready for five seconds more, until it is taken for dead. */
static void neighbour_stands_in_for_one_that_hangs(void **state)
{
    (void)state;
    all_ready();
    publish();
    pass(600);
    publish();
    now_ms += 999;
    for (unsigned i = 1; i < WORKERS; i++)
        atomic_store(&shared_of(i)->heartbeat_ms, now_ms);
    publish();
    assert_int_equal(owner(0), 0);
    now_ms += 1;
    publish();
    assert_int_equal(owner(0), 1);
    assert_int_equal(owner(1), 1);
    assert_int_equal(owner(3), 1);
    pass(100);
    publish();
    assert_int_equal(owner(0), 0);
}

static void the_next_that_is_ready(void **state)
{
    (void)state;
    all_ready();
    publish();
    atomic_store(&shared_of(1)->state, SHM_SLOT_DRAINING);
    atomic_store(&shared_of(2)->state, SHM_SLOT_STARTING);
    publish();
    pass(1000);
    publish();
    for (unsigned j = 0; j < SOCKETS; j++)
        assert_int_equal(owner(j), 0);
    /* With nobody left each waits for its own. */
    atomic_store(&shared_of(0)->state, SHM_SLOT_STARTING);
    publish();
    pass(1000);
    publish();
    for (unsigned j = 0; j < SOCKETS; j++)
        assert_int_equal(owner(j), j % WORKERS);
}

/* The second is counted from when the place was last served, however many processes have begun and
 * died in it since. */
static void deaths_do_not_begin_it_anew(void **state)
{
    struct process *worker = &test.generation->workers[0];
    struct inheritance inheritance = {.counters = &test.counters};
    struct error error;
    (void)state;
    assert_true(slots_open(&inheritance.slots, &test.counters, &error));
    all_ready();
    publish();
    for (unsigned i = 0; i < 10; i++) {
        kill(worker->pid, SIGKILL);
        assert_int_equal(waitpid(worker->pid, NULL, 0), worker->pid);
        process_ended(worker, &inheritance, 0);
        publish();
        assert_int_equal(owner(0), 0);
        pass(100);
        give_process(0, SHM_SLOT_STARTING);
        worker->slot = slots_take(&inheritance.slots);
    }
    publish();
    assert_int_equal(owner(0), 1);
    slots_free(&inheritance.slots);
}

static void throttled_ones_are_not_started(void **state)
{
    struct inheritance none = {.counters = &test.counters}; /* no slots: a start fails */
    (void)state;
    for (unsigned i = 0; i < WORKERS; i++)
        test.generation->workers[i].start_after_ms = now_ms + 5000;
    generation_start_missing(test.generation, &none);
    assert_int_equal(test.generation->workers[0].start_after_ms, now_ms + 5000);
    now_ms += 5000;
    generation_start_missing(test.generation, &none);
    assert_int_equal(generation_living(test.generation), 0);
    assert_int_equal(test.generation->workers[0].start_after_ms, now_ms + 1000); /* tried */
}

static bool ended_by(unsigned index, int number)
{
    int status = 0;
    pid_t pid = test.generation->workers[index].pid;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    test.generation->workers[index].pid = 0;
    return WIFSIGNALED(status) && WTERMSIG(status) == number;
}

static void one_is_sent_away(void **state)
{
    struct inheritance none = {.counters = &test.counters};
    int status;
    (void)state;
    all_ready();
    for (unsigned i = 1; i < WORKERS; i++) { /* these can't hear it */
        pid_t pid = test.generation->workers[i].pid;
        kill(pid, SIGSTOP);
        assert_int_equal(waitpid(pid, &status, WUNTRACED), pid);
    }
    generation_dismiss(test.generation, GENERATION_RETIRING, SIGHUP, 3000);
    assert_int_equal(test.generation->state, GENERATION_RETIRING);
    assert_true(ended_by(0, SIGHUP));
    /* Its place is not filled again. */
    generation_start_missing(test.generation, &none);
    assert_int_equal(test.generation->workers[0].start_after_ms, 0);
    now_ms += 3000 + GENERATION_GRACE_MS - 1;
    for (unsigned i = 1; i < WORKERS; i++)
        atomic_store(&shared_of(i)->heartbeat_ms, now_ms);
    generation_tend(test.generation, &test.counters);
    assert_int_equal(waitpid(test.generation->workers[1].pid, &status, WNOHANG), 0);
    now_ms += 1;
    generation_tend(test.generation, &test.counters);
    assert_true(ended_by(1, SIGKILL));
    assert_true(ended_by(2, SIGKILL));
    assert_int_equal(generation_living(test.generation), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_new_one),
        TEST(ready_when_all_are),
        TEST(owners_are_by_number),
        TEST(neighbour_stands_in),
        TEST(neighbour_stands_in_for_one_that_hangs),
        TEST(the_next_that_is_ready),
        TEST(deaths_do_not_begin_it_anew),
        TEST(throttled_ones_are_not_started),
        TEST(one_is_sent_away),
    };
    signal(SIGHUP, SIG_DFL); /* not so below nohup(1) */
    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
