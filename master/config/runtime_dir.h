/* Where a running gateway is found, whatever state its configuration is in by now. */
#pragma once

#include "shared/base/buf.h"

/* Writes `runtime_dir` of the configuration in `directory`. Where promptgate.yaml has mistakes, the
 * line that names the key counts; where it can't be read or names none, the default. */
void config_find_runtime_dir(const char *directory, struct buf *path);
