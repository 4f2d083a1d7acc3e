#include "master/slots.h"

#include "master/instance.h"
#include "master/recovery.h"
#include "shared/base/clock.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A log pipe holds this much while the logger is busy with the store (pipe-max-size's default). */
enum { LOG_PIPE_BYTES = 1 << 20 };

static void mark_free(struct slots *slots, unsigned slot)
{
    slots->states[slot] = SLOT_FREE;
    STEP(slot_unused);
    atomic_store(&slots->counters->workers[slot].pid, 0);
    STEP(slot_without_pid);
    atomic_store(&slots->counters->workers[slot].state, SHM_SLOT_FREE);
    STEP(slot_freed);
}

static void recover_cold(struct slots *slots, unsigned slot)
{
    atomic_store(&slots->counters->workers[slot].generation, 0); /* an earlier master's */
    recovery_begin_cold(slots->counters, slot);
    slots->states[slot] = SLOT_RECOVERING;
}

bool slots_open(struct slots *slots, struct counters *counters, struct error *error)
{
    unsigned count = counters->header->workers;
    slots->counters = counters;
    slots->states = xcalloc(count, sizeof *slots->states);
    slots->log_pipes = xcalloc(count, sizeof *slots->log_pipes);
    for (unsigned i = 0; i < count; i++) {
        if (pipe2(slots->log_pipes[i], O_CLOEXEC | O_NONBLOCK) != 0)
            return error_errno(error, errno, "cannot make a log pipe");
        /* Best effort: the default of 64 KiB works too, only with more waiting. */
        fcntl(slots->log_pipes[i][1], F_SETPIPE_SZ, LOG_PIPE_BYTES);
        slots->count++;
        if (recovery_is_needed(counters, i))
            recover_cold(slots, i);
        else
            mark_free(slots, i);
    }
    return true;
}

static const struct shm_worker *shared_of(const struct slots *slots, unsigned slot)
{
    return &slots->counters->workers[slot];
}

/* What its own master says of it. */
static bool is_given_up(const struct slots *slots, unsigned slot)
{
    const struct shm_worker *shared = shared_of(slots, slot);
    return atomic_load(&shared->state) == SHM_SLOT_FREE && atomic_load(&shared->pid) == 0;
}

void slots_adopt(struct slots *slots, struct counters *counters, int (*log_pipes)[2],
                 const bool *lent)
{
    slots->counters = counters;
    slots->count = counters->header->workers;
    slots->log_pipes = log_pipes;
    slots->states = xcalloc(slots->count, sizeof *slots->states);
    for (unsigned i = 0; i < slots->count; i++)
        slots->states[i] = lent[i] ? SLOT_FREE : SLOT_FOREIGN;
}

unsigned slots_lend(struct slots *slots, unsigned kept, bool *lent)
{
    unsigned free = slots_available(slots), count = 0;
    for (unsigned i = slots->count; i-- > 0;) {
        lent[i] = slots->states[i] == SLOT_FREE && count + kept < free;
        if (!lent[i])
            continue;
        slots->states[i] = SLOT_FOREIGN;
        count++;
    }
    return count;
}

void slots_take_back(struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++) {
        if (slots->states[i] != SLOT_FOREIGN)
            continue;
        if (recovery_is_needed(slots->counters, i))
            recover_cold(slots, i);
        else
            mark_free(slots, i);
    }
}

unsigned slots_foreign(const struct slots *slots, bool ready)
{
    unsigned count = 0;
    for (unsigned i = 0; i < slots->count; i++)
        count += slots->states[i] == SLOT_FOREIGN && !is_given_up(slots, i) &&
                 (!ready || atomic_load(&shared_of(slots, i)->state) == SHM_SLOT_READY);
    return count;
}

/* One that was forked and not named yet is as good as dead when its heart has not beaten. */
static bool has_process(const struct slots *slots, unsigned slot)
{
    enum { UNNAMED_MS = 10000 };
    const struct shm_worker *shared = shared_of(slots, slot);
    pid_t pid = atomic_load(&shared->pid);
    if (pid == 0)
        return atomic_load(&shared->state) != SHM_SLOT_FREE &&
               clock_now_ms() - atomic_load(&shared->heartbeat_ms) < UNNAMED_MS;
    uint64_t started = process_start_time(pid);
    return started != 0 && started == atomic_load(&shared->start_ticks);
}

void slots_adopt_orphans(struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->states[i] == SLOT_FOREIGN && !has_process(slots, i)) {
            atomic_store(&slots->counters->workers[i].state, SHM_SLOT_FREE);
            recover_cold(slots, i);
        }
}

void slots_kill_foreign(const struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++) {
        const struct shm_worker *shared = shared_of(slots, i);
        if (slots->states[i] == SLOT_FOREIGN)
            process_kill(&(struct instance_process){.pid = atomic_load(&shared->pid),
                                                    .started = atomic_load(&shared->start_ticks)});
    }
}

bool slots_in_use(const struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->states[i] != SLOT_FREE && slots->states[i] != SLOT_FOREIGN)
            return true;
    return false;
}

static void close_end(int *end)
{
    if (*end >= 0)
        close(*end);
    *end = -1;
}

void slots_end_pipes(struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        close_end(&slots->log_pipes[i][1]);
}

void slots_emptied(struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        recovery_end(slots->counters, i);
}

void slots_free(struct slots *slots)
{
    slots_end_pipes(slots);
    for (unsigned i = 0; i < slots->count; i++)
        close_end(&slots->log_pipes[i][0]);
    free(slots->states);
    free(slots->log_pipes);
    *slots = (struct slots){0};
}

unsigned slots_available(const struct slots *slots)
{
    unsigned available = 0;
    for (unsigned i = 0; i < slots->count; i++)
        available += slots->states[i] == SLOT_FREE;
    return available;
}

bool slots_recovering(const struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->states[i] == SLOT_RECOVERING)
            return true;
    return false;
}

int64_t slots_oldest_generation(const struct slots *slots, int64_t newest)
{
    int64_t oldest = newest;
    for (unsigned i = 0; i < slots->count; i++) {
        int64_t generation = atomic_load(&slots->counters->workers[i].generation);
        if (slots->states[i] != SLOT_FREE && generation < oldest)
            oldest = generation;
    }
    return oldest;
}

int slots_take(struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->states[i] == SLOT_FREE) {
            slots->states[i] = SLOT_TAKEN;
            return (int)i;
        }
    return -1;
}

void slots_leave(struct slots *slots, unsigned slot)
{
    slots->states[slot] = SLOT_RECOVERING;
    atomic_store(&slots->counters->workers[slot].state, SHM_SLOT_FREE);
    STEP(slot_left);
    recovery_begin(slots->counters, slot);
    slots_clean(slots);
}

static bool pipe_is_empty(const struct slots *slots, unsigned slot)
{
    int bytes = 0;
    return ioctl(slots->log_pipes[slot][0], FIONREAD, &bytes) == 0 && bytes == 0;
}

static void clean(struct slots *slots, unsigned slot)
{
    if (slots->states[slot] == SLOT_FOREIGN && slots->alone && is_given_up(slots, slot))
        slots->states[slot] = SLOT_FREE;
    if (slots->states[slot] == SLOT_RECOVERING &&
        recovery_write(slots->counters, slot, slots->log_pipes[slot][1]))
        slots->states[slot] = SLOT_CLEANING;
    if (slots->states[slot] != SLOT_CLEANING || !pipe_is_empty(slots, slot))
        return;
    recovery_end(slots->counters, slot);
    mark_free(slots, slot);
}

void slots_clean(struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        clean(slots, i);
}
