/* The real window functions (window.c) with two past buckets, in every order of two workers whose
 * clocks may be stale and of the clock itself, each worker killed before each point: in no three
 * buckets in a row are there more admissions than the cap. */
#include "shared/base/step.h"
#include "shared/counters/window.h"
#include "test/steps/interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SPAN = 2, CAP = 2, FIRST = 10, TICKS = 4, BUCKETS = 16 + TICKS };

static struct world {
    _Atomic uint64_t head, past[SPAN + 1];
    uint32_t clock;
    int admitted[BUCKETS]; /* by bucket, without what was given back */
    /* what a test sets */
    unsigned attempts;
    bool may_undo;
} the_world;

static void begin(void *context)
{
    struct world *world = context;
    atomic_store(&world->head, 0);
    for (unsigned i = 0; i <= SPAN; i++)
        atomic_store(&world->past[i], 0);
    world->clock = FIRST;
    memset(world->admitted, 0, sizeof world->admitted);
}

/* Reads the clock and, whenever it goes on, looks, takes, and perhaps gives back. */
static void run_worker(void *context)
{
    struct world *world = context;
    const struct window window = {&world->head, world->past, SPAN};
    for (unsigned i = 0; i < world->attempts; i++) {
        struct window_state state;
        uint32_t now = world->clock;
        STEP(window_clock_read);
        if (!window_look(&window, CAP, now, &state) || !window_take(&window, CAP, now, &state))
            continue;
        world->admitted[state.bucket]++;
        if (!world->may_undo || !interleave_choose(2))
            continue;
        if (window_undo(&window, state.bucket))
            world->admitted[state.bucket]--;
    }
}

static void run_clock(void *context)
{
    struct world *world = context;
    for (int i = 0; i < TICKS; i++) {
        STEP(window_to_tick);
        world->clock++;
    }
}

static bool holds(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    const struct world *world = context;
    for (int from = 0; from + SPAN < BUCKETS; from++) {
        int sum = 0;
        for (int i = from; i <= from + SPAN; i++)
            sum += world->admitted[i];
        if (sum > CAP) {
            snprintf(why, INTERLEAVE_WHY_BYTES, "%d admitted from %d to %d", sum, from,
                     from + SPAN);
            return false;
        }
    }
    return true;
}

static bool explore(const char *name, unsigned attempts, bool may_undo, unsigned preemptions)
{
    the_world.attempts = attempts;
    the_world.may_undo = may_undo;
    struct interleave_test test = {
        .name = name,
        .actors = {{"worker 0", run_worker, .mortal = true},
                   {"worker 1", run_worker},
                   {"clock", run_clock}},
        .preemptions = preemptions,
        .deaths = 1,
        .world = &the_world,
        .begin = begin,
        .check = holds,
        .always = holds,
    };
    return interleave_schedules(&test, NULL);
}

static void never_more_than_the_cap(void **state)
{
    (void)state;
    assert_true(explore("window, two admissions each", 2, false, 3));
    assert_true(explore("window, three admissions each", 3, false, 3));
}

static void with_admissions_given_back(void **state)
{
    (void)state;
    assert_true(explore("window, given back", 2, true, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(never_more_than_the_cap),
        cmocka_unit_test(with_admissions_given_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
