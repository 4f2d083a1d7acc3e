/* A worker's way to the keeper (shared/wire/keeper.h): turns of conversations. When the keeper
 * dies, its successor is told which turns are open, and what was asked is asked again; what has no
 * answer in time is refused as KEEPER_UNAVAILABLE. Nothing blocks. */
#pragma once

#include "shared/wire/keeper.h"

#include <uv.h>

struct keeper_client;

/* A request that waits for its answer. All zero = none. */
struct keeper_call {
    struct buf frame; /* to be sent, and sent again */
    uint64_t ticket;
    int64_t until_ms; /* monotonic */
    void (*answered)(void *context, const struct keeper_message *answer);
    void *context;
    struct keeper_call *previous, *next;
};

/* A turn that is open. All zero = none. */
struct keeper_turn {
    struct buf frame; /* its announcement */
    struct uuid session;
    struct keeper_turn *previous, *next;
    bool open;
};

/* Connects when somebody asks for the first time. `path` stays the caller's. */
struct keeper_client *keeper_client_new(uv_loop_t *loop, const char *path, unsigned slot);

/* BEGIN or COMMIT: `call` is all zero, the message's ticket is filled in. `answered` is called
 * once, not from within, unless the call is cancelled before; then it is all zero again. */
void keeper_ask(struct keeper_client *client, struct keeper_call *call,
                struct keeper_message *message,
                void (*answered)(void *context, const struct keeper_message *answer),
                void *context);
void keeper_cancel(struct keeper_client *client, struct keeper_call *call);

/* BEGUN was answered: from here on every new keeper hears of it. `asked` is the BEGIN. */
void keeper_open(struct keeper_client *client, struct keeper_turn *turn, const struct uuid *session,
                 const struct keeper_message *asked);
/* The turn is over: stored, or with `abort` not to be stored. */
void keeper_close(struct keeper_client *client, struct keeper_turn *turn, bool abort);
