/* Whether calls with a credential are worth while: a circuit breaker that all workers share.
 *
 *   CLOSED ── too many failures ──> OPEN ── a probe's time has come ──> PROBING
 *      ^                              ^ └────────── it failed ─────────────┤
 *      └───────────────────────────── it succeeded ────────────────────────┘
 *
 * A probe is the call of one worker, whichever takes it first; its outcome is everybody's. A prober
 * that dies, or never hears, is followed by another one after the same time.
 * A credential that the provider refuses stays out until the next configuration. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_PROBING, BREAKER_REFUSED };

/* All zero is closed. Nothing in it has to survive a process's death: whatever is half done is
 * mended by the calls that follow. */
struct shm_breaker {
    _Atomic uint64_t state;     /* enum breaker_state, and above it since when: monotonic ms */
    _Atomic uint32_t failures;  /* in a row */
    _Atomic uint64_t halves[2]; /* of the window: which, calls, and how many of them failed */
    _Atomic int64_t refused_generation; /* the newest whose key was refused; 0 = none */
};

struct breaker_limits {
    int64_t failures;   /* in a row */
    int64_t error_rate; /* percent of the calls in the window, if they are enough (breaker.c) */
    int64_t window_ms;
    int64_t probe_ms;
};

/* "closed", "open", "probing", "refused" */
const char *breaker_state_name(enum breaker_state state);
/* As it is for the workers of a generation. */
enum breaker_state breaker_look(const struct shm_breaker *breaker, int64_t generation);
/* Whether a call may be made now; of a breaker that is open, only when the call is to be its probe.
 */
bool breaker_allows(struct shm_breaker *breaker, int64_t generation,
                    const struct breaker_limits *limits, int64_t now_ms);
/* A call that began at `began_ms` has ended, by the provider's doing. True when that closes it. */
bool breaker_succeeded(struct shm_breaker *breaker, const struct breaker_limits *limits,
                       int64_t began_ms, int64_t now_ms);
/* True when that opens it. */
bool breaker_failed(struct shm_breaker *breaker, const struct breaker_limits *limits,
                    int64_t began_ms, int64_t now_ms);
/* The provider doesn't take the key. True for the first to hear it in this generation. */
bool breaker_refuse(struct shm_breaker *breaker, int64_t generation);
/* Forgets all of it. */
void breaker_reset(struct shm_breaker *breaker);
