/* The logger's loop, apart from how its process begins and ends. */
#pragma once

#include "master/logger/logger.h"
#include "master/logger/spool.h"
#include "master/store/store.h"

/* Runs until every pipe has ended. Returns the exit status: 0 when everything is in the store, or
 * the store is away and the spool has the rest; 1 when the store can't be opened at all. */
int logger_run(const struct logger_setup *setup, struct spool *spool, struct store *store)
    __attribute__((warn_unused_result));
