#include "master/slots.h"

#include "master/recovery.h"
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
