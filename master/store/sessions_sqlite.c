#include "master/store/sessions_sqlite_private.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>

#define SESSION_COLUMNS                                                                            \
    "sessions.number, sessions.id, sessions.project, sessions.endpoint, sessions.token, "          \
    "sessions.created_at, sessions.look_at, sessions.ended"
enum { SESSION_COLUMNS_COUNT = 8 };
#define TURN_COLUMNS "turns.turn, request, messages, tokens, stored_at, expires_at"
/* Turns whose place is not stored yet. */
#define IS_NEW "turns.place > (SELECT place FROM session_places WHERE session = 0)"

const char *const sessions_sqlite_statements[STATEMENTS] = {
    [BEGIN_WRITING] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [LOAD_SESSION] = "SELECT " SESSION_COLUMNS " FROM sessions WHERE id = ?",
    [LATEST_NEW] = "SELECT " TURN_COLUMNS " FROM session_messages turns WHERE " IS_NEW
                   " AND session = ? ORDER BY turns.place DESC LIMIT 1",
    [LATEST_PLACED] =
        "SELECT " TURN_COLUMNS " FROM session_places places JOIN session_messages turns "
        "ON turns.place = places.place WHERE places.session = ? ORDER BY places.turn DESC LIMIT 1",
    [BODIES_PLACED] = "SELECT body FROM session_places places JOIN session_messages turns "
                      "ON turns.place = places.place WHERE places.session = ? AND places.turn >= ? "
                      "ORDER BY places.turn",
    [BODIES_NEW] = "SELECT body FROM session_messages turns WHERE " IS_NEW
                   " AND session = ? AND turn >= ? ORDER BY turns.place",
    [SESSION_GOES_ON] = "SELECT 1 FROM sessions WHERE number = ? AND ended = 0",
    [INSERT_SESSION] = "INSERT INTO sessions (id, project, endpoint, token, created_at, look_at) "
                       "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING",
    [INSERT_TURN] = "INSERT INTO session_messages (session, turn, messages, tokens, stored_at, "
                    "expires_at, request, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    [PLACE_TURNS] = "INSERT INTO session_places (session, turn, place) SELECT session, turn, place "
                    "FROM session_messages turns WHERE " IS_NEW " ORDER BY session, turn",
    [PLACED_ALL] = "UPDATE session_places SET place = (SELECT coalesce(max(place), 0) "
                   "FROM session_messages) WHERE session = 0",
    [DELETE_SESSION] = "DELETE FROM sessions WHERE number = ?",
    [DELETE_TURNS] = "DELETE FROM session_messages WHERE place IN "
                     "(SELECT place FROM session_places WHERE session = ?)",
    [DELETE_PLACES] = "DELETE FROM session_places WHERE session = ?",
    [SESSIONS_DUE] = "SELECT number FROM sessions WHERE ended = 0 AND look_at <= ? "
                     "ORDER BY look_at, number LIMIT ?",
    [END_SESSION] = "UPDATE sessions SET ended = 1, look_at = ?2 WHERE number = ?1",
    [LOOK_LATER] = "UPDATE sessions SET look_at = ?2 WHERE number = ?1",
    [FORGET_TOMBSTONES] = "DELETE FROM sessions WHERE number IN (SELECT number FROM sessions "
                          "WHERE ended = 1 AND look_at < ? ORDER BY look_at LIMIT ?)",
    [LIST] = "WITH new AS MATERIALIZED (SELECT session, max(place) AS place FROM session_messages "
             "turns WHERE " IS_NEW " GROUP BY session) "
             "SELECT " SESSION_COLUMNS ", " TURN_COLUMNS " FROM sessions "
             "LEFT JOIN new ON new.session = sessions.number "
             "JOIN session_messages turns ON turns.place = coalesce(new.place, (SELECT place FROM "
             "session_places WHERE session = sessions.number ORDER BY turn DESC LIMIT 1)) "
             "WHERE ended = 0 AND (?1 IS NULL OR project = ?1) "
             "ORDER BY stored_at DESC, sessions.id LIMIT ?2",
    [FIND_ANSWER] = "SELECT key, content, request, stored_at, expires_at, answer "
                    "FROM idempotent_answers WHERE key = ?",
    [INSERT_ANSWER] =
        "INSERT INTO idempotent_answers (key, content, request, stored_at, expires_at, bytes, "
        "answer) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
    [DELETE_EXPIRED_ANSWER] = "DELETE FROM idempotent_answers WHERE key = ? AND expires_at <= ?",
    [SWEEP_ANSWERS] =
        "DELETE FROM idempotent_answers WHERE rowid IN (SELECT rowid FROM idempotent_answers "
        "WHERE expires_at <= ? ORDER BY expires_at LIMIT ?) RETURNING bytes",
    [ANSWERS_BYTES] = "SELECT coalesce(sum(bytes), 0) FROM idempotent_answers",
    [DROP_ANSWERS] =
        "DELETE FROM idempotent_answers WHERE rowid IN (SELECT rowid FROM idempotent_answers "
        "ORDER BY rowid LIMIT ?) RETURNING bytes",
};

/* --- transactions --- */

bool sessions_sqlite_in_transaction(const struct sessions_store *store)
{
    return store->db && !sqlite3_get_autocommit(store->db);
}

static void sqlite_undo(struct sessions_store *store)
{
    sessions_sqlite_know_nothing(store);
    store->new_turns = PLACES_AT_ONCE;
    /* Some failures have rolled back already. */
    if (sessions_sqlite_in_transaction(store) &&
        sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
        sessions_sqlite_disconnect(store);
}

/* May the connection go on after that? Of all else, a fresh one finds out what became of the file.
 */
static bool passes(int code)
{
    switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_FULL:
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
        return true;
    default:
        return false;
    }
}

static bool say_failed(struct sessions_store *store, const char *doing, struct error *error)
{
    return error_set(error, "%s: %s: %s", store->path, doing, sqlite3_errmsg(store->db));
}

static void give_up(struct sessions_store *store, int code)
{
    sqlite_undo(store);
    if (!passes(code))
        sessions_sqlite_disconnect(store);
}

bool sessions_sqlite_failed(struct sessions_store *store, int code, const char *doing,
                            struct error *error)
{
    say_failed(store, doing, error);
    give_up(store, code);
    return false;
}

bool sessions_sqlite_under_way(struct sessions_store *store, struct error *error)
{
    return sessions_sqlite_in_transaction(store) ||
           error_set(error, "%s: no transaction is under way", store->path);
}

static bool sqlite_begin(struct sessions_store *store, struct error *error)
{
    if (!sessions_sqlite_connected(store, error))
        return false;
    int code = sqlite_finish(store->statements[BEGIN_WRITING]);
    if (code != SQLITE_OK)
        return sessions_sqlite_failed(store, code, "can't begin to write", error);
    sessions_sqlite_look(store);
    store->changes = sqlite3_total_changes(store->db);
    return true;
}

static bool sqlite_commit(struct sessions_store *store, struct error *error)
{
    if (!sessions_sqlite_under_way(store, error))
        return false;
    int code = SQLITE_OK;
    if (store->new_turns >= PLACES_AT_ONCE)
        code = sessions_sqlite_place_turns(store);
    if (code == SQLITE_OK)
        code = sqlite_finish(store->statements[COMMIT]);
    if (code != SQLITE_OK)
        return sessions_sqlite_failed(store, code, "can't commit", error);
    sessions_sqlite_look_behind_commit(store);
    return !sessions_sqlite_moved(store) ||
           error_set(error, "%s: it was deleted or replaced while it was written to", store->path);
}

/* Whether what was loaded is still so: in a transaction it is, from its beginning on. */
static uint64_t sqlite_epoch(struct sessions_store *store)
{
    struct error error;
    if (sessions_sqlite_in_transaction(store))
        return store->epoch;
    if (!store->db || !sessions_sqlite_connected(store, &error))
        return ++store->epoch;
    sessions_sqlite_look(store);
    return store->epoch;
}

/* --- claims: one host alone has it --- */

static bool sqlite_claim(struct sessions_store *store, struct str what, bool *got,
                         struct error *error)
{
    (void)store;
    (void)what;
    (void)error;
    return *got = true;
}

static bool sqlite_release(struct sessions_store *store, struct str what, struct error *error)
{
    (void)store;
    (void)what;
    (void)error;
    return true;
}

static bool sqlite_renew(struct sessions_store *store, const struct str *what, size_t count,
                         struct error *error)
{
    (void)store;
    (void)what;
    (void)count;
    (void)error;
    return true;
}

/* --- statements --- */

int sessions_sqlite_bind_blob(sqlite3_stmt *statement, int place, struct str bytes)
{
    return sqlite3_bind_blob64(statement, place, bytes.at ? bytes.at : "", bytes.len,
                               SQLITE_STATIC);
}

int sessions_sqlite_bind_id(sqlite3_stmt *statement, int place, const struct uuid *id)
{
    return sqlite3_bind_blob(statement, place, id->bytes, sizeof id->bytes, SQLITE_STATIC);
}

struct str sessions_sqlite_text(sqlite3_stmt *statement, int column)
{
    const char *at = sqlite3_column_blob(statement, column);
    return (struct str){at ? at : "", (size_t)sqlite3_column_bytes(statement, column)};
}

struct uuid sessions_sqlite_id(sqlite3_stmt *statement, int column)
{
    struct uuid id = {0};
    struct str bytes = sessions_sqlite_text(statement, column);
    if (bytes.len == sizeof id.bytes)
        memcpy(id.bytes, bytes.at, sizeof id.bytes);
    return id;
}

static int bind_numbers(sqlite3_stmt *statement, const int64_t *numbers, size_t count)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < count; i++)
        code = sqlite3_bind_int64(statement, (int)i + 1, numbers[i]);
    return code;
}

int sessions_sqlite_run_numbers(struct sessions_store *store, enum sessions_statement which,
                                const int64_t *numbers, size_t count)
{
    int code = bind_numbers(store->statements[which], numbers, count);
    return code == SQLITE_OK ? sqlite_finish(store->statements[which]) : code;
}

/* --- loading --- */

/* Texts are the statement's. */
static void read_session(sqlite3_stmt *statement, struct session_row *row)
{
    *row = (struct session_row){.number = sqlite3_column_int64(statement, 0),
                                .id = sessions_sqlite_id(statement, 1)};
    row->project = sessions_sqlite_text(statement, 2);
    row->endpoint = sessions_sqlite_text(statement, 3);
    row->token = sessions_sqlite_text(statement, 4);
    row->created_ms = sqlite3_column_int64(statement, 5);
    row->expires_ms = sqlite3_column_int64(statement, 6);
    row->ended = sqlite3_column_int(statement, 7) != 0;
}

static void read_turn(sqlite3_stmt *statement, int column, struct session_row *row)
{
    row->turns = sqlite3_column_int64(statement, column) + 1;
    row->last_request = sessions_sqlite_id(statement, column + 1);
    row->messages = sqlite3_column_int64(statement, column + 2);
    row->tokens = sqlite3_column_int64(statement, column + 3);
    row->stored_ms = sqlite3_column_int64(statement, column + 4);
    row->expires_ms = sqlite3_column_int64(statement, column + 5);
}

int sessions_sqlite_latest(struct sessions_store *store, int64_t number, struct session_row *row,
                           bool *found)
{
    static const enum sessions_statement where[] = {LATEST_NEW, LATEST_PLACED};
    int code = SQLITE_OK;
    *found = false;
    for (size_t i = 0; code == SQLITE_OK && !*found && i < sizeof where / sizeof *where; i++) {
        sqlite3_stmt *statement = store->statements[where[i]];
        sqlite3_bind_int64(statement, 1, number);
        *found = sqlite3_step(statement) == SQLITE_ROW;
        if (*found)
            read_turn(statement, 0, row);
        code = sqlite3_reset(statement);
    }
    return code;
}

static void know(struct sessions_store *store, const struct session_row *row)
{
    store->known[(size_t)row->number % KNOWN_SESSIONS] =
        (struct known_turns){row->number, row->turns};
}

/* A statement that is not reset would hold the WAL; its texts go with the reset. */
static void keep_texts(struct buf *kept, struct session_row *row)
{
    struct str *texts[] = {&row->project, &row->endpoint, &row->token};
    buf_clear(kept);
    /* Enough for all: what is in `kept` doesn't move any more. */
    buf_reserve(kept, row->project.len + row->endpoint.len + row->token.len + 1);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const char *at = kept->data + kept->len;
        buf_str(kept, *texts[i]);
        texts[i]->at = at;
    }
}

/* A body is an array: what is between its brackets. */
static void add_body(struct buf *messages, size_t before, struct str body)
{
    if (body.len <= 2)
        return;
    if (messages->len > before)
        buf_putc(messages, ',');
    buf_append(messages, body.at + 1, body.len - 2);
}

static int load_bodies(struct sessions_store *store, enum sessions_statement which, int64_t number,
                       int64_t from_turn, size_t before, struct buf *messages)
{
    sqlite3_stmt *statement = store->statements[which];
    int code = bind_numbers(statement, (const int64_t[]){number, from_turn}, 2);
    if (code != SQLITE_OK)
        return code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW)
        add_body(messages, before, sessions_sqlite_text(statement, 0));
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static int load_turns(struct sessions_store *store, int64_t from_turn, struct session_row *row,
                      struct buf *messages)
{
    bool any;
    size_t before = messages ? messages->len : 0;
    int code = sessions_sqlite_latest(store, row->number, row, &any);
    if (code == SQLITE_OK && messages)
        code = load_bodies(store, BODIES_PLACED, row->number, from_turn, before, messages);
    if (code == SQLITE_OK && messages)
        code = load_bodies(store, BODIES_NEW, row->number, from_turn, before, messages);
    return code;
}

static int load_session(struct sessions_store *store, const struct uuid *id,
                        struct session_row *row, bool *found)
{
    sqlite3_stmt *statement = store->statements[LOAD_SESSION];
    int code = sessions_sqlite_bind_id(statement, 1, id);
    if (code != SQLITE_OK)
        return code;
    *found = sqlite3_step(statement) == SQLITE_ROW;
    if (!*found)
        return sqlite3_reset(statement);
    read_session(statement, row);
    keep_texts(&store->texts, row);
    return SQLITE_OK;
}

/* The statement of the row is open until its turns are read: they are of the same moment. */
static int load(struct sessions_store *store, const struct uuid *id, int64_t from_turn,
                struct session_row *row, struct buf *messages, bool *found, struct error *error)
{
    int code = load_session(store, id, row, found);
    if (code == SQLITE_OK && *found && !row->ended)
        code = load_turns(store, from_turn, row, messages);
    if (code != SQLITE_OK)
        say_failed(store, "can't load a session", error);
    sqlite3_reset(store->statements[LOAD_SESSION]);
    return code;
}

static bool sqlite_load(struct sessions_store *store, const struct uuid *id, int64_t from_turn,
                        struct session_row *row, struct buf *messages, bool *found,
                        struct error *error)
{
    if (!sessions_sqlite_connected(store, error))
        return false;
    size_t before = messages ? messages->len : 0;
    int code = load(store, id, from_turn, row, messages, found, error);
    if (code == SQLITE_OK) {
        if (*found && !row->ended)
            know(store, row);
        return true;
    }
    if (messages)
        messages->len = before;
    *found = false;
    give_up(store, code);
    return false;
}

/* --- storing --- */

static int add_session(struct sessions_store *store, struct session_row *row, bool *moved)
{
    sqlite3_stmt *statement = store->statements[INSERT_SESSION];
    const struct str texts[] = {row->project, row->endpoint, row->token};
    int code = sessions_sqlite_bind_id(statement, 1, &row->id);
    for (int i = 0; code == SQLITE_OK && i < 3; i++)
        code = sqlite_bind_text(statement, i + 2, texts[i]);
    sqlite3_bind_int64(statement, 5, row->created_ms);
    sqlite3_bind_int64(statement, 6, row->expires_ms);
    if (code == SQLITE_OK)
        code = sqlite_finish(statement);
    if (code != SQLITE_OK)
        return code;
    *moved = sqlite3_changes(store->db) == 0;
    if (!*moved)
        row->number = sqlite3_last_insert_rowid(store->db);
    return SQLITE_OK;
}

/* Whether the turn follows the latest one. Of most sessions that is known, without a look. */
static int check_turn(struct sessions_store *store, const struct session_row *row, bool *moved)
{
    struct known_turns *known = &store->known[(size_t)row->number % KNOWN_SESSIONS];
    struct session_row latest = {0};
    sqlite3_stmt *statement = store->statements[SESSION_GOES_ON];
    bool any;
    if (known->number == row->number && known->turns == row->turns - 1)
        return SQLITE_OK;
    sqlite3_bind_int64(statement, 1, row->number);
    bool goes_on = sqlite3_step(statement) == SQLITE_ROW;
    int code = sqlite3_reset(statement);
    if (code == SQLITE_OK)
        code = sessions_sqlite_latest(store, row->number, &latest, &any);
    *moved = !goes_on || latest.turns != row->turns - 1;
    return code;
}

static struct str body_of(struct sessions_store *store, struct str messages)
{
    buf_clear(&store->body);
    buf_reserve(&store->body, messages.len + 2);
    buf_putc(&store->body, '[');
    buf_str(&store->body, messages);
    buf_putc(&store->body, ']');
    return buf_view(&store->body);
}

static int insert_turn(struct sessions_store *store, const struct session_row *row,
                       struct str messages)
{
    sqlite3_stmt *statement = store->statements[INSERT_TURN];
    const int64_t numbers[] = {row->number, row->turns - 1, row->messages,
                               row->tokens, row->stored_ms, row->expires_ms};
    enum { NUMBERS = sizeof numbers / sizeof *numbers };
    int code = bind_numbers(statement, numbers, NUMBERS);
    if (code == SQLITE_OK)
        code = sessions_sqlite_bind_id(statement, NUMBERS + 1, &row->last_request);
    if (code == SQLITE_OK)
        code = sqlite_bind_text(statement, NUMBERS + 2, body_of(store, messages));
    if (code == SQLITE_OK)
        code = sqlite_finish(statement);
    if (store->body.cap > 256 * 1024)
        buf_free(&store->body);
    return code;
}

static bool sqlite_add_turn(struct sessions_store *store, struct session_row *row,
                            struct str messages, bool *moved, struct error *error)
{
    if (!sessions_sqlite_under_way(store, error))
        return false;
    int code = row->turns == 1 ? add_session(store, row, moved) : check_turn(store, row, moved);
    if (code == SQLITE_OK && *moved)
        return true;
    if (code == SQLITE_OK)
        code = insert_turn(store, row, messages);
    if (code != SQLITE_OK)
        return sessions_sqlite_failed(store, code, "can't store a turn", error);
    know(store, row);
    store->new_turns++;
    return true;
}

/* --- */

static int list_rows(struct sessions_store *store, const char *project, unsigned most,
                     session_each_fn *each, void *context)
{
    sqlite3_stmt *statement = store->statements[LIST];
    struct session_row row;
    int code = sqlite_bind_text(statement, 1, str_of(project));
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 2, most);
    if (code != SQLITE_OK)
        return code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        read_session(statement, &row);
        read_turn(statement, SESSION_COLUMNS_COUNT, &row);
        each(context, &row);
    }
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static bool sqlite_list(struct sessions_store *store, const char *project, unsigned most,
                        session_each_fn *each, void *context, struct error *error)
{
    if (!sessions_sqlite_connected(store, error))
        return false;
    int code = list_rows(store, project, most, each, context);
    return code == SQLITE_OK || sessions_sqlite_failed(store, code, "can't list sessions", error);
}

static char *path_with(const char *path, const char *end)
{
    struct buf text = {0};
    buf_printf(&text, "%s%s", path, end);
    char *joined = xstrdup(buf_cstr(&text));
    buf_free(&text);
    return joined;
}

static void sqlite_close_sessions(struct sessions_store *store)
{
    sessions_sqlite_disconnect(store);
    free(store->path);
    free(store->wal);
    free(store->shm);
    buf_free(&store->texts);
    buf_free(&store->body);
    free(store);
}

static bool sqlite_open(const struct config *config, const char *host,
                        struct sessions_store **store, struct error *error)
{
    struct sessions_store *opened = xcalloc(1, sizeof *opened);
    (void)host;
    opened->driver = &sessions_sqlite;
    opened->watch = -1;
    opened->path = xstrdup(config->sessions_path);
    opened->wal = path_with(config->sessions_path, "-wal");
    opened->shm = path_with(config->sessions_path, "-shm");
    if (sessions_sqlite_bring_up(opened, error))
        *store = opened;
    else
        sqlite_close_sessions(opened);
    return *store != NULL;
}

const struct sessions_driver sessions_sqlite = {
    .name = "sqlite",
    .open = sqlite_open,
    .close = sqlite_close_sessions,
    .begin = sqlite_begin,
    .commit = sqlite_commit,
    .undo = sqlite_undo,
    .epoch = sqlite_epoch,
    .claim = sqlite_claim,
    .release = sqlite_release,
    .renew = sqlite_renew,
    .load = sqlite_load,
    .add_turn = sqlite_add_turn,
    .delete = sessions_sqlite_delete,
    .sweep = sessions_sqlite_sweep,
    .list = sqlite_list,
    .find_answer = sessions_sqlite_find_answer,
    .add_answer = sessions_sqlite_add_answer,
    .sweep_answers = sessions_sqlite_sweep_answers,
    .answers_bytes = sessions_sqlite_answers_bytes,
    .drop_answers = sessions_sqlite_drop_answers,
};
