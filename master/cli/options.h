/* What several subcommands take from their command line and from standard input. A function that
 * takes an option takes it out of argv, so that what is left over is wrong usage. Nothing behind
 * "--" is touched. */
#pragma once

#include "shared/base/buf.h"

#include <stdbool.h>

struct cli_options {
    const char *config; /* the configuration directory, without a slash at its end */
    bool json;
};

/* Takes --config DIR, --config=DIR and --json. Without --config: $PROMPTGATE_CONFIG, else
 * /etc/promptgate. False when DIR is missing: that was said on stderr, the exit status is 2. */
bool cli_take_options(int *argc, char **argv, struct cli_options *options)
    __attribute__((warn_unused_result));
/* Takes `name VALUE` or `name=VALUE` (name with its dashes); `*value` stays as it is without one,
 * and points into argv with one. The last of several counts. False, said on stderr, when VALUE is
 * missing. */
bool cli_take_value(int *argc, char **argv, const char *name, const char **value)
    __attribute__((warn_unused_result));
/* Takes a flag without a value: whether it was there. */
bool cli_take_flag(int *argc, char **argv, const char *name);
/* Appends all that standard input has; false, with errno, when it can't be read to its end. */
bool cli_read_input(struct buf *out) __attribute__((warn_unused_result));
