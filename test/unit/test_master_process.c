/* Children with roles of this test's own, which tell what they were born with. */
#include "master/control.h"
#include "master/logger/logger.h"
#include "master/notify.h"
#include "master/process.h"
#include "master/title.h"
#include "shared/base/clock.h"
#include "worker/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORKERS = 3, SLOTS = 5 };

/* What a child says through the ready pipe. */
struct birth {
    bool is_logger;
    unsigned index, count, slot;
    int64_t generation;
    size_t sockets_count;
    bool sockets[WORKERS], log_reads[SLOTS], log_writes[SLOTS];
    bool lifeline[2], ready[2], notify, upgrade, takeover;
    bool own_ends; /* the descriptors in the setup are the ones of its slot */
    bool signals_free, interrupt_ignored, hangup_ignored, upgrade_ignored, term_default;
    char comm[16];
    char cmdline[64];
};

static struct master {
    struct config config;
    struct config_listen listen;
    struct counters counters;
    struct inheritance inheritance;
    struct control control;
    struct notify notify;
    char directory[64], path[96];
    struct error error;
} master;

static int notify_fd, upgrade_fd, takeover_fd; /* as the master has them */

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static void describe(struct birth *birth)
{
    const struct inheritance *inheritance = &master.inheritance;
    for (unsigned i = 0; i < WORKERS; i++)
        birth->sockets[i] = is_open(inheritance->listeners.at[0].sockets[i]);
    for (unsigned i = 0; i < SLOTS; i++) {
        birth->log_reads[i] = is_open(inheritance->slots.log_pipes[i][0]);
        birth->log_writes[i] = is_open(inheritance->slots.log_pipes[i][1]);
    }
    for (unsigned end = 0; end < 2; end++) {
        birth->lifeline[end] = is_open(inheritance->lifeline[end]);
        birth->ready[end] = is_open(inheritance->ready[end]);
    }
    birth->notify = is_open(notify_fd);
    birth->upgrade = is_open(upgrade_fd);
    birth->takeover = is_open(takeover_fd);
    sigset_t blocked;
    sigprocmask(SIG_SETMASK, NULL, &blocked);
    birth->signals_free = sigisemptyset(&blocked);
    struct sigaction action;
    sigaction(SIGINT, NULL, &action);
    birth->interrupt_ignored = action.sa_handler == SIG_IGN;
    sigaction(SIGHUP, NULL, &action);
    birth->hangup_ignored = action.sa_handler == SIG_IGN;
    sigaction(SIGUSR2, NULL, &action);
    birth->upgrade_ignored = action.sa_handler == SIG_IGN;
    sigaction(SIGTERM, NULL, &action);
    birth->term_default = action.sa_handler == SIG_DFL;
    prctl(PR_GET_NAME, birth->comm);
    int fd = open("/proc/self/cmdline", O_RDONLY);
    if (fd < 0 || read(fd, birth->cmdline, sizeof birth->cmdline - 1) < 0)
        _exit(9);
}

static void tell(int ready, const struct birth *birth)
{
    if (write(ready, birth, sizeof *birth) != (ssize_t)sizeof *birth)
        _exit(9);
}

_Noreturn void worker_main(const struct worker_setup *setup)
{
    const struct inheritance *inheritance = &master.inheritance;
    struct birth birth = {
        .index = setup->index,
        .count = setup->count,
        .slot = setup->slot,
        .generation = setup->generation,
        .sockets_count = setup->sockets_count,
        .own_ends = setup->log_pipe == inheritance->slots.log_pipes[setup->slot][1] &&
                    setup->lifeline == inheritance->lifeline[0] &&
                    setup->ready == inheritance->ready[1] && setup->config == &master.config &&
                    setup->counters == &master.counters,
    };
    for (unsigned i = 0; i < setup->sockets_count; i++)
        birth.own_ends = birth.own_ends && setup->sockets[i].number == i &&
                         setup->sockets[i].fd == inheritance->listeners.at[0].sockets[i];
    describe(&birth);
    tell(setup->ready, &birth);
    for (;;)
        pause();
}

_Noreturn void logger_main(const struct logger_setup *setup)
{
    struct birth birth = {.is_logger = true, .count = setup->pipes_count, .own_ends = true};
    for (unsigned i = 0; i < setup->pipes_count; i++)
        birth.own_ends =
            birth.own_ends && setup->pipes[i] == master.inheritance.slots.log_pipes[i][0];
    describe(&birth);
    tell(setup->ready, &birth);
    _exit(7);
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

static void on_signal(int number)
{
    (void)number;
}

/* As the supervisor does it: signals are handled and blocked when a child is forked. */
static void take_signals(void)
{
    static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        signal(taken[i], on_signal);
        sigaddset(&blocked, taken[i]);
    }
    sigprocmask(SIG_BLOCK, &blocked, NULL);
}

static int set_up(void **state)
{
    static const struct clock_source source = {test_now_us, test_wall_ms};
    struct inheritance *inheritance = &master.inheritance;
    (void)state;
    now_ms = 100000;
    clock_set_source(&source);
    take_signals();
    strcpy(master.directory, "/tmp/promptgate-test-XXXXXX");
    if (!mkdtemp(master.directory))
        return -1;
    snprintf(master.path, sizeof master.path, "%s/counters", master.directory);
    master.listen = (struct config_listen){.text = "127.0.0.1:0"};
    master.listen.address.v4 =
        (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    master.config = (struct config){
        .listens = &master.listen, .listens_count = 1, .workers = WORKERS, .http.backlog = 4};
    inheritance->counters = &master.counters;
    inheritance->control = &master.control;
    control_init(&master.control);
    inheritance->notify = &master.notify;
    master.notify.fd = notify_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    upgrade_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    takeover_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    inheritance->upgrade = &upgrade_fd;
    inheritance->takeover = &takeover_fd;
    if (pipe2(inheritance->lifeline, O_CLOEXEC) != 0 || pipe2(inheritance->ready, O_CLOEXEC) != 0)
        return -1;
    if (!counters_create(&master.counters, master.path, SLOTS, &master.error) ||
        !slots_open(&inheritance->slots, &master.counters, &master.error) ||
        !listeners_adjust(&inheritance->listeners, &master.config, &master.error))
        return -1;
    return 0;
}

static int tear_down(void **state)
{
    struct inheritance *inheritance = &master.inheritance;
    (void)state;
    for (unsigned end = 0; end < 2; end++) {
        close(inheritance->lifeline[end]);
        close(inheritance->ready[end]);
    }
    notify_close(&master.notify);
    close(upgrade_fd);
    close(takeover_fd);
    slots_free(&inheritance->slots);
    listeners_close(&inheritance->listeners);
    counters_close(&master.counters);
    clock_set_source(NULL);
    unlink(master.path);
    return rmdir(master.directory);
}

static struct process worker_place(unsigned index, int64_t generation)
{
    return (struct process){.role = PROCESS_WORKER,
                            .index = index,
                            .of = WORKERS,
                            .generation = generation,
                            .config = &master.config,
                            .slot = -1};
}

static struct birth start(struct process *process)
{
    struct birth birth;
    if (!process_start(process, &master.inheritance, &master.error))
        fail_msg("%s", master.error.message);
    assert_true(process->pid > 0);
    assert_int_equal(read(master.inheritance.ready[0], &birth, sizeof birth), sizeof birth);
    return birth;
}

/* Waits for the child's end and gives back what was logged of it. */
static const char *end(struct process *process)
{
    static char text[512];
    int status, log = memfd_create("log", MFD_CLOEXEC), stderr_copy = dup(STDERR_FILENO);
    assert_int_equal(waitpid(process->pid, &status, 0), process->pid);
    dup2(log, STDERR_FILENO);
    process_ended(process, &master.inheritance, status);
    dup2(stderr_copy, STDERR_FILENO);
    ssize_t len = pread(log, text, sizeof text - 1, 0);
    text[len > 0 ? len : 0] = '\0';
    close(log);
    close(stderr_copy);
    assert_int_equal(process->pid, 0);
    return text;
}

static void worker_is_born(void **state)
{
    struct process process = worker_place(1, 3);
    (void)state;
    assert_int_equal(slots_take(&master.inheritance.slots), 0);
    struct birth birth = start(&process);
    assert_false(birth.is_logger);
    assert_int_equal(birth.index, 1);
    assert_int_equal(birth.count, WORKERS);
    assert_int_equal(birth.slot, 1);
    assert_int_equal(birth.generation, 3);
    assert_int_equal(birth.sockets_count, WORKERS);
    assert_true(birth.own_ends);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_true(birth.sockets[i]); /* a neighbour's, too */
    for (unsigned i = 0; i < SLOTS; i++) {
        assert_int_equal(birth.log_writes[i], i == 1);
        assert_false(birth.log_reads[i]);
    }
    /* It must not hold the other ends, or it would never see the master's end. */
    assert_true(birth.lifeline[0]);
    assert_false(birth.lifeline[1]);
    assert_false(birth.notify);
    assert_false(birth.upgrade || birth.takeover);
    assert_false(birth.ready[0]);
    assert_true(birth.ready[1]);
    assert_string_equal(birth.comm, "worker 1 (gen 3"); /* 15 characters are the kernel's limit */
    assert_string_equal(birth.cmdline, "promptgate: worker 1 (gen 3)");
    kill(process.pid, SIGKILL);
    end(&process);
}

static void logger_is_born(void **state)
{
    struct process process = {.role = PROCESS_LOGGER, .config = &master.config};
    (void)state;
    struct birth birth = start(&process);
    assert_true(birth.is_logger);
    assert_int_equal(birth.count, SLOTS);
    assert_true(birth.own_ends);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_false(birth.sockets[i]);
    for (unsigned i = 0; i < SLOTS; i++) {
        assert_true(birth.log_reads[i]);
        assert_false(birth.log_writes[i]); /* or it would never see the pipes' end */
    }
    assert_false(birth.lifeline[1]);
    assert_false(birth.notify);
    assert_false(birth.upgrade || birth.takeover);
    assert_string_equal(birth.comm, "logger");
    assert_string_equal(birth.cmdline, "promptgate: logger");
    end(&process);
}

static void signals_are_a_childs_own(void **state)
{
    struct process process = worker_place(0, 1);
    (void)state;
    struct birth birth = start(&process);
    assert_true(birth.signals_free);
    assert_true(birth.interrupt_ignored);
    assert_true(birth.hangup_ignored);
    assert_true(birth.upgrade_ignored);
    assert_true(birth.term_default);
    kill(process.pid, SIGTERM);
    end(&process);
}

static void names(void **state)
{
    struct process worker = {.role = PROCESS_WORKER, .index = 12, .generation = 9};
    struct process logger = {.role = PROCESS_LOGGER};
    char text[48];
    (void)state;
    assert_ptr_equal(process_name(&worker, text), text);
    assert_string_equal(text, "worker 12 (gen 9)");
    assert_string_equal(process_name(&logger, text), "logger");
}

static void obituary_of_a_kill(void **state)
{
    struct process process = worker_place(2, 7);
    struct shm_worker *slot = &master.counters.workers[0];
    char expected[128];
    (void)state;
    start(&process);
    snprintf(expected, sizeof expected, "worker 2 (gen 7) (pid %d) was killed by signal 9 (Killed)",
             (int)process.pid);
    assert_int_equal(process.slot, 0);
    assert_int_equal(atomic_load(&slot->pid), process.pid);
    assert_int_not_equal(atomic_load(&slot->start_ticks), 0);
    atomic_store(&slot->state, SHM_SLOT_READY);
    atomic_store(&slot->requests, 5);
    kill(process.pid, SIGKILL);
    assert_non_null(strstr(end(&process), expected));
    assert_int_equal(process.deaths, 1);
    assert_int_equal(atomic_load(&slot->pid), 0);
    assert_int_equal(atomic_load(&slot->state), SHM_SLOT_FREE);
    assert_int_equal(atomic_load(&slot->requests), 5); /* counts outlive the process */
    assert_int_equal(process.start_after_ms, 0);
}

static void obituary_of_a_failure(void **state)
{
    struct process process = {.role = PROCESS_LOGGER, .config = &master.config};
    char expected[128];
    (void)state;
    start(&process);
    snprintf(expected, sizeof expected, "logger (pid %d) ended with status 7", (int)process.pid);
    assert_non_null(strstr(end(&process), expected));
    assert_int_equal(process.deaths, 1);
}

/* Wait statuses as waitpid(2) gives them: the exit status is in the second byte. */
static void die(struct process *process, int wait_status)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), copy = dup(STDERR_FILENO);
    dup2(null, STDERR_FILENO);
    process->pid = 99;
    process->slot = slots_take(&master.inheritance.slots);
    process_ended(process, &master.inheritance, wait_status);
    dup2(copy, STDERR_FILENO);
    close(null);
    close(copy);
}

static void a_good_end_is_no_death(void **state)
{
    struct process process = {.role = PROCESS_WORKER};
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        die(&process, 0);
    assert_int_equal(process.deaths, 0);
    assert_int_equal(process.start_after_ms, 0);
}

/* Ten deaths in ten seconds: no new start until the first of them is ten seconds old. */
static void ten_deaths_in_ten_seconds(void **state)
{
    struct process process = {.role = PROCESS_WORKER};
    (void)state;
    for (unsigned i = 0; i < 9; i++) {
        die(&process, SIGSEGV);
        now_ms += 1111;
        assert_int_equal(process.start_after_ms, 0);
    }
    assert_int_equal(now_ms, 109999);
    die(&process, 1 << 8);
    assert_int_equal(process.start_after_ms, 110000);
}

static void ten_deaths_in_more_than_that(void **state)
{
    struct process process = {.role = PROCESS_WORKER};
    (void)state;
    for (unsigned i = 0; i < 50; i++) {
        die(&process, SIGSEGV);
        now_ms += 1112; /* nine of these are ten seconds and a little */
        assert_int_equal(process.start_after_ms, 0);
    }
}

/* Only the last ten count, however many there were before. */
static void throttled_again_and_again(void **state)
{
    struct process process = {.role = PROCESS_WORKER};
    (void)state;
    for (unsigned i = 0; i < 13; i++) {
        die(&process, SIGSEGV);
        now_ms += 20000;
    }
    assert_int_equal(process.start_after_ms, 0);
    int64_t first_ms = now_ms;
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(process.start_after_ms, 0);
        die(&process, SIGSEGV);
        now_ms += 10;
    }
    assert_int_equal(process.start_after_ms, first_ms + 10000);
    die(&process, SIGSEGV);
    assert_int_equal(process.start_after_ms, first_ms + 10 + 10000);
}

/* A slot is a process's until all that it wrote is out of its pipe. */
static void slot_waits_for_its_pipe(void **state)
{
    struct slots *slots = &master.inheritance.slots;
    char byte;
    (void)state;
    for (int i = 0; i < SLOTS; i++)
        assert_int_equal(slots_take(slots), i);
    assert_int_equal(slots_take(slots), -1);
    assert_int_equal(write(slots->log_pipes[2][1], "x", 1), 1);
    slots_leave(slots, 2);
    slots_leave(slots, 3);
    assert_int_equal(slots_available(slots), 1);
    assert_int_equal(slots_take(slots), 3);
    slots_clean(slots);
    assert_int_equal(slots_available(slots), 0);
    assert_int_equal(read(slots->log_pipes[2][0], &byte, 1), 1);
    slots_clean(slots);
    assert_int_equal(slots_take(slots), 2);
}

/* "A heartbeat older than 5 s: SIGABRT, then SIGKILL." The child here ignores nothing. */
static void silent_worker_is_aborted(void **state)
{
    struct process process = worker_place(0, 1);
    int status;
    (void)state;
    start(&process);
    process_watch(&process, &master.counters);
    now_ms += 4999;
    process_watch(&process, &master.counters);
    assert_int_equal(process.aborted_ms, 0);
    now_ms += 1;
    kill(process.pid, SIGSTOP); /* it cannot even abort */
    process_watch(&process, &master.counters);
    assert_int_equal(process.aborted_ms, now_ms);
    now_ms += 999;
    process_watch(&process, &master.counters);
    assert_int_equal(waitpid(process.pid, &status, WNOHANG), 0);
    now_ms += 1;
    process_watch(&process, &master.counters);
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    assert_true(WIFSIGNALED(status));
}

/* A disk may hold the logger up; what holds it up for half a minute is no disk. */
static void silent_logger_is_aborted(void **state)
{
    struct process process = {.role = PROCESS_LOGGER, .slot = -1};
    int status;
    (void)state;
    atomic_store(&master.counters.header->logger.heartbeat_ms, now_ms);
    process_watch(&process, &master.counters); /* there is none */
    process.pid = fork();
    if (process.pid == 0)
        for (;;)
            pause();
    now_ms += WRITER_SILENCE_MS - 1;
    process_watch(&process, &master.counters);
    assert_int_equal(process.aborted_ms, 0);
    now_ms += 1;
    process_watch(&process, &master.counters);
    assert_int_equal(waitpid(process.pid, &status, 0), process.pid);
    assert_int_equal(WTERMSIG(status), SIGABRT);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(worker_is_born),
        TEST(logger_is_born),
        TEST(signals_are_a_childs_own),
        TEST(names),
        TEST(obituary_of_a_kill),
        TEST(obituary_of_a_failure),
        TEST(a_good_end_is_no_death),
        TEST(ten_deaths_in_ten_seconds),
        TEST(ten_deaths_in_more_than_that),
        TEST(throttled_again_and_again),
        TEST(slot_waits_for_its_pipe),
        TEST(silent_worker_is_aborted),
        TEST(silent_logger_is_aborted),
    };
    title_setup(argc, argv);
    alarm(60);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
