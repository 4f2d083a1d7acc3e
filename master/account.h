/* The user and group that the gateway becomes. */
#pragma once

#include "shared/base/error.h"

#include <sys/types.h>

struct account {
    uid_t uid;
    gid_t gid;
    const char *name; /* for supplementary groups; NULL when the user is given by a number that no
                         name belongs to. Valid until the next look-up. */
};

/* By name, or by number, which needs no entry on this host; `group` NULL is the user's own (of a
 * number without an entry: the group of the same number). False with a sentence when there is no
 * such user or group. */
bool account_find(const char *user, const char *group, struct account *account, struct error *error)
    __attribute__((warn_unused_result));
