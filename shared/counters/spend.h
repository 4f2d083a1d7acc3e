/* What an account has spent and reserved in a month, to the nano-dollar, whoever dies.
 *
 * A word of 16 bytes holds the amount, the month, and the tag of its last writer: a worker slot and
 * the number of the operation. It is read and changed by 16-byte compare-and-swap alone. Before a
 * writer replaces a word tagged (p, n) it raises applied[p] to n. So an operation of a dead worker
 * has happened if and only if the word carries its tag or applied[p] is at least its number,
 * provided that the slot has begun no later operation since: a worker does one at a time, and who
 * recovers its slot finishes the one under way before it begins another.
 *
 * Two words per account, by the month's parity: the old month still settles beside the new one. A
 * word is only ever replaced by a later month's. */
#pragma once

#include "shared/base/str.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* x86-64: cmpxchg16b; arm64: CASP. Nothing else is built for. */
#if !defined __x86_64__ && !defined __aarch64__
#error "no 16-byte compare-and-swap is known for this processor"
#endif

__extension__ typedef unsigned __int128 spend_word;

struct shm_spend {
    spend_word words[2]; /* by the month's parity */
} __attribute__((aligned(16)));

enum { SPEND_SLOT_STORE = 0xFFF, SPEND_SLOTS_MAX = 0xFFF }; /* the first: what a cold start puts */

/* One operation: which slot's, and its number, from 1 on. Numbers of a slot never repeat. */
struct spend_tag {
    uint32_t slot;
    uint64_t operation;
};

static inline bool spend_tag_equals(struct spend_tag a, struct spend_tag b)
{
    return a.slot == b.slot && a.operation == b.operation;
}

/* Where applied[] is: the first slot's, and how far it is to the next one's. */
struct spend_applied {
    char *first;
    size_t stride;
    uint32_t slots; /* others have none */
};

/* Months are counted from January 2000 = 1. The amount of one; 0 when the word is of another. */
int64_t spend_amount(const struct shm_spend *spend, uint32_t month);
/* The same, and who changed it last: as long as that is the same, nobody has changed it. */
int64_t spend_amount_by(const struct shm_spend *spend, uint32_t month, struct spend_tag *tag);
/* The latest month that there is an amount for; 0 = none. */
uint32_t spend_latest_month(const struct shm_spend *spend);

/* Adds `amount` if no more than `cap` is there then. False when it doesn't fit. A month that a
 * later one has replaced takes everything and keeps nothing. */
bool spend_reserve(struct shm_spend *spend, const struct spend_applied *applied, uint32_t month,
                   struct spend_tag tag, int64_t amount, int64_t cap)
    __attribute__((warn_unused_result));
/* Adds `delta`, which may be negative, whatever there is. */
void spend_add(struct shm_spend *spend, const struct spend_applied *applied, uint32_t month,
               struct spend_tag tag, int64_t delta);
/* Whether an operation of a dead process has happened. */
bool spend_has_happened(const struct shm_spend *spend, const struct spend_applied *applied,
                        uint32_t month, struct spend_tag tag);
/* Raises the month's amount to `least`, for a cold start, when nobody else counts. */
void spend_raise(struct shm_spend *spend, uint32_t month, int64_t least);
