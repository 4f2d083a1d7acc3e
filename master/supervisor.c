#include "master/supervisor_private.h"

#include "master/accounts_adopt.h"
#include "master/privileges.h"
#include "master/socket_file.h"
#include "master/status.h"
#include "master/title.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TURN_MS = 100, SETTLE_MS = 500 };

static volatile sig_atomic_t stop_signals, reload_asked, upgrade_asked, child_changed;

/* The master that takes over, or has, and what it has told this one. */
static volatile sig_atomic_t successor, dismissed, hurried;

static void on_signal(int number, siginfo_t *info, void *context)
{
    bool by_successor = successor != 0 && info->si_code == SI_USER && info->si_pid == successor;
    (void)context;
    if (number == SIGCHLD)
        child_changed = 1;
    else if (number == SIGHUP)
        reload_asked = 1;
    else if (number == SIGUSR2 && by_successor)
        hurried = 1;
    else if (number == SIGUSR2)
        upgrade_asked = 1;
    else if (number == SIGUSR1)
        dismissed |= by_successor;
    else
        stop_signals++;
}

/* The signals stay blocked but during ppoll: no flag can be set between a look at it and the
 * wait. */
static void take_signals(sigset_t *during_wait)
{
    static const int taken[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2, SIGCHLD};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
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

/* --- opening --- */

static bool open_pipe(int ends[2], struct error *error)
{
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0)
        return true;
    return error_errno(error, errno, "cannot make a pipe");
}

/* Room for as many generations as may live at once, also when a reload asks for more workers. */
static unsigned slots_for(const struct config *config)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    long workers = (long)config->workers;
    return (unsigned)(SLOTS_PER_WORKER * (workers > processors ? workers : processors));
}

static const char *counters_path(const struct config *config, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/counters", config->runtime_dir);
    return path;
}

/* The processes that an earlier master has left, as far as its counters file tells. */
static size_t find_orphans(const struct counters *old, struct instance_process *orphans)
{
    size_t count = 0;
    orphans[count++] = (struct instance_process){
        .pid = (pid_t)atomic_load(&old->header->logger_pid),
        .started = atomic_load(&old->header->logger_start_ticks),
    };
    orphans[count++] = (struct instance_process){
        .pid = (pid_t)atomic_load(&old->header->keeper_pid),
        .started = atomic_load(&old->header->keeper_start_ticks),
    };
    for (unsigned i = 0; i < old->header->workers; i++)
        orphans[count++] = (struct instance_process){
            .pid = atomic_load(&old->workers[i].pid),
            .started = atomic_load(&old->workers[i].start_ticks),
        };
    return count;
}

/* Alone on this runtime directory: not before has anything that is shared been touched. */
static bool take_instance(struct supervisor *s, const struct config *config, struct error *error)
{
    char path[PATH_MAX];
    struct counters old = {0};
    struct error none;
    struct instance_process *orphans = NULL;
    size_t count = 0;
    if (counters_open(&old, counters_path(config, path), &none)) {
        orphans = xcalloc(old.header->workers + 2, sizeof *orphans);
        count = find_orphans(&old, orphans);
    }
    bool taken = instance_take(&s->instance, config->runtime_dir, config->shutdown_timeout_ms,
                               orphans, count, error);
    free(orphans);
    counters_close(&old);
    return taken;
}

static bool open_counters(struct supervisor *s, const struct config *config, struct error *error)
{
    char path[PATH_MAX];
    if (!counters_create(&s->counters, counters_path(config, path), slots_for(config), error))
        return false;
    STEP(counters_opened);
    atomic_store(&s->counters.header->master_pid, getpid());
    atomic_store(&s->counters.header->stopping, 0);
    STEP(counters_taken_over);
    accounts_start(&s->counters);
    return true;
}

static bool take_privileges(const struct supervisor *s, const struct config *config,
                            struct error *error)
{
    bool was_root = geteuid() == 0;
    if (!privileges_take(config, error))
        return false;
    if (was_root && config->user)
        privileges_warn_unreadable(s->directory, config);
    return true;
}

/* Whoever connects while there is no keeper waits for the next one. */
static bool open_keeper_socket(struct supervisor *s, const struct config *config,
                               struct error *error)
{
    enum { QUEUE = 1024 };
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/keeper", config->runtime_dir);
    if (!socket_file_open(&s->keeper_socket, path, SOCK_STREAM, 0600, error))
        return false;
    s->inheritance.keeper_socket = s->keeper_socket.fd;
    return listen(s->keeper_socket.fd, QUEUE) == 0 ||
           error_errno(error, errno, "cannot listen at %s", path);
}

static bool open_everything(struct supervisor *s, const struct config *config, struct error *error)
{
    struct inheritance *inheritance = &s->inheritance;
    if (supervisor_is_second(s))
        return supervisor_take_over(s, config, error) && open_pipe(inheritance->lifeline, error) &&
               open_pipe(inheritance->ready, error);
    return privileges_make_directory(config, config->state_dir, error) &&
           privileges_make_directory(config, config->runtime_dir, error) &&
           take_privileges(s, config, error) && take_instance(s, config, error) &&
           open_counters(s, config, error) &&
           control_open(&s->control, config->runtime_dir, supervisor_ask_control, s, error) &&
           open_keeper_socket(s, config, error) &&
           listeners_adjust(&inheritance->listeners, config, error) &&
           slots_open(&inheritance->slots, &s->counters, error) &&
           open_pipe(inheritance->lifeline, error) && open_pipe(inheritance->ready, error);
}

static void close_everything(struct supervisor *s)
{
    while (s->count > 0)
        generation_free(&s->generations[--s->count]);
    slots_free(&s->inheritance.slots);
    if (supervisor_is_second(s)) {
        listeners_leave(&s->inheritance.listeners);
        control_leave(&s->control);
    }
    listeners_close(&s->inheritance.listeners);
    counters_close(&s->counters);
    reload_deinit(&s->reload);
    token_changes_deinit(&s->tokens);
    upgrade_deinit(&s->upgrade);
    takeover_deinit(&s->takeover);
    config_free(&s->waiting);
    control_close(&s->control);
    socket_file_close(&s->keeper_socket);
    notify_close(&s->notify);
    instance_release(&s->instance);
}

/* --- generations --- */

struct generation *supervisor_in_state(const struct supervisor *s, enum generation_state state)
{
    for (unsigned i = s->count; i-- > 0;)
        if (s->generations[i]->state == state)
            return s->generations[i];
    return NULL;
}

/* Nobody serves, and nobody did. */
static bool is_first(const struct supervisor *s)
{
    return !supervisor_in_state(s, GENERATION_SERVING) && !supervisor_is_second(s);
}

static int64_t oldest_living(const struct supervisor *s)
{
    int64_t newest = s->count > 0 ? s->generations[0]->number : s->last_number + 1;
    return slots_oldest_generation(&s->inheritance.slots, newest);
}

/* Its files were read before the latest changes of tokens: it gets these, and their caps hold. */
static void repeat_token_changes(struct supervisor *s, struct generation *generation)
{
    if (!token_changes_repeat(&s->tokens, generation, &s->counters))
        reload_ask(&s->reload);
}

/* Takes the configuration over when it succeeds. */
static bool add_generation(struct supervisor *s, struct config *config, struct error *error)
{
    if (!accounts_adopt(config, &s->counters, s->last_number + 1, oldest_living(s), error))
        return false;
    struct token_table *tokens = token_table_new(config->tokens, config->tokens_count, error);
    if (!tokens)
        return false;
    /* The first one serves as soon as it can, a later one when it is announced. */
    if (is_first(s))
        accounts_enforce(config, &s->counters);
    struct generation *generation = generation_new(++s->last_number, config, tokens);
    s->generations[s->count++] = generation;
    repeat_token_changes(s, generation);
    generation->accounts = counters_accounts_mapped(&s->counters);
    return true;
}

/* The logger keeps the configuration it was started with (but for what begin_serving tells it); a
 * new one gets the newest. */
static void forget_generation(struct supervisor *s, unsigned index)
{
    struct generation *generation = s->generations[index];
    log_info("generation %lld is gone", (long long)generation->number);
    generation_free(&generation);
    for (s->count--; index < s->count; index++)
        s->generations[index] = s->generations[index + 1];
}

static void retire_older(struct supervisor *s, const struct generation *newest)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct generation *older = s->generations[i];
        if (older != newest)
            tokens_narrow(older, newest);
        if (older->state == GENERATION_SERVING)
            generation_dismiss(older, GENERATION_RETIRING, SIGHUP,
                               newest->config->shutdown_timeout_ms);
    }
}

void supervisor_publish(struct supervisor *s, struct generation *generation)
{
    accounts_enforce(generation->config, &s->counters);
    repeat_token_changes(s, generation);
    generation_publish_owners(generation, s->inheritance.listeners.sockets, &s->counters);
    atomic_store(&s->counters.header->logger.retention_ms, generation->config->log_retention_ms);
    atomic_store(&s->counters.header->idempotency_bytes, generation->config->idempotency_bytes);
    STEP(generation_published);
}

void supervisor_begin_serving(struct supervisor *s, struct generation *generation)
{
    supervisor_publish(s, generation);
    listeners_begin(&s->inheritance.listeners, generation->config);
    retire_older(s, generation);
    generation->state = GENERATION_SERVING;
    generation->serving_since_ms = clock_now_ms();
    log_setup(generation->config->log_level, generation->config->log_format);
    s->logger.config = s->keeper.config = generation->config;
}

/* Whoever asked for a reload may count on it that new connections get the new configuration. */
static bool old_ones_accept(const struct supervisor *s)
{
    for (unsigned i = 0; i < s->count; i++) {
        const struct generation *generation = s->generations[i];
        if (generation->state != GENERATION_RETIRING)
            continue;
        for (unsigned j = 0; j < generation->count; j++)
            if (process_is_ready(&generation->workers[j], &s->counters))
                return true;
    }
    return s->takeover.state == TAKEOVER_DRAINING && slots_foreign(&s->inheritance.slots, true) > 0;
}

/* Whether no older worker accepts any more, or is not to be waited for. */
static bool has_taken_over(const struct supervisor *s, const struct generation *serving)
{
    return clock_now_ms() - serving->serving_since_ms >= SETTLE_MS || !old_ones_accept(s);
}

/* Who hears of it may rely on it: a connection made from now on is the new generation's. */
static void announce(struct supervisor *s)
{
    struct generation *generation = supervisor_in_state(s, GENERATION_SERVING);
    if (!generation || generation->announced || s->stopping || !has_taken_over(s, generation))
        return;
    generation->announced = true;
    notify_ready(&s->notify, "serving");
    if (generation->number == 1)
        log_info("promptgate ready: %u workers", generation->count);
    else
        log_info("generation %lld serves: %u workers", (long long)generation->number,
                 generation->count);
    reload_succeeded(&s->reload, generation->number);
}

/* The first one has nothing to go back to, so it is tried again and again; a later one that can't
 * start leaves the field to the one that serves. */
static bool has_failed(const struct supervisor *s, const struct generation *generation)
{
    if (is_first(s))
        return false;
    for (unsigned i = 0; i < generation->count; i++)
        if (generation->workers[i].deaths > 0)
            return true;
    return clock_now_ms() - generation->began_ms > GENERATION_START_MS;
}

/* The service manager waits for the end of each reload that it was told of. */
static void fail_reload(struct supervisor *s, const char *reason)
{
    if (supervisor_is_second(s)) {
        supervisor_give_up(s, reason);
        return;
    }
    reload_failed(&s->reload, reason);
    notify_ready(&s->notify, "serving; the last reload failed");
}

static void tend_starting(struct supervisor *s)
{
    struct generation *generation = supervisor_in_state(s, GENERATION_STARTING);
    if (!generation || s->stopping)
        return;
    if (has_failed(s, generation)) {
        fail_reload(s, "the new generation's workers could not start");
        generation_dismiss(generation, GENERATION_FAILED, SIGKILL, 0);
    } else if (!generation_is_ready(generation, &s->counters)) {
        return;
    } else if (supervisor_is_second(s)) {
        supervisor_offer(s);
    } else {
        supervisor_begin_serving(s, generation);
    }
}

/* The first generation accepts as soon as it can; a later one not before it serves: should it
 * fail, no client was there to lose. */
static void publish_owners(struct supervisor *s)
{
    const struct generation *generation = supervisor_in_state(s, GENERATION_SERVING);
    if (supervisor_has_lent_clients(s))
        return;
    if (is_first(s))
        generation = supervisor_in_state(s, GENERATION_STARTING);
    if (generation)
        generation_publish_owners(generation, s->inheritance.listeners.sockets, &s->counters);
}

/* What the serving generation has no use for, when older ones have had time to hear of it and none
 * that starts may need it. */
static void drop_addresses(struct supervisor *s)
{
    const struct generation *serving = supervisor_in_state(s, GENERATION_SERVING);
    bool settled = serving && !supervisor_in_state(s, GENERATION_STARTING) &&
                   clock_now_ms() - serving->serving_since_ms >= SETTLE_MS;
    if (settled)
        listeners_drop_unwanted(&s->inheritance.listeners, serving->config);
}

static void tend_generations(struct supervisor *s)
{
    publish_owners(s);
    for (unsigned i = s->count; i-- > 0;) {
        struct generation *generation = s->generations[i];
        if (s->logger_ready)
            generation_start_missing(generation, &s->inheritance);
        generation_tend(generation, &s->counters);
        bool over = generation->state >= GENERATION_RETIRING && !s->stopping;
        if (over && generation_living(generation) == 0)
            forget_generation(s, i);
    }
    tend_starting(s);
    announce(s);
    drop_addresses(s);
}

/* --- reload --- */

/* Brings the new configuration up beside the one that serves. */
static void start_reload(struct supervisor *s, struct config *config)
{
    struct error error;
    if (listeners_adjust(&s->inheritance.listeners, config, &error) &&
        add_generation(s, config, &error))
        return;
    fail_reload(s, error.message);
    config_free(&config);
}

/* More workers than slots can never start; with fewer free ones than it needs, a configuration
 * waits until older generations have ended. */
static void take_reloaded(struct supervisor *s, struct config *config)
{
    unsigned wanted = (unsigned)config->workers;
    unsigned most = s->inheritance.slots.count / 2;
    if (wanted <= most) {
        s->waiting = config;
        if (slots_available(&s->inheritance.slots) < wanted)
            log_info("the reload waits: its %u workers need slots that older generations still "
                     "have",
                     wanted);
        return;
    }
    struct error error;
    error_set(&error, "workers: at most %u by reload: restart needed", most);
    fail_reload(s, error.message);
    config_free(&config);
}

static void tend_reload(struct supervisor *s)
{
    const struct generation *serving = supervisor_in_state(s, GENERATION_SERVING);
    if (reload_asked) {
        reload_asked = 0;
        reload_ask(&s->reload);
    }
    /* Until it is announced, the reload that it came of is not over. */
    if (s->stopping || !serving || !serving->announced ||
        supervisor_in_state(s, GENERATION_STARTING) || s->upgrade.state != UPGRADE_IDLE)
        return;
    if (!s->waiting) {
        bool room = s->count < GENERATIONS_MAX;
        bool was_under_way = s->reload.under_way;
        struct config *config = reload_tend(&s->reload, serving->config, room);
        if (!was_under_way && s->reload.under_way)
            notify_reloading(&s->notify, "reading the configuration");
        else if (was_under_way && !s->reload.under_way)
            notify_ready(&s->notify, "serving; the last reload failed");
        if (config)
            take_reloaded(s, config);
    }
    if (s->waiting && slots_available(&s->inheritance.slots) >= (unsigned)s->waiting->workers) {
        struct config *config = s->waiting;
        s->waiting = NULL;
        start_reload(s, config);
    }
}

/* --- children --- */

static void start_logger(struct supervisor *s)
{
    struct error error;
    if (s->logger_done || supervisor_has_lent_writers(s) || s->logger.pid != 0 ||
        s->logger.start_after_ms > clock_now_ms())
        return;
    if (process_start(&s->logger, &s->inheritance, &error))
        return;
    log_error("%s", error.message);
    s->logger.start_after_ms = clock_now_ms() + 1000;
}

static void start_keeper(struct supervisor *s)
{
    struct error error;
    bool is_due = s->logger_ready && !s->keeper_done && !supervisor_has_lent_writers(s);
    if (!is_due || s->keeper.pid != 0 || s->keeper.start_after_ms > clock_now_ms())
        return;
    if (process_start(&s->keeper, &s->inheritance, &error))
        return;
    log_error("%s", error.message);
    s->keeper.start_after_ms = clock_now_ms() + 1000;
}

static struct process *process_of(struct supervisor *s, pid_t pid)
{
    struct process *process = s->logger.pid == pid   ? &s->logger
                              : s->keeper.pid == pid ? &s->keeper
                                                     : NULL;
    for (unsigned i = 0; i < s->count && !process; i++)
        process = generation_find(s->generations[i], pid);
    return process;
}

static void reap(struct supervisor *s)
{
    int status;
    pid_t pid;
    child_changed = 0;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        struct process *process = process_of(s, pid);
        if (process == &s->logger && WIFEXITED(status) && WEXITSTATUS(status) != 0)
            s->logger_gave_up = true;
        if (process == &s->logger && s->pipes_ended && status == 0) {
            s->logger_done = true;
            slots_emptied(&s->inheritance.slots);
        }
        if (process)
            process_ended(process, &s->inheritance, status);
        trial_child_ended(&s->reload.trial, pid, status);
        trial_child_ended(&s->tokens.trial, pid, status);
        upgrade_child_ended(&s->upgrade, pid, status);
    }
}

/* The logger goes first, for a worker must not take a request that can't be logged: the first byte
 * is the logger's. */
static void look_who_is_ready(struct supervisor *s)
{
    char bytes[64];
    while (read(s->inheritance.ready[0], bytes, sizeof bytes) > 0)
        s->logger_ready = true;
}

/* A logger that gives up before it was ever ready can't open its store or spool: no use in trying
 * again and again. (One that was killed is another matter.) */
static bool start_failed(const struct supervisor *s)
{
    return !s->logger_ready && s->logger.pid == 0 && s->logger_gave_up;
}

unsigned supervisor_living_workers(const struct supervisor *s)
{
    unsigned living = 0;
    for (unsigned i = 0; i < s->count; i++)
        living += generation_living(s->generations[i]);
    return living;
}

/* --- the control socket --- */

static void answer_status(struct supervisor *s, uint64_t request)
{
    struct buf text = {0};
    struct status_view view = {
        .generations = s->generations,
        .generations_count = s->count,
        .logger = &s->logger,
        .keeper = &s->keeper,
        .listeners = &s->inheritance.listeners,
        .slots = &s->inheritance.slots,
        .counters = &s->counters,
        .stopping = s->stopping,
        .upgrading = s->upgrade.state == UPGRADE_IDLE ? 0 : s->upgrade.pid,
        .replaces = s->takeover.state == TAKEOVER_NONE ? 0 : s->takeover.old,
    };
    status_write(&view, &text);
    control_answer(&s->control, request, true, buf_view(&text));
    buf_free(&text);
}

static void wait_for_end(struct supervisor *s, uint64_t request, enum control_verb verb)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct waiting_request *place = &s->requests[i];
        if (place->request != 0)
            continue;
        *place = (struct waiting_request){.request = request, .verb = verb};
        if (verb == CONTROL_RELOAD)
            place->number = reload_ask(&s->reload);
        else if (verb == CONTROL_UPGRADE)
            place->number = upgrade_ask(&s->upgrade);
        else
            stop_signals = stop_signals > 0 ? stop_signals : 1;
        return;
    }
    control_answer(&s->control, request, false, STR("too many requests wait already"));
}

void supervisor_ask_control(void *context, uint64_t request, enum control_verb verb,
                            const char *argument)
{
    struct supervisor *s = context;
    if (s->upgrade.state == UPGRADE_DONE)
        control_refer(&s->control, request);
    else if (verb == CONTROL_STATUS)
        answer_status(s, request);
    else if (verb != CONTROL_TOKENS)
        wait_for_end(s, request, verb);
    else if (s->stopping || !token_changes_ask(&s->tokens, argument, request))
        control_answer(&s->control, request, false,
                       s->stopping ? STR("the gateway is stopping")
                                   : STR("too many requests wait already, or that is no name"));
}

/* One that has begun when the gateway stops is not answered: it closes the socket. */
static void tend_tokens(struct supervisor *s)
{
    struct token_scene scene = {
        .generations = s->generations,
        .count = s->count,
        .serving = supervisor_in_state(s, GENERATION_SERVING),
        .counters = &s->counters,
        .reloading = s->reload.under_way,
    };
    struct buf text = {0};
    uint64_t request;
    if (!scene.serving || s->stopping || s->upgrade.state != UPGRADE_IDLE)
        return;
    enum token_change_state state = token_changes_tend(&s->tokens, &scene, &request, &text);
    if (state == TOKENS_NO_ROOM)
        wait_for_end(s, request, CONTROL_RELOAD);
    else if (state != TOKENS_IDLE)
        control_answer(&s->control, request, state == TOKENS_TAKEN, buf_view(&text));
    if (state != TOKENS_IDLE)
        supervisor_dismiss_old(s);
    buf_free(&text);
}

/* An answer is due; false when it isn't yet. */
static bool answer_waiting(struct supervisor *s, const struct waiting_request *waiting)
{
    bool of_reload = waiting->verb == CONTROL_RELOAD, of_upgrade = waiting->verb == CONTROL_UPGRADE;
    if (s->upgrade.state == UPGRADE_DONE && !of_upgrade)
        control_refer(&s->control, waiting->request);
    else if (of_upgrade && upgrade_has_ended(&s->upgrade, waiting->number) &&
             (s->stopping || !old_ones_accept(s)))
        control_answer(&s->control, waiting->request, s->upgrade.good, buf_view(&s->upgrade.text));
    else if ((of_reload || of_upgrade) && s->stopping)
        control_answer(&s->control, waiting->request, false, STR("the gateway is stopping"));
    else if (of_reload && waiting->number <= s->reload.answered && !old_ones_accept(s))
        control_answer(&s->control, waiting->request, s->reload.good, buf_view(&s->reload.text));
    else if (waiting->verb == CONTROL_STOP && supervisor_has_stopped(s))
        control_answer(&s->control, waiting->request, true, STR("stopped"));
    else
        return false;
    return true;
}

/* A stop is answered when it has come to its end, or nearly: the socket goes last. */
static void answer_requests(struct supervisor *s)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (s->requests[i].request != 0 && answer_waiting(s, &s->requests[i]))
            s->requests[i].request = 0;
}

/* --- the loop --- */

static void wait_for_events(struct supervisor *s, const sigset_t *during_wait)
{
    int others[] = {s->inheritance.ready[0], s->upgrade.channel, s->takeover.channel};
    enum { OTHERS = sizeof others / sizeof *others };
    struct pollfd descriptors[CONTROL_DESCRIPTORS_MAX + OTHERS];
    struct timespec timeout = {.tv_nsec = TURN_MS * 1000 * 1000};
    size_t count = control_descriptors(&s->control, descriptors);
    for (size_t i = 0; i < OTHERS; i++)
        descriptors[count + i] = (struct pollfd){.fd = others[i], .events = POLLIN};
    if (ppoll(descriptors, (nfds_t)count + OTHERS, &timeout, during_wait) < 0)
        for (size_t i = 0; i < count; i++)
            descriptors[i].revents = 0;
    control_handle(&s->control, descriptors, count);
}

/* The service manager's watchdog is fed only while somebody serves. */
static void feed_watchdog(struct supervisor *s)
{
    const struct generation *serving = supervisor_in_state(s, GENERATION_SERVING);
    int64_t now_ms = clock_now_ms();
    for (unsigned i = 0; serving && i < serving->count; i++) {
        const struct process *worker = &serving->workers[i];
        if (!process_is_ready(worker, &s->counters))
            continue;
        int64_t beat_ms = atomic_load(&s->counters.workers[worker->slot].heartbeat_ms);
        if (now_ms - beat_ms < PROCESS_SILENCE_MS) {
            notify_feed(&s->notify);
            return;
        }
    }
}

static bool is_over(const struct supervisor *s)
{
    return s->gave_up || start_failed(s) || supervisor_has_stopped(s) || supervisor_is_done(s);
}

/* Reloads, and changes of tokens, for which an upgrade waits. */
static bool is_changing(const struct supervisor *s)
{
    return !supervisor_in_state(s, GENERATION_SERVING) ||
           supervisor_in_state(s, GENERATION_STARTING) || s->reload.under_way || s->waiting ||
           s->tokens.count > 0;
}

static void take_turn(struct supervisor *s)
{
    process_watch(&s->logger, &s->counters);
    process_watch(&s->keeper, &s->counters);
    slots_clean(&s->inheritance.slots);
    struct supervisor_signals signals = {.stop = stop_signals > 0,
                                         .reload = reload_asked,
                                         .upgrade = upgrade_asked,
                                         .dismissed = dismissed,
                                         .hurried = hurried};
    upgrade_asked = 0;
    supervisor_tend_upgrade(s, is_changing(s), &signals);
    successor = s->upgrade.pid;
    supervisor_tend_takeover(s, stop_signals > 0);
    tend_reload(s);
    tend_tokens(s);
    tend_generations(s);
    if (s->upgrade.state == UPGRADE_IDLE && !supervisor_is_second(s))
        supervisor_tend_stop(s, stop_signals);
    answer_requests(s);
    feed_watchdog(s);
}

static int supervise(struct supervisor *s, const sigset_t *during_wait)
{
    while (!is_over(s)) {
        start_logger(s);
        start_keeper(s);
        wait_for_events(s, during_wait);
        look_who_is_ready(s);
        if (child_changed)
            reap(s);
        if (!start_failed(s))
            take_turn(s);
    }
    if (start_failed(s) && supervisor_is_second(s))
        takeover_fail(&s->takeover, "its logger could not start: the log says why");
    bool is_orphaned = s->upgrade.state == UPGRADE_DONE && s->upgrade.ended;
    if (s->gave_up || start_failed(s) || is_orphaned)
        return 1;
    log_info("stopped");
    return 0;
}

int supervisor_run(const char *directory, struct config *config, struct takeover *takeover)
{
    struct supervisor s = {.directory = directory, .takeover = *takeover};
    struct error error;
    sigset_t during_wait;
    log_set_role("master");
    title_set("master");
    take_signals(&during_wait);
    reload_init(&s.reload, directory);
    upgrade_init(&s.upgrade);
    token_changes_init(&s.tokens, directory);
    control_init(&s.control);
    s.instance.fd = -1;
    notify_open(&s.notify);
    s.keeper_socket.fd = -1;
    s.logger = (struct process){.role = PROCESS_LOGGER, .config = config, .slot = -1};
    s.keeper = (struct process){.role = PROCESS_KEEPER, .config = config, .slot = -1};
    s.inheritance.counters = &s.counters;
    s.inheritance.control = &s.control;
    s.inheritance.notify = &s.notify;
    s.inheritance.upgrade = &s.upgrade.channel;
    s.inheritance.takeover = &s.takeover.channel;
    int status = 1;
    if (open_everything(&s, config, &error) && add_generation(&s, config, &error)) {
        status = supervise(&s, &during_wait);
    } else {
        takeover_fail(&s.takeover, error.message);
        config_free(&config);
    }
    close_everything(&s);
    return status;
}
