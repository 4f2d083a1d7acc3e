/* What gateway_logs keeps of a request's body and of its answer's (gateway_logs.bodies, max_body).
 * Both are copied while they are there, once the outcome is known. */
#pragma once

#include "worker/exchange.h"

/* If it was read and is to be kept: while `ex->request` is valid. */
void bodies_keep_request(struct exchange *ex);
void bodies_keep_response(struct exchange *ex, struct str body);
