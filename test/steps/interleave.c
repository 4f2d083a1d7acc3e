#include "test/steps/interleave.h"

#include "shared/base/step.h"
#include "test/steps/abandoned.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#if defined __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

enum { STACK_BYTES = 512 * 1024, DEPTH_MAX = 1 << 16 };

enum actor_state { WAITS_FOR_DEATH, BEGINS, AT_POINT, WAITING, ENDED, DEAD };

struct actor {
    const struct interleave_actor *is;
    enum actor_state state;
    const char *point; /* where it stands */
    void *here[5];
};

/* What was decided where there was a choice: run an actor, or kill it. */
struct choice {
    uint8_t taken, options;
};

struct option {
    uint8_t actor;
    bool kills;
};

static struct {
    const struct interleave_test *test;
    struct interleave_result *result;
    struct actor actors[INTERLEAVE_ACTORS_MAX];
    unsigned actors_count;
    struct actor *current; /* NULL: the scheduler itself, or nobody is under way */
    struct actor *last;    /* who was resumed last */
    unsigned preemptions, deaths;
    bool by_state;
    bool known;  /* this run came to a state that was seen before */
    bool broken; /* `always` was not satisfied */
    bool trace;
    struct choice choices[DEPTH_MAX];
    unsigned depth; /* decisions in this run */
    unsigned len;   /* of them that are given */
} run;

/* ---- states that were seen */

struct hash {
    uint64_t a, b;
};

static struct {
    struct hash *slots; /* both 0 = free */
    size_t cap, count;
} seen;

static struct hash state_hash;

static uint64_t mix(uint64_t a, uint64_t b)
{
    __uint128_t product = (__uint128_t)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

void interleave_add(const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    while (len > 0) {
        uint64_t word = 0;
        size_t part = len < 8 ? len : 8;
        memcpy(&word, at, part);
        state_hash.a = mix(state_hash.a ^ word ^ 0xa0761d6478bd642fU, 0xe7037ed1a0b428dbU + part);
        state_hash.b = mix(state_hash.b ^ word ^ 0x8ebc6af09c88c6e3U, 0x589965cc75374cc3U + part);
        at += part;
        len -= part;
    }
}

static struct hash *place_of(struct hash hash)
{
    size_t at = (size_t)hash.a & (seen.cap - 1);
    while ((seen.slots[at].a | seen.slots[at].b) &&
           (seen.slots[at].a != hash.a || seen.slots[at].b != hash.b))
        at = (at + 1) & (seen.cap - 1);
    return &seen.slots[at];
}

static void grow_seen(void)
{
    struct hash *old = seen.slots;
    size_t old_cap = seen.cap;
    seen.cap = old_cap ? 2 * old_cap : 1 << 16;
    seen.slots = calloc(seen.cap, sizeof *seen.slots);
    if (!seen.slots)
        abort();
    for (size_t i = 0; i < old_cap; i++)
        if (old[i].a | old[i].b)
            *place_of(old[i]) = old[i];
    free(old);
}

static void forget_seen(void)
{
    free(seen.slots);
    memset(&seen, 0, sizeof seen);
}

/* Whether the state is a new one. */
static bool see_state(void)
{
    state_hash = (struct hash){1, 2};
    for (unsigned i = 0; i < run.actors_count; i++) {
        struct actor *actor = &run.actors[i];
        const void *words[] = {(void *)(uintptr_t)actor->state, actor->point};
        interleave_add(words, sizeof words);
    }
    run.test->state(run.test->world);
    if (seen.count * 2 >= seen.cap)
        grow_seen();
    struct hash *place = place_of(state_hash);
    if (place->a | place->b)
        return false;
    *place = state_hash;
    seen.count++;
    return true;
}

/* ---- coroutines */

/* A stack is entered by ucontext once, and from then on by a jump to where it begins: the jumps of
 * the compiler change no signal mask, and so need no system call. */
static struct stack {
    void *memory;
    bool entered;
    void *start[5];
    ucontext_t context;
} stacks[INTERLEAVE_ACTORS_MAX];

static void *home[5];

#if defined __SANITIZE_ADDRESS__
static const void *home_stack;
static size_t home_size;

static void before_switch(void **fake, const struct stack *to)
{
    __sanitizer_start_switch_fiber(fake, to ? to->memory : home_stack,
                                   to ? (size_t)STACK_BYTES : home_size);
}

static void after_switch(void *fake)
{
    const void *from;
    size_t size;
    __sanitizer_finish_switch_fiber(fake, &from, &size);
    if (run.current) { /* each switch is between home and an actor */
        home_stack = from;
        home_size = size;
    }
}
#else
static void before_switch(void **fake, const struct stack *to)
{
    (void)fake;
    (void)to;
}

static void after_switch(void *fake)
{
    (void)fake;
}
#endif

__attribute__((noinline)) static void jump(void **target)
{
    __builtin_longjmp(target, 1);
}

/* For ever: the function that a stack begins with. */
static void enter(void)
{
    (void)__builtin_setjmp(stacks[run.current - run.actors].start);
    after_switch(NULL);
    struct actor *self = run.current;
    stacks[self - run.actors].entered = true;
    self->is->run(run.test->world);
    self->state = ENDED;
    self->point = NULL;
    run.current = NULL;
    before_switch(NULL, NULL);
    jump(home);
}

/* From an actor that stays where it is. */
__attribute__((noinline)) static void go_home(struct actor *self)
{
    void *volatile fake = NULL;
    run.current = NULL;
    before_switch((void **)&fake, NULL);
    if (!__builtin_setjmp(self->here))
        jump(home);
    after_switch(fake);
}

static void begin_actor(struct stack *stack)
{
    if (stack->entered)
        jump(stack->start);
    getcontext(&stack->context);
    stack->context.uc_stack.ss_sp = stack->memory;
    stack->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&stack->context, enter, 0);
    setcontext(&stack->context);
}

__attribute__((noinline)) static void resume(struct actor *actor)
{
    void *volatile fake = NULL;
    struct stack *stack = &stacks[actor - run.actors];
    bool begins = actor->state == BEGINS;
    actor->state = AT_POINT;
    run.current = run.last = actor;
    abandoned_owner = (int)(actor - run.actors);
    before_switch((void **)&fake, stack);
    if (!__builtin_setjmp(home)) {
        if (begins)
            begin_actor(stack);
        jump(actor->here);
    }
    after_switch(fake);
    abandoned_owner = -1;
}

/* ---- deciding */

static bool can_run(const struct actor *actor)
{
    return actor->state == BEGINS || actor->state == AT_POINT;
}

static bool can_die(const struct actor *actor)
{
    return actor->is->mortal && run.deaths < run.test->deaths &&
           (can_run(actor) || actor->state == WAITING);
}

static void add_option(struct option *options, unsigned *count, struct actor *actor, bool kills)
{
    options[(*count)++] = (struct option){(uint8_t)(actor - run.actors), kills};
}

/* The first one is to go on with who ran last, where that can. */
static unsigned list_options(struct option options[2 * INTERLEAVE_ACTORS_MAX])
{
    unsigned count = 0;
    struct actor *last = run.last;
    bool goes_on = last && can_run(last);
    bool others = !goes_on || run.by_state || run.preemptions < run.test->preemptions;
    if (goes_on)
        add_option(options, &count, last, false);
    for (unsigned i = 0; i < run.actors_count; i++) {
        struct actor *actor = &run.actors[i];
        if (others && actor != last && can_run(actor))
            add_option(options, &count, actor, false);
        /* One that has not begun dies at its first point instead. */
        bool here = run.by_state || actor == last;
        if (here && actor->state != BEGINS && can_die(actor))
            add_option(options, &count, actor, true);
    }
    return count;
}

static const char *point_of(const struct actor *actor)
{
    return actor->point ? actor->point : "its beginning";
}

static void kill_actor(struct actor *actor)
{
    actor->state = DEAD;
    run.deaths++;
    abandoned_free((int)(actor - run.actors));
    for (unsigned i = 0; actor->is->takes_all && i < run.actors_count; i++)
        if (run.actors[i].state != WAITS_FOR_DEATH && run.actors[i].state != ENDED) {
            run.actors[i].state = DEAD;
            abandoned_free((int)i);
        }
    for (unsigned i = 0; i < run.actors_count; i++) {
        struct actor *other = &run.actors[i];
        if (other->state == WAITS_FOR_DEATH && strcmp(other->is->after, actor->is->name) == 0)
            other->state = BEGINS;
        if (other->state == WAITING)
            other->state = AT_POINT;
    }
    run.last = actor;
}

static void trace(const struct actor *actor, bool kills)
{
    static const struct actor *told;
    if (!run.trace)
        return;
    if (kills)
        printf("    %s dies before %s\n", actor->is->name, point_of(actor));
    else if (actor != told || run.depth <= 1)
        printf("    %s goes on from %s\n", actor->is->name, point_of(actor));
    else
        printf("      %s\n", point_of(actor));
    told = kills ? NULL : actor;
}

/* The schedule's next choice out of so many. */
static unsigned choose(unsigned count)
{
    if (run.depth == DEPTH_MAX)
        abort(); /* an actor that never ends */
    struct choice *choice = &run.choices[run.depth];
    run.result->points++;
    if (run.depth++ >= run.len)
        *choice = (struct choice){0, (uint8_t)count};
    else if (choice->options == 0)
        choice->options = (uint8_t)count;
    if (choice->options != count || choice->taken >= count) {
        fprintf(stderr, "%s: not deterministic: %u options where there were %u\n", run.test->name,
                count, choice->options);
        abort();
    }
    return choice->taken;
}

unsigned interleave_choose(unsigned options)
{
    unsigned taken = choose(options);
    if (run.trace)
        printf("      chooses %u of %u\n", taken, options);
    return taken;
}

/* Who goes on; NULL when this run is over. Kills on the way. */
static struct actor *decide(void)
{
    for (;;) {
        struct option options[2 * INTERLEAVE_ACTORS_MAX];
        /* Given decisions were looked at by an earlier run. */
        bool is_new = run.depth >= run.len;
        if (is_new && run.test->always && !run.test->always(run.test->world, run.result->why)) {
            run.broken = true;
            return NULL;
        }
        unsigned count = list_options(options);
        if (count == 0)
            return NULL;
        if (run.by_state && is_new && !see_state()) {
            run.known = true;
            return NULL;
        }
        struct option option = options[choose(count)];
        struct actor *actor = &run.actors[option.actor];
        trace(actor, option.kills);
        if (option.kills) {
            kill_actor(actor);
            continue;
        }
        if (run.last && actor != run.last && can_run(run.last))
            run.preemptions++;
        return actor;
    }
}

/* Whoever waited may look again once another one has moved. */
static void wake_others(const struct actor *moved)
{
    for (unsigned i = 0; i < run.actors_count; i++)
        if (&run.actors[i] != moved && run.actors[i].state == WAITING)
            run.actors[i].state = AT_POINT;
}

/* Decisions are made at home, not on an actor's stack, which may be left for ever; but most are
 * to go on, and those cost no switch. */
static struct actor *next;

static void on_step(const char *name)
{
    struct actor *self = run.current;
    if (!self)
        return;
    wake_others(self);
    self->point = name;
    run.current = NULL;
    abandoned_owner = -1;
    next = decide();
    if (next == self) {
        run.current = self;
        abandoned_owner = (int)(self - run.actors);
    } else {
        go_home(self);
    }
}

void interleave_wait(void)
{
    struct actor *self = run.current;
    self->point = "a wait";
    self->state = WAITING;
    run.current = NULL;
    abandoned_owner = -1;
    next = decide();
    go_home(self);
}

bool interleave_died(const char *name)
{
    for (unsigned i = 0; i < run.actors_count; i++)
        if (strcmp(run.actors[i].is->name, name) == 0)
            return run.actors[i].state == DEAD;
    abort();
}

/* ---- one run */

static void begin_run(void)
{
    run.current = run.last = NULL;
    run.preemptions = run.deaths = run.depth = 0;
    run.known = run.broken = false;
    run.actors_count = 0;
    for (const struct interleave_actor *is = run.test->actors; is->name; is++) {
        unsigned i = run.actors_count++;
        if (!stacks[i].memory) {
            stacks[i].memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
            if (stacks[i].memory == MAP_FAILED)
                abort();
        }
        run.actors[i].is = is;
        run.actors[i].state = is->after ? WAITS_FOR_DEATH : BEGINS;
        run.actors[i].point = NULL;
    }
}

/* What actors left on the stacks is nobody's any more. */
static void forget_stacks(void)
{
#if defined __SANITIZE_ADDRESS__
    for (unsigned i = 0; i < run.actors_count; i++)
        __asan_unpoison_memory_region(stacks[i].memory, STACK_BYTES);
#endif
}

/* False when something is wrong with this schedule. */
static bool run_once(void)
{
    run.test->begin(run.test->world);
    if (run.test->opens)
        abandoned_begin();
    begin_run();
    step_hook = on_step;
    next = decide();
    while (next) {
        struct actor *now = next;
        next = NULL;
        resume(now);
        if (now->state == ENDED) {
            wake_others(now);
            next = decide();
        }
    }
    step_hook = NULL;
    bool good = !run.broken;
    if (good && !run.known) {
        run.result->schedules++;
        good = run.test->check(run.test->world, run.result->why);
    }
    if (run.depth > run.result->longest)
        run.result->longest = run.depth;
    if (run.test->end)
        run.test->end(run.test->world);
    for (int i = 0; i < (int)run.actors_count; i++)
        abandoned_free(i);
    forget_stacks();
    abandoned_end(run.test->opens);
    return good;
}

/* The next schedule in order; false after the last. */
static bool advance(void)
{
    unsigned len = run.depth;
    while (len > 0 && run.choices[len - 1].taken + 1 >= run.choices[len - 1].options)
        len--;
    if (len == 0)
        return false;
    run.choices[len - 1].taken++;
    run.len = len;
    return true;
}

/* ---- reporting */

static void print_schedule(void)
{
    printf("  INTERLEAVE=\"%s=", run.test->name);
    for (unsigned i = 0; i < run.depth;) {
        unsigned same = 1;
        while (i + same < run.depth && run.choices[i + same].taken == run.choices[i].taken)
            same++;
        printf(same > 1 ? "%s%u*%u" : "%s%u", i ? "." : "", run.choices[i].taken, same);
        i += same;
    }
    printf("\"\n");
}

/* "0*12.1.0*3" */
static void take_schedule(const char *text)
{
    run.len = 0;
    while (*text) {
        char *rest;
        unsigned long taken = strtoul(text, &rest, 10);
        unsigned long times = *rest == '*' ? strtoul(rest + 1, &rest, 10) : 1;
        if (rest == text)
            abort();
        while (times-- > 0 && run.len < DEPTH_MAX)
            run.choices[run.len++] = (struct choice){(uint8_t)taken, 0};
        text = *rest == '.' ? rest + 1 : rest;
    }
}

/* The schedule that the environment asks for, if it is of this test. */
static const char *asked_for(const char *name)
{
    const char *text = getenv("INTERLEAVE");
    size_t len = strlen(name);
    return text && strncmp(text, name, len) == 0 && text[len] == '=' ? text + len + 1 : NULL;
}

static void show_failure(void)
{
    char why[INTERLEAVE_WHY_BYTES];
    memcpy(why, run.result->why, sizeof why);
    printf("%s: %s\n", run.test->name, why);
    print_schedule();
    run.len = run.depth;
    run.trace = true;
    run_once();
    run.trace = false;
    memcpy(run.result->why, why, sizeof why);
}

static void print_result(void)
{
    const struct interleave_test *test = run.test;
    const struct interleave_result *result = run.result;
    printf("%s: ", test->name);
    if (run.by_state)
        printf("%llu states, ", result->states);
    printf("%llu schedules to the end, %llu decisions, %u in the longest; ", result->schedules,
           result->points, result->longest);
    if (run.by_state)
        printf("any number of preemptions, ");
    else
        printf("all with at most %u preemptions, ", test->preemptions);
    printf("at most %u deaths; %s\n", test->deaths, !result->failed ? "no failure" : result->why);
    fflush(stdout);
}

static bool explore(const struct interleave_test *test, struct interleave_result *result,
                    bool by_state)
{
    struct interleave_result own;
    run.test = test;
    run.result = result ? result : &own;
    memset(run.result, 0, sizeof *run.result);
    run.by_state = by_state;
    run.len = run.depth = 0;
    const char *given = asked_for(test->name);
    if (given) {
        take_schedule(given);
        run.trace = true;
    }
    do
        run.result->failed = !run_once();
    while (!run.result->failed && !given && advance());
    run.trace = false;
    run.result->states = seen.count;
    forget_seen();
    if (run.result->failed && !test->expect_failure && !given)
        show_failure();
    print_result();
    return run.result->failed == test->expect_failure;
}

bool interleave_schedules(const struct interleave_test *test, struct interleave_result *result)
{
    return explore(test, result, false);
}

bool interleave_states(const struct interleave_test *test, struct interleave_result *result)
{
    return explore(test, result, true);
}
