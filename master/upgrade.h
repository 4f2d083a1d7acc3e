/* The master that is replaced, and the binary that is to replace it. They speak over a socketpair,
 * a word a packet:
 *
 *   old                                new
 *   forks and execs it
 *                      prepared <──    has read its configuration and what is handed over, and has
 *                                      touched nothing
 *   ends logger and keeper
 *                      ──> go          starts its own, and its first generation
 *                      ready <──       that generation could serve
 *   leaves the sockets' owners to it
 *                      ──> over        lets that generation accept, listens for commands
 *                      serving <──
 *   its workers retire, it goes
 *
 * "failed REASON" may come at any time before "serving", and so may the new one's end. Then, or
 * when it takes too long, all that it started is killed, and the old one goes on: its workers have
 * not stopped accepting. */
#pragma once

#include "master/handover.h"
#include "shared/base/buf.h"

#include <sys/types.h>

enum upgrade_state {
    UPGRADE_IDLE,
    UPGRADE_PREPARING,
    UPGRADE_CLEARING,  /* logger and keeper are being ended */
    UPGRADE_TAKING,    /* it was told to go */
    UPGRADE_SWITCHING, /* it was told that it is over */
    UPGRADE_DONE,      /* it serves */
    UPGRADE_UNDOING,   /* its processes are being killed */
};

/* From the moment that logger and keeper are being ended, until it is done or given up. */
enum { UPGRADE_LONGEST_MS = 25000 };

struct upgrade {
    enum upgrade_state state;
    uint64_t asked, answered; /* numbers of requests */
    pid_t pid;                /* the new master, which leads a process group; 0 = none yet */
    bool ended;               /* it was reaped */
    int channel;              /* -1 = none */
    int64_t deadline_ms;
    bool said_waiting;
    char version[32]; /* of the new one, as it says */
    bool good;        /* the last answer */
    struct buf text;  /* and its words */
};

/* Once, in main: which file is to be executed. `argv0` as it was; a path that is relative counts
 * from here, a name without a slash is the file that runs now. */
void upgrade_note_binary(const char *argv0);

void upgrade_init(struct upgrade *upgrade);
void upgrade_deinit(struct upgrade *upgrade);
/* Returns the request's number. */
uint64_t upgrade_ask(struct upgrade *upgrade);
/* Whether the request's answer is there, and nothing is left to be undone. */
bool upgrade_has_ended(const struct upgrade *upgrade, uint64_t request);
/* Forks and execs. `prepare` is called in the child before that. A failure is the answer. */
void upgrade_begin(struct upgrade *upgrade, const char *directory, const struct handover *handover,
                   void (*prepare)(void *context), void *context);
/* Call at each turn. Returns the state, a new one or not: PREPARING becomes CLEARING when the new
 * one is prepared, TAKING becomes SWITCHING when it is ready, SWITCHING becomes DONE when it
 * serves, and each UNDOING when it fails, UNDOING becomes IDLE when all is dead. */
enum upgrade_state upgrade_tend(struct upgrade *upgrade);
/* CLEARING becomes TAKING: logger and keeper are gone. */
void upgrade_go(struct upgrade *upgrade);
/* In SWITCHING: the new one may serve. */
void upgrade_say_over(struct upgrade *upgrade);
/* The upgrade shall not go on, or can't begin. */
void upgrade_cancel(struct upgrade *upgrade, const char *reason);
/* What waitpid(2) returned of a process that may be the new one. */
void upgrade_child_ended(struct upgrade *upgrade, pid_t pid, int wait_status);
