#include "master/process.h"

#include "master/logger/logger.h"
#include "master/title.h"
#include "shared/base/clock.h"
#include "worker/worker.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *process_name(const struct process *process, char text[32])
{
    if (process->role == PROCESS_LOGGER)
        snprintf(text, 32, "logger");
    else
        snprintf(text, 32, "worker %u", process->index);
    return text;
}

static void reset_signals(void)
{
    static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        signal(handled[i], SIG_DFL);
    /* Ctrl-C reaches the whole foreground group: only the master acts on it. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_log_pipes(const struct inheritance *inheritance, int end, unsigned keep)
{
    for (unsigned i = 0; i < inheritance->log_pipes_count; i++)
        if (i != keep)
            close(inheritance->log_pipes[i][end]);
}

_Noreturn static void become_logger(const struct inheritance *inheritance)
{
    unsigned count = inheritance->log_pipes_count;
    int *pipes = calloc(count, sizeof *pipes);
    if (!pipes)
        _exit(1);
    for (unsigned i = 0; i < count; i++)
        pipes[i] = inheritance->log_pipes[i][0];
    close_log_pipes(inheritance, 1, UINT_MAX);
    listeners_keep(&inheritance->listeners, UINT_MAX);
    struct logger_setup setup = {
        .config = inheritance->config,
        .counters = inheritance->counters,
        .pipes = pipes,
        .pipes_count = count,
        .ready = inheritance->ready[1],
    };
    logger_main(&setup);
}

_Noreturn static void become_worker(const struct process *process,
                                    const struct inheritance *inheritance)
{
    unsigned slot = process->index;
    close_log_pipes(inheritance, 0, UINT_MAX);
    close_log_pipes(inheritance, 1, slot);
    listeners_keep(&inheritance->listeners, process->index);
    struct worker_setup setup = {
        .config = inheritance->config,
        .counters = inheritance->counters,
        .index = process->index,
        .count = inheritance->listeners.workers,
        .slot = slot,
        .generation = process->generation,
        .listeners = listeners_of(&inheritance->listeners, process->index),
        .listeners_count = inheritance->listeners.addresses,
        .log_pipe = inheritance->log_pipes[slot][1],
        .lifeline = inheritance->lifeline[0],
        .ready = inheritance->ready[1],
    };
    worker_main(&setup);
}

_Noreturn static void become(const struct process *process, const struct inheritance *inheritance)
{
    char name[32], title[64];
    process_name(process, name);
    reset_signals();
    close(inheritance->lifeline[1]);
    close(inheritance->ready[0]);
    log_set_role(name);
    if (process->role == PROCESS_WORKER) {
        snprintf(title, sizeof title, "%s (gen %lld)", name, (long long)process->generation);
        title_set(title);
        become_worker(process, inheritance);
    }
    title_set(name);
    become_logger(inheritance);
}

bool process_start(struct process *process, const struct inheritance *inheritance,
                   struct error *error)
{
    pid_t pid = fork();
    if (pid < 0)
        return error_errno(error, errno, "cannot fork");
    if (pid == 0)
        become(process, inheritance);
    process->pid = pid;
    return true;
}

static void note_death(struct process *process)
{
    int64_t now_ms = clock_now_ms();
    process->deaths_ms[process->deaths++ % PROCESS_DEATHS_KEPT] = now_ms;
    if (process->deaths < PROCESS_DEATHS_KEPT)
        return;
    int64_t oldest_ms = process->deaths_ms[process->deaths % PROCESS_DEATHS_KEPT];
    if (now_ms - oldest_ms < PROCESS_DEATHS_WINDOW_MS)
        process->start_after_ms = oldest_ms + PROCESS_DEATHS_WINDOW_MS;
}

void process_ended(struct process *process, struct counters *counters, int wait_status)
{
    char name[32];
    process_name(process, name);
    if (WIFSIGNALED(wait_status))
        log_error("%s (pid %d) was killed by signal %d (%s)", name, (int)process->pid,
                  WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    else if (WEXITSTATUS(wait_status) != 0)
        log_error("%s (pid %d) ended with status %d", name, (int)process->pid,
                  WEXITSTATUS(wait_status));
    else
        log_debug("%s (pid %d) ended", name, (int)process->pid);
    if (wait_status != 0)
        note_death(process);
    if (process->role == PROCESS_WORKER) {
        struct shm_worker *slot = &counters->workers[process->index];
        atomic_store(&slot->state, SHM_SLOT_FREE);
        atomic_store(&slot->pid, 0);
    }
    process->pid = 0;
}
