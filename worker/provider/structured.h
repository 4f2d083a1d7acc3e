/* How a model is told the schema of its answer: by its provider's own means where provider and
 * model have them, in the prompt where not, and in some places both. */
#pragma once

#include "worker/provider/provider.h"

/* What a request has that does not go together everywhere with the provider's own means. */
struct structured_request {
    bool has_tools, streams;
};

/* The texts live as long as the schema. */
struct structured structured_for(struct config_schema *schema, const struct config_target *target,
                                 struct structured_request request);
/* What is said of it: "native, strict", "native and prompt", … */
const char *structured_name(const struct structured *structured);
