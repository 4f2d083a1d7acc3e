#include "master/config/file_write.h"

#include "shared/base/step.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool write_all(int fd, struct str text)
{
    while (text.len > 0) {
        ssize_t wrote = write(fd, text.at, text.len);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return false;
        text.at += wrote;
        text.len -= (size_t)wrote;
    }
    return true;
}

/* The folder of `path`, into `folder`. */
static void folder_of(const char *path, char folder[PATH_MAX])
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    snprintf(folder, PATH_MAX, "%s", dirname(copy));
}

/* The new name lasts only when the folder, too, is on the disk. */
static bool sync_folder(const char *path)
{
    char folder[PATH_MAX];
    folder_of(path, folder);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool good = fsync(fd) == 0;
    close(fd);
    return good;
}

/* A dot-file beside `path`, which no reader of the configuration looks at. `like` is whose mode,
 * owner and group it takes as far as allowed. */
static bool write_beside(const char *path, struct str text, const struct stat *like, mode_t mode,
                         char temporary[PATH_MAX], struct error *error)
{
    char folder[PATH_MAX];
    folder_of(path, folder);
    if (snprintf(temporary, PATH_MAX, "%s/.promptgate.XXXXXX", folder) >= PATH_MAX)
        return error_set(error, "%.200s: the name is too long", path);
    int fd = mkostemp(temporary, O_CLOEXEC);
    if (fd < 0)
        return error_errno(error, errno, "%.200s: no file can be made there", folder);
    /* Without the right to give files away the caller's own group stays: still readable for it. */
    if (fchown(fd, like->st_uid, like->st_gid) != 0)
        (void)!fchown(fd, (uid_t)-1, like->st_gid);
    bool good = write_all(fd, text) && fchmod(fd, mode) == 0;
    STEP(file_written);
    good = good && fsync(fd) == 0;
    int reason = errno;
    close(fd);
    STEP(file_synced);
    if (good)
        return true;
    unlink(temporary);
    return error_errno(error, reason, "%.200s cannot be written", path);
}

bool folder_make(const char *directory, const char *name, struct error *error)
{
    char path[PATH_MAX];
    struct stat status;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (mkdir(path, 0750) != 0)
        return errno == EEXIST || error_errno(error, errno, "%.200s", path);
    if (stat(directory, &status) == 0)
        (void)!chown(path, (uid_t)-1, status.st_gid);
    return true;
}

bool file_create(const char *path, struct str text, mode_t mode, bool *exists, struct error *error)
{
    char folder[PATH_MAX], temporary[PATH_MAX];
    struct stat status;
    *exists = false;
    folder_of(path, folder);
    if (stat(folder, &status) != 0)
        return error_errno(error, errno, "%.200s", folder);
    status.st_uid = geteuid();
    if (!write_beside(path, text, &status, mode, temporary, error))
        return false;
    bool good = link(temporary, path) == 0;
    int reason = errno;
    STEP(file_linked);
    unlink(temporary);
    STEP(file_made);
    *exists = !good && reason == EEXIST;
    if (good && sync_folder(path))
        return true;
    return error_errno(error, good ? errno : reason, "%.200s cannot be written", path);
}

bool file_replace(const char *path, struct str text, struct error *error)
{
    char real[PATH_MAX], temporary[PATH_MAX];
    struct stat status;
    if (!realpath(path, real) || stat(real, &status) != 0)
        return error_errno(error, errno, "%.200s", path);
    if (!write_beside(real, text, &status, status.st_mode & 07777, temporary, error))
        return false;
    if (rename(temporary, real) != 0) {
        error_errno(error, errno, "%.200s cannot be replaced", path);
        unlink(temporary);
        return false;
    }
    STEP(file_replaced);
    if (!sync_folder(real))
        return error_errno(error, errno, "%.200s: the folder cannot be synced", path);
    return true;
}
