/* Tokens that come, change and go while the gateway runs: one file of tokens.d is read again and
 * what it says goes into the table of every generation, without a new one.
 *
 * A throw-away child parses the file first (trial.h). One file at a time, in the order asked. */
#pragma once

#include "master/config/config_file.h"
#include "master/config/token_load.h"
#include "master/control.h"
#include "master/generation.h"
#include "master/trial.h"

enum token_change_state {
    TOKENS_IDLE, /* nothing has ended */
    TOKENS_TAKEN,
    TOKENS_REFUSED, /* the file is wrong: nothing has changed */
    TOKENS_NO_ROOM, /* tokens that went are gone; for the others a reload has to make room */
};

struct token_ask {
    uint64_t request; /* of the control socket */
    char name[CONTROL_ARGUMENT_MAX + 1];
};

struct kept_source;

struct token_changes {
    const char *directory;
    struct token_ask asked[CONTROL_CLIENTS_MAX]; /* oldest first */
    unsigned count;
    struct token_source source; /* of the oldest; all zero = not read yet */
    bool reading;
    struct trial trial;
    struct kept_source *kept; /* newest first */
};

/* The generations of a gateway; `serving` is one of them. */
struct token_scene {
    struct generation *const *generations; /* oldest first */
    unsigned count;
    const struct generation *serving;
    struct counters *counters;
    bool reloading; /* one has read its files, and its generation doesn't serve yet */
};

void token_changes_init(struct token_changes *changes, const char *directory);
void token_changes_deinit(struct token_changes *changes);
/* False when too many wait, or that can't be a file's name. */
bool token_changes_ask(struct token_changes *changes, const char *name, uint64_t request)
    __attribute__((warn_unused_result));
/* Call at each turn. When a request has ended, `request` is its number and `text`, which was empty,
 * says how it went. */
enum token_change_state token_changes_tend(struct token_changes *changes,
                                           const struct token_scene *scene, uint64_t *request,
                                           struct buf *text);
/* A generation comes of files that were read before the latest changes: it gets them, too. False
 * when there is no room for all of them. */
bool token_changes_repeat(struct token_changes *changes, struct generation *generation,
                          struct counters *counters) __attribute__((warn_unused_result));
/* What the newest generation doesn't know is no token of an older one any more. */
void tokens_narrow(struct generation *older, const struct generation *newest);
