/* Counter slots by name: an account for each project, endpoint, token, target and credential of the
 * configuration, kept over reloads and restarts. The master alone makes and frees them, when it
 * takes a configuration on; workers know theirs by number. */
#pragma once

#include "shared/base/str.h"
#include "shared/counters/shm.h"

enum account_kind {
    ACCOUNT_PROJECT = 1,
    ACCOUNT_ENDPOINT,
    ACCOUNT_TOKEN,
    ACCOUNT_TARGET,
    ACCOUNT_CREDENTIAL
};

/* A master that starts counts generations from 1 again: no process of an earlier one lives.
 * Breakers are closed: whoever starts anew may have mended what was wrong. */
void accounts_start(struct counters *counters);

/* One configuration's accounts being looked up. */
struct accounts {
    struct counters *counters;
    int64_t generation;
    uint32_t month;   /* of spend.h: now */
    uint32_t *places; /* a hash table of account numbers + 1 */
    size_t places_count;
    uint32_t cursor; /* no free account before it */
};

/* `expected`: how many the configuration will claim at most. Makes room for them. */
bool accounts_begin(struct accounts *accounts, struct counters *counters, int64_t generation,
                    size_t expected, struct error *error) __attribute__((warn_unused_result));
/* The account of this kind and name, an old one or a new one; a new one has this label and no caps
 * yet. `label` is what rows say (see account_label). */
uint32_t accounts_claim(struct accounts *accounts, enum account_kind kind, struct str name,
                        struct str label);
/* Frees those that no generation from `oldest` on knows, but for what has spent something this
 * month (`month` is set by the caller; 0 keeps whatever ever spent): no process of an earlier one
 * may live, nor any entry in flight of one. */
void accounts_end(struct accounts *accounts, int64_t oldest);

/* The configuration serves: its label and caps hold from now on, whatever generation counts in the
 * account. */
void account_set(struct shm_account *account, struct str label, const int64_t caps[CAP_COUNT]);

/* An endpoint's label is its slug and its project's name, a token's its name and its project's,
 * a credential's its name and its provider's: each is NUL-terminated there. A target's are
 * provider, model and credential. */

/* How much room a target's three texts have: each is NUL-terminated in its label. */
void account_target_label(char label[ACCOUNT_LABEL_BYTES], struct str provider, struct str model,
                          struct str credential);
/* The n-th text of an account's label; absent for ACCOUNT_NONE. Lives as long as the account. */
struct str account_label(const struct counters *counters, uint32_t account, unsigned n);
