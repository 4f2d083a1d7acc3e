#include "master/supervisor_private.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"

#include <signal.h>

/* The master before this one dismisses its own, and has a grace of its own for them. */
static void dismiss_all(struct supervisor *s, int64_t timeout_ms)
{
    bool has_old = s->takeover.state != TAKEOVER_NONE;
    s->requests_end_ms = clock_now_ms() + timeout_ms;
    s->rows_wait_until_ms = s->requests_end_ms + (has_old ? 2 : 1) * GENERATION_GRACE_MS;
    for (unsigned i = 0; i < s->count; i++)
        generation_dismiss(s->generations[i], s->generations[i]->state,
                           s->hurried ? SIGQUIT : SIGTERM, timeout_ms);
    supervisor_dismiss_old(s);
}

static void begin_stop(struct supervisor *s)
{
    int64_t timeout_ms = s->generations[s->count - 1]->config->shutdown_timeout_ms;
    log_info("stopping: requests in flight have %lld ms to end", (long long)timeout_ms);
    notify_stopping(&s->notify, "stopping");
    s->stopping = true;
    atomic_store(&s->counters.header->stopping, 1);
    dismiss_all(s, timeout_ms);
}

/* Whoever says it twice does not want to wait for requests in flight; for their rows they do. */
static void hurry_stop(struct supervisor *s)
{
    if (s->hurried)
        return;
    log_info("stopping at once: requests in flight are broken off");
    s->hurried = true;
    dismiss_all(s, 0);
}

static bool anybody_accepts(const struct supervisor *s)
{
    for (unsigned i = 0; i < s->count; i++)
        for (unsigned j = 0; j < s->generations[i]->count; j++)
            if (process_is_ready(&s->generations[i]->workers[j], &s->counters))
                return true;
    return s->takeover.state != TAKEOVER_NONE && slots_foreign(&s->inheritance.slots, true) > 0;
}

/* Else whoever comes while the last requests end would wait in a queue for nothing. */
static void refuse_clients(struct supervisor *s)
{
    if (s->refusing || anybody_accepts(s))
        return;
    s->refusing = true;
    listeners_refuse(&s->inheritance.listeners);
}

/* It is slow, or dies whenever it is started. What is in the pipes goes with them: the entries of
 * those requests stay, and from them the next master makes the rows. */
static void give_logger_up(struct supervisor *s)
{
    if (s->logger_done)
        return;
    log_error("the logger takes too long; the rows that it did not store follow at the next start");
    s->logger_done = true;
    if (s->logger.pid > 0)
        kill(s->logger.pid, SIGKILL);
}

/* Nobody has a conversation any more. One that does not hear is not waited for. */
static void end_keeper(struct supervisor *s)
{
    if (s->keeper.pid > 0 && !s->keeper_done)
        kill(s->keeper.pid, SIGTERM);
    else if (s->keeper.pid > 0 && clock_now_ms() >= s->rows_wait_until_ms)
        kill(s->keeper.pid, SIGKILL);
    s->keeper_done = true;
}

/* An earlier master has the pipes, too, and rows of its workers to write there. */
static bool wait_for_old(struct supervisor *s)
{
    if (s->takeover.state == TAKEOVER_NONE)
        return false;
    int64_t now_ms = clock_now_ms();
    if (s->hurried || now_ms >= s->requests_end_ms)
        supervisor_hurry_old(s);
    if (now_ms < s->rows_wait_until_ms)
        return true;
    if (takeover_old_lives(&s->takeover))
        kill(s->takeover.old, SIGKILL);
    slots_kill_foreign(&s->inheritance.slots);
    s->rows_wait_until_ms = now_ms + GENERATION_GRACE_MS; /* for the rows of what was killed */
    return true;
}

/* With the last write ends gone the logger reads to the end, commits and leaves. One that dies
 * before is replaced: the pipes still hold what it did not take. */
static void go_on_stopping(struct supervisor *s)
{
    refuse_clients(s);
    if (supervisor_living_workers(s) > 0 || wait_for_old(s))
        return;
    end_keeper(s);
    bool rows_missing = slots_recovering(&s->inheritance.slots);
    if (rows_missing && clock_now_ms() < s->rows_wait_until_ms)
        return;
    if (!s->pipes_ended) {
        if (rows_missing)
            log_error("rows of dead workers could not be written; they follow at the next start");
        STEP(workers_gone);
        slots_end_pipes(&s->inheritance.slots);
        s->pipes_ended = true;
        s->logger_kill_after_ms =
            clock_now_ms() + s->logger.config->shutdown_timeout_ms + GENERATION_GRACE_MS;
    } else if (clock_now_ms() >= s->logger_kill_after_ms) {
        give_logger_up(s);
    }
}

bool supervisor_has_stopped(const struct supervisor *s)
{
    return s->pipes_ended && s->logger_done && s->logger.pid == 0 && s->keeper.pid == 0;
}

void supervisor_tend_stop(struct supervisor *s, int signals)
{
    if (signals > 0 && !s->stopping)
        begin_stop(s);
    if (!s->stopping)
        return;
    if (signals > 1)
        hurry_stop(s);
    go_on_stopping(s);
}
