/* Prints the name of every point that the program has, each once in no order: what `make check`
 * holds against those that were reached. Linked with all of the archives. */
#include "shared/base/step.h"

#include <stdio.h>

#ifdef PROMPTGATE_STEPS
static void print(const char *name, void *context)
{
    (void)context;
    puts(name);
}

int main(void)
{
    step_each(print, NULL);
    return 0;
}
#else
int main(void)
{
    fputs("list: no points in this build\n", stderr);
    return 1;
}
#endif
