/* Makes what is asked of a target fit its model (models.yaml): what the model refuses is not sent,
 * and named in meta.ignored. */
#pragma once

#include "worker/exchange.h"

/* `fitted` is all zero, or was used before. */
void fit_request(struct exchange *ex, const struct config_target *target, struct fitted *fitted);
/* May be released already. */
void fit_release(struct fitted *fitted);
/* Names in meta.ignored what is not sent, unless it is named there. */
void fit_leave_out(struct exchange *ex, const char *name);
