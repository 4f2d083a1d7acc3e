/* The counters file: shared memory in RUNTIME_DIR, made by the master, mapped by every role.
 * Every mutable word that several processes use is a C11 atomic; nothing in it is ever locked.
 *
 *   header | worker slots | requests in flight, a table for each slot | accounts
 *
 * A slot's table is allocated when the slot is used first; the accounts come last, for the file
 * grows there (accounts.h). */
#pragma once

#include "shared/base/error.h"
#include "shared/base/uuid.h"
#include "shared/counters/breaker.h"
#include "shared/counters/logger_state.h"
#include "shared/counters/spend.h"
#include "shared/counters/window.h"

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

enum { SHM_LAYOUT = 11, SHM_SOCKETS_MAX = 256 };
/* As many records as a log pipe and a full gateway_logs.queue hold, or nearly: their requests keep
 * their entries until the spool has them. */
enum { SHM_REQUESTS_PER_SLOT = 16384 };

enum shm_worker_state { SHM_SLOT_FREE, SHM_SLOT_STARTING, SHM_SLOT_READY, SHM_SLOT_DRAINING };

/* One worker process. Its counts outlive the process: the slot's next user goes on with them. Only
 * the process that has the slot writes them, after its death the master. */
struct shm_worker {
    _Atomic int32_t pid;
    _Atomic int32_t state;        /* enum shm_worker_state */
    _Atomic int32_t index;        /* of its generation's workers */
    _Atomic int32_t has_table;    /* of requests: its place in the file is allocated */
    _Atomic uint32_t entries;     /* of the table that were ever used: the first ones */
    _Atomic uint64_t start_ticks; /* when the process began, since boot: tells it from a later one
                                     with its pid */
    _Atomic int64_t generation;
    _Atomic int64_t heartbeat_ms; /* monotonic */
    _Atomic int64_t started_wall_ms;
    _Atomic uint64_t accepted;   /* connections */
    _Atomic uint64_t requests;   /* whose token was accepted: each leaves a row */
    _Atomic uint64_t rows;       /* requests whose outcome is known; the others are in flight */
    _Atomic uint64_t refused;    /* before that: no row */
    _Atomic uint64_t excesses;   /* attempts that cost more than was reserved */
    _Atomic uint64_t operations; /* on spend words that were begun, ever */
    _Atomic uint64_t applied;    /* the latest of them that another one's tag has replaced */
} __attribute__((aligned(128)));

/* requests.h */
enum shm_request_state {
    REQUEST_FREE,
    REQUEST_OPEN,      /* its token is accepted: it will have a row */
    REQUEST_INTENT,    /* its worst case is being reserved */
    REQUEST_HELD,      /* it is */
    REQUEST_SENT,      /* the provider has the call, or may have it */
    REQUEST_RELEASING, /* the reservation, or a part of it, is being given back */
    REQUEST_SETTLING,  /* the cost is taking its place */
    REQUEST_RECORDED,  /* its outcome is known; the row is not in the log pipe, or not all of it */
    REQUEST_WRITTEN,   /* the row is in the log pipe, or behind it in the spool */
};

enum { REQUEST_STATUS_BYTES = 32, REQUEST_IP_BYTES = 46 };

struct shm_usage {
    int64_t prompt_tokens, completion_tokens, total_tokens;
    int64_t cached_tokens, cache_write_tokens, reasoning_tokens;
};

/* How sure a cost is; of several the last one. */
enum cost_basis { COST_NONE, COST_REPORTED, COST_BOUND, COST_WORST_CASE };

/* What the attempts that are settled came to. */
struct shm_sums {
    struct shm_usage usage;
    int64_t upstream_us;
    int64_t cost_nano_usd;
    uint32_t basis; /* enum cost_basis */
    uint32_t attempts;
    uint32_t target; /* the last one's account */
};

/* A request in flight: as much of it as its row needs when its worker dies. All but `state` is
 * written by the slot's process alone, before the state that makes it valid. */
struct shm_request {
    _Atomic uint32_t state; /* enum shm_request_state, and above it which of `sums` is valid */
    uint32_t project, token, endpoint, target; /* accounts, or ACCOUNT_NONE */
    uint32_t month;                            /* whose budgets it counts in (spend.h) */
    int32_t http_status;                       /* from RECORDED on; 0 = no answer was sent */
    int32_t index;                             /* of the worker that had it */
    uint64_t number;                           /* its slot's `requests` with this one */
    uint64_t row_number;                       /* and `rows`, from RECORDED on */
    struct uuid id;
    int64_t created_wall_ms;
    int64_t began_us, sent_us; /* monotonic; sent_us: of the attempt under way or the last one */
    uint64_t bytes_in;         /* from RECORDED on */
    int64_t latency_us;        /* from RECORDED on; -1 = not known */
    int64_t reserved;          /* nano-USD, on each of its budgets */
    uint64_t reserving;        /* INTENT: the first of its operations, one for each budget */
    uint64_t adding;           /* RELEASING, SETTLING: likewise, */
    uint32_t adding_count;     /* for the first so many budgets, */
    int64_t delta;             /* and what each adds */
    struct shm_sums sums[2];   /* the other one is being written */
    char client_ip[REQUEST_IP_BYTES];
    char status[REQUEST_STATUS_BYTES]; /* as the row says it, from RECORDED on */
} __attribute__((aligned(128)));

enum { ACCOUNT_LABEL_BYTES = 176 };
#define ACCOUNT_NONE UINT32_MAX

enum account_cap { CAP_PER_MINUTE, CAP_PER_HOUR, CAP_MONTHLY_NANO_USD, CAP_COUNT };
#define CAP_UNLIMITED INT64_MAX

/* What is counted under a name: a project, an endpoint, a token, a target, a credential. */
struct shm_account {
    _Atomic uint64_t key;            /* hash of kind and name; 0 = the place is free */
    _Atomic uint32_t kind;           /* enum account_kind */
    _Atomic int64_t last_generation; /* the newest whose configuration has it */
    _Atomic int64_t caps[CAP_COUNT]; /* the newest generation's; CAP_UNLIMITED = none */
    struct shm_spend spend;
    struct shm_window minute, hour;
    struct shm_breaker breaker;      /* a credential's */
    char label[ACCOUNT_LABEL_BYTES]; /* as rows name it; a target's is three texts */
} __attribute__((aligned(128)));

struct shm_header {
    char magic[8]; /* "pgcount" */
    uint32_t layout;
    uint32_t workers;        /* slots */
    int64_t clock_offset_us; /* wall - monotonic when the file was made: rate buckets begin with
                                whole seconds of then */
    char boot_id[40]; /* /proc/sys/kernel/random/boot_id: another boot's file is not trusted */
    _Atomic uint32_t accounts; /* places; grows */
    _Atomic int32_t cold;      /* made anew: what was spent before is not in it yet */
    _Atomic int64_t master_pid;
    _Atomic int32_t stopping; /* all of it: SIGTERM to a worker means that it is not alone */
    _Atomic int64_t logger_pid;
    _Atomic uint64_t logger_start_ticks;
    _Atomic int64_t keeper_pid; /* 0 = there was none yet */
    _Atomic uint64_t keeper_start_ticks;
    _Atomic int64_t keeper_heartbeat_ms; /* monotonic */
    _Atomic int64_t keeper_awaited_ms;   /* monotonic: in an upgrade there may be none until then */
    _Atomic int64_t sessions_away_ms;    /* since when they can't be stored (wall); 0 = they can */
    _Atomic int64_t idempotency_bytes; /* by the master, of the newest configuration that serves */
    /* The generation of workers that the table below is for, and which worker (by its index) is to
     * accept from each listening socket: the master writes, workers read on their heartbeat. */
    _Atomic int64_t serving_generation;
    _Atomic int32_t socket_owners[SHM_SOCKETS_MAX];
    /* Committed to the store since the file was made; without the batch that a logger was killed
     * with before it had counted it. */
    _Atomic uint64_t logged_rows;
    struct logger_state logger;
} __attribute__((aligned(256)));

struct counters {
    struct shm_header *header;
    struct shm_worker *workers;
    struct shm_request *requests; /* SHM_REQUESTS_PER_SLOT for each slot, one behind the other */
    struct shm_account *accounts;
    size_t size_bytes;   /* of the file, as far as it is in use */
    size_t mapped_bytes; /* with room for accounts to come */
    int fd;              /* the master's, to grow the file; else -1 */
};

/* The master's, when no other process uses the file: makes `path` anew or takes over one of the
 * same layout and boot, with at least `workers` slots (header->workers says how many) and what it
 * holds. Space is allocated before it is touched: a write to a hole on a full disk is SIGBUS. */
bool counters_create(struct counters *counters, const char *path, unsigned workers,
                     struct error *error) __attribute__((warn_unused_result));
/* A second master's, while the first one and its children use the file: the descriptor is its own
 * from here on. False when the file is not of this layout and boot. */
bool counters_join(struct counters *counters, int fd, struct error *error)
    __attribute__((warn_unused_result));
/* The first one's, when the second one is gone, which may have made room for accounts: the mapping
 * may move, as by counters_grow. */
bool counters_look_again(struct counters *counters, struct error *error)
    __attribute__((warn_unused_result));
/* For readers (command line): maps an existing file read-only. */
bool counters_open(struct counters *counters, const char *path, struct error *error)
    __attribute__((warn_unused_result));
/* The master's, before a process gets the slot. */
bool counters_allot_table(struct counters *counters, unsigned slot, struct error *error)
    __attribute__((warn_unused_result));
/* The master's: makes room for so many accounts. Children that were forked before see the first
 * counters_accounts_mapped() of then; beyond these the mapping is made anew, and may move. */
bool counters_grow(struct counters *counters, uint32_t accounts, struct error *error)
    __attribute__((warn_unused_result));
/* How many accounts the mapping has addresses for; fewer may have memory. */
uint32_t counters_accounts_mapped(const struct counters *counters);
/* In a child of a master: whether the file says that another one is the master, as long as an
 * upgrade may still be given up. The argument is a struct counters. */
bool counters_parent_is_second(const void *counters);
/* A child has no use for the file itself. */
void counters_in_child(struct counters *counters);
void counters_close(struct counters *counters);

static inline enum shm_request_state request_state(const struct shm_request *request)
{
    return (enum shm_request_state)(atomic_load_explicit(&request->state, memory_order_acquire) &
                                    0xFF);
}
/* What the state says is valid was written before; which of the sums are stays. */
static inline void request_set_state(struct shm_request *request, enum shm_request_state state)
{
    uint32_t valid = atomic_load_explicit(&request->state, memory_order_relaxed) & ~UINT32_C(0xFF);
    atomic_store_explicit(&request->state, valid | state, memory_order_release);
}
/* What is valid of its sums. */
static inline const struct shm_sums *request_sums(const struct shm_request *request)
{
    return &request->sums[atomic_load_explicit(&request->state, memory_order_acquire) >> 8 & 1];
}

/* The slot's table; not to be touched before it is allotted. */
static inline struct shm_request *counters_requests(const struct counters *counters, unsigned slot)
{
    return counters->requests + (size_t)slot * SHM_REQUESTS_PER_SLOT;
}
