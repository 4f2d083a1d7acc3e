/* The money of requests in flight: reserved before a call, settled after it, on the accounts of its
 * endpoint, token and project at once. A request's row and the accounts always say the same,
 * whatever dies: the sum of an account is the cost of all its rows and the reservations of the
 * entries that live.
 *
 * Each operation on an account has a number of its slot's (spend.h). An entry says which are under
 * way before the first is begun, so whoever finds the entry can tell which have happened, and do
 * the others: with the same numbers, so that nothing is done twice however often that is tried. */
#pragma once

#include "shared/counters/shm.h"

enum budget { BUDGET_ENDPOINT, BUDGET_TOKEN, BUDGET_PROJECT, BUDGETS };

/* Whose operations these are, and what they change. */
struct ledger {
    struct shm_account *accounts;
    struct shm_worker *workers;
    unsigned workers_count;
    unsigned slot;
};

static inline struct ledger ledger_of(const struct counters *counters, unsigned slot)
{
    return (struct ledger){counters->accounts, counters->workers, counters->header->workers, slot};
}

/* As rows have it. */
const char *cost_basis_name(enum cost_basis basis);

/* Reserves `nano_usd` for the call that comes next, on all three accounts or on none: OPEN becomes
 * HELD and BUDGETS is returned, or stays OPEN, and the one whose cap it would pass. */
enum budget ledger_reserve(const struct ledger *ledger, struct shm_request *request,
                           int64_t nano_usd) __attribute__((warn_unused_result));
/* The call will not be made: HELD becomes OPEN. */
void ledger_release(const struct ledger *ledger, struct shm_request *request);
/* What a call came to, of the account `target`. */
struct settlement {
    struct shm_usage usage;
    int64_t upstream_us;
    int64_t cost_nano_usd;
    enum cost_basis basis;
};

/* The call has ended: its cost takes the reservation's place, SENT becomes OPEN. */
void ledger_settle(const struct ledger *ledger, struct shm_request *request,
                   const struct settlement *settlement);

/* Sum of what live entries have reserved on an account, in nano-USD; a look at every entry.
 * `*exact`: none of them was between two states, where it may be less. */
int64_t ledger_reserved(const struct counters *counters, uint32_t account, uint32_t month,
                        bool *exact);
/* The sums of all accounts, one look at every entry: an array of the caller's, to be freed, of
 * `count` places. */
int64_t *ledger_reserved_all(const struct counters *counters, uint32_t month, uint32_t *count);

/* ---- of a slot whose process is dead ---- */

/* Ends what was under way; call it for each entry of the slot before the next. */
void ledger_finish(const struct ledger *ledger, struct shm_request *request);
/* Gives back what was not sent; what was costs its reservation: the state is OPEN then. */
void ledger_abandon(const struct ledger *ledger, struct shm_request *request);
