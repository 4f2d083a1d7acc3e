/* The sockets clients connect to. Each TCP address has SO_REUSEPORT sockets numbered from 0, as
 * many as the largest number of workers so far; the kernel spreads connections over those that
 * listen. Worker i of n accepts from every socket j with j mod n = i. The master holds all of them
 * open: a worker's death loses no connection that waits in a queue, and closing a socket would
 * reset what it had queued. A UNIX address has one socket, from which every worker accepts. */
#pragma once

#include "master/socket_file.h"
#include "shared/base/buf.h"
#include "shared/config.h"

struct listener {
    union socket_address address; /* with the port that was chosen */
    char *text;                   /* as written in the configuration */
    int *sockets;
    unsigned count;          /* of them: `listeners.sockets`, or 1 */
    struct socket_file file; /* of a UNIX address: its one socket */
};

/* Where clients reach it: with the port that was chosen. */
void listener_write_address(const struct listener *listener, struct buf *out);

struct listeners {
    struct listener *at;
    unsigned count;
    unsigned sockets; /* per TCP address */
};

/* Brings the sockets to what `config` needs: binds what is missing, keeps everything else. TCP
 * sockets are bound and do not listen yet, so no connection waits for a worker that never comes. On
 * failure the addresses are as before. New ones are logged ("listening on …"). */
bool listeners_adjust(struct listeners *listeners, const struct config *config, struct error *error)
    __attribute__((warn_unused_result));
/* Lets clients connect to the addresses of `config`, whose workers are ready and are about to
 * accept. */
void listeners_begin(const struct listeners *listeners, const struct config *config);
/* Closes the addresses that `config` doesn't have, for when nobody accepts there any more. Clients
 * are refused there at once, though workers that leave may still have the sockets. */
void listeners_drop_unwanted(struct listeners *listeners, const struct config *config);
/* The same for all addresses, before the end: what waits in the queues is reset. */
void listeners_refuse(const struct listeners *listeners);
/* The place of its address among `config->listens`, or listens_count where it has none. */
size_t listener_place(const struct listener *listener, const struct config *config);
bool listener_is_wanted(const struct listener *listener, const struct config *config);
/* In the master, at its end. */
void listeners_close(struct listeners *listeners);
/* The same when they are another master's now: closes the descriptors and nothing else. */
void listeners_leave(struct listeners *listeners);
/* In a child: closes what it has no use for, leaves the files of UNIX addresses. */
void listener_close_inherited(const struct listener *listener);
void listeners_close_inherited(const struct listeners *listeners);
