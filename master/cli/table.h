/* Lines of tables that several subcommands print. */
#pragma once

#include "shared/base/buf.h"

/* Nano-USD as USD, exact: nine decimals. */
void cli_append_usd(struct buf *out, int64_t nano_usd);
/* A terminal must not be told what to do by a model's name: control characters become spaces.
 * Spaces at the end are taken off. */
void cli_clean_line(struct buf *line);
