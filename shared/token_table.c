#include "shared/token_table.h"

#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Memory is allocated in steps, before it is written: a hole may turn out to have none behind it.
 */
enum { ALIGNMENT = 8, STEP_BYTES = 64 * 1024, SPARE_TOKENS = 4096, USUAL_BYTES = 160 };

/* The region: an open-addressing hash table of the entries' places, then the entries, one behind
 * the other. A place is an offset in units of ALIGNMENT; 0 = none. */
struct token_table {
    const char *region; /* read-only */
    size_t size;
    size_t mask; /* of the hash table */

    /* the master's */
    char *writable; /* the same memory; children have it not */
    size_t used, allocated;
    size_t hashes; /* that have a place */
};

/* --- look-up --- */

static _Atomic uint32_t *places(const char *region)
{
    return (_Atomic uint32_t *)(uintptr_t)region;
}

static const struct token_entry *entry_at(const struct token_table *table, uint32_t place)
{
    return (const struct token_entry *)(table->region + (size_t)place * ALIGNMENT);
}

/* Where the hash is noted, or could be. Its first bytes lead there: they are a digest's, so the
 * time that it takes tells nothing of use. */
static size_t slot_of(const struct token_table *table, const uint8_t hash[SHA256_BYTES],
                      uint32_t *place)
{
    uint64_t head, other;
    memcpy(&head, hash, sizeof head);
    for (size_t i = head & table->mask;; i = (i + 1) & table->mask) {
        *place = atomic_load_explicit(&places(table->region)[i], memory_order_acquire);
        if (*place == 0)
            return i;
        memcpy(&other, entry_at(table, *place)->hash, sizeof other);
        if (head == other)
            return i;
    }
}

const struct token_entry *token_find(const struct token_table *table,
                                     const uint8_t hash[SHA256_BYTES])
{
    uint32_t place;
    slot_of(table, hash, &place);
    if (place == 0)
        return NULL;
    const struct token_entry *entry = entry_at(table, place);
    bool same = sodium_memcmp(entry->hash, hash, SHA256_BYTES) == 0;
    return same && !atomic_load_explicit(&entry->gone, memory_order_relaxed) ? entry : NULL;
}

bool token_allows(const struct token_entry *entry, const struct config_endpoint *endpoint)
{
    const char *text = entry->texts;
    if (entry->all_endpoints)
        return true;
    for (uint32_t i = 0; i < entry->endpoints_count; i++) {
        text += strlen(text) + 1;
        if (strcmp(text, endpoint->slug) == 0)
            return true;
    }
    return false;
}

void token_table_each(const struct token_table *table,
                      void (*visit)(void *context, const struct token_entry *entry), void *context)
{
    for (size_t i = 0; i <= table->mask; i++) {
        uint32_t place = atomic_load(&places(table->region)[i]);
        if (place != 0 && !atomic_load(&entry_at(table, place)->gone))
            visit(context, entry_at(table, place));
    }
}

/* --- the master's side --- */

/* What the entry's texts take. */
static size_t texts_bytes(const struct config_token *token)
{
    size_t bytes = strlen(token->name) + 1;
    for (size_t i = 0; i < token->endpoints_count; i++)
        bytes += strlen(token->endpoints[i]->slug) + 1;
    return bytes;
}

static size_t entry_bytes(const struct config_token *token)
{
    size_t bytes = sizeof(struct token_entry) + texts_bytes(token);
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void write_texts(const struct config_token *token, char *to)
{
    to = stpcpy(to, token->name) + 1;
    for (size_t i = 0; i < token->endpoints_count; i++)
        to = stpcpy(to, token->endpoints[i]->slug) + 1;
}

static bool allocate(struct token_table *table, size_t bytes)
{
    if (bytes > table->size)
        return false;
    if (bytes <= table->allocated)
        return true;
    size_t to = (bytes + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
    if (to > table->size)
        to = table->size;
    if (madvise(table->writable + table->allocated, to - table->allocated, MADV_POPULATE_WRITE))
        return false;
    table->allocated = to;
    return true;
}

static char *map(int fd, size_t size, int protection)
{
    void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

/* The same memory twice: what the children get can't be made writable by any of them. */
static bool map_and_seal(struct token_table *table, struct error *error)
{
    enum { SEALS = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL };
    int fd = memfd_create("tokens", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    bool good = fd >= 0 && ftruncate(fd, (off_t)table->size) == 0 &&
                (table->writable = map(fd, table->size, PROT_READ | PROT_WRITE)) &&
                madvise(table->writable, table->size, MADV_DONTFORK) == 0 &&
                fcntl(fd, F_ADD_SEALS, SEALS) == 0 &&
                (table->region = map(fd, table->size, PROT_READ));
    if (!good)
        error_errno(error, errno, "no memory for the tokens");
    if (fd >= 0)
        close(fd);
    return good;
}

/* At most half of the hash table is used, and twice the room that the tokens take now. */
static void measure(struct token_table *table, const struct config_token *tokens, size_t count)
{
    size_t slots = 1024, bytes = SPARE_TOKENS * USUAL_BYTES;
    while (slots < 2 * (count + SPARE_TOKENS) + count)
        slots *= 2;
    for (size_t i = 0; i < count; i++)
        bytes += 2 * entry_bytes(&tokens[i]);
    table->mask = slots - 1;
    table->used = slots * sizeof(uint32_t);
    table->size = (table->used + bytes + STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
}

struct token_table *token_table_new(const struct config_token *tokens, size_t count,
                                    struct error *error)
{
    struct token_table *table = xcalloc(1, sizeof *table);
    measure(table, tokens, count);
    bool good = table->size / ALIGNMENT < UINT32_MAX
                    ? map_and_seal(table, error)
                    : error_set(error, "%zu tokens are too many", count);
    if (good && !allocate(table, table->used))
        good = error_set(error, "no memory for the tokens");
    for (size_t i = 0; good && i < count; i++)
        good = token_table_put(table, &tokens[i]) || error_set(error, "no memory for the tokens");
    if (!good)
        token_table_free(&table);
    return table;
}

void token_table_free(struct token_table **place)
{
    struct token_table *table = *place;
    *place = NULL;
    if (!table)
        return;
    if (table->writable)
        munmap(table->writable, table->size);
    if (table->region)
        munmap((void *)(uintptr_t)table->region, table->size);
    free(table);
}

static struct token_entry *writable_entry(const struct token_table *table, uint32_t place)
{
    return (struct token_entry *)(table->writable + (size_t)place * ALIGNMENT);
}

static void write_entry(const struct config_token *token, struct token_entry *entry)
{
    entry->account = token->account;
    entry->expires_wall_ms = token->expires_wall_ms;
    entry->has_project = token->project != NULL;
    entry->all_endpoints = token->all_endpoints;
    entry->scopes = (uint8_t)token->scopes;
    entry->endpoints_count = (uint32_t)token->endpoints_count;
    memcpy(entry->hash, token->hash, SHA256_BYTES);
    if (token->project)
        entry->project = token->project->id;
    write_texts(token, entry->texts);
}

bool token_table_put(struct token_table *table, const struct config_token *token)
{
    uint32_t old;
    if (!token->active) {
        token_table_drop(table, token->hash);
        return true;
    }
    size_t slot = slot_of(table, token->hash, &old), bytes = entry_bytes(token);
    bool crowded = old == 0 && 2 * (table->hashes + 1) > table->mask;
    if (crowded || !allocate(table, table->used + bytes))
        return false;
    uint32_t place = (uint32_t)(table->used / ALIGNMENT);
    struct token_entry *entry = writable_entry(table, place);
    write_entry(token, entry);
    if (old != 0 && memcmp(entry, entry_at(table, old), bytes) == 0) {
        memset((void *)entry, 0, bytes);
        return true; /* nothing is new */
    }
    table->used += bytes;
    table->hashes += old == 0;
    STEP(token_written);
    atomic_store_explicit(&places(table->writable)[slot], place, memory_order_release);
    STEP(token_published);
    return true;
}

void token_table_drop(struct token_table *table, const uint8_t hash[SHA256_BYTES])
{
    uint32_t place;
    slot_of(table, hash, &place);
    if (place == 0)
        return;
    atomic_store(&writable_entry(table, place)->gone, true);
    STEP(token_dropped);
}
