#include "master/slots.h"

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
}

bool slots_open(struct slots *slots, unsigned count, struct counters *counters, struct error *error)
{
    slots->counters = counters;
    slots->states = xcalloc(count, sizeof *slots->states);
    slots->log_pipes = xcalloc(count, sizeof *slots->log_pipes);
    for (unsigned i = 0; i < count; i++) {
        if (pipe2(slots->log_pipes[i], O_CLOEXEC | O_NONBLOCK) != 0)
            return error_errno(error, errno, "cannot make a log pipe");
        /* Best effort: the default of 64 KiB works too, only with more waiting. */
        fcntl(slots->log_pipes[i][1], F_SETPIPE_SZ, LOG_PIPE_BYTES);
        slots->count++;
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
    slots->states[slot] = SLOT_CLEANING;
    STEP(slot_left);
    atomic_store(&slots->counters->workers[slot].state, SHM_SLOT_FREE);
    slots_clean(slots);
}

static bool pipe_is_empty(const struct slots *slots, unsigned slot)
{
    int bytes = 0;
    return ioctl(slots->log_pipes[slot][0], FIONREAD, &bytes) == 0 && bytes == 0;
}

void slots_clean(struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->states[i] == SLOT_CLEANING && pipe_is_empty(slots, i))
            mark_free(slots, i);
}
