/* What the files of the master's loop share: supervisor.c has the loop, the generations and the
 * children, supervisor_stop.c the way down, supervisor_upgrade.c both sides of an upgrade. */
#pragma once

#include "master/control.h"
#include "master/generation.h"
#include "master/instance.h"
#include "master/notify.h"
#include "master/reload.h"
#include "master/supervisor.h"
#include "master/takeover.h"
#include "master/token_changes.h"
#include "master/upgrade.h"

/* Somebody at the control socket who waits for the end of a reload, an upgrade or the stop. */
struct waiting_request {
    uint64_t request; /* control.h's; 0 = the place is free */
    enum control_verb verb;
    uint64_t number; /* the reload's, or the upgrade's */
};

struct supervisor {
    const char *directory;
    struct instance instance;
    struct control control;
    struct waiting_request requests[CONTROL_CLIENTS_MAX];
    struct notify notify;
    struct counters counters;
    struct inheritance inheritance;
    struct socket_file keeper_socket;
    struct process logger, keeper;
    bool logger_ready, logger_gave_up;
    struct generation *generations[GENERATIONS_MAX]; /* oldest first */
    unsigned count;
    int64_t last_number;
    struct reload reload;
    struct token_changes tokens;
    struct upgrade upgrade;   /* another one takes over from this one */
    struct takeover takeover; /* this one takes over from another one */
    bool gave_up;             /* it does not, and ends */
    struct config *waiting;   /* read and checked; waits for slots */
    bool stopping;
    bool hurried;               /* by a second signal */
    bool refusing;              /* and nobody accepts any more */
    int64_t requests_end_ms;    /* once stopping: so long they have */
    int64_t rows_wait_until_ms; /* for rows of dead workers, once stopping */
    bool pipes_ended;           /* all workers are gone: the logger reads to the end */
    bool keeper_done;           /* it was told to end */
    bool logger_done;           /* it has, or it took too long */
    int64_t logger_kill_after_ms;
};

/* A request of the control socket is answered when a reload, an upgrade or the stop has ended; for
 * the signal there is nobody to answer. */

/* The newest generation in that state, or NULL. */
struct generation *supervisor_in_state(const struct supervisor *s, enum generation_state state);
/* What shared memory says of the configuration that serves is this one's. */
void supervisor_publish(struct supervisor *s, struct generation *generation);
/* Its workers accept from here on; what older ones have accepted they go on with. */
void supervisor_begin_serving(struct supervisor *s, struct generation *generation);
unsigned supervisor_living_workers(const struct supervisor *s);
void supervisor_ask_control(void *context, uint64_t request, enum control_verb verb,
                            const char *argument);

/* --- supervisor_stop.c --- */

/* `signals`: how often a stop was asked for. */
void supervisor_tend_stop(struct supervisor *s, int signals);
bool supervisor_has_stopped(const struct supervisor *s);

/* --- supervisor_upgrade.c --- */

/* Which signals the master has got; `upgrade` only since the last turn. `dismissed` and `hurried`
 * come from the one that takes over: with SIGUSR1 the old one's workers shall not begin anything
 * more, with SIGUSR2 not wait for what they have begun. From anybody else SIGUSR1 means nothing. */
struct supervisor_signals {
    bool stop, reload, upgrade, dismissed, hurried;
};

/* The old one's. Reloads and changes of tokens wait while one is under way; `busy` says that one of
 * those is, for which the upgrade waits. */
void supervisor_tend_upgrade(struct supervisor *s, bool busy,
                             const struct supervisor_signals *signals);
/* Whether logger and keeper are, or will be, the new one's. */
bool supervisor_has_lent_writers(const struct supervisor *s);
/* Whether the workers that accept are, or will be at once, the new one's. */
bool supervisor_has_lent_clients(const struct supervisor *s);
/* It was replaced, and has no workers any more. */
bool supervisor_is_done(const struct supervisor *s);

/* The new one's. Opens what the other one has handed over, and waits for its word. */
bool supervisor_take_over(struct supervisor *s, const struct config *config, struct error *error)
    __attribute__((warn_unused_result));
/* The other one's workers are still the ones that accept. */
bool supervisor_is_second(const struct supervisor *s);
/* Workers of an earlier master, which knows no newer tokens, shall not begin anything more, or not
 * wait for what they have begun. */
void supervisor_dismiss_old(const struct supervisor *s);
void supervisor_hurry_old(const struct supervisor *s);
/* It can't take over, and ends. */
void supervisor_give_up(struct supervisor *s, const char *reason);
/* Its first generation could serve. */
void supervisor_offer(struct supervisor *s);
void supervisor_tend_takeover(struct supervisor *s, bool stop_asked);
