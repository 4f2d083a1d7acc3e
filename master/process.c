#include "master/process.h"

#include "master/control.h"
#include "master/instance.h"
#include "master/keeper/keeper.h"
#include "master/logger/logger.h"
#include "master/notify.h"
#include "master/privileges.h"
#include "master/recovery.h"
#include "master/store/sqlite.h"
#include "master/title.h"
#include "shared/base/clock.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"
#include "shared/counters/accounts.h"
#include "worker/worker.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

const char *process_name(const struct process *process, char text[48])
{
    if (process->role != PROCESS_WORKER)
        snprintf(text, 48, process->role == PROCESS_LOGGER ? "logger" : "keeper");
    else
        snprintf(text, 48, "worker %u (gen %lld)", process->index, (long long)process->generation);
    return text;
}

static void reset_signals(void)
{
    static const int handled[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    for (size_t i = 0; i < sizeof handled / sizeof *handled; i++)
        signal(handled[i], SIG_DFL);
    /* Ctrl-C reaches the whole foreground group: only the master acts on it. */
    signal(SIGINT, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    signal(SIGUSR1, SIG_IGN);
    signal(SIGUSR2, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void close_log_pipes(const struct slots *slots, int end, int keep)
{
    for (unsigned i = 0; i < slots->count; i++)
        if ((int)i != keep && slots->log_pipes[i][end] >= 0)
            close(slots->log_pipes[i][end]);
}

_Noreturn static void become_logger(const struct process *process, struct inheritance *inheritance)
{
    const struct slots *slots = &inheritance->slots;
    int *pipes = xcalloc(slots->count, sizeof *pipes);
    for (unsigned i = 0; i < slots->count; i++)
        pipes[i] = slots->log_pipes[i][0];
    close_log_pipes(slots, 1, -1);
    listeners_close_inherited(&inheritance->listeners);
    struct logger_setup setup = {
        .config = process->config,
        .counters = inheritance->counters,
        .pipes = pipes,
        .pipes_count = slots->count,
        .ready = inheritance->ready[1],
    };
    logger_main(&setup);
}

_Noreturn static void become_keeper(const struct process *process, struct inheritance *inheritance)
{
    close_log_pipes(&inheritance->slots, 0, -1);
    close_log_pipes(&inheritance->slots, 1, -1);
    listeners_close_inherited(&inheritance->listeners);
    struct keeper_setup setup = {
        .config = process->config,
        .counters = inheritance->counters,
        .socket = inheritance->keeper_socket,
        .lifeline = inheritance->lifeline[0],
        .replaces = process->replaces,
    };
    keeper_main(&setup);
}

/* All sockets of its configuration's addresses: a worker serves a neighbour's, too, when it has
 * to. */
static struct worker_socket *sockets_for(const struct listeners *listeners,
                                         const struct config *config, size_t *count)
{
    size_t filled = 0;
    struct worker_socket *sockets =
        xcalloc((size_t)listeners->count * listeners->sockets, sizeof *sockets);
    for (unsigned i = 0; i < listeners->count; i++) {
        const struct listener *listener = &listeners->at[i];
        bool is_local = listener->address.any.sa_family == AF_UNIX;
        if (!listener_is_wanted(listener, config)) {
            listener_close_inherited(listener);
            continue;
        }
        for (unsigned j = 0; j < listener->count; j++)
            sockets[filled++] = (struct worker_socket){.fd = listener->sockets[j],
                                                       .number = j,
                                                       .shared = is_local,
                                                       .listen = listener_place(listener, config)};
    }
    *count = filled;
    return sockets;
}

_Noreturn static void become_worker(const struct process *process, struct inheritance *inheritance)
{
    size_t sockets_count;
    struct worker_socket *sockets =
        sockets_for(&inheritance->listeners, process->config, &sockets_count);
    close_log_pipes(&inheritance->slots, 0, -1);
    close_log_pipes(&inheritance->slots, 1, process->slot);
    struct worker_setup setup = {
        .config = process->config,
        .tokens = process->tokens,
        .counters = inheritance->counters,
        .index = process->index,
        .count = process->of,
        .slot = (unsigned)process->slot,
        .generation = process->generation,
        .sockets = sockets,
        .sockets_count = sockets_count,
        .log_pipe = inheritance->slots.log_pipes[process->slot][1],
        .lifeline = inheritance->lifeline[0],
        .ready = inheritance->ready[1],
    };
    worker_main(&setup);
}

/* Its end must be seen when the master ends. */
static void close_channel(const int *fd)
{
    if (fd && *fd >= 0)
        close(*fd);
}

_Noreturn static void become(const struct process *process, struct inheritance *inheritance)
{
    char name[48];
    process_name(process, name);
    reset_signals();
    privileges_drop_in_child();
    secrets_in_child();
    control_close_inherited(inheritance->control);
    notify_close(inheritance->notify);
    counters_in_child(inheritance->counters);
    close_channel(inheritance->upgrade);
    close_channel(inheritance->takeover);
    close(inheritance->lifeline[1]);
    close(inheritance->ready[0]);
    log_set_role(name);
    title_set(name);
    if (process->role == PROCESS_KEEPER)
        become_keeper(process, inheritance);
    close(inheritance->keeper_socket);
    if (process->role == PROCESS_WORKER)
        become_worker(process, inheritance);
    become_logger(process, inheritance);
}

static bool take_slot(struct process *process, struct inheritance *inheritance, struct error *error)
{
    process->slot = slots_take(&inheritance->slots);
    if (process->slot < 0)
        return error_set(error, "no worker slot is free");
    if (!counters_allot_table(inheritance->counters, (unsigned)process->slot, error)) {
        slots_leave(&inheritance->slots, (unsigned)process->slot);
        return false;
    }
    struct shm_worker *shared = &inheritance->counters->workers[process->slot];
    atomic_store(&shared->generation, process->generation);
    atomic_store(&shared->index, (int32_t)process->index);
    atomic_store(&shared->heartbeat_ms, clock_now_ms());
    STEP(slot_taken);
    atomic_store(&shared->state, SHM_SLOT_STARTING);
    return true;
}

/* For the next master, should this one be killed: which processes may still be there. */
static void publish_pid(const struct process *process, struct counters *counters)
{
    uint64_t start_ticks = process_start_time(process->pid);
    if (process->role == PROCESS_LOGGER) {
        STEP(logger_forked);
        atomic_store(&counters->header->logger_start_ticks, start_ticks);
        atomic_store(&counters->header->logger_pid, process->pid);
    } else if (process->role == PROCESS_KEEPER) {
        STEP(keeper_forked);
        atomic_store(&counters->header->keeper_start_ticks, start_ticks);
        atomic_store(&counters->header->keeper_pid, process->pid);
    } else {
        STEP(worker_forked);
        atomic_store(&counters->workers[process->slot].start_ticks, start_ticks);
        atomic_store(&counters->workers[process->slot].pid, process->pid);
    }
}

/* Not to be taken for silent before it has begun. */
static void beat_first(const struct process *process, struct counters *counters)
{
    if (process->role == PROCESS_LOGGER)
        atomic_store(&counters->header->logger.heartbeat_ms, clock_now_ms());
    else if (process->role == PROCESS_KEEPER)
        atomic_store(&counters->header->keeper_heartbeat_ms, clock_now_ms());
}

/* A keeper with a file of its own needs none. */
static enum secrets_role secrets_of(const struct process *process)
{
    static const enum secrets_role secrets[] = {[PROCESS_LOGGER] = SECRETS_STORE,
                                                [PROCESS_WORKER] = SECRETS_WORKER,
                                                [PROCESS_KEEPER] = SECRETS_STORE};
    bool has_file = process->role == PROCESS_KEEPER &&
                    strcmp(process->config->store.driver, store_sqlite.name) == 0;
    return has_file ? SECRETS_NOBODY : secrets[process->role];
}

bool process_start(struct process *process, struct inheritance *inheritance, struct error *error)
{
    if (process->role == PROCESS_WORKER && !take_slot(process, inheritance, error))
        return false;
    beat_first(process, inheritance->counters);
    secrets_before_fork(secrets_of(process),
                        process->role == PROCESS_WORKER ? process->config->secrets : NULL);
    pid_t pid = fork();
    if (pid == 0)
        become(process, inheritance);
    secrets_after_fork();
    if (pid < 0) {
        error_errno(error, errno, "cannot fork");
        if (process->role == PROCESS_WORKER)
            slots_leave(&inheritance->slots, (unsigned)process->slot);
        return false;
    }
    process->pid = pid;
    publish_pid(process, inheritance->counters);
    STEP(child_published);
    process->started_ms = clock_now_ms();
    process->aborted_ms = 0;
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

/* What it had in hand the longest. */
static void tell_oldest_request(const struct process *process, const struct counters *counters,
                                const char *name)
{
    if (process->role != PROCESS_WORKER)
        return;
    const struct shm_request *request = recovery_oldest(counters, (unsigned)process->slot);
    if (!request)
        return;
    char id[UUID_TEXT_LEN + 1];
    struct str project = account_label(counters, request->project, 0);
    struct str endpoint = account_label(counters, request->endpoint, 0);
    log_error("%s: its oldest request in flight was %s of %.*s/%.*s, begun %lld ms before", name,
              uuid_format(&request->id, id), STR_ARG(project), STR_ARG(endpoint),
              (long long)((clock_now_us() - request->began_us) / 1000));
}

void process_ended(struct process *process, struct inheritance *inheritance, int wait_status)
{
    char name[48];
    process_name(process, name);
    if (process->dismissed)
        log_debug("%s (pid %d) was ended", name, (int)process->pid);
    else if (WIFSIGNALED(wait_status))
        log_error("%s (pid %d) was killed by signal %d (%s)", name, (int)process->pid,
                  WTERMSIG(wait_status), strsignal(WTERMSIG(wait_status)));
    else if (WEXITSTATUS(wait_status) != 0)
        log_error("%s (pid %d) ended with status %d", name, (int)process->pid,
                  WEXITSTATUS(wait_status));
    else
        log_debug("%s (pid %d) ended", name, (int)process->pid);
    if (wait_status != 0 && !process->dismissed)
        note_death(process);
    process->replaces = true;
    process->dismissed = false;
    tell_oldest_request(process, inheritance->counters, name);
    STEP(child_reaped);
    if (process->role == PROCESS_WORKER)
        slots_leave(&inheritance->slots, (unsigned)process->slot);
    process->pid = 0;
    process->slot = -1;
    if (process->unready_since_ms == 0)
        process->unready_since_ms = clock_now_ms();
}

static const struct shm_worker *shared_of(const struct process *process,
                                          const struct counters *counters)
{
    if (process->role != PROCESS_WORKER || process->pid == 0)
        return NULL;
    return &counters->workers[process->slot];
}

bool process_is_ready(const struct process *process, const struct counters *counters)
{
    const struct shm_worker *shared = shared_of(process, counters);
    return shared && atomic_load(&shared->state) == SHM_SLOT_READY;
}

/* NULL for one that doesn't live. */
static const _Atomic int64_t *heartbeat_of(const struct process *process,
                                           const struct counters *counters)
{
    if (process->pid == 0)
        return NULL;
    if (process->role == PROCESS_LOGGER)
        return &counters->header->logger.heartbeat_ms;
    if (process->role == PROCESS_KEEPER)
        return &counters->header->keeper_heartbeat_ms;
    return &counters->workers[process->slot].heartbeat_ms;
}

void process_watch(struct process *process, const struct counters *counters)
{
    const _Atomic int64_t *heartbeat_ms = heartbeat_of(process, counters);
    int silence_ms = process->role == PROCESS_WORKER ? PROCESS_SILENCE_MS : WRITER_SILENCE_MS;
    int64_t now_ms = clock_now_ms();
    char name[48];
    if (!heartbeat_ms || now_ms - atomic_load(heartbeat_ms) < silence_ms)
        return;
    if (process->aborted_ms == 0) {
        log_error("%s (pid %d) gives no sign of life for %d ms: told to abort",
                  process_name(process, name), (int)process->pid, silence_ms);
        process->aborted_ms = now_ms;
        kill(process->pid, SIGABRT);
    } else if (now_ms - process->aborted_ms >= PROCESS_ABORT_GRACE_MS) {
        kill(process->pid, SIGKILL);
    }
}
