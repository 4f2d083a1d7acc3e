/* The embedded store: one SQLite file in WAL mode. */
#pragma once

#include "master/store/store.h"

extern const struct store_driver store_sqlite;
