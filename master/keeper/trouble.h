/* A store that fails does so for every request: the log has it once, then once a minute, and once
 * when it is over. Of the process. */
#pragma once

#include "shared/base/error.h"

void trouble_say(const struct error *error);
/* It has stored something. */
void trouble_over(void);
