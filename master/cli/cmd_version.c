#include "master/cli/commands.h"

#include <stdio.h>

int cmd_version(int argc, char **argv)
{
    if (argc > 1) {
        fprintf(stderr, "usage: promptgate %s\n", argv[0]);
        return 2;
    }
    puts("promptgate " PROMPTGATE_VERSION);
    return 0;
}
