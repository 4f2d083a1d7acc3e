#include "shared/counters/accounts.h"

#include "shared/base/buf.h"
#include "shared/base/hash.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>

/* By how many accounts the file grows at once. */
enum { GROW_BY = 256 };

/* Never 0: that says the place is free. */
static uint64_t key_of(enum account_kind kind, struct str name)
{
    struct buf text = {0};
    uint8_t digest[SHA256_BYTES];
    uint64_t key;
    buf_putc(&text, (char)kind);
    buf_str(&text, name);
    sha256(buf_view(&text), digest);
    buf_free(&text);
    memcpy(&key, digest, sizeof key);
    return key ? key : 1;
}

/* Where the account with this key is noted, or could be. */
static uint32_t *place_of(const struct accounts *accounts, uint64_t key)
{
    const struct shm_account *all = accounts->counters->accounts;
    size_t mask = accounts->places_count - 1;
    for (size_t i = key & mask;; i = (i + 1) & mask) {
        uint32_t *place = &accounts->places[i];
        if (*place == 0 || atomic_load(&all[*place - 1].key) == key)
            return place;
    }
}

static uint32_t count_used(const struct counters *counters)
{
    uint32_t used = 0, count = atomic_load(&counters->header->accounts);
    for (uint32_t i = 0; i < count; i++)
        used += atomic_load(&counters->accounts[i].key) != 0;
    return used;
}

void accounts_start(struct counters *counters)
{
    uint32_t count = atomic_load(&counters->header->accounts);
    for (uint32_t i = 0; i < count; i++) {
        atomic_store(&counters->accounts[i].last_generation, 0);
        breaker_reset(&counters->accounts[i].breaker);
    }
    STEP(accounts_started);
}

bool accounts_begin(struct accounts *accounts, struct counters *counters, int64_t generation,
                    size_t expected, struct error *error)
{
    size_t needed = count_used(counters) + expected;
    if (needed >= UINT32_MAX / 2)
        return error_set(error, "%zu accounts are too many for the counters file", needed);
    uint32_t rounded = (uint32_t)((needed + GROW_BY - 1) / GROW_BY * GROW_BY);
    if (!counters_grow(counters, rounded, error))
        return false;
    *accounts = (struct accounts){.counters = counters, .generation = generation};
    accounts->places_count = 16;
    while (accounts->places_count < 2 * needed)
        accounts->places_count *= 2;
    accounts->places = xcalloc(accounts->places_count, sizeof *accounts->places);
    uint32_t count = atomic_load(&counters->header->accounts);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t key = atomic_load(&counters->accounts[i].key);
        if (key != 0)
            *place_of(accounts, key) = i + 1;
    }
    return true;
}

static uint32_t take_free(struct accounts *accounts)
{
    const struct counters *counters = accounts->counters;
    uint32_t count = atomic_load(&counters->header->accounts);
    while (accounts->cursor < count && atomic_load(&counters->accounts[accounts->cursor].key) != 0)
        accounts->cursor++;
    if (accounts->cursor == count)
        abort(); /* accounts_begin made room */
    return accounts->cursor;
}

static void set_label(struct shm_account *account, struct str label)
{
    size_t len = label.len < ACCOUNT_LABEL_BYTES ? label.len : ACCOUNT_LABEL_BYTES - 1;
    while (len < label.len && len > 0 && ((unsigned char)label.at[len] & 0xC0) == 0x80)
        len--;
    memset(account->label, 0, sizeof account->label);
    if (len > 0)
        memcpy(account->label, label.at, len);
}

static void set_caps(struct shm_account *account, const int64_t caps[CAP_COUNT])
{
    for (unsigned i = 0; i < CAP_COUNT; i++)
        atomic_store(&account->caps[i], caps[i]);
}

void account_set(struct shm_account *account, struct str label, const int64_t caps[CAP_COUNT])
{
    set_caps(account, caps);
    STEP(account_caps_set);
    set_label(account, label);
    STEP(account_labelled);
}

uint32_t accounts_claim(struct accounts *accounts, enum account_kind kind, struct str name,
                        struct str label)
{
    static const int64_t unlimited[CAP_COUNT] = {CAP_UNLIMITED, CAP_UNLIMITED, CAP_UNLIMITED};
    uint64_t key = key_of(kind, name);
    uint32_t *place = place_of(accounts, key);
    bool is_new = *place == 0;
    if (is_new)
        *place = take_free(accounts) + 1;
    struct shm_account *account = &accounts->counters->accounts[*place - 1];
    atomic_store(&account->last_generation, accounts->generation);
    if (is_new) {
        memset((void *)&account->spend, 0, sizeof account->spend);
        memset((void *)&account->minute, 0, sizeof account->minute);
        memset((void *)&account->hour, 0, sizeof account->hour);
        breaker_reset(&account->breaker);
        atomic_store(&account->kind, kind);
        set_caps(account, unlimited);
        set_label(account, label);
        STEP(account_filled);
        atomic_store_explicit(&account->key, key, memory_order_release);
        STEP(account_taken);
    }
    return *place - 1;
}

/* Whoever comes back in the same month goes on where it was. */
static bool has_spent(const struct shm_account *account, uint32_t month)
{
    uint32_t latest = spend_latest_month(&account->spend);
    return latest >= month && spend_amount(&account->spend, latest) > 0;
}

void accounts_end(struct accounts *accounts, int64_t oldest)
{
    struct counters *counters = accounts->counters;
    uint32_t count = atomic_load(&counters->header->accounts);
    for (uint32_t i = 0; i < count; i++) {
        struct shm_account *account = &counters->accounts[i];
        if (atomic_load(&account->key) == 0 || atomic_load(&account->last_generation) >= oldest ||
            has_spent(account, accounts->month))
            continue;
        atomic_store(&account->key, 0);
        STEP(account_freed);
    }
    free(accounts->places);
    accounts->places = NULL;
}

/* Provider and credential get what they need, within reason; the model the rest. */
void account_target_label(char label[ACCOUNT_LABEL_BYTES], struct str provider, struct str model,
                          struct str credential)
{
    enum { PROVIDER_BYTES = 16, CREDENTIAL_BYTES = 64 };
    const size_t room[] = {PROVIDER_BYTES, ACCOUNT_LABEL_BYTES - PROVIDER_BYTES - CREDENTIAL_BYTES,
                           CREDENTIAL_BYTES};
    const struct str texts[] = {provider, model, credential};
    memset(label, 0, ACCOUNT_LABEL_BYTES);
    for (unsigned i = 0; i < 3; i++) {
        size_t len = texts[i].len < room[i] ? texts[i].len : room[i] - 1;
        if (len > 0)
            memcpy(label, texts[i].at, len);
        label += len + 1;
    }
}

struct str account_label(const struct counters *counters, uint32_t account, unsigned n)
{
    if (account == ACCOUNT_NONE)
        return STR_ABSENT;
    const char *at = counters->accounts[account].label;
    const char *end = at + ACCOUNT_LABEL_BYTES;
    for (; n > 0; n--)
        at += strnlen(at, (size_t)(end - at)) + 1;
    return (struct str){at, at < end ? strnlen(at, (size_t)(end - at)) : 0};
}
