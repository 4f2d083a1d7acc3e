/* Named points between the steps of whatever touches shared memory or a durable file: a process may
 * be killed, or stopped for any time, at each of them. In builds with PROMPTGATE_STEPS they can be
 * listed, are noted when they are reached, and do what a test orders; in others there are none.
 *
 *   PROMPTGATE_STEPS_SEEN=DIR   each name that is reached becomes a file in DIR at once
 *   PROMPTGATE_STEP=NAME:ACTION[:N]   at the N-th time that NAME is reached, counted over this
 *       process and all that come of it; acts once. ACTION: "kill" (SIGKILL to itself), "all"
 *       (SIGKILL to its process group), "stop" (SIGSTOP to itself), "spin" (never goes on)
 *   PROMPTGATE_STEP_ORDER=FILE  the same, but for a test to change while the processes run: FILE
 *       holds a struct step_order */
#pragma once

#ifdef PROMPTGATE_STEPS
#include <stdatomic.h>
#include <stdint.h>

struct step {
    const char *name;
    _Atomic int noted;
};

enum step_order_state { STEP_NO_ORDER, STEP_ORDERED, STEP_ORDER_TAKEN };

enum { STEP_NAME_BYTES = 64, STEP_ACTION_BYTES = 8 };

struct step_order {
    _Atomic int32_t state; /* enum step_order_state; written last */
    _Atomic int32_t left;  /* how often the point must be reached yet */
    _Atomic int32_t pid;   /* whom it met */
    char action[STEP_ACTION_BYTES];
    char name[STEP_NAME_BYTES];
};

/* `name` is a bare identifier. errno stays as it is. */
#define STEP(name)                                                                                 \
    do {                                                                                           \
        static struct step step_here = {#name, 0};                                                 \
        static struct step *step_place __attribute__((section("steps"), used)) = &step_here;       \
        step_reached(&step_here);                                                                  \
    } while (0)

void step_reached(struct step *step);
/* Called at each point when set: where a test switches to another actor. */
extern void (*step_hook)(const char *name);
/* Every point in this program, in no order; one name may come more than once. */
void step_each(void (*each)(const char *name, void *context), void *context);
#else
#define STEP(name) ((void)0)
#endif
