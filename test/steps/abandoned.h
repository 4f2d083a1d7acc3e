/* Memory and descriptors of actors that are never resumed. The linker puts these in place of malloc
 * and its kin (--wrap), so that what an actor took can be given back for it. */
#pragma once

#include <stdbool.h>

/* Who allocates from now on: -1 = nobody in particular. */
extern int abandoned_owner;

/* Descriptors that are opened from now on are closed at the schedule's end. */
void abandoned_begin(void);
void abandoned_end(bool opened);
/* Frees what `owner` has allocated and not freed. */
void abandoned_free(int owner);
