/* What a command line names, in the configuration. */
#pragma once

#include "shared/config.h"

/* "project/slug"; false when there is none, which was said on stderr. */
bool cli_find_endpoint(struct config *config, const char *name, struct config_project **project,
                       struct config_endpoint **endpoint) __attribute__((warn_unused_result));
