/* What the processes are allowed to do: the user they become, the capability the master keeps, what
 * children give up. */
#pragma once

#include "shared/config.h"

/* Makes the directory (0750) when it is missing, and gives it to the configured user when this
 * process is root; one that is there is left as it is. Before privileges_take. */
bool privileges_make_directory(const struct config *config, const char *path, struct error *error)
    __attribute__((warn_unused_result));
/* The master, before it binds anything. Started as root with `user` set: becomes that user with the
 * user's groups, and keeps CAP_NET_BIND_SERVICE alone, so that a reload can still bind ports below
 * 1024. Otherwise stays what it is; root without `user` is warned. In either case the process is
 * closed to others of its user (PR_SET_DUMPABLE 0). Says so, when the user cannot work in state_dir
 * and runtime_dir. */
bool privileges_take(const struct config *config, struct error *error)
    __attribute__((warn_unused_result));
/* Each child, first of all: gives up the capability and what may come by exec
 * (PR_SET_NO_NEW_PRIVS), and closes itself to others. A root that stays root keeps its rights. */
void privileges_drop_in_child(void);
/* In a child that is about to exec the next master: the rights that the master kept go with it. */
void privileges_keep_over_exec(void);
/* After privileges_take has changed the user: warns when the configuration, which root has read,
 * cannot be read any more, so that a reload would fail. */
void privileges_warn_unreadable(const char *directory, const struct config *config);
