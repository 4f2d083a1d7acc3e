/* A store that fails does so for every request: the log has it once, then once a minute, and once
 * when it is over. Of the process. */
#pragma once

#include "shared/base/error.h"

#include <stdatomic.h>
#include <stdint.h>

/* Who asks for the gateway's state reads there since when it lasts, by the wall clock; 0 = all is
 * well. */
void trouble_publish(_Atomic int64_t *since_ms);
void trouble_say(const struct error *error);
/* It has stored something. */
void trouble_over(void);
