#include "master/store/usage.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>

#define BUCKET(name, number, index)                                                                \
    {#name "_b" #number, USAGE_KIND_NUMBER,                                                        \
     offsetof(struct usage, name##_buckets) + (index) * sizeof(int64_t)},

const struct usage_column usage_columns[] = {
#define USAGE_KEY(name, kind) {#name, USAGE_KIND_##kind, offsetof(struct usage, name)},
#define USAGE_SUM(name, value) {#name, USAGE_KIND_NUMBER, offsetof(struct usage, name)},
/* clang-format off */
#define USAGE_HISTOGRAM(name)                                                                      \
    BUCKET(name, 00, 0) BUCKET(name, 01, 1) BUCKET(name, 02, 2) BUCKET(name, 03, 3)                \
    BUCKET(name, 04, 4) BUCKET(name, 05, 5) BUCKET(name, 06, 6) BUCKET(name, 07, 7)                \
    BUCKET(name, 08, 8) BUCKET(name, 09, 9) BUCKET(name, 10, 10) BUCKET(name, 11, 11)              \
    BUCKET(name, 12, 12) BUCKET(name, 13, 13) BUCKET(name, 14, 14) BUCKET(name, 15, 15)            \
    BUCKET(name, 16, 16) BUCKET(name, 17, 17) BUCKET(name, 18, 18) BUCKET(name, 19, 19)            \
    BUCKET(name, 20, 20) BUCKET(name, 21, 21) BUCKET(name, 22, 22) BUCKET(name, 23, 23)
/* clang-format on */
#include "master/store/usage.def"
#undef USAGE_KEY
#undef USAGE_SUM
#undef USAGE_HISTOGRAM
};
const size_t usage_columns_count = sizeof usage_columns / sizeof *usage_columns;

enum {
#define USAGE_KEY(name, kind) KEY_##name,
#define USAGE_SUM(name, value)
#define USAGE_HISTOGRAM(name)
#include "master/store/usage.def"
#undef USAGE_KEY
#undef USAGE_SUM
#undef USAGE_HISTOGRAM
    KEYS_COUNT
};
const size_t usage_keys_count = KEYS_COUNT;

_Static_assert(USAGE_BUCKETS == 24, "a column for each bucket");

enum { HOUR_MS = 3600 * 1000, PLACES_FIRST = 64 };

unsigned usage_bucket(int64_t value)
{
    if (value < 1)
        return 0;
    unsigned bits = 64 - (unsigned)__builtin_clzll((unsigned long long)value);
    return bits < USAGE_BUCKETS ? bits : USAGE_BUCKETS - 1;
}

/* --- the key --- */

static int64_t began_wall_ms(const struct record *row)
{
    return row->created_at != RECORD_NULL ? row->created_at : uuid_wall_ms(&row->request_id);
}

static int64_t hour_of(int64_t wall_ms)
{
    int64_t past = wall_ms % HOUR_MS;
    return wall_ms - (past < 0 ? past + HOUR_MS : past);
}

static struct str text_or_empty(struct str text)
{
    return text.at ? text : STR("");
}

static void fill_key(struct usage *usage, const struct months *months, const struct record *row)
{
    int64_t began = began_wall_ms(row);
    usage->hour = hour_of(began);
    usage->month = str_of(month_name(months, began, usage->month_text));
    usage->project = text_or_empty(row->project);
    usage->endpoint = text_or_empty(row->endpoint);
    usage->token = text_or_empty(row->token);
    usage->provider = text_or_empty(row->provider);
    usage->model = text_or_empty(row->model);
    usage->status = text_or_empty(row->status);
    usage->routing_decision = text_or_empty(row->routing_decision);
    usage->streamed = row->streamed != RECORD_NULL && row->streamed != 0;
}

static const struct str *text_at(const struct usage *usage, size_t column)
{
    return (const struct str *)((const char *)usage + usage_columns[column].offset);
}

static int64_t number_at(const struct usage *usage, size_t column)
{
    return *(const int64_t *)((const char *)usage + usage_columns[column].offset);
}

/* FNV-1a, 64 bits. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static uint64_t hash_key(const struct usage *usage)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        if (usage_columns[i].kind == USAGE_KIND_TEXT) {
            const struct str *text = text_at(usage, i);
            hash = hash_bytes(hash, &text->len, sizeof text->len);
            hash = hash_bytes(hash, text->at, text->len);
        } else {
            int64_t number = number_at(usage, i);
            hash = hash_bytes(hash, &number, sizeof number);
        }
    }
    return hash;
}

static bool same_key(const struct usage *a, const struct usage *b)
{
    if (a->hash != b->hash)
        return false;
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        bool same = usage_columns[i].kind == USAGE_KIND_TEXT
                        ? str_eq(*text_at(a, i), *text_at(b, i))
                        : number_at(a, i) == number_at(b, i);
        if (!same)
            return false;
    }
    return true;
}

/* --- the table --- */

static uint32_t *place_for(const struct usage_table *table, const struct usage *key)
{
    size_t mask = table->places_count - 1;
    for (size_t at = (size_t)key->hash & mask;; at = (at + 1) & mask) {
        uint32_t place = table->places[at];
        if (place == 0 || same_key(&table->sums[place - 1], key))
            return &table->places[at];
    }
}

static void make_room(struct usage_table *table)
{
    if (table->count < table->room)
        return;
    table->room = table->room ? 2 * table->room : PLACES_FIRST / 2;
    table->sums = xrealloc(table->sums, table->room * sizeof *table->sums);
    free(table->places);
    table->places_count = 2 * table->room;
    table->places = xcalloc(table->places_count, sizeof *table->places);
    for (size_t i = 0; i < table->count; i++) {
        struct usage *usage = &table->sums[i];
        usage->month.at = usage->month_text;
        *place_for(table, usage) = (uint32_t)i + 1;
    }
}

static struct usage *find_or_add(struct usage_table *table, const struct usage *key)
{
    make_room(table);
    uint32_t *place = place_for(table, key);
    if (*place == 0) {
        table->sums[table->count] = *key;
        table->sums[table->count].month.at = table->sums[table->count].month_text;
        *place = (uint32_t)++table->count;
    }
    return &table->sums[*place - 1];
}

/* Wraps rather than being undefined: what is added up has been read from a file. */
static void add_to(int64_t *sum, int64_t value)
{
    if (value != RECORD_NULL)
        *sum = (int64_t)((uint64_t)*sum + (uint64_t)value);
}

static void count_in(int64_t *buckets, int64_t value)
{
    if (value != RECORD_NULL)
        buckets[usage_bucket(value)]++;
}

void usage_add(struct usage_table *table, const struct months *months, const struct record *row)
{
    struct usage key = {0};
    fill_key(&key, months, row);
    key.hash = hash_key(&key);
    struct usage *usage = find_or_add(table, &key);
#define USAGE_KEY(name, kind)
#define USAGE_SUM(name, value) add_to(&usage->name, value);
#define USAGE_HISTOGRAM(name) count_in(usage->name##_buckets, row->name);
#include "master/store/usage.def"
#undef USAGE_KEY
#undef USAGE_SUM
#undef USAGE_HISTOGRAM
}

void usage_clear(struct usage_table *table)
{
    table->count = 0;
    if (table->places)
        memset(table->places, 0, table->places_count * sizeof *table->places);
}

void usage_free(struct usage_table *table)
{
    free(table->sums);
    free(table->places);
    *table = (struct usage_table){0};
}
