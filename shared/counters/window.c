#include "shared/counters/window.h"

#include "shared/base/step.h"

#include <string.h>

static uint64_t pack(uint32_t bucket, uint32_t count)
{
    return (uint64_t)bucket << 32 | count;
}

static uint32_t bucket_of(uint64_t word)
{
    return (uint32_t)(word >> 32);
}

static uint32_t count_of(uint64_t word)
{
    return (uint32_t)word;
}

/* Words are only ever replaced by larger ones: of a later bucket, or of the same with more in it.
 */
static void publish(const struct window *window, uint64_t head)
{
    _Atomic uint64_t *place = &window->past[bucket_of(head) % (window->span + 1)];
    uint64_t there = atomic_load_explicit(place, memory_order_relaxed);
    while (there < head && !atomic_compare_exchange_weak(place, &there, head))
        ;
}

/* The count of a past bucket; 0 when another one has its place. */
static uint32_t past_count(const struct window *window, uint32_t bucket)
{
    uint64_t word =
        atomic_load_explicit(&window->past[bucket % (window->span + 1)], memory_order_acquire);
    return bucket_of(word) == bucket ? count_of(word) : 0;
}

static uint32_t first_counted(const struct window *window, uint32_t bucket)
{
    return bucket > window->span ? bucket - window->span : 0;
}

/* One bucket after the other. */
static uint64_t sum_slowly(const struct window *window, uint32_t first, uint32_t bucket)
{
    uint64_t sum = 0;
    for (uint32_t i = first; i != bucket; i++) {
        STEP(window_to_sum);
        sum += past_count(window, i);
    }
    return sum;
}

#ifdef __x86_64__
#define FASTEST_THERE_IS __attribute__((target_clones("avx2", "default")))
#else
#define FASTEST_THERE_IS
#endif

/* Four words: counts in the even lanes, bucket numbers in the odd ones. */
typedef uint32_t lanes __attribute__((vector_size(32)));
typedef int32_t signed_lanes __attribute__((vector_size(32)));

/* All of them, four words at a time, in whatever order they lie: those whose number is one of the
 * `count` from `first` on. Both sides of the comparison are moved by 2^31, for it is a signed one.
 * Counts are below 2^32 together, since each was below some cap. A word that changes meanwhile is
 * one that doesn't count yet or no more, and 8 aligned bytes are loaded in one. */
FASTEST_THERE_IS
static uint64_t sum_at_once(const _Atomic uint64_t *past, uint32_t first, uint32_t count)
{
    enum { LAST = WINDOW_PAST - 1 };
    _Static_assert(LAST % 4 == 0, "four words at a time, and one is left");
    const uint32_t from = first + 0x80000000, limit = count - 0x80000000;
    const lanes start = {0, from, 0, from, 0, from, 0, from};
    const lanes end = {limit, limit, limit, limit, limit, limit, limit, limit};
    lanes sums = {0}, words;
#pragma GCC unroll 15
    for (unsigned i = 0; i < LAST; i += 4) {
        memcpy(&words, (const void *)(past + i), sizeof words);
        lanes counted = (lanes)((signed_lanes)(words - start) < (signed_lanes)end);
        sums += words & __builtin_shufflevector(counted, counted, 1, 1, 3, 3, 5, 5, 7, 7);
    }
    uint64_t last = atomic_load_explicit(&past[LAST], memory_order_relaxed);
    uint64_t sum = bucket_of(last) - first < count ? count_of(last) : 0;
    return sum + sums[0] + sums[2] + sums[4] + sums[6];
}

/* The head was read before, and what is past then doesn't change. */
static uint64_t sum_past(const struct window *window, uint32_t bucket)
{
    uint32_t first = first_counted(window, bucket);
#ifndef PROMPTGATE_STEPS
    if (window->span == WINDOW_SPAN)
        return sum_at_once(window->past, first, bucket - first);
#else
    (void)sum_at_once;
#endif
    return sum_slowly(window, first, bucket);
}

/* The first bucket in which no more than `cap` - 1 of what is counted now still counts. */
static uint32_t when_free(const struct window *window, uint64_t cap, uint32_t bucket, uint64_t used)
{
    for (uint32_t i = first_counted(window, bucket); i != bucket; i++) {
        used -= past_count(window, i);
        if (used < cap)
            return i + window->span + 1;
    }
    return bucket + window->span + 1;
}

bool window_look(const struct window *window, uint64_t cap, uint32_t now,
                 struct window_state *state)
{
    STEP(window_to_read);
    uint64_t head = atomic_load_explicit(window->head, memory_order_acquire);
    if (now > bucket_of(head)) {
        STEP(window_to_publish);
        publish(window, head);
        *state = (struct window_state){.head = head, .bucket = now};
    } else {
        *state = (struct window_state){head, bucket_of(head), count_of(head), 0};
    }
    state->used += sum_past(window, state->bucket);
    state->free_at = state->bucket + window->span + 1;
    if (state->used < cap)
        return true;
    state->free_at = when_free(window, cap, state->bucket, state->used);
    return false;
}

bool window_take(const struct window *window, uint64_t cap, uint32_t now,
                 struct window_state *state)
{
    do {
        uint64_t head = state->head;
        uint32_t count = state->bucket == bucket_of(head) ? count_of(head) : 0;
        STEP(window_to_swap);
        if (atomic_compare_exchange_strong(window->head, &head, pack(state->bucket, count + 1))) {
            state->used++;
            STEP(window_taken);
            return true;
        }
    } while (window_look(window, cap, now, state));
    return false;
}

uint64_t window_used(const struct window *window, uint32_t now)
{
    uint64_t head = atomic_load_explicit(window->head, memory_order_acquire);
    uint32_t newest = bucket_of(head);
    if (newest >= now)
        return sum_past(window, newest) + count_of(head);
    /* Its place among the past ones may hold it already, or something older. */
    uint64_t used = newest >= first_counted(window, now) ? count_of(head) : 0;
    for (uint32_t i = first_counted(window, now); i != now; i++)
        used += i == newest ? 0 : past_count(window, i);
    return used;
}

bool window_undo(const struct window *window, uint32_t bucket)
{
    STEP(window_to_look_back);
    uint64_t head = atomic_load_explicit(window->head, memory_order_acquire);
    while (bucket_of(head) == bucket && count_of(head) > 0) {
        STEP(window_to_undo);
        if (atomic_compare_exchange_weak(window->head, &head, head - 1))
            return true;
    }
    return false;
}
