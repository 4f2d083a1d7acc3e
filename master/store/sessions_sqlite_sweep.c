/* What goes: sessions that are deleted, those that have expired, and tombstones. */
#include "master/store/sessions_sqlite_private.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>

static const int64_t tombstone_ms = INT64_C(30) * 24 * 60 * 60 * 1000;

static int run_number(struct sessions_store *store, enum sessions_statement which, int64_t number)
{
    return sessions_sqlite_run_numbers(store, which, &number, 1);
}

int sessions_sqlite_place_turns(struct sessions_store *store)
{
    if (store->new_turns == 0)
        return SQLITE_OK;
    int code = sqlite_finish(store->statements[PLACE_TURNS]);
    if (code == SQLITE_OK)
        code = sqlite_finish(store->statements[PLACED_ALL]);
    if (code == SQLITE_OK)
        store->new_turns = 0;
    return code;
}

/* The last places may be free now, and be given again: then they are no known ones. */
static int delete_turns(struct sessions_store *store, int64_t number)
{
    sessions_sqlite_know_nothing(store);
    int code = sessions_sqlite_place_turns(store);
    if (code == SQLITE_OK)
        code = run_number(store, DELETE_TURNS, number);
    if (code == SQLITE_OK)
        code = run_number(store, DELETE_PLACES, number);
    return code == SQLITE_OK ? sqlite_finish(store->statements[PLACED_ALL]) : code;
}

static int find_number(struct sessions_store *store, const struct uuid *id, int64_t *number)
{
    sqlite3_stmt *statement = store->statements[LOAD_SESSION];
    int code = sessions_sqlite_bind_id(statement, 1, id);
    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *number = sqlite3_column_int64(statement, 0);
    return sqlite3_reset(statement);
}

bool sessions_sqlite_delete(struct sessions_store *store, const struct uuid *id, bool *found,
                            struct error *error)
{
    int64_t number = 0;
    if (!sessions_sqlite_under_way(store, error))
        return false;
    int code = find_number(store, id, &number);
    if (code == SQLITE_OK && number != 0)
        code = delete_turns(store, number);
    if (code == SQLITE_OK && number != 0)
        code = run_number(store, DELETE_SESSION, number);
    if (code != SQLITE_OK)
        return sessions_sqlite_failed(store, code, "can't delete a session", error);
    *found = number != 0;
    return true;
}

/* --- the sweep --- */

static int find_due(struct sessions_store *store, int64_t now_ms, unsigned most, int64_t *numbers,
                    unsigned *count)
{
    sqlite3_stmt *statement = store->statements[SESSIONS_DUE];
    int code;
    sqlite3_bind_int64(statement, 1, now_ms);
    sqlite3_bind_int64(statement, 2, most);
    while ((code = sqlite3_step(statement)) == SQLITE_ROW && *count < most)
        numbers[(*count)++] = sqlite3_column_int64(statement, 0);
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int end_if_expired(struct sessions_store *store, int64_t number, int64_t now_ms)
{
    struct session_row row = {.expires_ms = now_ms};
    bool any;
    int code = sessions_sqlite_latest(store, number, &row, &any);
    bool expired = row.expires_ms <= now_ms;
    if (code == SQLITE_OK && expired)
        code = delete_turns(store, number);
    if (code != SQLITE_OK)
        return code;
    return sessions_sqlite_run_numbers(store, expired ? END_SESSION : LOOK_LATER,
                                       (const int64_t[]){number, row.expires_ms}, 2);
}

/* Sessions of megabytes end few at a time: whoever is served meanwhile waits. What is left counts
 * as looked at, so that somebody comes for it. */
static int end_expired(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done)
{
    enum { LONG_MS = 5 };
    int64_t *numbers = xcalloc(most ? most : 1, sizeof *numbers), began_ms = clock_now_ms();
    unsigned count = 0;
    int code = find_due(store, now_ms, most, numbers, &count);
    bool late = false;
    for (unsigned i = 0; code == SQLITE_OK && i < count && !late; i++) {
        code = end_if_expired(store, numbers[i], now_ms);
        late = clock_now_ms() - began_ms >= LONG_MS;
    }
    free(numbers);
    *done += late ? most : count;
    return code;
}

static int forget_tombstones(struct sessions_store *store, int64_t before_ms, unsigned most,
                             unsigned *done)
{
    int code = sessions_sqlite_run_numbers(store, FORGET_TOMBSTONES,
                                           (const int64_t[]){before_ms, most}, 2);
    if (code == SQLITE_OK)
        *done += (unsigned)sqlite3_changes(store->db);
    return code;
}

bool sessions_sqlite_sweep(struct sessions_store *store, int64_t now_ms, unsigned most,
                           unsigned *done, struct error *error)
{
    unsigned swept = 0;
    if (!sessions_sqlite_under_way(store, error))
        return false;
    int code = end_expired(store, now_ms, most, &swept);
    /* Behind it: what has just become a tombstone may be an old one. */
    if (code == SQLITE_OK)
        code = forget_tombstones(store, now_ms - tombstone_ms, most, &swept);
    if (code != SQLITE_OK)
        return sessions_sqlite_failed(store, code, "can't sweep sessions", error);
    *done = swept;
    return true;
}
