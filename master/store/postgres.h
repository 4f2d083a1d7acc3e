/* The store of deployments with a database server: PostgreSQL 13 or later, through libpq. Every
 * call of the logger's side answers STORE_WORKING while it waits. */
#pragma once

#include "master/store/store.h"

extern const struct store_driver store_postgres;
