/* Sessions in an SQLite file of their own. */
#pragma once

#include "master/store/sessions.h"
#include "test/unit/master_sqlite.h"
#include "test/unit/session_rows.h"

/* The connection that was opened last. */
static sqlite3 *latest;

static inline int note_connection(sqlite3 *db, char **message,
                                  const struct sqlite3_api_routines *api)
{
    (void)message;
    (void)api;
    latest = db;
    return SQLITE_OK;
}

static inline bool try_open(const struct place *place, struct sessions_store **store,
                            struct error *error)
{
    const struct config config = {.store.driver = "sqlite", .sessions_path = place->path};
    return sessions_open(&config, "host-1", store, error);
}

static inline struct sessions_store *open_sessions(const struct place *place)
{
    struct sessions_store *store = NULL;
    struct error error;
    sqlite3_auto_extension((void (*)(void))note_connection);
    bool opened = try_open(place, &store, &error);
    sqlite3_reset_auto_extension();
    if (!opened)
        fail_msg("%s", error.message);
    assert_non_null(store);
    return store;
}

static inline void add_turn(struct sessions_store *store, struct session_row *row)
{
    struct error error;
    bool moved;
    if (!try_turn(store, row, &moved, &error))
        fail_msg("%s", error.message);
    assert_false(moved);
}

static inline void put_turn(struct sessions_store *store, struct session_row *row)
{
    begin(store);
    add_turn(store, row);
    commit_all(store);
}

/* A session of one turn that expires then. */
static inline void add_session(struct sessions_store *store, uint8_t number, int64_t expires_ms)
{
    struct session_row row = new_row(number);
    row.expires_ms = expires_ms;
    add_turn(store, &row);
}

static inline void put_session(struct sessions_store *store, uint8_t number, int64_t expires_ms)
{
    begin(store);
    add_session(store, number, expires_ms);
    commit_all(store);
}

static inline bool load(struct sessions_store *store, uint8_t number, struct session_row *row,
                        struct buf *messages)
{
    struct uuid id = id_of(number);
    struct error error;
    bool found = false;
    if (!sessions_load(store, &id, 0, row, messages, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

static inline void assert_messages(struct sessions_store *store, uint8_t number,
                                   const char *expected)
{
    struct session_row row;
    struct buf messages = {0};
    assert_true(load(store, number, &row, &messages));
    assert_string_equal(buf_cstr(&messages), expected);
    buf_free(&messages);
}

static inline bool delete_session(struct sessions_store *store, uint8_t number)
{
    struct uuid id = id_of(number);
    struct error error;
    bool found = false;
    if (!sessions_delete(store, &id, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

static inline unsigned sweep(struct sessions_store *store, int64_t now_ms, unsigned most)
{
    struct error error;
    unsigned done = 12345;
    begin(store);
    if (!sessions_sweep(store, now_ms, most, &done, &error))
        fail_msg("%s", error.message);
    commit_all(store);
    return done;
}
