/* Claims on what this host has in hand (sessions_claim), where the store is shared with others. */
#pragma once

#include "master/store/sessions.h"

/* Gives them up, in a transaction of its own; where that fails they run out by themselves. Nothing
 * where there is no store, or it is nobody else's. */
void claim_give_up(struct sessions_store *store, const struct str *what, size_t count);
