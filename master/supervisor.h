/* The master's loop: starts the logger and the generations of workers, replaces what dies, reloads,
 * stops everything in order. */
#pragma once

#include "master/takeover.h"
#include "shared/config.h"

/* Runs until SIGTERM or SIGINT has stopped everything; SIGHUP reloads `directory`, SIGUSR2
 * has another binary take over. Takes over the
 * configuration, and from another master what that has handed over. Returns the exit status: 0
 * after a stop that was asked for or when another binary has taken over, 1 when it could not start
 * (the reason is logged). */
int supervisor_run(const char *directory, struct config *config, struct takeover *takeover);
