/* The master's loop: starts the logger and the workers, replaces what dies, stops them in order. */
#pragma once

#include "shared/config.h"

/* Runs until SIGTERM or SIGINT has stopped everything. Returns the exit status: 0 after a stop that
 * was asked for, 1 when it could not start (the reason is logged). */
int supervisor_run(const struct config *config);
