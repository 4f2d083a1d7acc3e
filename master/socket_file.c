#include "master/socket_file.h"

#include "shared/base/step.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool socket_file_address(const char *path, struct sockaddr_un *address, struct error *error)
{
    size_t len = strlen(path);
    if (len >= sizeof address->sun_path)
        return error_set(error, "the path %s is too long for a socket: %zu bytes at most", path,
                         sizeof address->sun_path - 1);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path, len);
    return true;
}

/* A queue that is full, and one of another type of socket, are somebody's, too. */
static bool somebody_listens(const struct sockaddr_un *address, int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    bool refused = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 &&
                   errno == ECONNREFUSED;
    close(fd);
    return !refused;
}

static bool clear_the_way(const struct sockaddr_un *address, int type, struct error *error)
{
    const char *path = address->sun_path;
    struct stat status;
    if (lstat(path, &status) != 0)
        return errno == ENOENT || error_errno(error, errno, "cannot look at %s", path);
    if (!S_ISSOCK(status.st_mode))
        return error_set(error, "%s is there and is no socket: remove it, or choose another path",
                         path);
    if (somebody_listens(address, type))
        return error_set(error, "another process listens at %s", path);
    if (unlink(path) != 0)
        return error_errno(error, errno, "cannot replace the socket %s", path);
    STEP(socket_cleared);
    return true;
}

static bool bind_with_mode(int fd, const struct sockaddr_un *address, mode_t mode,
                           struct error *error)
{
    mode_t before = umask(~mode & 0777);
    int failure = bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    umask(before);
    return failure == 0 ||
           error_errno(error, failure, "cannot make the socket %s", address->sun_path);
}

bool socket_file_open(struct socket_file *file, const char *path, int type, mode_t mode,
                      struct error *error)
{
    struct sockaddr_un address;
    struct stat status;
    file->fd = -1;
    if (!socket_file_address(path, &address, error) || !clear_the_way(&address, type, error))
        return false;
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return error_errno(error, errno, "cannot make a socket");
    if (!bind_with_mode(fd, &address, mode, error)) {
        close(fd);
        return false;
    }
    STEP(socket_bound);
    *file = (struct socket_file){.fd = fd};
    memcpy(file->path, address.sun_path, sizeof file->path);
    if (lstat(path, &status) == 0) {
        file->device = status.st_dev;
        file->inode = status.st_ino;
    }
    return true;
}

void socket_file_close(struct socket_file *file)
{
    struct stat status;
    if (file->fd < 0)
        return;
    if (lstat(file->path, &status) == 0 && status.st_dev == file->device &&
        status.st_ino == file->inode)
        unlink(file->path);
    STEP(socket_removed);
    socket_file_leave(file);
}

void socket_file_leave(struct socket_file *file)
{
    if (file->fd >= 0)
        close(file->fd);
    file->fd = -1;
}
