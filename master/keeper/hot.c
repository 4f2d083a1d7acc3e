#include "master/keeper/hot.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 4096 };

struct entry {
    struct session_row row;
    char *names; /* the row's texts, one behind the other */
    size_t names_bytes;
    struct buf messages;
    uint64_t changed_in; /* the transaction that has changed it last */
    struct entry *next;
    struct entry *newer, *older;
};

struct hot {
    size_t bytes, bytes_max, count;
    uint64_t epoch;       /* of the store, that all of it is of */
    uint64_t transaction; /* the one that is under way, or the next */
    struct entry *buckets[BUCKETS];
    struct entry *newest, *oldest;
    struct buf passing; /* messages that are not kept */
};

struct hot *hot_new(size_t bytes_max)
{
    struct hot *hot = xcalloc(1, sizeof *hot);
    hot->bytes_max = bytes_max;
    hot->transaction = 1;
    return hot;
}

size_t hot_bytes(const struct hot *hot)
{
    return hot->bytes;
}

size_t hot_count(const struct hot *hot)
{
    return hot->count;
}

/* --- entries --- */

static struct entry **place_of(struct hot *hot, const struct uuid *id)
{
    uint32_t word; /* the last bytes of an id are random */
    memcpy(&word, id->bytes + sizeof id->bytes - sizeof word, sizeof word);
    struct entry **place = &hot->buckets[word % BUCKETS];
    while (*place && uuid_compare(&(*place)->row.id, id) != 0)
        place = &(*place)->next;
    return place;
}

static size_t bytes_of(const struct entry *entry)
{
    return sizeof *entry + entry->names_bytes + entry->messages.cap;
}

static void unlink_age(struct hot *hot, struct entry *entry)
{
    *(entry->newer ? &entry->newer->older : &hot->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &hot->oldest) = entry->newer;
}

static void link_newest(struct hot *hot, struct entry *entry)
{
    entry->newer = NULL;
    entry->older = hot->newest;
    *(hot->newest ? &hot->newest->newer : &hot->oldest) = entry;
    hot->newest = entry;
}

static void drop_at(struct hot *hot, struct entry **place)
{
    struct entry *entry = *place;
    if (!entry)
        return;
    *place = entry->next;
    unlink_age(hot, entry);
    hot->bytes -= bytes_of(entry);
    hot->count--;
    free(entry->names);
    buf_free(&entry->messages);
    free(entry);
}

void hot_drop(struct hot *hot, const struct uuid *id)
{
    drop_at(hot, place_of(hot, id));
}

static void drop_down_to(struct hot *hot, size_t bytes)
{
    while (hot->oldest && hot->bytes > bytes)
        hot_drop(hot, &hot->oldest->row.id);
}

void hot_drop_expired(struct hot *hot, int64_t before_ms)
{
    while (hot->oldest && hot->oldest->row.expires_ms <= before_ms)
        hot_drop(hot, &hot->oldest->row.id);
}

void hot_free(struct hot **place)
{
    struct hot *hot = *place;
    *place = NULL;
    if (!hot)
        return;
    drop_down_to(hot, 0);
    buf_free(&hot->passing);
    free(hot);
}

static void keep_names(struct entry *entry)
{
    struct str *names[] = {&entry->row.project, &entry->row.endpoint, &entry->row.token};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        entry->names_bytes += names[i]->len;
    char *at = entry->names = xmalloc(entry->names_bytes + 1);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        memcpy(at, names[i]->len ? names[i]->at : "", names[i]->len);
        names[i]->at = at;
        at += names[i]->len;
    }
}

/* The messages' memory is the entry's from here on. */
static struct entry *add(struct hot *hot, const struct session_row *row, struct buf *messages)
{
    struct entry **place = place_of(hot, &row->id), *entry = xcalloc(1, sizeof *entry);
    *entry = (struct entry){.row = *row, .messages = *messages};
    *messages = (struct buf){0};
    keep_names(entry);
    *place = entry;
    link_newest(hot, entry);
    hot->bytes += bytes_of(entry);
    hot->count++;
    return entry;
}

/* Names stay as they are: a session is never another's. */
static void update(struct entry *entry, const struct session_row *row)
{
    struct session_row next = *row;
    next.project = entry->row.project;
    next.endpoint = entry->row.endpoint;
    next.token = entry->row.token;
    entry->row = next;
}

/* --- loading --- */

static void take_epoch(struct hot *hot, struct sessions_store *store)
{
    uint64_t epoch = sessions_epoch(store);
    if (epoch != hot->epoch)
        drop_down_to(hot, 0);
    hot->epoch = epoch;
}

/* What other hosts have added. With `*valid` false the entry is worth nothing. */
static bool refresh(struct hot *hot, struct sessions_store *store, struct entry *entry, bool *valid,
                    struct error *error)
{
    struct session_row row = {0};
    bool found;
    size_t before = entry->messages.len, bytes = bytes_of(entry);
    if (before > 0)
        buf_putc(&entry->messages, ',');
    size_t begun = entry->messages.len;
    bool good = sessions_load(store, &entry->row.id, entry->row.turns, &row, &entry->messages,
                              &found, error);
    if (entry->messages.len == begun)
        entry->messages.len = before;
    hot->bytes += bytes_of(entry) - bytes;
    *valid = good && found && !row.ended && row.number == entry->row.number &&
             row.turns >= entry->row.turns;
    if (*valid)
        update(entry, &row);
    return good;
}

static bool find_valid(struct hot *hot, struct sessions_store *store, const struct uuid *id,
                       struct entry **entry, struct error *error)
{
    struct entry **place = place_of(hot, id);
    bool good = true, valid = true;
    if (*place && sessions_shared(store))
        good = refresh(hot, store, *place, &valid, error);
    if (!valid)
        drop_at(hot, place);
    *entry = valid ? *place : NULL;
    return good;
}

/* What has ended or isn't there is not kept, nor is what has no messages here. */
static bool load(struct hot *hot, struct sessions_store *store, const struct uuid *id,
                 bool with_messages, struct hot_session *session, bool *found, struct error *error)
{
    buf_free(&hot->passing);
    if (!sessions_load(store, id, 0, &session->row, with_messages ? &hot->passing : NULL, found,
                       error))
        return false;
    if (!*found || session->row.ended || !with_messages)
        return true;
    const struct entry *entry = add(hot, &session->row, &hot->passing);
    *session = (struct hot_session){entry->row, buf_view(&entry->messages)};
    return true;
}

bool hot_load(struct hot *hot, struct sessions_store *store, const struct uuid *id,
              bool with_messages, struct hot_session *session, bool *found, struct error *error)
{
    struct entry *entry;
    *session = (struct hot_session){.messages = STR("")};
    *found = false;
    drop_down_to(hot, hot->bytes_max);
    take_epoch(hot, store);
    if (!find_valid(hot, store, id, &entry, error))
        return false;
    if (!entry)
        return load(hot, store, id, with_messages, session, found, error);
    if (entry != hot->newest) {
        unlink_age(hot, entry);
        link_newest(hot, entry);
    }
    *session = (struct hot_session){entry->row, buf_view(&entry->messages)};
    return *found = true;
}

/* --- what is stored --- */

/* One that is not here is known as a whole when that was its first turn. */
void hot_add_turn(struct hot *hot, const struct session_row *row, struct str messages)
{
    struct entry *entry = *place_of(hot, &row->id);
    if (!entry && row->turns == 1)
        entry = add(hot, row, &(struct buf){0});
    if (!entry)
        return;
    size_t bytes = bytes_of(entry);
    if (entry->messages.len > 0 && messages.len > 0)
        buf_putc(&entry->messages, ',');
    buf_str(&entry->messages, messages);
    update(entry, row);
    entry->changed_in = hot->transaction;
    hot->bytes += bytes_of(entry) - bytes;
}

void hot_settle(struct hot *hot, bool good)
{
    struct entry *entry = good ? NULL : hot->newest, *older;
    for (; entry; entry = older) {
        older = entry->older;
        if (entry->changed_in == hot->transaction)
            hot_drop(hot, &entry->row.id);
    }
    hot->transaction++;
    drop_down_to(hot, hot->bytes_max);
}
