/* Makes what is asked of a target fit its model (models.yaml): what the model refuses is not sent,
 * and named in meta.ignored. */
#pragma once

#include "worker/exchange.h"

/* What goes to one target. Release it with fit_release. */
struct fitted {
    struct completion_request request;
    struct client_parameters parameters; /* the request's */
};

void fit_request(struct exchange *ex, const struct config_target *target, struct fitted *fitted);
void fit_release(struct fitted *fitted);
