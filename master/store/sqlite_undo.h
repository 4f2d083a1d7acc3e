/* For the test of power cuts, in builds with PROMPTGATE_STEPS and with PROMPTGATE_POWERCUT in the
 * environment: a VFS that keeps, beside each file of the database, what its last sync had made
 * durable. */
#pragma once

#include <stddef.h>

#ifdef PROMPTGATE_STEPS
/* The VFS's name; NULL (SQLite's default) when it isn't asked for. */
const char *sqlite_undo_vfs(void);
#else
static inline const char *sqlite_undo_vfs(void)
{
    return NULL;
}
#endif
