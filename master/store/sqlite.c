#include "master/store/sqlite.h"

#include "master/store/migrations.h"
#include "master/store/sqlite_private.h"
#include "master/store/sqlite_undo.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

bool sqlite_failed(struct store *store, struct error *error, const char *doing)
{
    return error_set(error, "%s: %s: %s", store->path, doing, sqlite3_errmsg(store->db));
}

int sqlite_run(struct store *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

int sqlite_prepare(struct store *store, const char *sql, sqlite3_stmt **statement)
{
    return sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
}

int sqlite_read_number(struct store *store, const char *sql, int64_t *value)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite_prepare(store, sql, &statement);
    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *value = sqlite3_column_int64(statement, 0);
    return sqlite3_finalize(statement);
}

struct store *sqlite_new(const struct config_store *config, const char *host)
{
    struct store *store = xcalloc(1, sizeof *store);
    store->driver = &store_sqlite;
    store->path = xstrdup(config->path);
    store->host = xstrdup(host);
    store->months = config->months;
    store->scratch = xcalloc(record_columns_count, sizeof *store->scratch);
    return store;
}

static void disconnect(struct store *store)
{
    sqlite3_stmt **statements[] = {
        &store->insert_row,  &store->put_offset,  &store->forget_offset, &store->add_usage,
        &store->add_refused, &store->delete_rows, &store->delete_refused};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        sqlite3_finalize(*statements[i]);
        *statements[i] = NULL;
    }
    sqlite3_close(store->db);
    store->db = NULL;
    store->wal_inode = 0;
}

void sqlite_close(struct store *store)
{
    disconnect(store);
    free(store->path);
    free(store->host);
    free(store->scratch);
    usage_free(&store->usage);
    free(store);
}

static void sqlite_place(const struct config_store *config, struct buf *place)
{
    buf_puts(place, config->path);
}

static bool sqlite_open(const struct config_store *config, const char *host, struct store **store,
                        struct error *error)
{
    if (!config->path || config->path[0] == '\0')
        return error_set(error, "store.path is not set");
    *store = sqlite_new(config, host);
    return true;
}

/* A file's own error, where SQLite tells no more than that it can't open or write. */
static enum store_reason reason_of_errno(int number, enum store_reason otherwise)
{
    switch (number) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return STORE_REASON_full;
    case EROFS:
    case EACCES:
    case EPERM:
        return STORE_REASON_read_only;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
        return STORE_REASON_resources;
    case EIO:
        return STORE_REASON_io;
    default:
        return otherwise;
    }
}

/* SQLite keeps it for a file that can't be opened; of one that can't be written, the file knows. */
static int last_errno(struct store *store)
{
    int number = sqlite3_system_errno(store->db);
    sqlite3_file *wal = NULL;
    if (!number)
        sqlite3_file_control(store->db, "main", SQLITE_FCNTL_LAST_ERRNO, &number);
    if (!number)
        sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &wal);
    if (wal && wal->pMethods)
        wal->pMethods->xFileControl(wal, SQLITE_FCNTL_LAST_ERRNO, &number);
    return number;
}

static enum store_reason reason_of(struct store *store, int code)
{
    int number = last_errno(store);
    switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_PROTOCOL:
        return STORE_REASON_locked;
    case SQLITE_FULL:
        return STORE_REASON_full;
    case SQLITE_READONLY:
    case SQLITE_PERM:
        return STORE_REASON_read_only;
    case SQLITE_NOMEM:
        return STORE_REASON_resources;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return STORE_REASON_damaged;
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_TOOBIG:
        return STORE_REASON_content;
    case SQLITE_IOERR:
        return reason_of_errno(number, STORE_REASON_io);
    case SQLITE_CANTOPEN:
        return reason_of_errno(number, STORE_REASON_unreachable);
    default:
        return STORE_REASON_other;
    }
}

int sqlite_give_to_owner(const char *file, int fd)
{
    char *path = xstrdup(file);
    struct stat status;
    int failed = stat(dirname(path), &status) != 0 ? errno : 0;
    if (!failed && geteuid() == 0 && fchown(fd, status.st_uid, status.st_gid) != 0)
        failed = errno;
    free(path);
    return failed;
}

/* Rows hold what users wrote: the group may read, others not, whatever the umask. SQLite gives its
 * -wal and -shm files the same mode. */
static bool create_file(struct store *store, struct error *error)
{
    int fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0 && errno == EEXIST)
        return true;
    int failed = fd < 0 ? errno : 0;
    STEP(store_created);
    if (!failed)
        failed = sqlite_give_to_owner(store->path, fd);
    if (!failed && fchmod(fd, 0640) != 0)
        failed = errno;
    if (fd >= 0)
        close(fd);
    if (!failed && store->was_open)
        log_warning("%s is not there any more: it is made anew, without the rows it had",
                    store->path);
    store->reason = reason_of_errno(failed, STORE_REASON_unreachable);
    return !failed || error_errno(error, failed, "can't create %s", store->path);
}

static int connect_file(struct store *store)
{
    int code = sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                               sqlite_undo_vfs());
    if (code != SQLITE_OK)
        return code;
    sqlite3_busy_timeout(store->db, 0);
    code = sqlite_run(store, "PRAGMA journal_mode = WAL");
    STEP(store_with_wal);
    if (code == SQLITE_OK)
        code = sqlite_run(store, "PRAGMA synchronous = FULL");
    /* Grown in a burst, the WAL is cut back to 64 MiB after its checkpoint. */
    if (code == SQLITE_OK)
        code = sqlite_run(store, "PRAGMA journal_size_limit = 67108864");
    return code;
}

static int note_migration(struct store *store, const struct migration *step)
{
    char now[CLOCK_RFC3339_SIZE];
    char *sql = sqlite3_mprintf("INSERT INTO schema_migrations VALUES (%d, %Q, %Q)", step->number,
                                step->name, clock_rfc3339(clock_wall_ms(), now));
    int code = sqlite_run(store, sql);
    sqlite3_free(sql);
    return code;
}

/* All missing steps in one transaction. Without SCHEMA_GOOD in `*state` nothing was done. */
static int migrate(struct store *store, enum schema_state *state, struct error *error)
{
    int code = sqlite_run(store, "BEGIN IMMEDIATE");
    STEP(schema_begun);
    if (code != SQLITE_OK)
        return code;
    code = sqlite_run(store,
                      "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, "
                      "name TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT");
    int64_t number = 0;
    if (code == SQLITE_OK)
        code = sqlite_read_number(store, "SELECT max(number) FROM schema_migrations", &number);
    if (code == SQLITE_OK)
        *state = migrations_look(store_sqlite.name, (int)number, error);
    if (code == SQLITE_OK && *state != SCHEMA_GOOD)
        return sqlite_run(store, "ROLLBACK");
    const struct migration *step;
    while (code == SQLITE_OK && (step = migrations_after(store_sqlite.name, (int)number))) {
        code = sqlite_run(store, step->sql);
        STEP(schema_step_run);
        if (code == SQLITE_OK)
            code = note_migration(store, step);
        number = step->number;
    }
    STEP(schema_to_commit);
    code = code == SQLITE_OK ? sqlite_run(store, "COMMIT") : code;
    STEP(schema_committed);
    return code;
}

static int prepare_insert(struct store *store)
{
    struct buf sql = {0};
    buf_puts(&sql, "INSERT INTO gateway_logs (");
    for (size_t i = 0; i < record_columns_count; i++)
        buf_printf(&sql, "%s%s", i ? ", " : "", record_columns[i].name);
    buf_puts(&sql, ") VALUES (");
    for (size_t i = 0; i < record_columns_count; i++)
        buf_puts(&sql, i ? ", ?" : "?");
    buf_puts(&sql, ") ON CONFLICT (request_id) DO NOTHING");
    int code = sqlite_prepare(store, buf_cstr(&sql), &store->insert_row);
    buf_free(&sql);
    return code;
}

static int prepare_statements(struct store *store)
{
    int code = prepare_insert(store);
    if (code == SQLITE_OK)
        code = sqlite_prepare(
            store,
            "INSERT INTO gateway_spool (host, segment, committed) VALUES (?, ?, ?) "
            "ON CONFLICT (host, segment) DO UPDATE SET committed = excluded.committed",
            &store->put_offset);
    if (code == SQLITE_OK)
        code = sqlite_prepare(store, "DELETE FROM gateway_spool WHERE host = ? AND segment = ?",
                              &store->forget_offset);
    if (code == SQLITE_OK)
        code = sqlite_prepare_usage(store);
    return code == SQLITE_OK ? sqlite_prepare_expiry(store) : code;
}

int sqlite_read_offsets(struct store *store, store_offset_fn *each, void *context)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite_prepare(store, "SELECT segment, committed FROM gateway_spool WHERE host = ?",
                              &statement);
    if (code != SQLITE_OK)
        return code;
    sqlite3_bind_text(statement, 1, store->host, -1, SQLITE_STATIC);
    while (sqlite3_step(statement) == SQLITE_ROW)
        each(context, (const char *)sqlite3_column_text(statement, 0),
             (uint64_t)sqlite3_column_int64(statement, 1));
    return sqlite3_finalize(statement);
}

/* Everything up to the prepared statements. */
static bool bring_up(struct store *store, struct error *error)
{
    disconnect(store);
    if (!create_file(store, error))
        return false;
    static const enum store_reason reasons[] = {[SCHEMA_GOOD] = STORE_REASON_none,
                                                [SCHEMA_HELD] = STORE_REASON_locked,
                                                [SCHEMA_TOO_NEW] = STORE_REASON_schema};
    enum schema_state schema = SCHEMA_GOOD;
    int code = connect_file(store);
    if (code == SQLITE_OK)
        code = migrate(store, &schema, error);
    if (code == SQLITE_OK && schema == SCHEMA_GOOD)
        code = prepare_statements(store);
    store->reason = reasons[schema];
    if (code != SQLITE_OK) {
        store->reason = reason_of(store, code);
        sqlite_failed(store, error, "can't open the store");
    } else if (sqlite3_db_readonly(store->db, "main") == 1) {
        store->reason = STORE_REASON_read_only;
        error_set(error, "%s: can't open the store for writing", store->path);
    }
    if (store->reason != STORE_REASON_none)
        disconnect(store);
    store->was_open |= store->reason == STORE_REASON_none;
    return store->reason == STORE_REASON_none;
}

/* May it go away by itself, or with room on the disk? */
static bool passes(enum store_reason reason)
{
    return reason == STORE_REASON_locked || reason == STORE_REASON_full ||
           reason == STORE_REASON_io || reason == STORE_REASON_resources;
}

static enum store_result sqlite_start(struct store *store, store_offset_fn *each, void *context,
                                      struct error *error)
{
    bool up = bring_up(store, error);
    int code = up ? sqlite_read_offsets(store, each, context) : SQLITE_OK;
    if (code != SQLITE_OK) {
        store->reason = reason_of(store, code);
        up = sqlite_failed(store, error, "can't read how far the spool is");
        disconnect(store);
    }
    if (up)
        return STORE_DONE;
    return passes(store->reason) ? STORE_AWAY : STORE_REFUSED;
}

int sqlite_bind_text(sqlite3_stmt *statement, int place, struct str text)
{
    return sqlite3_bind_text64(statement, place, text.at, text.len, SQLITE_STATIC, SQLITE_UTF8);
}

static int bind_column(struct store *store, const struct record *row, size_t index)
{
    const struct record_column *column = &record_columns[index];
    const char *field = (const char *)row + column->offset;
    char *text = store->scratch[index].text;
    int place = (int)index + 1;
    if (column->kind == RECORD_KIND_UUID)
        return sqlite_bind_text(store->insert_row, place,
                                str_of(uuid_format((const struct uuid *)field, text)));
    if (column->kind == RECORD_KIND_TEXT)
        return sqlite_bind_text(store->insert_row, place, *(const struct str *)field);
    int64_t value = *(const int64_t *)field;
    if (value == RECORD_NULL)
        return sqlite3_bind_null(store->insert_row, place);
    if (column->kind == RECORD_KIND_TIME)
        return sqlite_bind_text(store->insert_row, place, str_of(clock_rfc3339(value, text)));
    return sqlite3_bind_int64(store->insert_row, place, value);
}

int sqlite_finish(sqlite3_stmt *statement)
{
    sqlite3_step(statement);
    return sqlite3_reset(statement);
}

static int insert_row(struct store *store, const struct record *row)
{
    for (size_t i = 0; i < record_columns_count; i++) {
        int code = bind_column(store, row, i);
        if (code != SQLITE_OK)
            return code;
    }
    return sqlite_finish(store->insert_row);
}

static int bind_segment(struct store *store, sqlite3_stmt *statement, const char *segment)
{
    int code = sqlite_bind_text(statement, 1, str_of(store->host));
    return code == SQLITE_OK ? sqlite_bind_text(statement, 2, str_of(segment)) : code;
}

static int write_offsets(struct store *store, const struct store_batch *batch)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < batch->offsets_count; i++) {
        code = bind_segment(store, store->put_offset, batch->offsets[i].segment);
        sqlite3_bind_int64(store->put_offset, 3, (int64_t)batch->offsets[i].committed);
        if (code == SQLITE_OK)
            code = sqlite_finish(store->put_offset);
        STEP(offset_put);
    }
    for (size_t i = 0; code == SQLITE_OK && i < batch->gone_count; i++) {
        code = bind_segment(store, store->forget_offset, batch->gone[i]);
        if (code == SQLITE_OK)
            code = sqlite_finish(store->forget_offset);
        STEP(offset_forgotten);
    }
    return code;
}

static int insert_rows(struct store *store, struct store_batch *batch)
{
    int code = SQLITE_OK;
    usage_clear(&store->usage);
    for (size_t i = 0; code == SQLITE_OK && i < batch->rows_count; i++) {
        code = insert_row(store, &batch->rows[i]);
        STEP(row_inserted);
        if (code != SQLITE_OK || sqlite3_changes(store->db) == 0)
            continue;
        batch->new_rows++;
        usage_add(&store->usage, &store->months, &batch->rows[i]);
    }
    return code == SQLITE_OK ? sqlite_write_usage(store) : code;
}

/* `*rows_to_blame`: whether a refusal can be for the rows' content. */
static int write_batch(struct store *store, struct store_batch *batch, bool *rows_to_blame)
{
    *rows_to_blame = batch->rows_count > 0;
    int code = sqlite_run(store, "BEGIN IMMEDIATE");
    STEP(batch_begun);
    if (code == SQLITE_OK)
        code = insert_rows(store, batch);
    if (code != SQLITE_OK)
        return code;
    code = sqlite_write_refused(store, batch);
    if (code == SQLITE_OK)
        code = write_offsets(store, batch);
    *rows_to_blame = *rows_to_blame && code == SQLITE_OK;
    STEP(batch_to_commit);
    if (code == SQLITE_OK)
        code = sqlite_run(store, "COMMIT");
    STEP(batch_committed);
    return code;
}

/* SQLite goes on writing to files that were deleted or replaced: those rows nobody would ever see
 * again. */
static bool database_moved(struct store *store)
{
    int moved = 0;
    return sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved;
}

/* The path of this connection's -wal file is `*path` (sqlite3_free); is the file there it? */
static bool wal_is_ours(struct store *store, char **path)
{
    struct stat status;
    *path = sqlite3_mprintf("%s-wal", store->path);
    bool there = stat(*path, &status) == 0;
    if (there && store->wal_inode == 0) {
        store->wal_device = status.st_dev;
        store->wal_inode = status.st_ino;
    }
    return there && status.st_dev == store->wal_device && status.st_ino == store->wal_inode;
}

static bool wal_moved(struct store *store)
{
    char *path;
    bool ours = wal_is_ours(store, &path);
    sqlite3_free(path);
    return store->wal_inode != 0 && !ours;
}

/* The -wal that stayed when another database was put in this one's place would be played into
 * that. */
static void leave_database(struct store *store)
{
    char *wal, *shm = sqlite3_mprintf("%s-shm", store->path);
    bool ours = wal_is_ours(store, &wal);
    log_warning("%s was deleted or replaced: it is opened anew", store->path);
    disconnect(store);
    STEP(store_left);
    if (ours) {
        unlink(wal);
        STEP(wal_left);
        unlink(shm);
    }
    sqlite3_free(wal);
    sqlite3_free(shm);
}

/* What is in a WAL without a name goes into the database, before the connection that alone knows
 * it is closed. */
static bool rescue_wal(struct store *store, struct error *error)
{
    int code = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if (code != SQLITE_OK) {
        store->reason = reason_of(store, code);
        return sqlite_failed(store, error, "the -wal file is gone, and can't be made up for");
    }
    STEP(wal_rescued);
    log_warning("%s-wal was deleted or replaced: what it held is in the database now", store->path);
    return true;
}

/* A connection to the files that are at the path now. */
static bool connected(struct store *store, struct error *error)
{
    if (store->db && database_moved(store))
        leave_database(store);
    if (store->db && wal_moved(store)) {
        if (!rescue_wal(store, error))
            return false;
        disconnect(store);
    }
    return store->db || bring_up(store, error);
}

static void transaction_failed(struct store *store, int code, const char *doing,
                               struct error *error)
{
    store->reason = reason_of(store, code);
    sqlite_failed(store, error, doing);
    /* Some failures have rolled back already. */
    if (!sqlite3_get_autocommit(store->db))
        sqlite_run(store, "ROLLBACK");
    /* A fresh connection finds out what became of the file. */
    if (store->reason != STORE_REASON_content && store->reason != STORE_REASON_locked &&
        store->reason != STORE_REASON_full)
        disconnect(store);
}

static enum store_result sqlite_commit(struct store *store, struct store_batch *batch,
                                       struct error *error)
{
    if (!connected(store, error))
        return STORE_AWAY;
    bool rows_to_blame;
    int code = write_batch(store, batch, &rows_to_blame);
    if (code != SQLITE_OK) {
        transaction_failed(store, code, "can't write", error);
        batch->new_rows = 0;
        if (store->reason == STORE_REASON_content && rows_to_blame)
            return STORE_REFUSED;
        if (store->reason == STORE_REASON_content)
            store->reason = STORE_REASON_other;
        return STORE_AWAY;
    }
    store->reason = STORE_REASON_none;
    if (!database_moved(store) && !wal_moved(store))
        return STORE_DONE;
    batch->new_rows = 0;
    store->reason = STORE_REASON_unreachable;
    error_set(error, "%s: its files were deleted or replaced while it was written to", store->path);
    return STORE_AWAY;
}

static enum store_result sqlite_expire(struct store *store, struct store_expiry *expiry,
                                       struct error *error)
{
    if (!connected(store, error))
        return STORE_AWAY;
    int code = sqlite_delete_old(store, expiry);
    store->reason = STORE_REASON_none;
    if (code == SQLITE_OK)
        return STORE_DONE;
    transaction_failed(store, code, "can't delete old rows", error);
    expiry->rows = 0;
    return STORE_AWAY;
}

/* Never called: nothing here answers STORE_WORKING. */
static enum store_result sqlite_step(struct store *store, struct error *error)
{
    error_set(error, "%s: nothing is under way", store->path);
    return STORE_AWAY;
}

static struct store_wait sqlite_wait(const struct store *store)
{
    (void)store;
    return (struct store_wait){.descriptor = -1, .timeout_ms = 0};
}

static enum store_reason sqlite_reason(const struct store *store)
{
    return store->reason;
}

const struct store_driver store_sqlite = {
    .name = "sqlite",
    .place = sqlite_place,
    .open = sqlite_open,
    .start = sqlite_start,
    .commit = sqlite_commit,
    .expire = sqlite_expire,
    .step = sqlite_step,
    .wait = sqlite_wait,
    .reason = sqlite_reason,
    .open_reader = sqlite_open_reader,
    .query = sqlite_query,
    .spend = sqlite_spend,
    .inspect = sqlite_inspect,
    .close = sqlite_close,
};
