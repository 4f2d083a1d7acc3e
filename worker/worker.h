/* A worker process: one libuv loop that serves clients. Forked by the master, leaves by _exit. */
#pragma once

#include "shared/config.h"
#include "shared/counters/shm.h"

/* A listening socket, bound; it listens once somebody accepts from it. `number` is its place among
 * the sockets of its address; from one that is `shared` all workers accept. */
struct worker_socket {
    int fd;
    unsigned number;
    bool shared;
    size_t listen; /* the place of its address in the configuration */
};

struct token_table;

struct worker_setup {
    const struct config *config;
    const struct token_table *tokens;
    struct counters *counters;
    unsigned index; /* of `count` workers of this generation */
    unsigned count;
    unsigned slot; /* in the counters file */
    int64_t generation;
    const struct worker_socket *sockets; /* all there are */
    size_t sockets_count;
    int log_pipe; /* write end, non-blocking */
    int lifeline; /* read end: EOF means the master is gone */
    int ready;    /* write end: one byte is sent when the worker is ready, and when it leaves */
};

/* Serves until it is told to leave: by SIGTERM or the lifeline's end it drains; by SIGHUP, the sign
 * that a newer generation serves, it retires: goes on with its open connections, each answer
 * closing its own, and leaves when the last is gone. Either takes at most shutdown_timeout: then
 * what is still open is answered 503. Ends with status 0. */
_Noreturn void worker_main(const struct worker_setup *setup);
