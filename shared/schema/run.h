/* A validation under way. Private to this folder. */
#pragma once

#include "shared/schema/program.h"

enum { MARK_WORDS = 256 };

/* Marks that have no room in the run itself. */
struct block;

struct run {
    struct schema_errors *errors; /* NULL = the first one ends it */
    unsigned depth, steps;
    const char *given_up; /* why; NULL = it goes on */
    size_t used;          /* of marks */
    uint64_t marks[MARK_WORDS];
    struct block *blocks;
};

/* The resources that the way has led through, for references that depend on it. */
struct scope {
    const struct scope *outer;
    const struct resource *resource;
};

/* A way of so many schemas within each other has no end, or as good as none; alternatives within
 * alternatives may take longer than anybody waits. */
enum { DEPTH_MAX = 3000, STEPS_MAX = 10000000 };

/* One schema deeper; false when that is too much. */
static inline bool run_enter(struct run *run)
{
    if (run->depth >= DEPTH_MAX)
        run->given_up = "the schema refers to itself without an end";
    else if (run->steps >= STEPS_MAX)
        run->given_up = "that takes too long";
    if (run->given_up)
        return false;
    run->steps++;
    run->depth++;
    return true;
}

/* Yes or no, of any node. */
bool run_fits(struct run *run, const struct node *node, const struct cell *value,
              const struct scope *scope);
/* The same of one that is not slow, whose resource is that of `scope`: without a record of the way.
 */
bool quick_fits(struct run *run, const struct node *node, const struct cell *value,
                const struct scope *scope);
/* The same of one from NODE_TYPES to NODE_SCALAR. */
bool quick_fits_scalar(const struct node *node, const struct cell *value);
