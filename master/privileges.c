#include "master/privileges.h"

#include "master/account.h"
#include "master/config/config_load.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool shall_change(const struct config *config)
{
    return config->user && geteuid() == 0;
}

/* --- directories --- */

bool privileges_make_directory(const struct config *config, const char *path, struct error *error)
{
    struct account account;
    if (mkdir(path, 0750) != 0)
        return errno == EEXIST || error_errno(error, errno, "cannot make the directory %s", path);
    if (!shall_change(config))
        return true;
    if (!account_find(config->user, config->group, &account, error))
        return false;
    if (chown(path, account.uid, account.gid) == 0)
        return true;
    return error_errno(error, errno, "cannot give the directory %s to %s", path, config->user);
}

static bool check_directory(const struct config *config, const char *key, const char *path,
                            struct error *error)
{
    if (access(path, R_OK | W_OK | X_OK) == 0)
        return true;
    return error_errno(error, errno, "%s cannot work in %s: chown %s %s", config->user, key,
                       config->user, path);
}

/* --- capabilities --- */

static bool read_capabilities(struct __user_cap_data_struct data[2])
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    return syscall(SYS_capget, &header, data) == 0;
}

/* `wanted` and no others; none of them may be missing. */
static bool set_capabilities(uint64_t wanted)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    for (int i = 0; i < 2; i++)
        data[i].permitted = data[i].effective = (uint32_t)(wanted >> (32 * i));
    return syscall(SYS_capset, &header, data) == 0;
}

static bool may_bind_low_ports(void)
{
    struct __user_cap_data_struct data[2] = {{0}, {0}};
    return read_capabilities(data) && (data[0].permitted & (1u << CAP_NET_BIND_SERVICE));
}

/* --- the user --- */

static bool take_groups(const struct account *account)
{
    if (account->name)
        return initgroups(account->name, account->gid) == 0;
    return setgroups(1, &account->gid) == 0;
}

/* The groups come first, for only root may choose them. With PR_SET_KEEPCAPS the permitted
 * capabilities outlive the change, and of these one is kept. */
static bool become(const struct config *config, struct error *error)
{
    struct account account;
    if (!account_find(config->user, config->group, &account, error))
        return false;
    uint64_t kept = may_bind_low_ports() ? 1ull << CAP_NET_BIND_SERVICE : 0;
    bool changed = take_groups(&account) && setresgid(account.gid, account.gid, account.gid) == 0 &&
                   prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) == 0 &&
                   setresuid(account.uid, account.uid, account.uid) == 0;
    if (!changed)
        return error_errno(error, errno, "cannot become user %s", config->user);
    if (account.uid != 0 && !set_capabilities(kept))
        return error_errno(error, errno, "cannot give up the rights of root");
    prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0);
    return true;
}

/* A change of user resets it to what the system has set: so it comes after each. */
static void close_to_others(void)
{
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

bool privileges_take(const struct config *config, struct error *error)
{
    close_to_others();
    if (!shall_change(config)) {
        if (geteuid() == 0)
            log_warning("running as root: better name a user in promptgate.yaml");
        return true;
    }
    if (!become(config, error))
        return false;
    close_to_others();
    return check_directory(config, "state_dir", config->state_dir, error) &&
           check_directory(config, "runtime_dir", config->runtime_dir, error);
}

void privileges_drop_in_child(void)
{
    if (geteuid() != 0 && !set_capabilities(0))
        log_warning("capabilities cannot be given up: %s", strerror(errno));
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        log_warning("PR_SET_NO_NEW_PRIVS: %s", strerror(errno));
    close_to_others();
}

/* What is inheritable and ambient, a program that is no root's gets at exec(2). */
void privileges_keep_over_exec(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (geteuid() == 0 || !may_bind_low_ports() || !read_capabilities(data))
        return;
    data[0].inheritable |= 1u << CAP_NET_BIND_SERVICE;
    if (syscall(SYS_capset, &header, data) != 0 ||
        prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0) != 0)
        log_warning("CAP_NET_BIND_SERVICE cannot be handed on: %s", strerror(errno));
}

/* --- the configuration --- */

/* Reads it all again, as a reload would: files of keys and certificates are in it, too. */
void privileges_warn_unreadable(const char *directory, const struct config *config)
{
    struct config_report report = {0};
    struct config *again = config_load(directory, &report);
    if (!again)
        log_warning("%s cannot read the configuration, so a reload will fail: %s", config->user,
                    config_report_first_error(&report));
    config_free(&again);
    config_report_free(&report);
}
