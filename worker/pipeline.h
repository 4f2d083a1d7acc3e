/* Runs an exchange through the table of stages. */
#pragma once

#include "worker/exchange.h"

/* Runs the stages until one waits or the exchange has ended; after the end `ex` is gone. */
void pipeline_run(struct exchange *ex);
/* What a stage waited for is there: goes on with the next stage, or, when the exchange has failed
 * meanwhile, with the last ones. Call it from the loop or from within the stage that is about to
 * return STAGE_WAIT. */
void exchange_resume(struct exchange *ex);
/* An attempt has ended, and another one follows: goes on with the budget stage. Call it as
 * exchange_resume. */
void pipeline_again(struct exchange *ex);
/* Ends an exchange that waits, with this failure as its answer. `ex` is gone after it. */
void pipeline_break_off(struct exchange *ex, enum api_error code, const char *message);
/* The client left: whatever is under way is cancelled, the row is written. `ex` is gone after it.
 */
void pipeline_abandon(struct exchange *ex);
