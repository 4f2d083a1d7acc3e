/* Where conversations and answers can be kept. */
#pragma once

#include "master/store/sessions.h"

extern const struct sessions_driver sessions_sqlite, sessions_postgres;
