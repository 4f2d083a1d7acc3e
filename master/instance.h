/* One gateway per runtime directory. RUNTIME_DIR/lock is locked (flock) by the master and inherited
 * by its children, so it is free only when the last of them is gone; the file says which process
 * the master is. */
#pragma once

#include "shared/base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct instance {
    int fd; /* inherited by every child; -1 = none */
};

/* A process that may hold the lock still. The time it was started tells it from another one that
 * got its pid later. */
struct instance_process {
    pid_t pid;
    uint64_t started; /* process_start_time() */
};

/* Takes the lock, waiting for what an earlier master left behind:
 *   - its master lives: fails at once, "already running (pid N)";
 *   - only its children do: waits `wait_ms`, then kills those of `orphans` that are still the
 *     processes meant, and goes on when the lock is free;
 *   - SIGTERM or SIGINT is pending (blocked): fails.
 * On success the file names this process. */
bool instance_take(struct instance *instance, const char *runtime_dir, int64_t wait_ms,
                   const struct instance_process *orphans, size_t orphans_count,
                   struct error *error) __attribute__((warn_unused_result));
/* The lock is this process's already, by a descriptor that was handed over or stayed here: the file
 * names this process from now on. */
bool instance_sign(const struct instance *instance, struct error *error)
    __attribute__((warn_unused_result));
/* Lets go of this process's hold; whoever inherited it keeps it. */
void instance_release(struct instance *instance);

/* When the process was started, in clock ticks since boot (field 22 of /proc/PID/stat): with the
 * pid it names one process of this boot. 0 = there is none, or it is a zombie. */
uint64_t process_start_time(pid_t pid);
/* SIGKILL to that process and no other; false when it is gone. */
bool process_kill(const struct instance_process *process);
