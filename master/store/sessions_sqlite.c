#include "master/store/sessions.h"

#include "master/store/migrations.h"
#include "master/store/sqlite_private.h"
#include "master/store/sqlite_undo.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder of the migrations. */
static const char driver[] = "sessions";

static const int busy_timeout_ms = 2000;
static const int64_t tombstone_ms = INT64_C(30) * 24 * 60 * 60 * 1000;

enum {
    BEGIN_WRITING,
    COMMIT,
    LOAD_SESSION,
    LOAD_MESSAGES,
    INSERT_SESSION,
    UPDATE_SESSION,
    INSERT_MESSAGE,
    DELETE_SESSION,
    DELETE_MESSAGES,
    SWEEP_MESSAGES,
    SWEEP_SESSIONS,
    SWEEP_TOMBSTONES,
    LIST,
    STATEMENTS
};

struct sessions_store {
    char *path, *wal, *shm;
    bool was_open; /* once at least: a file that is made now is made anew */
    sqlite3 *db;   /* NULL: the next call opens it */
    sqlite3_stmt *statements[STATEMENTS];
    dev_t wal_device; /* the -wal file that this connection writes */
    ino_t wal_inode;  /* 0: there was none */
    struct buf texts; /* of the row that was loaded last */
};

/* In the order of bind_row and read_row. */
#define COLUMNS                                                                                    \
    "id, project, endpoint, token, ttl_ms, turns, messages, tokens, created_at, expires_at, "      \
    "last_request"

/* The same sessions for both statements that end them: a tie is decided by the id. */
#define EXPIRED                                                                                    \
    "(SELECT id FROM sessions WHERE ended = 0 AND expires_at <= ?1 "                               \
    "ORDER BY expires_at, id LIMIT ?2)"

static const char *const statement_texts[STATEMENTS] = {
    [BEGIN_WRITING] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [LOAD_SESSION] = "SELECT " COLUMNS ", ended FROM sessions WHERE id = ?",
    [LOAD_MESSAGES] = "SELECT message FROM session_messages WHERE session = ? ORDER BY position",
    [INSERT_SESSION] =
        "INSERT INTO sessions (" COLUMNS ") VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, "
        "?11)",
    [UPDATE_SESSION] =
        "UPDATE sessions SET project = ?2, endpoint = ?3, token = ?4, ttl_ms = ?5, turns = ?6, "
        "messages = ?7, tokens = ?8, created_at = ?9, expires_at = ?10, last_request = ?11 "
        "WHERE id = ?1 AND ended = 0",
    [INSERT_MESSAGE] = "INSERT INTO session_messages (session, position, message) VALUES (?, ?, ?)",
    [DELETE_SESSION] = "DELETE FROM sessions WHERE id = ?",
    [DELETE_MESSAGES] = "DELETE FROM session_messages WHERE session = ?",
    [SWEEP_MESSAGES] = "DELETE FROM session_messages WHERE session IN " EXPIRED,
    [SWEEP_SESSIONS] = "UPDATE sessions SET ended = 1, turns = 0, messages = 0, tokens = 0 "
                       "WHERE id IN " EXPIRED,
    [SWEEP_TOMBSTONES] = "DELETE FROM sessions WHERE id IN (SELECT id FROM sessions "
                         "WHERE ended = 1 AND expires_at < ?1 ORDER BY expires_at LIMIT ?2)",
    [LIST] = "SELECT " COLUMNS ", ended FROM sessions "
             "WHERE ended = 0 AND (?1 IS NULL OR project = ?1) "
             "ORDER BY expires_at - ttl_ms DESC, id LIMIT ?2",
};

static int run(struct sessions_store *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

static void disconnect(struct sessions_store *store)
{
    for (size_t i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    sqlite3_close(store->db);
    store->db = NULL;
}

/* --- opening --- */

/* Whole conversations are nobody else's, whatever the umask. SQLite gives its -wal and -shm files
 * the same mode. */
static bool create_file(struct sessions_store *store, struct error *error)
{
    int fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return true;
    int failed = fd < 0 ? errno : 0;
    if (!failed)
        failed = sqlite_give_to_owner(store->path, fd);
    if (!failed && fchmod(fd, 0600) != 0)
        failed = errno;
    if (fd >= 0)
        close(fd);
    if (!failed && store->was_open)
        log_warning("%s is not there any more: it is made anew, without the sessions it had",
                    store->path);
    return !failed || error_errno(error, failed, "can't create %s", store->path);
}

static int connect_file(struct sessions_store *store)
{
    int code = sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                               sqlite_undo_vfs());
    if (code != SQLITE_OK)
        return code;
    sqlite3_busy_timeout(store->db, busy_timeout_ms);
    code = run(store, "PRAGMA journal_mode = WAL");
    /* A power cut may take the latest turns, but never half of one. */
    if (code == SQLITE_OK)
        code = run(store, "PRAGMA synchronous = NORMAL");
    /* Grown in a burst, the WAL is cut back to 64 MiB after its checkpoint. */
    if (code == SQLITE_OK)
        code = run(store, "PRAGMA journal_size_limit = 67108864");
    return code;
}

static int read_version(struct sessions_store *store, int *number)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &statement, NULL);
    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *number = sqlite3_column_int(statement, 0);
    return sqlite3_finalize(statement);
}

static int apply(struct sessions_store *store, const struct migration *step)
{
    char note[64];
    snprintf(note, sizeof note, "PRAGMA user_version = %d", step->number);
    int code = run(store, step->sql);
    return code == SQLITE_OK ? run(store, note) : code;
}

/* All missing steps in one transaction. True in `*too_new` for a schema of a later program. */
static int migrate(struct sessions_store *store, bool *too_new, struct error *error)
{
    int number = 0;
    int code = run(store, "BEGIN IMMEDIATE");
    if (code == SQLITE_OK)
        code = read_version(store, &number);
    if (code == SQLITE_OK && !migrations_known(driver, number, error)) {
        *too_new = true;
        return run(store, "ROLLBACK");
    }
    const struct migration *step;
    while (code == SQLITE_OK && (step = migrations_after(driver, number))) {
        code = apply(store, step);
        number = step->number;
    }
    return code == SQLITE_OK ? run(store, "COMMIT") : code;
}

static int prepare_statements(struct sessions_store *store)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < STATEMENTS; i++)
        code = sqlite3_prepare_v3(store->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT,
                                  &store->statements[i], NULL);
    return code;
}

static void note_wal(struct sessions_store *store)
{
    struct stat status;
    bool there = stat(store->wal, &status) == 0;
    store->wal_device = there ? status.st_dev : 0;
    store->wal_inode = there ? status.st_ino : 0;
}

/* Everything up to the prepared statements. */
static bool bring_up(struct sessions_store *store, struct error *error)
{
    if (!create_file(store, error))
        return false;
    bool too_new = false;
    int code = connect_file(store);
    if (code == SQLITE_OK)
        code = migrate(store, &too_new, error);
    if (code == SQLITE_OK && !too_new)
        code = prepare_statements(store);
    bool up = code == SQLITE_OK && !too_new;
    if (code != SQLITE_OK)
        error_set(error, "%s: can't open the sessions: %s", store->path, sqlite3_errmsg(store->db));
    else if (up && sqlite3_db_readonly(store->db, "main") == 1)
        up = error_set(error, "%s: can't open the sessions for writing", store->path);
    if (up)
        note_wal(store);
    else
        disconnect(store);
    store->was_open |= up;
    return up;
}

/* --- files that others delete or replace --- */

/* SQLite goes on writing to files that were deleted or replaced: those turns nobody would ever see
 * again. */
static bool database_moved(struct sessions_store *store)
{
    int moved = 0;
    return sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved;
}

static bool wal_is_ours(const struct sessions_store *store)
{
    struct stat status;
    return stat(store->wal, &status) == 0 && status.st_dev == store->wal_device &&
           status.st_ino == store->wal_inode;
}

/* The -wal that stayed when another database was put in this one's place would be played into
 * that. */
static void leave_database(struct sessions_store *store)
{
    bool ours = wal_is_ours(store);
    log_warning("%s was deleted or replaced: it is opened anew", store->path);
    disconnect(store);
    if (ours) {
        unlink(store->wal);
        unlink(store->shm);
    }
}

/* What is in a WAL without a name goes into the database, before the connection that alone knows
 * it is closed. */
static bool leave_wal(struct sessions_store *store, struct error *error)
{
    int code = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if (code != SQLITE_OK)
        return error_set(error, "%s: the file is gone, and can't be made up for: %s", store->wal,
                         sqlite3_errmsg(store->db));
    log_warning("%s was deleted or replaced: what it held is in the database now", store->wal);
    disconnect(store);
    return true;
}

/* A connection to the files that are at the path now; in a transaction, the one that has it. */
static bool connected(struct sessions_store *store, struct error *error)
{
    if (store->db && !sqlite3_get_autocommit(store->db))
        return true;
    if (store->db && database_moved(store))
        leave_database(store);
    if (store->db && store->wal_inode != 0 && !wal_is_ours(store) && !leave_wal(store, error))
        return false;
    return store->db || bring_up(store, error);
}

/* --- transactions --- */

void sessions_undo(struct sessions_store *store)
{
    /* Some failures have rolled back already. */
    if (store->db && !sqlite3_get_autocommit(store->db) && run(store, "ROLLBACK") != SQLITE_OK)
        disconnect(store);
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

static bool failed(struct sessions_store *store, int code, const char *doing, struct error *error)
{
    error_set(error, "%s: %s: %s", store->path, doing, sqlite3_errmsg(store->db));
    sessions_undo(store);
    if (!passes(code))
        disconnect(store);
    return false;
}

/* What is written outside would be kept in part when the rest fails. */
static bool under_way(struct sessions_store *store, struct error *error)
{
    return (store->db && !sqlite3_get_autocommit(store->db)) ||
           error_set(error, "%s: no transaction is under way", store->path);
}

bool sessions_begin(struct sessions_store *store, struct error *error)
{
    if (!connected(store, error))
        return false;
    int code = sqlite_finish(store->statements[BEGIN_WRITING]);
    return code == SQLITE_OK || failed(store, code, "can't begin to write", error);
}

bool sessions_commit(struct sessions_store *store, struct error *error)
{
    if (!under_way(store, error))
        return false;
    int code = sqlite_finish(store->statements[COMMIT]);
    if (code != SQLITE_OK)
        return failed(store, code, "can't commit", error);
    return !database_moved(store) ||
           error_set(error, "%s: it was deleted or replaced while it was written to", store->path);
}

/* --- rows --- */

static int bind_id(sqlite3_stmt *statement, const struct uuid *id)
{
    return sqlite3_bind_blob(statement, 1, id->bytes, sizeof id->bytes, SQLITE_STATIC);
}

static int bind_row(sqlite3_stmt *statement, const struct session_row *row)
{
    const struct str texts[] = {row->project, row->endpoint, row->token};
    const int64_t numbers[] = {row->ttl_ms, row->turns,      row->messages,
                               row->tokens, row->created_ms, row->expires_ms};
    int place = 2;
    int code = bind_id(statement, &row->id);
    for (size_t i = 0; code == SQLITE_OK && i < sizeof texts / sizeof *texts; i++)
        code = sqlite_bind_text(statement, place++, texts[i]);
    for (size_t i = 0; code == SQLITE_OK && i < sizeof numbers / sizeof *numbers; i++)
        code = sqlite3_bind_int64(statement, place++, numbers[i]);
    if (code == SQLITE_OK)
        code = sqlite3_bind_blob(statement, place, row->last_request.bytes,
                                 (int)sizeof row->last_request.bytes, SQLITE_TRANSIENT);
    return code;
}

static struct str read_text(sqlite3_stmt *statement, int column)
{
    const char *at = (const char *)sqlite3_column_text(statement, column);
    return (struct str){at, (size_t)sqlite3_column_bytes(statement, column)};
}

static struct uuid read_id(sqlite3_stmt *statement, int column)
{
    struct uuid id = {0};
    const void *bytes = sqlite3_column_blob(statement, column);
    if (bytes && sqlite3_column_bytes(statement, column) == (int)sizeof id.bytes)
        memcpy(id.bytes, bytes, sizeof id.bytes);
    return id;
}

/* Texts are the statement's. */
static void read_row(sqlite3_stmt *statement, struct session_row *row)
{
    *row = (struct session_row){.id = read_id(statement, 0)};
    row->project = read_text(statement, 1);
    row->endpoint = read_text(statement, 2);
    row->token = read_text(statement, 3);
    row->ttl_ms = sqlite3_column_int64(statement, 4);
    row->turns = sqlite3_column_int64(statement, 5);
    row->messages = sqlite3_column_int64(statement, 6);
    row->tokens = sqlite3_column_int64(statement, 7);
    row->created_ms = sqlite3_column_int64(statement, 8);
    row->expires_ms = sqlite3_column_int64(statement, 9);
    row->last_request = read_id(statement, 10);
    row->ended = sqlite3_column_int(statement, 11) != 0;
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

static int load_row(struct sessions_store *store, const struct uuid *id, struct session_row *row,
                    bool *found)
{
    sqlite3_stmt *statement = store->statements[LOAD_SESSION];
    int code = bind_id(statement, id);
    if (code != SQLITE_OK)
        return code;
    *found = sqlite3_step(statement) == SQLITE_ROW;
    if (*found) {
        read_row(statement, row);
        keep_texts(&store->texts, row);
    }
    return sqlite3_reset(statement);
}

static int load_messages(struct sessions_store *store, const struct uuid *id, struct buf *messages)
{
    sqlite3_stmt *statement = store->statements[LOAD_MESSAGES];
    int code = bind_id(statement, id);
    if (code != SQLITE_OK)
        return code;
    const char *between = "";
    for (; (code = sqlite3_step(statement)) == SQLITE_ROW; between = ",") {
        buf_puts(messages, between);
        buf_str(messages, read_text(statement, 0));
    }
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

bool sessions_load(struct sessions_store *store, const struct uuid *id, struct session_row *row,
                   struct buf *messages, bool *found, struct error *error)
{
    *found = false;
    if (!connected(store, error))
        return false;
    size_t before = messages ? messages->len : 0;
    int code = load_row(store, id, row, found);
    if (code == SQLITE_OK && *found && messages)
        code = load_messages(store, id, messages);
    if (code == SQLITE_OK)
        return true;
    if (messages)
        messages->len = before;
    *found = false;
    return failed(store, code, "can't load a session", error);
}

static int write_row(struct sessions_store *store, const struct session_row *row)
{
    sqlite3_stmt *statement = store->statements[row->turns == 1 ? INSERT_SESSION : UPDATE_SESSION];
    int code = bind_row(statement, row);
    return code == SQLITE_OK ? sqlite_finish(statement) : code;
}

static int write_messages(struct sessions_store *store, const struct session_row *row,
                          const struct str *messages, size_t count)
{
    sqlite3_stmt *statement = store->statements[INSERT_MESSAGE];
    int64_t first = row->messages - (int64_t)count;
    int code = bind_id(statement, &row->id);
    for (size_t i = 0; code == SQLITE_OK && i < count; i++) {
        sqlite3_bind_int64(statement, 2, first + (int64_t)i);
        code = sqlite_bind_text(statement, 3, messages[i]);
        if (code == SQLITE_OK)
            code = sqlite_finish(statement);
    }
    return code;
}

bool sessions_add_turn(struct sessions_store *store, const struct session_row *row,
                       const struct str *messages, size_t count, struct error *error)
{
    if (!under_way(store, error))
        return false;
    int code = write_row(store, row);
    if (code == SQLITE_OK && sqlite3_changes(store->db) == 0) {
        sessions_undo(store);
        return error_set(error, "%s: can't store a turn: its session is not there any more",
                         store->path);
    }
    if (code == SQLITE_OK)
        code = write_messages(store, row, messages, count);
    return code == SQLITE_OK || failed(store, code, "can't store a turn", error);
}

static int delete_by_id(struct sessions_store *store, int which, const struct uuid *id)
{
    int code = bind_id(store->statements[which], id);
    return code == SQLITE_OK ? sqlite_finish(store->statements[which]) : code;
}

bool sessions_delete(struct sessions_store *store, const struct uuid *id, bool *found,
                     struct error *error)
{
    *found = false;
    if (!under_way(store, error))
        return false;
    int code = delete_by_id(store, DELETE_SESSION, id);
    bool deleted = code == SQLITE_OK && sqlite3_changes(store->db) > 0;
    if (deleted)
        code = delete_by_id(store, DELETE_MESSAGES, id);
    if (code != SQLITE_OK)
        return failed(store, code, "can't delete a session", error);
    *found = deleted;
    return true;
}

/* --- the sweep --- */

/* Rows that were changed are added to `*done`. */
static int sweep_some(struct sessions_store *store, int which, int64_t before_ms, unsigned most,
                      unsigned *done)
{
    sqlite3_stmt *statement = store->statements[which];
    int code = sqlite3_bind_int64(statement, 1, before_ms);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 2, most);
    if (code == SQLITE_OK)
        code = sqlite_finish(statement);
    if (code == SQLITE_OK)
        *done += (unsigned)sqlite3_changes(store->db);
    return code;
}

bool sessions_sweep(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                    struct error *error)
{
    unsigned swept = 0, messages = 0;
    *done = 0;
    if (!under_way(store, error))
        return false;
    int code = sweep_some(store, SWEEP_MESSAGES, now_ms, most, &messages);
    if (code == SQLITE_OK)
        code = sweep_some(store, SWEEP_SESSIONS, now_ms, most, &swept);
    /* Behind it: what has just become a tombstone may be an old one. */
    if (code == SQLITE_OK)
        code = sweep_some(store, SWEEP_TOMBSTONES, now_ms - tombstone_ms, most, &swept);
    if (code != SQLITE_OK)
        return failed(store, code, "can't sweep sessions", error);
    *done = swept;
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
        read_row(statement, &row);
        each(context, &row);
    }
    sqlite3_reset(statement);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

bool sessions_list(struct sessions_store *store, const char *project, unsigned most,
                   session_each_fn *each, void *context, struct error *error)
{
    if (!connected(store, error))
        return false;
    int code = list_rows(store, project, most, each, context);
    return code == SQLITE_OK || failed(store, code, "can't list sessions", error);
}

static char *path_with(const char *path, const char *end)
{
    struct buf text = {0};
    buf_printf(&text, "%s%s", path, end);
    char *joined = xstrdup(buf_cstr(&text));
    buf_free(&text);
    return joined;
}

bool sessions_open(const char *path, struct sessions_store **store, struct error *error)
{
    struct sessions_store *opened = xcalloc(1, sizeof *opened);
    opened->path = xstrdup(path);
    opened->wal = path_with(path, "-wal");
    opened->shm = path_with(path, "-shm");
    if (!bring_up(opened, error))
        sessions_close(&opened);
    *store = opened;
    return opened != NULL;
}

void sessions_close(struct sessions_store **store)
{
    if (!*store)
        return;
    disconnect(*store);
    free((*store)->path);
    free((*store)->wal);
    free((*store)->shm);
    buf_free(&(*store)->texts);
    free(*store);
    *store = NULL;
}
