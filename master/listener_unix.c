#include "master/listener_unix.h"

#include "shared/base/log.h"

#include <errno.h>

enum { FILE_MODE = 0660 };

bool listener_unix_open(const struct config_listen *address, int backlog, struct socket_file *file,
                        struct error *error)
{
    struct error reason;
    if (!socket_file_open(file, address->address.local.sun_path, SOCK_STREAM, FILE_MODE, &reason))
        return error_set(error, "cannot listen on %s: %.300s", address->text, reason.message);
    if (listen(file->fd, backlog) != 0) {
        error_errno(error, errno, "cannot listen on %s", address->text);
        socket_file_close(file);
        return false;
    }
    log_info("listening on %s", address->text);
    return true;
}

void listener_unix_close(struct socket_file *file)
{
    socket_file_close(file);
}
