/* The master that takes another one's place: its side of upgrade.h's conversation. */
#pragma once

#include "master/handover.h"
#include "shared/base/buf.h"

#include <sys/types.h>

enum takeover_state {
    TAKEOVER_NONE,     /* there is no other master, or none any more */
    TAKEOVER_TAKING,   /* the other one serves */
    TAKEOVER_READY,    /* and is to say that it leaves the clients to this one */
    TAKEOVER_DRAINING, /* its workers end what they have begun */
};

struct takeover {
    enum takeover_state state;
    pid_t old;   /* the other master, this process's parent */
    int channel; /* -1 = none */
    struct handover handover;
};

/* Looks into the environment, and takes out what it finds there. False when what was handed over is
 * of no use, which the other master was told, and log and caller with it. */
bool takeover_find(struct takeover *takeover) __attribute__((warn_unused_result));
/* "prepared"; waits until the other master says "go". False when it never does. */
bool takeover_wait(struct takeover *takeover) __attribute__((warn_unused_result));
/* "ready", "serving". */
void takeover_say(const struct takeover *takeover, const char *word);
/* Whether the other one has said "over"; `*gone` when it never will. */
bool takeover_is_over(const struct takeover *takeover, bool *gone);
/* "failed REASON", which is logged, too. Without another master it is only logged. */
void takeover_fail(const struct takeover *takeover, const char *reason);
bool takeover_old_lives(const struct takeover *takeover);
/* Nothing more is to be said. */
void takeover_hang_up(struct takeover *takeover);
void takeover_deinit(struct takeover *takeover);
