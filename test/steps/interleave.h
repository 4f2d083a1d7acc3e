/* Runs real functions as coroutines that switch at STEP points, in every order, and kills them
 * before each point.
 *
 * Two ways:
 *   interleave_schedules   every schedule with at most so many preemptions, each run from its
 *                          beginning; nothing is assumed of the functions
 *   interleave_states      no limit on preemptions: what comes after a state is looked at once. The
 *                          test says what the state is beside each actor's point: the shared bytes,
 *                          and each actor's locals, which it keeps in a struct for that
 *
 * An actor is killed by not being resumed ever again: what it has written stays, its memory is
 * freed later, and the descriptors it opened are closed when the schedule ends. It is killed as
 * soon as it comes to a point: later is no other case, for it does nothing in between, and whoever
 * takes notice of its death is an actor that may be scheduled later.
 *
 * Everything must be deterministic: clocks set, no threads. A failing schedule is printed, and
 * again with INTERLEAVE="NAME=SCHEDULE" in the environment, which runs that one alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

enum { INTERLEAVE_ACTORS_MAX = 8, INTERLEAVE_WHY_BYTES = 256 };

struct interleave_actor {
    const char *name; /* NULL ends the list */
    void (*run)(void *world);
    bool mortal;       /* may be killed */
    const char *after; /* NULL, or the actor after whose death it begins; else it never does */
    bool takes_all;    /* with it die all others that live or have not begun */
};

struct interleave_test {
    const char *name;
    struct interleave_actor actors[INTERLEAVE_ACTORS_MAX + 1];
    unsigned preemptions; /* at most; interleave_schedules only */
    unsigned deaths;      /* at most, in one schedule */
    void *world;
    void (*begin)(void *world); /* makes it anew, before each schedule */
    /* When each actor has ended, is dead, waits or never began: is all well? Else says why not. */
    bool (*check)(void *world, char why[INTERLEAVE_WHY_BYTES]);
    void (*end)(void *world); /* may be NULL */
    bool opens;               /* descriptors are opened after `begin`, by actors too */
    /* interleave_states only: the state, as `interleave_add` takes it. */
    void (*state)(void *world);
    /* May be NULL: at each switch, as `check`: what must hold at all times. */
    bool (*always)(void *world, char why[INTERLEAVE_WHY_BYTES]);
    bool expect_failure; /* a seeded bug: it is an error when none is found; nothing is printed of
                            its schedule */
};

struct interleave_result {
    unsigned long long schedules; /* run to their end */
    unsigned long long states;    /* different ones; 0 for interleave_schedules */
    unsigned long long points;    /* at which a decision was made, all runs together */
    unsigned longest;             /* decisions in one schedule */
    bool failed;                  /* and `why`, and the schedule, were printed */
    char why[INTERLEAVE_WHY_BYTES];
};

/* Both print one line with what was looked at and its bound. They stop at the first failure. True
 * when all is as it should be: no failure, or one where it is expected. `result` may be NULL. */
bool interleave_schedules(const struct interleave_test *test, struct interleave_result *result);
bool interleave_states(const struct interleave_test *test, struct interleave_result *result);

/* Within `state`: these bytes belong to it. */
void interleave_add(const void *bytes, size_t len);

/* Within an actor: it can't go on before another one has moved (it would look again and again). */
void interleave_wait(void);
/* Within an actor: 0 to options-1, each of them in some schedule. */
unsigned interleave_choose(unsigned options);
/* Within check: did the actor die? */
bool interleave_died(const char *actor);
