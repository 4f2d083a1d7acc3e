/* From drafts to the configuration: references are checked by name, then pointers are set and the
 * tables sorted. */
#pragma once

#include "master/config/drafts.h"

/* Reports names that lead nowhere and things that are there twice. What a name leads to may be
 * broken itself: that is reported once, where it is broken. */
void resolve_check(struct reading *reading, struct drafts *drafts);
/* The configuration, all of it in `reading->lasting` but for `config.arena`, which the caller sets.
 * Only for drafts without errors. */
struct config *resolve_build(struct reading *reading, struct drafts *drafts);
