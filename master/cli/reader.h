/* What a subcommand that reads the store begins with. */
#pragma once

#include "shared/config.h"

struct store;

/* The service's configuration and a reader of its store. False when one of them can't be had: why
 * was said on stderr as `command`, and there is nothing to close. */
bool cli_open_reader(const char *command, const char *config_dir, struct config **config,
                     struct store **store) __attribute__((warn_unused_result));
/* Both pointers become NULL. */
void cli_close_reader(struct config **config, struct store **store);
