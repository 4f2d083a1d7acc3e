#include "master/account.h"

#include "shared/base/str.h"

#include <grp.h>
#include <pwd.h>

/* 2^32 - 1 is "no change" to the kernel. */
static bool read_number(const char *text, unsigned *number)
{
    unsigned long long value;
    if (!str_to_u64(str_of(text), &value) || value >= 0xFFFFFFFF)
        return false;
    *number = (unsigned)value;
    return true;
}

static bool find_user(const char *user, struct account *account, struct error *error)
{
    unsigned number;
    bool by_number = read_number(user, &number);
    const struct passwd *entry = by_number ? getpwuid(number) : getpwnam(user);
    if (entry)
        *account = (struct account){entry->pw_uid, entry->pw_gid, entry->pw_name};
    else if (by_number)
        *account = (struct account){number, number, NULL};
    else
        return error_set(error, "there is no user %s on this host", user);
    return true;
}

bool account_find(const char *user, const char *group, struct account *account, struct error *error)
{
    if (!find_user(user, account, error))
        return false;
    if (!group || read_number(group, &account->gid))
        return true;
    const struct group *entry = getgrnam(group);
    if (!entry)
        return error_set(error, "there is no group %s on this host", group);
    account->gid = entry->gr_gid;
    return true;
}
