#include "master/supervisor_private.h"

#include "master/config/config_fixed.h"
#include "master/config/secret.h"
#include "master/privileges.h"
#include "shared/base/log.h"
#include "shared/base/secret_memory.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

enum { KEEPER_COMES_MS = 2000 }; /* a keeper that was started, or may begin */

/* --- the old master: beginning --- */

/* In the child. */
static void prepare_exec(void *context)
{
    const struct supervisor *s = context;
    secrets_in_child();
    secret_restore_environment();
    notify_restore_environment(&s->notify);
    privileges_keep_over_exec();
}

/* A view of what this master has; its lists are not the view's own. */
static void fill(const struct supervisor *s, const struct config *serving, struct buf *fixed,
                 struct handover *handover)
{
    const struct inheritance *inheritance = &s->inheritance;
    config_fixed_write(serving, fixed);
    *handover = (struct handover){
        .generation = s->last_number,
        .layout = SHM_LAYOUT,
        .lock = s->instance.fd,
        .counters = s->counters.fd,
        .control = s->control.socket,
        .keeper = s->keeper_socket,
        .listeners = inheritance->listeners,
        .log_pipes = inheritance->slots.log_pipes,
        .slots = inheritance->slots.count,
        .fixed = (char *)buf_cstr(fixed),
    };
}

/* Slots for as many workers as serve now, and as many again, should some of these die meanwhile. */
static void begin(struct supervisor *s)
{
    const struct generation *serving = supervisor_in_state(s, GENERATION_SERVING);
    struct slots *slots = &s->inheritance.slots;
    struct handover handover;
    struct buf fixed = {0};
    if (getpid() == 1) {
        upgrade_cancel(&s->upgrade, "the master is process 1, with whose end all others end: "
                                    "restart needed");
        return;
    }
    unsigned available = slots_available(slots);
    if (s->takeover.state != TAKEOVER_NONE || available < serving->count) {
        if (!s->upgrade.said_waiting)
            log_info("the upgrade waits: older workers still have the slots that it needs");
        s->upgrade.said_waiting = true;
        return;
    }
    s->upgrade.said_waiting = false;
    fill(s, serving->config, &fixed, &handover);
    handover.lent = xcalloc(slots->count, sizeof *handover.lent);
    unsigned spare = available - serving->count;
    slots_lend(slots, spare < serving->count ? spare : serving->count, handover.lent);
    secrets_before_fork(SECRETS_READER, NULL);
    upgrade_begin(&s->upgrade, s->directory, &handover, prepare_exec, s);
    secrets_after_fork();
    free(handover.lent);
    buf_free(&fixed);
}

/* --- the old master: going on --- */

/* Conversations wait until then for one that answers, and a little longer. */
static void await_keeper(struct supervisor *s, int64_t within_ms)
{
    atomic_store(&s->counters.header->keeper_awaited_ms, clock_now_ms() + within_ms);
}

/* Whatever they have taken is on the disk, and what they have not is in pipes and in workers: the
 * next ones go on with it. */
static void end_writers(struct supervisor *s)
{
    struct process *writers[] = {&s->logger, &s->keeper};
    bool gone = true;
    await_keeper(s, UPGRADE_LONGEST_MS);
    for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) {
        if (writers[i]->pid == 0)
            continue;
        gone = false;
        if (!writers[i]->dismissed)
            kill(writers[i]->pid, SIGKILL);
        writers[i]->dismissed = true;
    }
    if (gone)
        upgrade_go(&s->upgrade);
}

/* All of it is the new one's: this one has its workers, and their slots, to wait for. */
static void hand_on(struct supervisor *s)
{
    STEP(upgrade_handed_on);
    notify_main_pid(&s->notify, s->upgrade.pid);
    control_leave(&s->control);
    socket_file_leave(&s->keeper_socket);
    listeners_leave(&s->inheritance.listeners);
    for (unsigned i = 0; i < s->count; i++) {
        struct generation *generation = s->generations[i];
        if (generation->state == GENERATION_SERVING)
            generation_dismiss(generation, GENERATION_RETIRING, SIGHUP,
                               generation->config->shutdown_timeout_ms);
    }
    for (unsigned i = 0; i < s->tokens.count; i++)
        control_refer(&s->control, s->tokens.asked[i].request);
}

/* Nothing of the new one is left; what it may have put into shared memory is said anew. */
static void undo(struct supervisor *s)
{
    struct error error;
    struct generation *serving = supervisor_in_state(s, GENERATION_SERVING);
    if (!counters_look_again(&s->counters, &error))
        log_error("%s", error.message);
    slots_take_back(&s->inheritance.slots);
    if (!instance_sign(&s->instance, &error) || !control_begin(&s->control, &error))
        log_error("%s", error.message);
    atomic_store(&s->counters.header->master_pid, getpid());
    await_keeper(s, KEEPER_COMES_MS);
    if (serving)
        supervisor_publish(s, serving);
}

static void dismiss_replaced(struct supervisor *s, bool at_once)
{
    for (unsigned i = 0; i < s->count; i++) {
        struct generation *generation = s->generations[i];
        generation_dismiss(generation, GENERATION_RETIRING, at_once ? SIGQUIT : SIGTERM,
                           at_once ? 0 : generation->config->shutdown_timeout_ms);
    }
}

/* The new master's end is as if it had said so. */
static void tend_replaced(struct supervisor *s, const struct supervisor_signals *signals)
{
    if (signals->upgrade)
        log_warning("process %d is the master now: ask that one to upgrade", (int)s->upgrade.pid);
    if (signals->hurried && !s->hurried) {
        s->hurried = s->stopping = true;
        dismiss_replaced(s, true);
    } else if ((signals->dismissed || signals->stop || s->upgrade.ended) && !s->stopping) {
        s->stopping = true;
        dismiss_replaced(s, false);
    }
}

/* What this one was told meanwhile, and has not done. */
static void hand_signals_on(const struct supervisor *s, const struct supervisor_signals *signals)
{
    if (signals->reload || s->reload.asked > s->reload.answered)
        kill(s->upgrade.pid, SIGHUP);
    if (signals->stop)
        kill(s->upgrade.pid, SIGTERM);
}

/* Once it was told that it is over, the new one may have clients already. */
static bool can_be_stopped(const struct supervisor *s)
{
    return s->upgrade.state != UPGRADE_UNDOING && s->upgrade.state != UPGRADE_SWITCHING;
}

static void go_on(struct supervisor *s, const struct supervisor_signals *signals)
{
    enum upgrade_state before = s->upgrade.state, now = upgrade_tend(&s->upgrade);
    if (now == UPGRADE_CLEARING)
        end_writers(s);
    else if (now == UPGRADE_SWITCHING && before == UPGRADE_TAKING)
        upgrade_say_over(&s->upgrade);
    else if (now == UPGRADE_IDLE)
        undo(s);
    if (now != UPGRADE_DONE)
        return;
    hand_on(s);
    hand_signals_on(s, signals);
}

void supervisor_tend_upgrade(struct supervisor *s, bool busy,
                             const struct supervisor_signals *signals)
{
    if (s->upgrade.state == UPGRADE_DONE) {
        tend_replaced(s, signals);
        return;
    }
    if (signals->upgrade)
        upgrade_ask(&s->upgrade);
    if (s->upgrade.state != UPGRADE_IDLE) {
        if (signals->stop && can_be_stopped(s))
            upgrade_cancel(&s->upgrade, "the gateway is stopping");
        go_on(s, signals);
    } else if (s->upgrade.asked > s->upgrade.answered && !busy && !s->stopping && !signals->stop) {
        begin(s);
    }
}

bool supervisor_has_lent_writers(const struct supervisor *s)
{
    return s->upgrade.state > UPGRADE_PREPARING;
}

bool supervisor_has_lent_clients(const struct supervisor *s)
{
    return s->upgrade.state == UPGRADE_SWITCHING || s->upgrade.state == UPGRADE_DONE;
}

/* Without the new master nobody empties the pipes: the next one finds in the table what was to go
 * there. */
bool supervisor_is_done(const struct supervisor *s)
{
    return s->upgrade.state == UPGRADE_DONE && supervisor_living_workers(s) == 0 &&
           (!slots_in_use(&s->inheritance.slots) || s->upgrade.ended);
}

/* --- the new master --- */

bool supervisor_is_second(const struct supervisor *s)
{
    return s->takeover.state == TAKEOVER_TAKING || s->takeover.state == TAKEOVER_READY;
}

static bool check_fixed(const struct handover *handover, const struct config *config,
                        struct error *error)
{
    const char *key = config_fixed_differs(str_of(handover->fixed), config);
    return !key || error_set(error, "%s cannot change by an upgrade: restart needed", key);
}

static unsigned count_lent(const struct handover *handover)
{
    unsigned count = 0;
    for (unsigned i = 0; i < handover->slots; i++)
        count += handover->lent[i];
    return count;
}

static bool check_slots(const struct supervisor *s, const struct config *config,
                        struct error *error)
{
    const struct handover *handover = &s->takeover.handover;
    unsigned lent = count_lent(handover);
    if (handover->slots != s->counters.header->workers)
        return error_set(error, "what was handed over does not fit the counters file");
    return config->workers <= lent ||
           error_set(error,
                     "workers: at most %u by this upgrade: wait until earlier ones have ended, or "
                     "restart",
                     lent);
}

bool supervisor_take_over(struct supervisor *s, const struct config *config, struct error *error)
{
    struct inheritance *inheritance = &s->inheritance;
    struct handover *handover = &s->takeover.handover;
    s->instance.fd = handover->lock;
    s->last_number = handover->generation;
    s->keeper.replaces = true;
    control_adopt(&s->control, &handover->control, supervisor_ask_control, s);
    inheritance->keeper_socket = handover->keeper.fd;
    inheritance->listeners = handover->listeners;
    handover->listeners = (struct listeners){0};
    if (!check_fixed(handover, config, error) || !privileges_take(config, error) ||
        !counters_join(&s->counters, handover->counters, error) || !check_slots(s, config, error))
        return false;
    slots_adopt(&inheritance->slots, &s->counters, handover->log_pipes, handover->lent);
    handover->log_pipes = NULL;
    return listeners_adjust(&inheritance->listeners, config, error) &&
           (takeover_wait(&s->takeover) ||
            error_set(error, "the earlier master has changed its mind"));
}

void supervisor_offer(struct supervisor *s)
{
    if (s->takeover.state != TAKEOVER_TAKING)
        return;
    STEP(takeover_ready);
    takeover_say(&s->takeover, "ready");
    s->takeover.state = TAKEOVER_READY;
}

void supervisor_give_up(struct supervisor *s, const char *reason)
{
    takeover_fail(&s->takeover, reason);
    s->gave_up = true;
}

/* From here on this is the master. */
static void take_office(struct supervisor *s)
{
    struct error error;
    s->takeover.state = TAKEOVER_DRAINING;
    s->keeper_socket = s->takeover.handover.keeper;
    supervisor_begin_serving(s, supervisor_in_state(s, GENERATION_STARTING));
    STEP(takeover_done);
    takeover_say(&s->takeover, "serving");
    atomic_store(&s->counters.header->master_pid, getpid());
    await_keeper(s, KEEPER_COMES_MS);
    if (!instance_sign(&s->instance, &error) || !control_begin(&s->control, &error))
        log_error("%s", error.message);
    log_info("took over from process %d", (int)s->takeover.old);
}

static void tell_old(const struct supervisor *s, int number)
{
    if (s->takeover.state == TAKEOVER_DRAINING && takeover_old_lives(&s->takeover))
        kill(s->takeover.old, number);
}

void supervisor_dismiss_old(const struct supervisor *s)
{
    tell_old(s, SIGUSR1);
}

void supervisor_hurry_old(const struct supervisor *s)
{
    tell_old(s, SIGUSR2);
}

/* The other master hangs up when it has heard that this one serves, and starts nothing any more.
 * Its workers end, and then it does, or it has died and they are orphans. */
static void tend_draining(struct supervisor *s)
{
    bool knows = false;
    if (s->takeover.channel >= 0 && !takeover_is_over(&s->takeover, &knows) && knows) {
        takeover_hang_up(&s->takeover);
        s->inheritance.slots.alone = true;
    }
    if (takeover_old_lives(&s->takeover))
        return;
    slots_adopt_orphans(&s->inheritance.slots);
    if (slots_foreign(&s->inheritance.slots, false) > 0)
        return;
    log_info("process %d and its workers are gone", (int)s->takeover.old);
    s->takeover.state = TAKEOVER_NONE;
}

void supervisor_tend_takeover(struct supervisor *s, bool stop_asked)
{
    bool gone = false;
    if (supervisor_is_second(s) && stop_asked)
        supervisor_give_up(s, "the new master was told to stop");
    else if (supervisor_is_second(s) && takeover_is_over(&s->takeover, &gone))
        take_office(s);
    else if (supervisor_is_second(s) && gone)
        supervisor_give_up(s, "the earlier master went away");
    else if (s->takeover.state == TAKEOVER_DRAINING)
        tend_draining(s);
}
