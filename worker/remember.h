/* What of an exchange the keeper keeps, beyond its end: the turn of a conversation, the answer that
 * an Idempotency-Key's next requests get. The stages repeat, session and remember share it. */
#pragma once

#include "worker/exchange.h"

/* What a message is about. */
enum { ABOUT_TURN = 1, ABOUT_KEY = 2 };

/* Who asks, and of which turn, key or both; of what it wants to store nothing yet. */
struct keeper_message remember_message(const struct exchange *ex, enum keeper_type type,
                                       unsigned about);
/* The keeper's refusal becomes the exchange's failure. */
void remember_refuse(struct exchange *ex, enum keeper_refusal refusal);
/* The answer is what the keeper has of the key's first request. */
void remember_replay(struct exchange *ex, struct str kept);
/* What a message adds to a conversation, in tokens as estimates count them. */
int64_t remember_tokens(struct json_object *messages);
