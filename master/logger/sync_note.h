/* For the test of power cuts, in builds with PROMPTGATE_STEPS and with PROMPTGATE_POWERCUT in the
 * environment: beside each segment a file .NAME.synced holds how much of it the last fdatasync has
 * seen. A segment without one has no durable name yet. */
#pragma once

#include <stdint.h>

#ifdef PROMPTGATE_STEPS
void sync_note_put(int directory, const char *name, uint64_t size);
void sync_note_drop(int directory, const char *name);
#else
static inline void sync_note_put(int directory, const char *name, uint64_t size)
{
    (void)directory;
    (void)name;
    (void)size;
}

static inline void sync_note_drop(int directory, const char *name)
{
    (void)directory;
    (void)name;
}
#endif
