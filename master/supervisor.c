#include "master/supervisor.h"

#include "master/process.h"
#include "master/title.h"
#include "shared/base/clock.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* A log pipe holds this much while the logger is busy with the store (pipe-max-size's default). */
enum { LOG_PIPE_BYTES = 1 << 20 };

struct supervisor {
    const struct config *config;
    struct counters counters;
    struct inheritance inheritance;
    struct process logger;
    struct process *workers;
    unsigned workers_count;
    bool logger_ready, all_ready;
    bool stopping;
    int64_t kill_after_ms;
};

static volatile sig_atomic_t stop_asked, reload_asked, child_changed;

static void on_signal(int number)
{
    if (number == SIGCHLD)
        child_changed = 1;
    else if (number == SIGHUP)
        reload_asked = 1;
    else
        stop_asked = 1;
}

/* The signals stay blocked but during ppoll: no flag can be set between a look at it and the
 * wait. */
static void take_signals(sigset_t *during_wait)
{
    static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    struct sigaction action = {.sa_handler = on_signal};
    sigset_t blocked;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++) {
        sigaddset(&blocked, taken[i]);
        sigaction(taken[i], &action, NULL);
    }
    sigprocmask(SIG_BLOCK, &blocked, during_wait);
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        sigdelset(during_wait, taken[i]);
}

static bool make_directory(const char *path, struct error *error)
{
    if (mkdir(path, 0750) == 0 || errno == EEXIST)
        return true;
    return error_errno(error, errno, "cannot make the directory %s", path);
}

static bool open_pipe(int ends[2], struct error *error)
{
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0)
        return true;
    return error_errno(error, errno, "cannot make a pipe");
}

static bool open_log_pipes(struct inheritance *inheritance, unsigned count, struct error *error)
{
    inheritance->log_pipes = xcalloc(count, sizeof *inheritance->log_pipes);
    for (unsigned i = 0; i < count; i++) {
        if (!open_pipe(inheritance->log_pipes[i], error))
            return false;
        /* Best effort: the default of 64 KiB works too, only with more waiting. */
        fcntl(inheritance->log_pipes[i][1], F_SETPIPE_SZ, LOG_PIPE_BYTES);
        inheritance->log_pipes_count++;
    }
    return true;
}

static bool open_counters(struct supervisor *s, struct error *error)
{
    struct buf path = {0};
    buf_printf(&path, "%s/counters", s->config->runtime_dir);
    bool done = counters_create(&s->counters, buf_cstr(&path), s->workers_count, error);
    buf_free(&path);
    if (!done)
        return false;
    atomic_store(&s->counters.header->master_pid, getpid());
    for (unsigned i = 0; i < s->workers_count; i++) {
        atomic_store(&s->counters.workers[i].state, SHM_SLOT_FREE);
        atomic_store(&s->counters.workers[i].pid, 0);
    }
    return true;
}

static bool open_everything(struct supervisor *s, struct error *error)
{
    struct inheritance *inheritance = &s->inheritance;
    return make_directory(s->config->state_dir, error) &&
           make_directory(s->config->runtime_dir, error) && open_counters(s, error) &&
           listeners_open(&inheritance->listeners, s->config, error) &&
           open_log_pipes(inheritance, s->workers_count, error) &&
           open_pipe(inheritance->lifeline, error) && open_pipe(inheritance->ready, error);
}

static void start(struct supervisor *s, struct process *process)
{
    struct error error;
    if (process_start(process, &s->inheritance, &error))
        return;
    log_error("%s", error.message);
    process->start_after_ms = clock_now_ms() + 1000;
}

/* While it stops, too, the logger is needed: a worker leaves only when the pipe has taken what it
 * has to say. */
static void start_what_is_missing(struct supervisor *s)
{
    int64_t now_ms = clock_now_ms();
    bool logger_needed = s->inheritance.log_pipes_count > 0;
    if (logger_needed && s->logger.pid == 0 && s->logger.start_after_ms <= now_ms)
        start(s, &s->logger);
    if (!s->logger_ready || s->stopping)
        return;
    for (unsigned i = 0; i < s->workers_count; i++)
        if (s->workers[i].pid == 0 && s->workers[i].start_after_ms <= now_ms)
            start(s, &s->workers[i]);
}

static struct process *process_of(struct supervisor *s, pid_t pid)
{
    if (s->logger.pid == pid)
        return &s->logger;
    for (unsigned i = 0; i < s->workers_count; i++)
        if (s->workers[i].pid == pid)
            return &s->workers[i];
    return NULL;
}

static unsigned living_workers(const struct supervisor *s)
{
    unsigned living = 0;
    for (unsigned i = 0; i < s->workers_count; i++)
        living += s->workers[i].pid != 0;
    return living;
}

static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    child_changed = 0;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct process *process = process_of(s, pid);
        if (process)
            process_ended(process, &s->counters, status);
    }
}

static bool all_workers_ready(const struct supervisor *s)
{
    for (unsigned i = 0; i < s->workers_count; i++)
        if (atomic_load(&s->counters.workers[i].state) != SHM_SLOT_READY)
            return false;
    return true;
}

/* The logger goes first, for a worker must not take a request that can't be logged: the first byte
 * is the logger's. */
static void look_who_is_ready(struct supervisor *s)
{
    char bytes[64];
    while (read(s->inheritance.ready[0], bytes, sizeof bytes) > 0)
        s->logger_ready = true;
    if (s->logger_ready && !s->all_ready && all_workers_ready(s)) {
        s->all_ready = true;
        log_info("promptgate ready: %u workers", s->workers_count);
    }
}

static void signal_workers(const struct supervisor *s, int number)
{
    for (unsigned i = 0; i < s->workers_count; i++)
        if (s->workers[i].pid > 0)
            kill(s->workers[i].pid, number);
}

static void begin_stop(struct supervisor *s)
{
    log_info("stopping: requests in flight have %lld ms to end",
             (long long)s->config->shutdown_timeout_ms);
    s->stopping = true;
    s->kill_after_ms = clock_now_ms() + s->config->shutdown_timeout_ms;
    signal_workers(s, SIGTERM);
}

/* With the last write ends gone the logger reads to the end, commits and leaves. */
static void close_log_pipes(struct inheritance *inheritance)
{
    for (unsigned i = 0; i < inheritance->log_pipes_count; i++) {
        close(inheritance->log_pipes[i][1]);
        close(inheritance->log_pipes[i][0]);
    }
    inheritance->log_pipes_count = 0;
}

static void go_on_stopping(struct supervisor *s)
{
    bool late = clock_now_ms() >= s->kill_after_ms;
    if (living_workers(s) > 0) {
        if (late)
            signal_workers(s, SIGKILL);
        return;
    }
    if (s->inheritance.log_pipes_count > 0) {
        if (s->logger.pid == 0)
            start(s, &s->logger);
        close_log_pipes(&s->inheritance);
        s->kill_after_ms = clock_now_ms() + s->config->shutdown_timeout_ms;
    } else if (late && s->logger.pid > 0) {
        log_error("the logger takes too long; what it holds stays in the spool");
        kill(s->logger.pid, SIGKILL);
    }
}

static bool all_stopped(const struct supervisor *s)
{
    return s->stopping && s->inheritance.log_pipes_count == 0 && s->logger.pid == 0;
}

/* A logger that ends before it was ever ready can't open its store or spool: no use in trying
 * again and again. */
static bool start_failed(const struct supervisor *s)
{
    return !s->logger_ready && s->logger.pid == 0 && s->logger.deaths > 0;
}

static void wait_for_events(struct supervisor *s, const sigset_t *during_wait)
{
    struct pollfd ready = {.fd = s->inheritance.ready[0], .events = POLLIN};
    struct timespec timeout = {.tv_nsec = 100 * 1000 * 1000};
    ppoll(&ready, 1, &timeout, during_wait);
}

static int supervise(struct supervisor *s, const sigset_t *during_wait)
{
    while (!all_stopped(s)) {
        start_what_is_missing(s);
        wait_for_events(s, during_wait);
        look_who_is_ready(s);
        if (child_changed)
            reap(s);
        if (start_failed(s))
            return 1;
        if (reload_asked) {
            reload_asked = 0;
            log_warning("SIGHUP: this version cannot reload; restart to take a new configuration");
        }
        if (stop_asked && !s->stopping)
            begin_stop(s);
        if (s->stopping)
            go_on_stopping(s);
    }
    log_info("stopped");
    return 0;
}

static void name_places(struct supervisor *s)
{
    s->logger = (struct process){.role = PROCESS_LOGGER, .generation = 1};
    s->workers = xcalloc(s->workers_count, sizeof *s->workers);
    for (unsigned i = 0; i < s->workers_count; i++)
        s->workers[i] = (struct process){.role = PROCESS_WORKER, .index = i, .generation = 1};
}

int supervisor_run(const struct config *config)
{
    struct supervisor s = {.config = config, .workers_count = (unsigned)config->workers};
    struct error error;
    sigset_t during_wait;
    log_set_role("master");
    title_set("master");
    take_signals(&during_wait);
    name_places(&s);
    s.inheritance.config = config;
    s.inheritance.counters = &s.counters;
    int status = 1;
    if (open_everything(&s, &error))
        status = supervise(&s, &during_wait);
    else
        log_error("%s", error.message);
    free(s.workers);
    free(s.inheritance.log_pipes);
    listeners_close(&s.inheritance.listeners);
    counters_close(&s.counters);
    return status;
}
