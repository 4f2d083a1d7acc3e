/* What a request's row goes through, for the scheduler: a worker's table of requests in flight and
 * its log pipe, the logger with its spool, a store that commits at once or not at all, and the
 * master that cleans up behind the dead. All of it is the real code but the store. */
#pragma once

#include "master/logger/batch.h"
#include "master/slots.h"
#include "shared/counters/requests.h"
#include "test/steps/interleave.h"
#include "test/unit/scratch.h"
#include "worker/log_writer.h"

enum { WORLD_SLOTS_MAX = 2, WORLD_REQUESTS_MAX = 4, WORLD_MASTERS_MAX = 3 };

struct log_world {
    /* What a test sets. */
    unsigned slots_count;
    unsigned requests;        /* each worker's */
    size_t body_bytes;        /* of its first record; more than a frame holds makes it several */
    unsigned rounds;          /* of a logger that isn't the last one */
    uint64_t segment_bytes;   /* a segment this large is closed */
    bool duplicates_are_fine; /* rows of dead workers may come twice; the store drops one */
    unsigned poison;          /* the store refuses the row of each worker's request so many */

    char scratch[SCRATCH_PATH], spool[SCRATCH_PATH], rejected[SCRATCH_PATH];
    struct counters counters;
    struct slots masters[WORLD_MASTERS_MAX]; /* the first one is there from the beginning */
    unsigned master;                         /* whose pipes are used now */
    unsigned
        afterwards; /* the number of a request that came after a power cut; 0 = there was none */
    bool left[WORLD_SLOTS_MAX]; /* the master knows that the worker has ended */

    /* What the clients may know. */
    unsigned opened[WORLD_SLOTS_MAX], sent[WORLD_SLOTS_MAX], recorded[WORLD_SLOTS_MAX];
    /* Records in the pipe or behind it, and those that a power cut must not take. */
    unsigned pushed[WORLD_SLOTS_MAX], safe[WORLD_SLOTS_MAX];

    struct {
        struct {
            unsigned slot, number;
            bool is_ok, has_attempts;
        } rows[64];
        size_t rows_count;
        unsigned duplicates, orderless;
        uint64_t damaged; /* bytes that are no part of a good frame */
        struct {
            char segment[64];
            uint64_t committed;
        } offsets[16];
        size_t offsets_count;
    } store;
};

/* Once, before anything else; and at the end. */
void log_world_open(struct log_world *world);
void log_world_close(struct log_world *world);

/* interleave_test's. `check`: every request that was accepted has its row, once, as the client may
 * have seen its outcome; counts agree; nothing is left in tables, pipes, and spool. */
void log_world_begin(void *context);
bool log_world_check(void *context, char why[INTERLEAVE_WHY_BYTES]);
void log_world_end(void *context);

/* Actors. */
void log_world_worker_0(void *context);
void log_world_worker_1(void *context);
void log_world_logger(void *context);
/* The master, after the death of worker 0. */
void log_world_master(void *context);
/* A master that starts after everything was killed: the pipes are new. */
void log_world_cold_master(void *context);
/* The same after a power cut: of the spool there is what was synced, and nothing of the rest. */
void log_world_master_after_power_cut(void *context);
