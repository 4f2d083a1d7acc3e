/* Bound UNIX sockets at a path. */
#pragma once

#include "shared/base/error.h"

#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

struct socket_file {
    int fd; /* -1 = none */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    dev_t device; /* of the file, so that only our own is removed */
    ino_t inode;
};

/* Binds a non-blocking socket of `type` at `path`, its file with these permissions whatever the
 * umask is. It does not listen yet. A socket file at which nobody listens any more is replaced; one
 * at which somebody does, and anything that is no socket, is left alone and refused. */
bool socket_file_open(struct socket_file *file, const char *path, int type, mode_t mode,
                      struct error *error) __attribute__((warn_unused_result));
/* Removes the file, unless another took its place, and closes the socket. */
void socket_file_close(struct socket_file *file);
/* Closes the socket and leaves the file: it is somebody else's now. */
void socket_file_leave(struct socket_file *file);
/* The address of a path; false with a reason when it is too long for one. */
bool socket_file_address(const char *path, struct sockaddr_un *address, struct error *error)
    __attribute__((warn_unused_result));
