/* A worker's way to the keeper (shared/wire/keeper.h): turns of conversations, Idempotency-Keys.
 * When the keeper dies, its successor is told which turns are open and which keys are held, and
 * what was asked is asked again; what has no answer in time is refused as KEEPER_UNAVAILABLE.
 * Nothing blocks. */
#pragma once

#include "shared/wire/keeper.h"

#include <uv.h>

struct keeper_client;

/* A request that waits for its answer. All zero = none. */
struct keeper_call {
    struct buf frame; /* to be sent, and sent again; empty = it is too large for that */
    uint64_t ticket;
    int64_t until_ms;   /* monotonic */
    int64_t patient_ms; /* beyond that, while the keeper may have it */
    void (*answered)(void *context, const struct keeper_message *answer);
    void *context;
    struct keeper_call *previous, *next;
};

/* A turn that is open, or a key that is held. All zero = none. */
struct keeper_holding {
    struct buf frame; /* its announcement */
    struct keeper_holding *previous, *next;
    bool open;
};

/* Connects when somebody asks for the first time. `path` stays the caller's; `awaited_ms` says
 * until when (monotonic) it is no failure that there is no keeper. */
struct keeper_client *keeper_client_new(uv_loop_t *loop, const char *path,
                                        const _Atomic int64_t *awaited_ms);

/* HOLD, BEGIN, COMMIT or ABORT: `call` is all zero, the message's ticket is filled in. `answered`
 * is called once, not from within, unless the call is cancelled before; then it is all zero again.
 */
void keeper_ask(struct keeper_client *client, struct keeper_call *call,
                struct keeper_message *message,
                void (*answered)(void *context, const struct keeper_message *answer),
                void *context);
void keeper_cancel(struct keeper_client *client, struct keeper_call *call);

/* BEGUN or HELD was answered: from here on every new keeper hears of it. `said` names the turn or
 * the key, and whose it is. */
void keeper_open(struct keeper_client *client, struct keeper_holding *holding,
                 const struct keeper_message *said);
/* It is over: stored, or with `abort` not to be stored. Nothing where none is open. */
void keeper_close(struct keeper_client *client, struct keeper_holding *holding, bool abort);
