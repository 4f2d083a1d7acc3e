/* Reading the configuration again. A throw-away child parses the bytes first (trial.h), then the
 * master parses the same bytes.
 *
 * Requests are numbered: all that came before a reload began are answered by it; one at a time. */
#pragma once

#include "master/trial.h"
#include "shared/config.h"

struct config_source;

struct reload {
    const char *directory;
    uint64_t asked, answered; /* numbers of requests */
    uint64_t taken;           /* the last request that the reload under way answers */
    bool under_way, said_waiting;
    struct config_source *source;
    struct trial trial;
    bool good;       /* the last answer */
    struct buf text; /* and its words */
};

void reload_init(struct reload *reload, const char *directory);
void reload_deinit(struct reload *reload);
/* Returns the request's number. */
uint64_t reload_ask(struct reload *reload);
/* Call at each turn while no new generation is starting. `room` says whether one more generation
 * may live. Returns a new configuration once there is one that may take over from `old`; it is the
 * caller's, who says later how it went on. */
struct config *reload_tend(struct reload *reload, const struct config *old, bool room);
void reload_succeeded(struct reload *reload, int64_t generation);
void reload_failed(struct reload *reload, const char *reason);
