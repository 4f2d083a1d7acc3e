#include "shared/counters/spend.h"

#include "shared/base/step.h"

/* The lower half: 56 bits of nano-USD, which are 72 million USD, and 8 of the month; the upper one:
 * 4 more of the month, 12 of the slot, and 48 of the operation, enough for a million a second for
 * nine years. */
struct halves {
    uint64_t low, high;
};

#define AMOUNT_MAX ((INT64_C(1) << 56) - 1)

struct parts {
    int64_t amount;
    uint32_t month;
    struct spend_tag tag;
};

static struct halves join(const struct parts *parts)
{
    return (struct halves){
        .low = (uint64_t)parts->amount | (uint64_t)parts->month << 56,
        .high = parts->month >> 8 | parts->tag.slot << 4 | parts->tag.operation << 16,
    };
}

static struct parts split(struct halves word)
{
    return (struct parts){
        .amount = (int64_t)word.low & AMOUNT_MAX,
        .month = (uint32_t)(word.low >> 56) | ((uint32_t)word.high & 0xF) << 8,
        .tag = {.slot = (uint32_t)word.high >> 4 & 0xFFF, .operation = word.high >> 16},
    };
}

/* In two halves, until the upper one is the same before and behind the lower: it holds the tag,
 * which no two writers share, so nobody wrote in between. */
static struct halves read_word(const spend_word *place)
{
    const uint64_t *halves = (const uint64_t *)place;
    for (;;) {
        uint64_t high = __atomic_load_n(&halves[1], __ATOMIC_ACQUIRE);
        uint64_t low = __atomic_load_n(&halves[0], __ATOMIC_ACQUIRE);
        if (__atomic_load_n(&halves[1], __ATOMIC_ACQUIRE) == high)
            return (struct halves){low, high};
    }
}

static spend_word whole(struct halves word)
{
    return (spend_word)word.high << 64 | word.low;
}

static bool swap(spend_word *place, struct halves from, struct halves to)
{
    return __sync_bool_compare_and_swap(place, whole(from), whole(to));
}

static spend_word *place_of(struct shm_spend *spend, uint32_t month)
{
    return &spend->words[month & 1];
}

/* NULL for a slot that has none. */
static _Atomic uint64_t *applied_of(const struct spend_applied *applied, uint32_t slot)
{
    if (slot >= applied->slots)
        return NULL;
    return (_Atomic uint64_t *)(void *)(applied->first + slot * applied->stride);
}

static void raise_applied(const struct spend_applied *applied, struct spend_tag tag)
{
    _Atomic uint64_t *place = applied_of(applied, tag.slot);
    uint64_t there = place ? atomic_load(place) : 0;
    while (place && there < tag.operation &&
           !atomic_compare_exchange_weak(place, &there, tag.operation))
        ;
}

int64_t spend_amount_by(const struct shm_spend *spend, uint32_t month, struct spend_tag *tag)
{
    struct parts parts = split(read_word(&spend->words[month & 1]));
    *tag = parts.tag;
    return parts.month == month ? parts.amount : 0;
}

int64_t spend_amount(const struct shm_spend *spend, uint32_t month)
{
    struct spend_tag unused;
    return spend_amount_by(spend, month, &unused);
}

uint32_t spend_latest_month(const struct shm_spend *spend)
{
    uint32_t even = split(read_word(&spend->words[0])).month;
    uint32_t odd = split(read_word(&spend->words[1])).month;
    return even > odd ? even : odd;
}

/* Where `amount` is no more than `cap` with `delta`; cap INT64_MAX = whatever there is. */
static bool change(struct shm_spend *spend, const struct spend_applied *applied, uint32_t month,
                   struct spend_tag tag, int64_t delta, int64_t cap)
{
    spend_word *place = place_of(spend, month);
    for (;;) {
        STEP(spend_to_read);
        struct halves seen = read_word(place);
        struct parts parts = split(seen), next = {0, month, tag};
        if (parts.month > month)
            return true; /* two months later: nobody counts in this one any more */
        if (parts.month == month)
            next.amount = parts.amount;
        if (__builtin_add_overflow(next.amount, delta, &next.amount) || next.amount > AMOUNT_MAX)
            next.amount = AMOUNT_MAX;
        if (next.amount < 0)
            next.amount = 0;
        if (cap != INT64_MAX && next.amount > cap)
            return false;
        STEP(spend_to_help);
        raise_applied(applied, parts.tag);
        STEP(spend_to_swap);
        if (swap(place, seen, join(&next)))
            return true;
    }
}

bool spend_reserve(struct shm_spend *spend, const struct spend_applied *applied, uint32_t month,
                   struct spend_tag tag, int64_t amount, int64_t cap)
{
    return change(spend, applied, month, tag, amount, cap);
}

void spend_add(struct shm_spend *spend, const struct spend_applied *applied, uint32_t month,
               struct spend_tag tag, int64_t delta)
{
    (void)change(spend, applied, month, tag, delta, INT64_MAX);
}

/* The word first: one that is replaced after the look has raised applied[] before. */
bool spend_has_happened(const struct shm_spend *spend, const struct spend_applied *applied,
                        uint32_t month, struct spend_tag tag)
{
    STEP(spend_to_look);
    struct parts parts = split(read_word(&spend->words[month & 1]));
    if (spend_tag_equals(parts.tag, tag))
        return true;
    STEP(spend_to_ask);
    _Atomic uint64_t *place = applied_of(applied, tag.slot);
    return place && atomic_load(place) >= tag.operation;
}

void spend_raise(struct shm_spend *spend, uint32_t month, int64_t least)
{
    spend_word *place = place_of(spend, month);
    struct parts parts = split(read_word(place));
    if (parts.month > month || (parts.month == month && parts.amount >= least))
        return;
    struct parts next = {least, month, {.slot = SPEND_SLOT_STORE, .operation = 1}};
    while (!swap(place, read_word(place), join(&next)))
        ;
    STEP(spend_raised);
}
