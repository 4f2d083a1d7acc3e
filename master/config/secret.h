/* Secrets as configuration names them: `env:NAME`, `file:PATH`, or the secret itself. */
#pragma once

#include "shared/base/error.h"
#include "shared/base/secret_memory.h"

enum { SECRET_MAX_BYTES = 16 << 10 };

/* What it may be made of. */
enum secret_kind {
    SECRET_KEY,  /* what an HTTP header can carry, and no space */
    SECRET_LINE, /* any text without a control character */
    SECRET_TEXT, /* any text but nothing */
};

/* Opens `source` into `memory`. A file is read straight into it, a relative PATH starting at
 * `directory`; one newline at its end is left out. A variable's value is taken out of the
 * environment, where it is overwritten, and remembered: NAME may be opened again and again, and a
 * value that was set anew counts. A secret that stands in the source itself stays where it is:
 * `*plain` tells. Messages never hold the secret. */
bool secret_open(const char *source, enum secret_kind kind, const char *directory,
                 struct secret_memory *memory, const char **secret, bool *plain,
                 struct error *error) __attribute__((warn_unused_result));
/* In a child that is about to exec another reader of the configuration: puts the variables that
 * were taken back into the environment. */
void secret_restore_environment(void);
