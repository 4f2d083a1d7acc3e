#include "shared/counters/window.h"

#include "shared/base/step.h"

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

static uint64_t sum_past(const struct window *window, uint32_t bucket)
{
    uint64_t sum = 0;
    uint32_t first = first_counted(window, bucket), slots = window->span + 1;
    uint32_t slot = first % slots;
    for (uint32_t i = first; i != bucket; i++) {
        STEP(window_to_sum);
        uint64_t word = atomic_load_explicit(&window->past[slot], memory_order_acquire);
        sum += bucket_of(word) == i ? count_of(word) : 0;
        slot = slot + 1 == slots ? 0 : slot + 1;
    }
    return sum;
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
