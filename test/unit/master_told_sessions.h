/* A store of sessions in front of a real one in SQLite: it counts what it is asked, and is shared
 * with other hosts, or fails, when a test says so. */
#pragma once

#include "master/store/sessions_drivers.h"
#include "test/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { CLAIMS_MAX = 16 };

struct sessions_store {
    const struct sessions_driver *driver;
    struct sessions_driver own;
    struct sessions_store *real;
    unsigned loads;
    int64_t from_turn;        /* of the last load */
    bool failing, moving;     /* commits; turns */
    bool others_have, absent; /* claims; the claims' store */
    struct uuid claims[CLAIMS_MAX];
    size_t claims_count, renewed;
};

struct told {
    char folder[SCRATCH_PATH], path[SCRATCH_PATH];
    struct config config;
    struct sessions_store store;
};

static inline bool told_begin(struct sessions_store *store, struct error *error)
{
    return sessions_begin(store->real, error);
}

static inline bool told_commit(struct sessions_store *store, struct error *error)
{
    if (!store->failing)
        return sessions_commit(store->real, error);
    sessions_undo(store->real);
    return error_set(error, "it fails, as told");
}

static inline void told_undo(struct sessions_store *store)
{
    sessions_undo(store->real);
}

static inline uint64_t told_epoch(struct sessions_store *store)
{
    return store->driver->shared ? 1 : sessions_epoch(store->real);
}

static inline struct uuid *told_find(struct sessions_store *store, struct str what)
{
    for (size_t i = 0; i < store->claims_count; i++)
        if (memcmp(store->claims[i].bytes, what.at, what.len) == 0)
            return &store->claims[i];
    return NULL;
}

static inline bool told_claim(struct sessions_store *store, struct str what, bool *got,
                              struct error *error)
{
    assert_int_equal(what.len, sizeof store->claims->bytes);
    if (store->absent)
        return error_set(error, "nobody knows, as told");
    *got = !store->others_have;
    if (*got && !told_find(store, what)) {
        assert_true(store->claims_count < CLAIMS_MAX);
        memcpy(store->claims[store->claims_count++].bytes, what.at, what.len);
    }
    return true;
}

static inline bool told_release(struct sessions_store *store, struct str what, struct error *error)
{
    struct uuid *claim = told_find(store, what);
    (void)error;
    if (claim)
        *claim = store->claims[--store->claims_count];
    return true;
}

static inline bool told_renew(struct sessions_store *store, const struct str *what, size_t count,
                              struct error *error)
{
    (void)error;
    store->renewed = 0;
    for (size_t i = 0; i < count; i++)
        store->renewed += told_find(store, what[i]) != NULL;
    return true;
}

static inline bool told_load(struct sessions_store *store, const struct uuid *id, int64_t from_turn,
                             struct session_row *row, struct buf *messages, bool *found,
                             struct error *error)
{
    store->loads++;
    store->from_turn = from_turn;
    return sessions_load(store->real, id, from_turn, row, messages, found, error);
}

static inline bool told_add_turn(struct sessions_store *store, struct session_row *row,
                                 struct str messages, bool *moved, struct error *error)
{
    if (store->moving)
        return *moved = true;
    return sessions_add_turn(store->real, row, messages, moved, error);
}

static inline bool told_sweep(struct sessions_store *store, int64_t now_ms, unsigned most,
                              unsigned *done, struct error *error)
{
    return sessions_sweep(store->real, now_ms, most, done, error);
}

static inline void told_open(struct told *told, bool shared)
{
    struct error error;
    assert_non_null(scratch_make(told->folder));
    scratch_path(told->folder, "sessions.db", told->path);
    told->config = (struct config){.store.driver = "sqlite", .sessions_path = told->path};
    told->store.own = (struct sessions_driver){.name = "told",
                                               .shared = shared,
                                               .begin = told_begin,
                                               .commit = told_commit,
                                               .undo = told_undo,
                                               .epoch = told_epoch,
                                               .claim = told_claim,
                                               .release = told_release,
                                               .renew = told_renew,
                                               .load = told_load,
                                               .add_turn = told_add_turn,
                                               .sweep = told_sweep};
    told->store.driver = &told->store.own;
    if (!sessions_open(&told->config, "", &told->store.real, &error))
        fail_msg("%s", error.message);
}

static inline void told_close(struct told *told)
{
    sessions_close(&told->store.real);
    scratch_remove(told->folder);
}
