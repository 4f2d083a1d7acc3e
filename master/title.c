#include "master/title.h"

#include "shared/base/xalloc.h"

#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

extern char **environ;

/* The kernel shows /proc/PID/cmdline from where argv and, behind it, the environment were laid
 * down at exec. Both are one block, so the environment is copied away and the block is ours. */
static char *title_memory;
static size_t title_size;
static char **environment; /* the copy: setenv(3) may put another list in its place */
static char *strings;      /* its texts, in one piece: unsetenv(3) drops what it does not free */

static void copy_environment(void)
{
    size_t count = 0, size = 0;
    for (; environ[count]; count++)
        size += strlen(environ[count]) + 1;
    environment = xcalloc(count + 1, sizeof *environment);
    char *at = strings = xmalloc(size + 1);
    for (size_t i = 0; i < count; i++) {
        environment[i] = at;
        at = stpcpy(at, environ[i]) + 1;
    }
    environ = environment;
}

static char *end_of_block(char *end, char **list)
{
    for (size_t i = 0; list[i]; i++)
        if (list[i] == end)
            end += strlen(list[i]) + 1;
    return end;
}

void title_setup(int argc, char **argv)
{
    if (argc < 1)
        return;
    char *variables = end_of_block(argv[0], argv), *end = end_of_block(variables, environ);
    copy_environment();
    memset(variables, 0, (size_t)(end - variables)); /* keys may stand there */
    title_memory = argv[0];
    title_size = (size_t)(end - argv[0]);
}

void title_set(const char *role)
{
    prctl(PR_SET_NAME, role);
    if (title_size < 2)
        return;
    memset(title_memory, 0, title_size);
    snprintf(title_memory, title_size, "promptgate: %s", role);
}
