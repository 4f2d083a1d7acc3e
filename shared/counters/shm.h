/* The counters file: shared memory in RUNTIME_DIR, made by the master, mapped by every role.
 * Every mutable word is a C11 atomic; nothing in it is ever locked. */
#pragma once

#include "shared/base/error.h"
#include "shared/counters/logger_state.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { SHM_LAYOUT = 3, SHM_SOCKETS_MAX = 256 };

enum shm_worker_state { SHM_SLOT_FREE, SHM_SLOT_STARTING, SHM_SLOT_READY, SHM_SLOT_DRAINING };

/* One worker process. Its counts outlive the process: the slot's next user goes on with them. */
struct shm_worker {
    _Atomic int32_t pid;
    _Atomic int32_t state;        /* enum shm_worker_state */
    _Atomic uint64_t start_ticks; /* when the process began, since boot: tells it from a later one
                                     with its pid */
    _Atomic int64_t generation;
    _Atomic int64_t heartbeat_ms; /* monotonic */
    _Atomic int64_t started_wall_ms;
    _Atomic uint64_t accepted;  /* connections */
    _Atomic uint64_t requests;  /* whose token was accepted: each leaves a row */
    _Atomic uint64_t refused;   /* before that: no row */
    _Atomic uint64_t rows;      /* given to the log pipe */
    _Atomic uint64_t in_flight; /* requests begun and not yet recorded */
} __attribute__((aligned(128)));

struct shm_header {
    char magic[8]; /* "pgcount" */
    uint32_t layout;
    uint32_t workers; /* slots */
    uint64_t size_bytes;
    char boot_id[40]; /* /proc/sys/kernel/random/boot_id: another boot's file is not trusted */
    _Atomic int64_t master_pid;
    _Atomic int64_t logger_pid;
    _Atomic uint64_t logger_start_ticks;
    /* The generation of workers that the table below is for, and which worker (by its index) is to
     * accept from each listening socket: the master writes, workers read on their heartbeat. */
    _Atomic int64_t serving_generation;
    _Atomic int32_t socket_owners[SHM_SOCKETS_MAX];
    _Atomic uint64_t logged_rows; /* committed to the store since the file was made */
    struct logger_state logger;
} __attribute__((aligned(128)));

struct counters {
    struct shm_header *header;
    struct shm_worker *workers;
    size_t size_bytes;
};

/* The master's: makes `path` anew or takes over one of the same layout, size and boot; the space
 * is allocated before it is mapped. */
bool counters_create(struct counters *counters, const char *path, unsigned workers,
                     struct error *error) __attribute__((warn_unused_result));
/* For readers (command line): maps an existing file read-only. */
bool counters_open(struct counters *counters, const char *path, struct error *error)
    __attribute__((warn_unused_result));
void counters_close(struct counters *counters);
