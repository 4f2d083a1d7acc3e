/* Claims on what this host has in hand (sessions_claim), where the store is shared with others. */
#pragma once

#include "master/store/sessions.h"

/* Gives one up, in a transaction of its own; where that fails it runs out by itself. Nothing where
 * there is no store, or it is nobody else's. */
void claim_give_up(struct sessions_store *store, struct str what);
