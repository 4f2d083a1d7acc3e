/* What would happen to a request, without doing it: the stages' own functions, on counters that are
 * only read. */
#pragma once

#include "shared/base/json.h"
#include "shared/config.h"
#include "shared/counters/shm.h"

struct explain_subject {
    const struct config *config; /* accounts are set */
    const struct config_project *project;
    const struct config_endpoint *endpoint;
    const struct config_token *token; /* NULL = nobody's limits */
    const struct counters *counters;
    int64_t generation; /* whose refused credentials count */
};

/* A JSON object, the caller's to release: what is checked, in its order, and the outcome. False
 * when the request would be refused. */
bool explain(const struct explain_subject *subject, struct str body, struct json_object **told);
