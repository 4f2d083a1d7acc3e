/* A store whose driver waits for the disk, in a thread of its own: start and commit answer
 * STORE_WORKING at once, and who called can go on moving records out of pipes meanwhile. */
#pragma once

#include "master/store/store.h"

/* Takes over `*store`, which must be open and not started, and puts itself in its place. For the
 * calls of the logger's side alone. A store that never blocks is left as it is. The thread begins
 * with the first of them and ends at store_close. */
void store_in_background(struct store **store);
