/* The requests in flight of one worker slot, so that each leaves its row whatever dies.
 *
 *   FREE -> OPEN -> INTENT -> HELD -> SENT -> SETTLING -> OPEN ... -> RECORDED -> WRITTEN -> FREE
 *                      └─ RELEASING ┘──> OPEN
 *
 * What moves money is in ledger.h.
 * The slot's process moves them; once it is dead, the master does (master/recovery.h). An entry is
 * RECORDED before the answer leaves and before the first byte of its record is written, and FREE
 * only when the log pipe is known to have passed the record on into the spool. */
#pragma once

#include "shared/base/str.h"
#include "shared/counters/ledger.h"

/* A worker's own view of its slot's table. */
struct requests {
    struct shm_worker *slot;
    struct shm_request *table;
    uint32_t *unused; /* places, a stack */
    uint32_t unused_count;
};

/* What is known when the token is accepted. */
struct request_opening {
    struct uuid id;
    int64_t created_wall_ms, began_us;
    uint32_t project, token; /* accounts */
    uint32_t month;          /* of spend.h */
    struct str client_ip;
};

/* `table` is the slot's, and all its entries are free. */
void requests_init(struct requests *requests, struct shm_worker *slot, struct shm_request *table);
void requests_deinit(struct requests *requests);
/* NULL when the table is full. Counts the request. */
struct shm_request *requests_open(struct requests *requests, const struct request_opening *opening)
    __attribute__((warn_unused_result));
/* The endpoint is known. */
void request_resolved(struct shm_request *request, uint32_t endpoint);
/* Before the first byte of a call goes to `target`. */
void request_sent(struct shm_request *request, uint32_t target, int64_t now_us);
/* What is known of a request before its answer leaves. */
struct request_outcome {
    struct str status; /* as the row says it */
    int http_status;   /* 0 = there is nobody to answer */
    uint64_t bytes_in;
    int64_t latency_us; /* -1 = not known */
};

/* The outcome is known: before the answer leaves. */
void requests_record(struct requests *requests, struct shm_request *request,
                     const struct request_outcome *outcome);
/* All of the record is in the log pipe. */
void request_written(struct shm_request *request);
/* The record is in the spool. */
void requests_free(struct requests *requests, struct shm_request *request);

/* ---- of a slot whose process is dead ---- */

/* The oldest request whose outcome isn't known; NULL when there is none. */
const struct shm_request *requests_oldest(const struct shm_worker *slot,
                                          const struct shm_request *table);
/* Gives every request an outcome: those that had none have the status worker_died, and the cost of
 * what may have been at a provider. Gives back what was only reserved. Sets the slot's counts
 * right. Whoever calls it and dies is followed by another one. */
void requests_settle_dead(struct shm_worker *slot, struct shm_request *table,
                          const struct ledger *ledger);
