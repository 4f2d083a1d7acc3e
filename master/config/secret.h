/* Secrets as configuration names them: `sealed:…`, `env:NAME`, `file:PATH`, or the secret itself.
 */
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
/* Whether a text may be such a secret. */
bool secret_check(const char *secret, enum secret_kind kind, struct error *error)
    __attribute__((warn_unused_result));
/* In a child that is about to exec another reader of the configuration: puts the variables that
 * were taken back into the environment. */
void secret_restore_environment(void);

/* The text of secret.key: from the folder that CREDENTIALS_DIRECTORY names (systemd's credentials),
 * else from the configuration's `directory`, else from the variable PROMPTGATE_SECRET_KEY. What was
 * read once is remembered as if it had come from that variable: it may be closed later to the user
 * that the process becomes. Lives as long as the process; NULL when there is none. */
const char *secret_sealing_keys(const char *directory, struct error *error)
    __attribute__((warn_unused_result));
