/* What a command that looks at single files of the configuration reads them with. */
#pragma once

#include "master/config/drafts.h"

/* Not to be copied. */
struct cli_view {
    struct arena lasting, scratch;
    struct problems problems;
    struct reading reading;
    unsigned order; /* of the next file's problems */
};

void cli_view_open(struct cli_view *view, const char *directory);
/* Every *.yaml of a folder, read and parsed. */
struct config_files cli_view_folder(struct cli_view *view, const char *folder);
/* Prints what was wrong in what was read; returns the number of errors. */
unsigned cli_view_close(struct cli_view *view);
