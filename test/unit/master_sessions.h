/* Sessions in an SQLite file of their own. */
#pragma once

#include "master/store/sessions.h"
#include "test/unit/master_sqlite.h"

static const int64_t start_ms = 1790000000000, hour_ms = 3600000, day_ms = 86400000;

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

static inline void assert_says(const struct error *error, const char *part)
{
    if (!strstr(error->message, part))
        fail_msg("\"%s\" lacks \"%s\"", error->message, part);
}

static inline void begin(struct sessions_store *store)
{
    struct error error;
    if (!sessions_begin(store, &error))
        fail_msg("%s", error.message);
}

static inline void commit_all(struct sessions_store *store)
{
    struct error error;
    if (!sessions_commit(store, &error))
        fail_msg("%s", error.message);
}

static inline struct uuid id_of(uint8_t number)
{
    struct uuid id = {{number, 0, 0xff, 7}};
    id.bytes[15] = number;
    return id;
}

/* Its turns are an hour long. */
static inline struct session_row new_row(uint8_t number)
{
    return (struct session_row){.id = id_of(number),
                                .last_request = id_of((uint8_t)(number + 100)),
                                .project = STR("shop"),
                                .endpoint = STR("chat"),
                                .token = STR("till"),
                                .created_ms = start_ms,
                                .stored_ms = start_ms,
                                .expires_ms = start_ms + hour_ms};
}

/* One turn more, of two messages. */
static inline bool try_turn(struct sessions_store *store, struct session_row *row, bool *moved,
                            struct error *error)
{
    char messages[128];
    row->turns++;
    row->messages += 2;
    row->tokens += 10;
    snprintf(messages, sizeof messages, "{\"q\":%d},{\"a\":%d}", (int)row->turns, (int)row->turns);
    return sessions_add_turn(store, row, str_of(messages), moved, error);
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
