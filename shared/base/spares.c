#include "shared/base/spares.h"

void spares_kept(struct spares *spares)
{
    spares->count++;
}

void spares_taken(struct spares *spares)
{
    spares->count--;
    if (spares->count < spares->least)
        spares->least = spares->count;
}

unsigned spares_surplus(struct spares *spares)
{
    unsigned surplus = (spares->least + 1) / 2;
    spares->count -= surplus;
    spares->least = spares->count;
    return surplus;
}
