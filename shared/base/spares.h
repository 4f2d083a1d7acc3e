/* Of things that are kept for their next use: how many have not been needed for a while, so that
 * memory that a rush has taken is given back. Whoever keeps them tells of each, and asks at times.
 */
#pragma once

struct spares {
    unsigned count; /* kept now */
    unsigned least; /* kept all the time since the last question */
};

void spares_kept(struct spares *spares);
void spares_taken(struct spares *spares);
/* How many to give up now: half of those that nobody has needed since the last question, rounded
 * up. They are counted as taken. */
unsigned spares_surplus(struct spares *spares);
