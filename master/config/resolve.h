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

/* ---- parts, for tokens that join a configuration which is in use ---- */

/* Reports tokens that are there twice. */
void resolve_check_hashes(struct reading *reading, struct drafts *drafts);
/* The token with pointers into `config`; its list of endpoints is in `arena`, its texts are the
 * draft's. False when its project or one of its endpoints is not there. */
bool resolve_token(const struct token_draft *draft, const struct config *config,
                   struct arena *arena, struct config_token *token)
    __attribute__((warn_unused_result));
