/* A store in an SQLite file of its own, and what its tests ask of it. */
#pragma once

#include "master/store/store.h"
#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <setjmp.h>
#include <sqlite3.h>
#include <stdarg.h>

#include <cmocka.h>

struct place {
    char directory[SCRATCH_PATH], path[SCRATCH_PATH];
    struct config_store config;
};

static inline int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (!scratch_make(place->directory))
        return -1;
    scratch_path(place->directory, "logs.db", place->path);
    place->config = (struct config_store){.driver = "sqlite", .path = place->path};
    *state = place;
    return 0;
}

static inline int tear_down(void **state)
{
    struct place *place = *state;
    scratch_remove(place->directory);
    free(place);
    return 0;
}

static inline void no_offset(void *context, const char *segment, uint64_t committed)
{
    (void)context;
    fail_msg("unexpected offset %s %llu", segment, (unsigned long long)committed);
}

static inline struct store *open_store(const struct place *place, store_offset_fn *each,
                                       void *context)
{
    struct store *store = NULL;
    struct error error;
    assert_true(store_open(&place->config, "host-1", &store, &error));
    if (store_start(store, each, context, &error) != STORE_DONE)
        fail_msg("%s", error.message);
    return store;
}

/* What the database says, through a connection of its own; '|' between columns, ';' behind rows. */
static inline const char *ask(const struct place *place, const char *sql)
{
    static char answer[65536];
    sqlite3 *db;
    sqlite3_stmt *statement;
    answer[0] = '\0';
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s: %s", sql, sqlite3_errmsg(db));
    size_t len = 0;
    while (sqlite3_step(statement) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(statement); i++) {
            const char *text = (const char *)sqlite3_column_text(statement, i);
            len += (size_t)snprintf(answer + len, sizeof answer - len, "%s%s", i ? "|" : "",
                                    text ? text : "NULL");
        }
        len += (size_t)snprintf(answer + len, sizeof answer - len, ";");
    }
    assert_int_equal(sqlite3_finalize(statement), SQLITE_OK);
    sqlite3_close(db);
    return answer;
}

static inline struct record row_at(int64_t wall_ms)
{
    struct record row;
    record_init(&row);
    row.request_id = uuid_v7(wall_ms);
    row.created_at = wall_ms;
    row.status = STR("ok");
    return row;
}

static inline enum store_result commit(struct store *store, struct store_batch *batch)
{
    struct error error = {""};
    enum store_result result = store_commit(store, batch, &error);
    assert_int_equal(result == STORE_DONE, error.message[0] == '\0');
    return result;
}

static inline bool note_row(void *context, const struct str *values)
{
    buf_str(context, values[0]);
    buf_putc(context, ' ');
    return true;
}

static inline void assert_ids(struct buf *seen, const struct record *rows, const char *order)
{
    struct buf expected = {0};
    for (; *order; order++) {
        char text[UUID_TEXT_LEN + 1];
        buf_printf(&expected, "%s ", uuid_format(&rows[*order - '0'].request_id, text));
    }
    assert_string_equal(buf_cstr(seen), buf_cstr(&expected));
    buf_free(&expected);
}

static inline struct store_expiry expire(struct store *store, int64_t before_wall_ms,
                                         size_t rows_max)
{
    struct error error;
    struct store_expiry expiry = {.before_wall_ms = before_wall_ms, .rows_max = rows_max};
    if (store_expire(store, &expiry, &error) != STORE_DONE)
        fail_msg("%s", error.message);
    return expiry;
}

static inline void note_offset(void *context, const char *segment, uint64_t committed)
{
    buf_printf(context, "%s=%llu;", segment, (unsigned long long)committed);
}
