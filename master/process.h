/* The master's children: forking them into their roles, watching over them, writing their
 * obituaries. */
#pragma once

#include "master/listener.h"
#include "master/slots.h"

struct control;
struct token_table;
struct notify;

#include <sys/types.h>

enum process_role { PROCESS_LOGGER, PROCESS_WORKER, PROCESS_KEEPER };

/* What the children inherit beside their configuration. The master keeps both ends of each pipe,
 * so that a child can be replaced; a child closes what its role doesn't use. */
struct inheritance {
    struct counters *counters;
    struct control *control; /* a child has no use for it */
    struct notify *notify;   /* nor for this */
    struct listeners listeners;
    struct slots slots;
    const int *upgrade, *takeover; /* channels to other masters (-1 = none); nor for these */
    int keeper_socket;             /* listens for workers; the keeper's */
    int lifeline[2];               /* children hold the read end: its EOF says the master is gone */
    int ready[2]; /* each child writes one byte when it is ready, workers when they leave, too */
};

enum { PROCESS_DEATHS_KEPT = 10, PROCESS_DEATHS_WINDOW_MS = 10000 };
/* A disk may hold those up for long who write to it. */
enum { PROCESS_SILENCE_MS = 5000, WRITER_SILENCE_MS = 30000, PROCESS_ABORT_GRACE_MS = 1000 };

/* A place for one child, and the one that has it. */
struct process {
    enum process_role role;
    unsigned index;     /* of the generation's workers */
    unsigned of;        /* how many these are */
    int64_t generation; /* 0 for the logger and the keeper */
    const struct config *config;
    const struct token_table *tokens; /* a worker's */
    pid_t pid;                        /* 0 = none lives */
    int slot;                         /* of a living worker */
    int64_t started_ms;
    int64_t aborted_ms;                     /* when it was told to abort, 0 = not */
    int64_t unready_since_ms;               /* nobody serves in its place; 0 = it does */
    int64_t deaths_ms[PROCESS_DEATHS_KEPT]; /* the latest ones, a ring */
    unsigned deaths;
    int64_t start_after_ms; /* monotonic: throttled until then */
    bool replaces;          /* there was another one in its place before */
    bool dismissed;         /* its end is the master's wish */
};

/* Forks the child into its role. False with a reason when that fails or no slot is free. Ten deaths
 * within ten seconds set `start_after_ms`; whether to wait for it is the caller's business. */
bool process_start(struct process *process, struct inheritance *inheritance, struct error *error)
    __attribute__((warn_unused_result));
/* Writes the obituary of a child that waitpid(2) returned, and frees its place. */
void process_ended(struct process *process, struct inheritance *inheritance, int wait_status);
/* Whether the worker accepts connections. */
bool process_is_ready(const struct process *process, const struct counters *counters);
/* A worker whose heartbeat is older than five seconds (a logger or keeper: thirty) is told to
 * abort, and killed a second later. */
void process_watch(struct process *process, const struct counters *counters);
/* "worker 0 (gen 3)", "logger": for log lines and `ps`. */
const char *process_name(const struct process *process, char text[48]);
