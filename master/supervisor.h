/* The master's loop: starts the logger and the generations of workers, replaces what dies, reloads,
 * stops everything in order. */
#pragma once

#include "shared/config.h"

/* Runs until SIGTERM or SIGINT has stopped everything; SIGHUP reloads `directory`. Takes over the
 * configuration. Returns the exit status: 0 after a stop that was asked for, 1 when it could not
 * start (the reason is logged). */
int supervisor_run(const char *directory, struct config *config);
