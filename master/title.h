/* What `ps` shows of a process. */
#pragma once

/* Call once, first in main: keeps the memory of argv and the environment for titles and moves the
 * environment elsewhere, leaving nothing of it behind. */
void title_setup(int argc, char **argv);
/* "promptgate: ROLE", cut to what the memory holds. */
void title_set(const char *role);
