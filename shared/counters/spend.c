#include "shared/counters/spend.h"

#include "shared/base/step.h"

/* 56 bits of nano-USD, which are 72 million USD; 12 of the month; 12 of the slot; 48 of the
 * operation, enough for a million a second for nine years. */
enum { MONTH_SHIFT = 56, SLOT_SHIFT = 68, OPERATION_SHIFT = 80 };
#define AMOUNT_MAX ((INT64_C(1) << 56) - 1)
#define OPERATION_MASK ((UINT64_C(1) << 48) - 1)

struct parts {
    int64_t amount;
    uint32_t month;
    struct spend_tag tag;
};

static spend_word join(const struct parts *parts)
{
    return (spend_word)(uint64_t)parts->amount | (spend_word)(parts->month & 0xFFF) << MONTH_SHIFT |
           (spend_word)(parts->tag.slot & 0xFFF) << SLOT_SHIFT |
           (spend_word)(parts->tag.operation & OPERATION_MASK) << OPERATION_SHIFT;
}

static struct parts split(spend_word word)
{
    return (struct parts){
        .amount = (int64_t)(uint64_t)word & AMOUNT_MAX,
        .month = (uint32_t)(word >> MONTH_SHIFT) & 0xFFF,
        .tag = {.slot = (uint32_t)(word >> SLOT_SHIFT) & 0xFFF,
                .operation = (uint64_t)(word >> OPERATION_SHIFT) & OPERATION_MASK},
    };
}

/* In two halves, until the upper one is the same before and behind the lower: it holds the tag,
 * which no two writers share, so nobody wrote in between. */
static spend_word read_word(const spend_word *place)
{
    const uint64_t *halves = (const uint64_t *)place;
    for (;;) {
        uint64_t high = __atomic_load_n(&halves[1], __ATOMIC_ACQUIRE);
        uint64_t low = __atomic_load_n(&halves[0], __ATOMIC_ACQUIRE);
        if (__atomic_load_n(&halves[1], __ATOMIC_ACQUIRE) == high)
            return (spend_word)high << 64 | low;
    }
}

static bool swap(spend_word *place, spend_word from, spend_word to)
{
    return __sync_bool_compare_and_swap(place, from, to);
}

static spend_word *place_of(struct shm_spend *spend, uint32_t month)
{
    return &spend->words[month & 1];
}

static void raise_applied(const struct spend_applied *applied, struct spend_tag tag)
{
    _Atomic uint64_t *place = applied->of(applied->context, tag.slot);
    uint64_t there = place ? atomic_load(place) : 0;
    while (place && there < tag.operation &&
           !atomic_compare_exchange_weak(place, &there, tag.operation))
        ;
}

int64_t spend_amount(const struct shm_spend *spend, uint32_t month)
{
    struct parts parts = split(read_word(&spend->words[month & 1]));
    return parts.month == month ? parts.amount : 0;
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
        spend_word seen = read_word(place);
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
    if (parts.tag.slot == tag.slot && parts.tag.operation == tag.operation)
        return true;
    STEP(spend_to_ask);
    _Atomic uint64_t *place = applied->of(applied->context, tag.slot);
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
