/* Command line options that several subcommands share. Each function takes what it knows out of
 * argv, so that what is left over is wrong usage. Nothing behind "--" is touched. */
#pragma once

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
