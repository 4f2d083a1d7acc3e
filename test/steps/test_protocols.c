/* Two protocols for shared counters, each with the mistakes that are easily made in it: the
 * scheduler finds every mistake, and nothing in what is right.
 *
 * A budget's word: worker A reserves 10, sends, and settles at 4, and may die before any step; B
 * reserves 10 and settles at 3; a master recovers A. A rate window: two workers whose clocks may be
 * stale. */
#include "shared/base/step.h"
#include "test/steps/interleave.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- the budget's word */

enum who { NOBODY, A, B, C, WHO };
enum entry_state { ENTRY_FREE, ENTRY_INTENT, ENTRY_HELD };
enum { WORST = 10, COST_A = 4, COST_B = 3, COST_C = 2 };
/* A's operations: of an earlier request, and of the one that is looked at. */
enum { EARLIER = 1, RESERVE, SETTLE };

struct word {
    int value; /* spent and reserved */
    int who;   /* its last writer, */
    int op;    /* and which of that one's operations */
};

struct spend {
    struct word word;
    int applied[WHO]; /* operations known to have happened, whatever the word says by now */
    struct {
        int state, sent, op;
    } entry; /* of A's request */
    int billed[WHO];
    struct {
        int op, applied;
        struct word seen;
    } locals[WHO + 1]; /* the last one is the master's */
};

static struct mistakes {
    bool no_tag;        /* the word alone, without tag and applied[] */
    bool store_for_max; /* applied[] by a plain store */
    bool applied_first; /* recovery reads applied[] before the word */
    bool no_help;       /* a tag is replaced without a note in applied[] */
} mistake;

static void begin_spend(void *context)
{
    struct spend *spend = context;
    memset(spend, 0, sizeof *spend);
    spend->word = (struct word){0, A, EARLIER};
}

static bool same_word(const struct word *a, const struct word *b)
{
    return a->value == b->value && (mistake.no_tag || (a->who == b->who && a->op == b->op));
}

static void note_applied(struct spend *spend, const struct word *seen)
{
    int *applied = &spend->applied[seen->who];
    if (!mistake.no_help && (mistake.store_for_max || *applied < seen->op))
        *applied = seen->op;
}

/* `locals` is whose state the test sees; `who` and `op` make the tag. */
static void change(struct spend *spend, unsigned locals, int who, int op, int delta)
{
    struct word *seen = &spend->locals[locals].seen;
    spend->locals[locals].op = op;
    for (;;) {
        STEP(spend_to_read);
        *seen = spend->word;
        STEP(spend_to_help);
        note_applied(spend, seen);
        STEP(spend_to_swap);
        if (same_word(&spend->word, seen)) {
            spend->word = (struct word){seen->value + delta, who, op};
            return;
        }
    }
}

static void run_a(void *context)
{
    struct spend *spend = context;
    STEP(spend_intends);
    spend->entry.op = RESERVE;
    spend->entry.state = ENTRY_INTENT;
    change(spend, A, A, RESERVE, WORST);
    STEP(spend_reserved);
    spend->entry.state = ENTRY_HELD;
    STEP(spend_to_send);
    spend->entry.sent = true;
    STEP(spend_sent);
    spend->billed[A] = COST_A;
    STEP(spend_answered);
    spend->entry.op = SETTLE;
    spend->entry.state = ENTRY_INTENT;
    change(spend, A, A, SETTLE, COST_A - WORST);
    STEP(spend_settled);
    spend->entry.state = ENTRY_FREE;
}

static void run_b(void *context)
{
    struct spend *spend = context;
    change(spend, B, B, 1, WORST);
    spend->billed[B] = COST_B;
    change(spend, B, B, 2, COST_B - WORST);
}

/* One operation is enough of a third one. */
static void run_c(void *context)
{
    struct spend *spend = context;
    change(spend, C, C, 1, COST_C);
    spend->billed[C] = COST_C;
}

static bool has_happened(struct spend *spend)
{
    struct word *seen = &spend->locals[WHO].seen;
    int *applied = &spend->locals[WHO].applied;
    if (mistake.applied_first)
        *applied = spend->applied[A];
    STEP(recovery_to_read);
    *seen = spend->word;
    STEP(recovery_to_look);
    if (!mistake.applied_first)
        *applied = spend->applied[A];
    return (seen->who == A && seen->op == spend->entry.op) || *applied >= spend->entry.op;
}

/* A reservation that was not sent is given back; one that was stays, at its bound, unless it was
 * settled. */
static void recover_a(void *context)
{
    struct spend *spend = context;
    bool reserving = spend->entry.op == RESERVE && spend->entry.state != ENTRY_FREE;
    bool held = spend->entry.state == ENTRY_HELD;
    spend->locals[WHO].op = -1;
    bool took = mistake.no_tag ? spend->entry.state != ENTRY_FREE : held || has_happened(spend);
    if (reserving && took && !spend->entry.sent)
        change(spend, WHO, A, spend->entry.op + 1, -WORST);
}

static bool spend_is_exact(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    const struct spend *spend = context;
    int value = spend->word.value, others = spend->billed[B] + spend->billed[C];
    int billed = spend->billed[A] + others;
    bool died = interleave_died("A");
    snprintf(why, INTERLEAVE_WHY_BYTES, "the word is %d, billed %d and %d, A %s", value,
             spend->billed[A], others, died ? "died" : "lived");
    if (value < billed || (!died && value != billed))
        return false;
    if (died && !spend->entry.sent && value != others)
        return false;
    int of_a = value - others;
    return of_a == 0 || of_a == COST_A || of_a == WORST;
}

static void spend_state(void *context)
{
    interleave_add(context, sizeof(struct spend));
}

static struct spend the_spend;

static bool explore_spend(const char *name, bool third, bool wrong, struct mistakes mistakes)
{
    mistake = mistakes;
    struct interleave_test test = {
        .name = name,
        .actors = {{"A", run_a, .mortal = true},
                   {"B", run_b},
                   {"M", recover_a, .after = "A"},
                   {third ? "C" : NULL, run_c}},
        .preemptions = 3,
        .deaths = 1,
        .world = &the_spend,
        .begin = begin_spend,
        .check = spend_is_exact,
        .state = spend_state,
        .expect_failure = wrong,
    };
    return (third || interleave_schedules(&test, NULL)) && interleave_states(&test, NULL);
}

static void tagged_word_is_exact(void **state)
{
    (void)state;
    assert_true(explore_spend("spend, tagged", false, false, (struct mistakes){0}));
    assert_true(explore_spend("spend, tagged, three workers", true, false, (struct mistakes){0}));
}

static void naive_word_is_found(void **state)
{
    (void)state;
    struct mistakes wrong = {.no_tag = true};
    assert_true(explore_spend("spend, no tag", false, true, wrong));
}

static void mistakes_with_the_tag_are_found(void **state)
{
    (void)state;
    struct mistakes no_help = {.no_help = true}, order = {.applied_first = true};
    struct mistakes plain_store = {.store_for_max = true};
    assert_true(explore_spend("spend, no help", false, true, no_help));
    assert_true(explore_spend("spend, wrong order of recovery", false, true, order));
    assert_true(explore_spend("spend, plain store", true, true, plain_store));
}

/* ---- the rate window */

enum { WIDTH = 2, CAP = 2, WORKERS = 2, ADMISSIONS = 3, LAST_TIME = 5 };

struct bucket {
    int epoch, count;
};

struct window {
    int buckets; /* how many there are */
    struct bucket head;
    struct bucket past[WIDTH + 1];
    int clock;
    int admitted[LAST_TIME + 1]; /* by time */
    struct {
        int now, from, sum, left;
        struct bucket seen;
    } locals[WORKERS];
};

static int window_buckets;

static void begin_window(void *context)
{
    struct window *window = context;
    memset(window, 0, sizeof *window);
    window->buckets = window_buckets;
    for (int i = 0; i <= WIDTH; i++)
        window->past[i].epoch = -1;
}

static void publish_past(struct window *window, const struct bucket *seen)
{
    struct bucket *past = &window->past[seen->epoch % window->buckets];
    if (past->epoch < seen->epoch || (past->epoch == seen->epoch && past->count < seen->count))
        *past = *seen;
}

/* The time of its admission, or -1. */
static int admit(struct window *window, unsigned worker)
{
    int *now = &window->locals[worker].now, *from = &window->locals[worker].from;
    int *sum = &window->locals[worker].sum;
    struct bucket *seen = &window->locals[worker].seen;
    int clock = window->clock;
    for (;;) {
        *now = clock;
        STEP(window_to_read);
        *seen = window->head;
        *sum = 0;
        if (*now > seen->epoch) {
            STEP(window_to_publish);
            publish_past(window, seen);
        } else {
            *now = seen->epoch;
            *sum = seen->count;
        }
        for (*from = *now - WIDTH; *from < *now; (*from)++) {
            STEP(window_to_sum);
            int place = (*from + window->buckets) % window->buckets;
            if (window->past[place].epoch == *from)
                *sum += window->past[place].count;
        }
        if (*sum + 1 > CAP)
            return -1;
        STEP(window_to_swap);
        if (window->head.epoch != seen->epoch || window->head.count != seen->count)
            continue;
        window->head = *now > seen->epoch ? (struct bucket){*now, 1}
                                          : (struct bucket){seen->epoch, seen->count + 1};
        window->admitted[window->head.epoch]++;
        return window->head.epoch;
    }
}

static void undo(struct window *window, int time)
{
    STEP(window_to_undo);
    if (window->head.epoch != time || window->head.count == 0)
        return;
    window->head.count--;
    window->admitted[time]--;
}

static void run_worker(struct window *window, unsigned worker)
{
    for (int i = 0; i < ADMISSIONS; i++) {
        window->locals[worker].left = ADMISSIONS - i;
        STEP(window_idle);
        int time = admit(window, worker);
        if (time >= 0 && interleave_choose(2))
            undo(window, time);
        memset(&window->locals[worker], 0, sizeof window->locals[worker]);
    }
}

static void run_worker_0(void *context)
{
    run_worker(context, 0);
}

static void run_worker_1(void *context)
{
    run_worker(context, 1);
}

static void run_clock(void *context)
{
    struct window *window = context;
    while (window->clock < LAST_TIME) {
        STEP(window_to_tick);
        window->clock++;
    }
}

static bool window_holds(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    const struct window *window = context;
    for (int from = 0; from + WIDTH <= LAST_TIME; from++) {
        int sum = 0;
        for (int i = from; i <= from + WIDTH; i++)
            sum += window->admitted[i];
        if (sum > CAP) {
            snprintf(why, INTERLEAVE_WHY_BYTES, "%d admitted from %d to %d", sum, from,
                     from + WIDTH);
            return false;
        }
    }
    return true;
}

static void window_state(void *context)
{
    interleave_add(context, sizeof(struct window));
}

static struct window the_window;

static bool explore_window(const char *name, int buckets, bool wrong)
{
    window_buckets = buckets;
    struct interleave_test test = {
        .name = name,
        .actors = {{"worker 0", run_worker_0}, {"worker 1", run_worker_1}, {"clock", run_clock}},
        .preemptions = 3,
        .world = &the_window,
        .begin = begin_window,
        .check = window_holds,
        .always = window_holds,
        .state = window_state,
        .expect_failure = wrong,
    };
    return interleave_states(&test, NULL);
}

static void window_with_one_more_bucket_holds(void **state)
{
    (void)state;
    assert_true(explore_window("window, W + 1 buckets", WIDTH + 1, false));
}

static void window_without_it_is_found(void **state)
{
    (void)state;
    assert_true(explore_window("window, W buckets", WIDTH, true));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tagged_word_is_exact),
        cmocka_unit_test(naive_word_is_found),
        cmocka_unit_test(mistakes_with_the_tag_are_found),
        cmocka_unit_test(window_with_one_more_bucket_holds),
        cmocka_unit_test(window_without_it_is_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
