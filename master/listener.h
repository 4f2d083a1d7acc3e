/* The sockets clients connect to. Each address has one SO_REUSEPORT socket for each worker: worker
 * i accepts from socket i, and the kernel spreads connections over them. The master holds them all
 * open for as long as it lives, so a worker's death loses no connection that waits in its queue. */
#pragma once

#include "shared/config.h"

struct listeners {
    int *sockets; /* [worker * addresses + address] */
    unsigned workers;
    unsigned addresses;
};

/* Binds and listens on every address; each one's final form is logged ("listening on …"). */
bool listeners_open(struct listeners *listeners, const struct config *config, struct error *error)
    __attribute__((warn_unused_result));
/* The sockets of one worker: `addresses` of them. */
const int *listeners_of(const struct listeners *listeners, unsigned worker);
/* In a child: closes all sockets but those of `worker`; UINT_MAX closes all. */
void listeners_keep(const struct listeners *listeners, unsigned worker);
void listeners_close(struct listeners *listeners);
