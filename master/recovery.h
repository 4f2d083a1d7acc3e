/* What a dead worker had in hand becomes rows: worker_died where the outcome was not known, else
 * the final one. They go into that worker's own log pipe, behind what it wrote itself; where it
 * wrote the row already, the store has the same request_id and leaves the second out.
 *
 * Each step can be done again by a later master, should this one die. */
#pragma once

#include "shared/counters/shm.h"

/* The oldest request of the slot whose outcome isn't known; NULL when there is none. */
const struct shm_request *recovery_oldest(const struct counters *counters, unsigned slot);
/* The slot's process is reaped: its requests get their outcome. */
void recovery_begin(struct counters *counters, unsigned slot);
/* No process is left that could read what is in the pipes: every row that may have been in one is
 * to be written again. */
void recovery_begin_cold(struct counters *counters, unsigned slot);
/* Writes rows into the non-blocking `pipe`. True when all are in it; else call it again. */
bool recovery_write(struct counters *counters, unsigned slot, int pipe);
/* The pipe is empty, so all of them are in the spool. */
void recovery_end(struct counters *counters, unsigned slot);
/* Whether the slot's table has anything left. */
bool recovery_is_needed(const struct counters *counters, unsigned slot);
