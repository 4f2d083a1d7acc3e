/* Who answers: the targets of a request in their order, and which comes next. The first is the
 * endpoint's own, or that of the rule that fits; the endpoint's failover stands behind it.
 *
 *   chain_begin ── budget ── forward ──┬── chain_goes_on: the same again, or the next
 *                     ^                │
 *                     └────────────────┘
 *
 * What an attempt's end means is one table (chain.c). A target whose credential is left alone
 * (breaker.h) is passed over, unless nobody else is left. */
#pragma once

#include "shared/config.h"
#include "shared/record/attempts.h"
#include "worker/provider/provider.h"

#include <stdbool.h>
#include <stdint.h>

struct delay;
struct exchange;

/* How an attempt ended. */
enum attempt_end {
    END_ANSWERED,
    END_REJECTED,        /* the request is to blame */
    END_NO_MODEL,        /* the provider has no such model */
    END_KEY_REFUSED,     /* the credential is to blame */
    END_LIMITED,         /* asked too often */
    END_FAILED,          /* the provider failed */
    END_FAILED_FOR_GOOD, /* and would do so again */
    END_UNREACHABLE,     /* no connection was made */
    END_UNTRUSTED,       /* no TLS connection could be */
    END_BROKEN,          /* it broke before an answer began */
    END_LATE,            /* no answer in time */
    END_UNUSABLE,        /* what came is no answer */
    END_UNFIT,           /* it does not fit the endpoint's output_schema */
    END_DECLINED,        /* the model will not say what fits it */
    END_COUNT
};

/* An attempt, or why there was none, for the row. */
struct attempt_note {
    struct attempt_row row;
    struct attempt_note *next;
};

/* All zero before chain_begin. */
struct chain {
    const struct config_rule *rule; /* that fitted; NULL = none */
    unsigned place;                 /* of the target under way: 0 = the first */
    unsigned tries;                 /* of it, that have ended */
    unsigned repairs;               /* turns that it had to mend its answer */
    uint64_t tried;                 /* targets that had their turn, a bit each */
    bool last_resort;               /* those that are left alone have it now, too */
    bool heard;                     /* the breaker knows that the attempt under way goes well */
    int64_t until_us;               /* the whole of it; 0 = no attempt has begun */
    int64_t share_until_us;         /* the target's part */
    struct delay *pause;            /* before the next attempt */
    int64_t pause_began_us;         /* 0 = there is none */
    struct delay *share;            /* until which a stream must have said something */
    struct attempt_note *notes, *last_note;
    unsigned notes_count;
};

/* Settles on the first target. */
void chain_begin(struct exchange *ex, const struct config_rule *rule);
/* How many targets there are. */
unsigned chain_length(const struct exchange *ex);
/* The one whose turn it is. */
const struct config_target *chain_target(const struct exchange *ex);
/* An attempt at the target begins: how long it may take, in ms; at least 1. */
int64_t chain_time_ms(struct exchange *ex);
/* What is left of the whole time, in ms; -1 = no attempt has begun. */
int64_t chain_rest_ms(const struct exchange *ex);
/* The target can't be asked, or its worst case has no room: the failure says why. True: the next
 * one has its turn, the failure is forgotten. False: there is none, the failure is what the last
 * attempt said, if there was one. */
bool chain_pass_over(struct exchange *ex);
/* The same, and there is no other. */
void chain_give_up(struct exchange *ex);
/* The answer under way has begun to say something. */
void chain_hear(struct exchange *ex);
/* The attempt has ended so, its cost is settled. True: another one follows after `*wait_ms`, the
 * failure is forgotten. */
bool chain_goes_on(struct exchange *ex, enum attempt_end end, int64_t *wait_ms);
/* The attempt under way joins the row's attempts. */
void chain_note(struct exchange *ex, int64_t cost_nano_usd, bool has_cost);
/* No pause any more. */
void chain_cancel(struct exchange *ex);
