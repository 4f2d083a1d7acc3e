/* A sliding rate window in shared memory: exact over all processes, without a lock.
 *
 * Time is cut into buckets, numbered on and on (a minute's are seconds, an hour's are minutes). One
 * word, the head, holds the newest bucket's number and count; past buckets have a word each. Every
 * admission is one compare-and-swap of the head, made after the past buckets before it were summed
 * up. A process whose clock is ahead of the head first publishes the head's count into its past
 * bucket (by a maximum, so that a late writer can't lower it) and then swaps the head for a new
 * bucket; one whose clock is behind counts in the head's bucket. Past buckets never change once the
 * head has moved on, so whoever wins the swap had the true sum.
 *
 * In any `span` + 1 buckets in a row there are never more admissions than the cap; room comes back
 * one bucket late at the latest. Whoever dies at any step leaves a right window. */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { WINDOW_SPAN = 60, WINDOW_PAST = WINDOW_SPAN + 1 };

/* Bucket number in the upper half, count in the lower; all zero is empty. */
struct shm_window {
    _Atomic uint64_t head;
    _Atomic uint64_t past[WINDOW_PAST]; /* bucket n at n % WINDOW_PAST */
};

/* A window of any span, for tests of the protocol itself. */
struct window {
    _Atomic uint64_t *head, *past;
    uint32_t span; /* past buckets that count; there are span + 1 of them */
};

static inline struct window window_of(struct shm_window *shared)
{
    return (struct window){&shared->head, shared->past, WINDOW_SPAN};
}

/* How it stands for one request at a time. */
struct window_state {
    uint64_t head;    /* as it was read */
    uint32_t bucket;  /* in which it counts, or would */
    uint64_t used;    /* with it, once it is admitted */
    uint32_t free_at; /* refused: the first bucket with room; else the first with nothing left of
                         what was counted until now */
};

/* Whether one more fits below `cap`; nothing changes. `now` is the clock's bucket, never 0. */
bool window_look(const struct window *window, uint64_t cap, uint32_t now,
                 struct window_state *state);
/* Takes it, as it was looked at or, if that has changed, as it is now. */
bool window_take(const struct window *window, uint64_t cap, uint32_t now,
                 struct window_state *state) __attribute__((warn_unused_result));
/* How many count in bucket `now`; touches nothing. */
uint64_t window_used(const struct window *window, uint32_t now);
/* Gives one back that was taken in `bucket`. False when the head has moved on: it stays counted. */
bool window_undo(const struct window *window, uint32_t bucket);
