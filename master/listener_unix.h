/* Listening UNIX sockets for clients. Unlike a TCP address each has one descriptor, from which all
 * workers of all generations accept: the kernel gives each connection to one of them. */
#pragma once

#include "master/socket_file.h"
#include "shared/config.h"

/* Binds and listens at an address of family AF_UNIX, its file 0660: the gateway's user and group
 * may connect. A stale socket file is replaced. Its address is logged ("listening on unix:/…"). */
bool listener_unix_open(const struct config_listen *address, int backlog, struct socket_file *file,
                        struct error *error) __attribute__((warn_unused_result));
/* In the master: removes the file and closes the socket. A child closes `file->fd` alone. */
void listener_unix_close(struct socket_file *file);
