/* What is asked of whoever sits at the terminal, and what it can show. */
#pragma once

#include "shared/base/error.h"

#include <stddef.h>

/* Whether standard output is a terminal that shows colours: not with NO_COLOR set, nor TERM=dumb.
 */
bool cli_has_colours(void);

/* A secret from standard input into `secret`, NUL-terminated: from a terminal a line, asked for
 * with `prompt` on stderr and not shown while it is typed; else all there is, without one line
 * break at its end. An end before anything came is the empty text. */
bool cli_ask_secret(const char *prompt, char *secret, size_t size, struct error *error)
    __attribute__((warn_unused_result));
