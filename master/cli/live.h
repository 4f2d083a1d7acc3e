/* The counters of a running gateway, for the command line: read, never written. */
#pragma once

#include "shared/counters/accounts.h"
#include "shared/counters/rate.h"

/* False when no gateway has run since the machine was started; nothing is said of it then. */
bool live_open(const char *config_dir, struct counters *counters)
    __attribute__((warn_unused_result));

/* How an account's money stands in a month. */
struct live_money {
    int64_t spent, reserved, cap; /* nano-USD; CAP_UNLIMITED = no budget */
};

/* What is reserved, by account: one look at every request in flight. */
struct live_reserved {
    int64_t *sums;
    uint32_t count, month;
};

struct live_reserved live_reserved(const struct counters *counters, uint32_t month);
void live_reserved_free(struct live_reserved *reserved);
struct live_money live_money(const struct counters *counters, const struct live_reserved *reserved,
                             uint32_t account);
/* The account of a kind whose label begins with these texts; ACCOUNT_NONE when there is none. */
uint32_t live_find(const struct counters *counters, enum account_kind kind, struct str name,
                   struct str project);
