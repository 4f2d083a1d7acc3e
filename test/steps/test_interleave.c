/* The scheduler finds what is wrong in protocols that are known to be wrong, and nothing in those
 * that are right. */
#include "shared/base/step.h"
#include "test/steps/interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- a counter */

struct counter {
    int value;
    int read[2];
};

static void begin_counter(void *context)
{
    *(struct counter *)context = (struct counter){0};
}

static void count_in_two_steps(struct counter *counter, int who)
{
    STEP(counter_to_read);
    counter->read[who] = counter->value;
    STEP(counter_to_write);
    counter->value = counter->read[who] + 1;
}

static void two_steps_a(void *world)
{
    count_in_two_steps(world, 0);
}

static void two_steps_b(void *world)
{
    count_in_two_steps(world, 1);
}

static void one_step(void *world)
{
    struct counter *counter = world;
    STEP(counter_to_add);
    counter->value++;
}

static bool counted_two(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    const struct counter *counter = context;
    snprintf(why, INTERLEAVE_WHY_BYTES, "the counter is %d", counter->value);
    return counter->value == 2;
}

static void counter_state(void *context)
{
    interleave_add(context, sizeof(struct counter));
}

static struct counter the_counter;

static struct interleave_test counter_test(const char *name, bool wrong)
{
    return (struct interleave_test){
        .name = name,
        .actors = {{"A", wrong ? two_steps_a : one_step, .mortal = false},
                   {"B", wrong ? two_steps_b : one_step, .mortal = false}},
        .preemptions = 3,
        .world = &the_counter,
        .begin = begin_counter,
        .check = counted_two,
        .state = counter_state,
        .expect_failure = wrong,
    };
}

static void counter_in_two_steps_is_found(void **state)
{
    (void)state;
    struct interleave_test test = counter_test("counter in two steps", true);
    struct interleave_result result;
    assert_true(interleave_schedules(&test, &result));
    assert_string_equal(result.why, "the counter is 1");
    assert_true(interleave_states(&test, &result));
    assert_string_equal(result.why, "the counter is 1");
}

static void counter_in_one_step_is_right(void **state)
{
    (void)state;
    struct interleave_test test = counter_test("counter in one step", false);
    struct interleave_result result;
    assert_true(interleave_schedules(&test, &result));
    assert_true(interleave_states(&test, NULL));
    /* Two actors of one point each: both begin, so six orders of four moves. */
    assert_int_equal(result.schedules, 6);
}

static bool all_is_well(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    (void)context;
    (void)why;
    return true;
}

/* Two actors with three moves each: 20 orders, of which 2 need no preemption, and so on. */
static void bound_is_kept(void **state)
{
    (void)state;
    static const unsigned expected[] = {2, 6, 14, 18, 20, 20};
    struct interleave_test test = counter_test("bound", true);
    test.check = all_is_well;
    test.expect_failure = false;
    for (unsigned i = 0; i < sizeof expected / sizeof *expected; i++) {
        test.preemptions = i;
        struct interleave_result result;
        assert_true(interleave_schedules(&test, &result));
        assert_int_equal(result.schedules, expected[i]);
    }
}

/* ---- killed actors */

struct flag {
    bool begun, done, repaired;
};

static void begin_flag(void *context)
{
    *(struct flag *)context = (struct flag){0};
}

static void set_flag(void *context)
{
    struct flag *flag = context;
    STEP(flag_to_begin);
    flag->begun = true;
    STEP(flag_to_end);
    flag->done = true;
    STEP(flag_ended);
}

static void repair_flag(void *context)
{
    struct flag *flag = context;
    flag->repaired = true;
    STEP(flag_repaired);
    if (flag->begun)
        flag->done = true;
}

static unsigned seen_begun, seen_not_begun;

static bool flag_is_whole(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    const struct flag *flag = context;
    seen_begun += flag->repaired && flag->begun;
    seen_not_begun += flag->repaired && !flag->begun;
    snprintf(why, INTERLEAVE_WHY_BYTES, "begun %d, done %d, repaired %d", flag->begun, flag->done,
             flag->repaired);
    return flag->begun == flag->done && flag->repaired == interleave_died("worker");
}

static void each_point_is_a_death(void **state)
{
    (void)state;
    static struct flag flag;
    struct interleave_test test = {
        .name = "a death at each point",
        .actors = {{"worker", set_flag, .mortal = true},
                   {"master", repair_flag, .after = "worker"}},
        .deaths = 1,
        .world = &flag,
        .begin = begin_flag,
        .check = flag_is_whole,
    };
    struct interleave_result result;
    seen_begun = seen_not_begun = 0;
    assert_true(interleave_schedules(&test, &result));
    assert_int_equal(result.schedules, 4);
    assert_int_equal(seen_begun, 2);
    assert_int_equal(seen_not_begun, 1);
    /* One that repairs nothing is found. */
    test.name = "a death that nobody repairs";
    test.actors[1].name = NULL;
    test.expect_failure = true;
    assert_true(interleave_schedules(&test, &result));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counter_in_two_steps_is_found),
        cmocka_unit_test(counter_in_one_step_is_right),
        cmocka_unit_test(bound_is_kept),
        cmocka_unit_test(each_point_is_a_death),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
