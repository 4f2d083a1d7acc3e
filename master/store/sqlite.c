#include "master/store/sqlite.h"

#include "master/store/migrations.h"
#include "shared/base/clock.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READER_BUSY_MS = 5000 };

/* Text of a UUID or a time while it is bound. */
struct scratch {
    char text[UUID_TEXT_LEN + 1];
};

_Static_assert(sizeof(struct scratch) >= CLOCK_RFC3339_SIZE, "a time fits");

struct store {
    const struct store_driver *driver;
    char *path, *host;
    sqlite3 *db; /* NULL until started */
    sqlite3_stmt *insert_row, *put_offset, *forget_offset;
    struct scratch *scratch; /* one for each column */
};

static bool set_error(struct store *store, struct error *error, const char *doing)
{
    return error_set(error, "%s: %s: %s", store->path, doing, sqlite3_errmsg(store->db));
}

static int run(struct store *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

static int prepare(struct store *store, const char *sql, sqlite3_stmt **statement)
{
    return sqlite3_prepare_v3(store->db, sql, -1, SQLITE_PREPARE_PERSISTENT, statement, NULL);
}

/* The first column of the first row as a number; `*value` stays when there is no row. */
static int read_number(struct store *store, const char *sql, int64_t *value)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare(store, sql, &statement);
    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *value = sqlite3_column_int64(statement, 0);
    return sqlite3_finalize(statement);
}

static struct store *store_new(const struct config_store *config, const char *host)
{
    struct store *store = xcalloc(1, sizeof *store);
    store->driver = &store_sqlite;
    store->path = xstrdup(config->path);
    store->host = xstrdup(host);
    store->scratch = xcalloc(record_columns_count, sizeof *store->scratch);
    return store;
}

static void disconnect(struct store *store)
{
    sqlite3_stmt **statements[] = {&store->insert_row, &store->put_offset, &store->forget_offset};
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++) {
        sqlite3_finalize(*statements[i]);
        *statements[i] = NULL;
    }
    sqlite3_close(store->db);
    store->db = NULL;
}

static void sqlite_close(struct store *store)
{
    disconnect(store);
    free(store->path);
    free(store->host);
    free(store->scratch);
    free(store);
}

static bool sqlite_open(const struct config_store *config, const char *host, struct store **store,
                        struct error *error)
{
    if (!config->path || config->path[0] == '\0')
        return error_set(error, "store.path is not set");
    *store = store_new(config, host);
    return true;
}

/* Rows hold what users wrote: the group may read, others not, whatever the umask. SQLite gives its
 * -wal and -shm files the same mode. */
static bool create_file(struct store *store, struct error *error)
{
    int fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    if (fd < 0)
        return errno == EEXIST || error_errno(error, errno, "can't create %s", store->path);
    int failed = fchmod(fd, 0640) != 0 ? errno : 0;
    close(fd);
    return !failed || error_errno(error, failed, "can't set the mode of %s", store->path);
}

static int connect_file(struct store *store)
{
    int code =
        sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        return code;
    sqlite3_busy_timeout(store->db, 0);
    code = run(store, "PRAGMA journal_mode = WAL");
    if (code == SQLITE_OK)
        code = run(store, "PRAGMA synchronous = FULL");
    /* Grown in a burst, the WAL is cut back to 64 MiB after its checkpoint. */
    if (code == SQLITE_OK)
        code = run(store, "PRAGMA journal_size_limit = 67108864");
    return code;
}

static int note_migration(struct store *store, const struct migration *step)
{
    char now[CLOCK_RFC3339_SIZE];
    char *sql = sqlite3_mprintf("INSERT INTO schema_migrations VALUES (%d, %Q, %Q)", step->number,
                                step->name, clock_rfc3339(clock_wall_ms(), now));
    int code = run(store, sql);
    sqlite3_free(sql);
    return code;
}

/* All missing steps in one transaction. True in `*too_new` for a schema of a later program. */
static int migrate(struct store *store, bool *too_new, struct error *error)
{
    int code = run(store, "BEGIN IMMEDIATE");
    if (code != SQLITE_OK)
        return code;
    code = run(store, "CREATE TABLE IF NOT EXISTS schema_migrations (number INTEGER PRIMARY KEY, "
                      "name TEXT NOT NULL, applied_at TEXT NOT NULL) STRICT");
    int64_t number = 0;
    if (code == SQLITE_OK)
        code = read_number(store, "SELECT max(number) FROM schema_migrations", &number);
    if (code == SQLITE_OK && !migrations_known(store_sqlite.name, (int)number, error)) {
        *too_new = true;
        return run(store, "ROLLBACK");
    }
    const struct migration *step;
    while (code == SQLITE_OK && (step = migrations_after(store_sqlite.name, (int)number))) {
        code = run(store, step->sql);
        if (code == SQLITE_OK)
            code = note_migration(store, step);
        number = step->number;
    }
    return code == SQLITE_OK ? run(store, "COMMIT") : code;
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
    int code = prepare(store, buf_cstr(&sql), &store->insert_row);
    buf_free(&sql);
    return code;
}

static int prepare_statements(struct store *store)
{
    int code = prepare_insert(store);
    if (code == SQLITE_OK)
        code = prepare(store,
                       "INSERT INTO gateway_spool (host, segment, committed) VALUES (?, ?, ?) "
                       "ON CONFLICT (host, segment) DO UPDATE SET committed = excluded.committed",
                       &store->put_offset);
    if (code == SQLITE_OK)
        code = prepare(store, "DELETE FROM gateway_spool WHERE host = ? AND segment = ?",
                       &store->forget_offset);
    return code;
}

static int read_offsets(struct store *store, store_offset_fn *each, void *context)
{
    sqlite3_stmt *statement = NULL;
    int code =
        prepare(store, "SELECT segment, committed FROM gateway_spool WHERE host = ?", &statement);
    if (code != SQLITE_OK)
        return code;
    sqlite3_bind_text(statement, 1, store->host, -1, SQLITE_STATIC);
    while (sqlite3_step(statement) == SQLITE_ROW)
        each(context, (const char *)sqlite3_column_text(statement, 0),
             (uint64_t)sqlite3_column_int64(statement, 1));
    return sqlite3_finalize(statement);
}

/* May the same thing work later without anybody's help? */
static bool passes(int code)
{
    code &= 0xFF;
    return code == SQLITE_BUSY || code == SQLITE_LOCKED || code == SQLITE_FULL ||
           code == SQLITE_IOERR || code == SQLITE_PROTOCOL || code == SQLITE_NOMEM;
}

static enum store_result sqlite_start(struct store *store, store_offset_fn *each, void *context,
                                      struct error *error)
{
    disconnect(store);
    if (!create_file(store, error))
        return STORE_REFUSED;
    bool too_new = false;
    int code = connect_file(store);
    if (code == SQLITE_OK)
        code = migrate(store, &too_new, error);
    if (code == SQLITE_OK && !too_new)
        code = prepare_statements(store);
    if (code == SQLITE_OK && !too_new)
        code = read_offsets(store, each, context);
    if (code == SQLITE_OK && !too_new)
        return STORE_DONE;
    if (!too_new)
        set_error(store, error, "can't open the store");
    disconnect(store);
    return !too_new && passes(code) ? STORE_AWAY : STORE_REFUSED;
}

static int bind_text(sqlite3_stmt *statement, int place, struct str text)
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
        return bind_text(store->insert_row, place,
                         str_of(uuid_format((const struct uuid *)field, text)));
    if (column->kind == RECORD_KIND_TEXT)
        return bind_text(store->insert_row, place, *(const struct str *)field);
    int64_t value = *(const int64_t *)field;
    if (value == RECORD_NULL)
        return sqlite3_bind_null(store->insert_row, place);
    if (column->kind == RECORD_KIND_TIME)
        return bind_text(store->insert_row, place, str_of(clock_rfc3339(value, text)));
    return sqlite3_bind_int64(store->insert_row, place, value);
}

static int finish(sqlite3_stmt *statement)
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
    return finish(store->insert_row);
}

static int bind_segment(struct store *store, sqlite3_stmt *statement, const char *segment)
{
    int code = bind_text(statement, 1, str_of(store->host));
    return code == SQLITE_OK ? bind_text(statement, 2, str_of(segment)) : code;
}

static int write_offsets(struct store *store, const struct store_batch *batch)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < batch->offsets_count; i++) {
        code = bind_segment(store, store->put_offset, batch->offsets[i].segment);
        sqlite3_bind_int64(store->put_offset, 3, (int64_t)batch->offsets[i].committed);
        if (code == SQLITE_OK)
            code = finish(store->put_offset);
    }
    for (size_t i = 0; code == SQLITE_OK && i < batch->gone_count; i++) {
        code = bind_segment(store, store->forget_offset, batch->gone[i]);
        if (code == SQLITE_OK)
            code = finish(store->forget_offset);
    }
    return code;
}

static int write_batch(struct store *store, struct store_batch *batch)
{
    int code = run(store, "BEGIN IMMEDIATE");
    for (size_t i = 0; code == SQLITE_OK && i < batch->rows_count; i++) {
        code = insert_row(store, &batch->rows[i]);
        if (code == SQLITE_OK)
            batch->new_rows += (size_t)sqlite3_changes(store->db);
    }
    if (code == SQLITE_OK)
        code = write_offsets(store, batch);
    return code == SQLITE_OK ? run(store, "COMMIT") : code;
}

static enum store_result sqlite_commit(struct store *store, struct store_batch *batch,
                                       struct error *error)
{
    int code = write_batch(store, batch);
    if (code == SQLITE_OK)
        return STORE_DONE;
    set_error(store, error, "can't write");
    batch->new_rows = 0;
    /* Some failures have rolled back already. */
    if (!sqlite3_get_autocommit(store->db))
        run(store, "ROLLBACK");
    code &= 0xFF;
    bool content = code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH || code == SQLITE_TOOBIG;
    return content ? STORE_REFUSED : STORE_AWAY;
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

static bool check_schema(struct store *store, struct error *error)
{
    int64_t number = 0;
    if (read_number(store, "SELECT max(number) FROM schema_migrations", &number) != SQLITE_OK)
        return set_error(store, error, "can't read the schema's number");
    if (!migrations_known(store_sqlite.name, (int)number, error))
        return false;
    return number == migrations_newest(store_sqlite.name) ||
           error_set(error,
                     "%s: its schema is step %d, this program needs %d: start the gateway once",
                     store->path, (int)number, migrations_newest(store_sqlite.name));
}

static bool sqlite_open_reader(const struct config_store *config, struct store **out,
                               struct error *error)
{
    if (access(config->path, F_OK) != 0)
        return error_errno(error, errno, "no rows yet in %s", config->path);
    struct store *store = store_new(config, "");
    int code =
        sqlite3_open_v2(config->path, &store->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    bool ok = code == SQLITE_OK || set_error(store, error, "can't open the store");
    if (ok)
        sqlite3_busy_timeout(store->db, READER_BUSY_MS);
    if (!ok || !check_schema(store, error)) {
        sqlite_close(store);
        return false;
    }
    *out = store;
    return true;
}

/* By id, so that the inner select runs over the index alone, however large the rows are. */
static const char newest_rows[] =
    " FROM gateway_logs WHERE request_id >= (SELECT min(request_id) FROM (SELECT request_id "
    "FROM gateway_logs ORDER BY request_id DESC LIMIT ?1)) ORDER BY request_id LIMIT ?1";
static const char rows_after[] = " FROM gateway_logs WHERE rowid > ?2 ORDER BY rowid LIMIT ?1";

static int prepare_query(struct store *store, const struct store_query *query,
                         sqlite3_stmt **statement)
{
    struct buf sql = {0};
    buf_puts(&sql, "SELECT rowid");
    for (size_t i = 0; i < record_columns_count; i++)
        buf_printf(&sql, ", %s", record_columns[i].name);
    buf_puts(&sql, query->after < 0 ? newest_rows : rows_after);
    int code = prepare(store, buf_cstr(&sql), statement);
    buf_free(&sql);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(*statement, 1, (int64_t)query->limit);
    if (code == SQLITE_OK && query->after >= 0)
        code = sqlite3_bind_int64(*statement, 2, query->after);
    return code;
}

static struct str column_text(sqlite3_stmt *statement, size_t index)
{
    int place = (int)index + 1;
    if (sqlite3_column_type(statement, place) == SQLITE_NULL)
        return STR_ABSENT;
    if (record_columns[index].kind == RECORD_KIND_BOOL)
        return sqlite3_column_int64(statement, place) ? STR("true") : STR("false");
    const char *text = (const char *)sqlite3_column_text(statement, place);
    return (struct str){text ? text : "", (size_t)sqlite3_column_bytes(statement, place)};
}

static int read_rows(struct store *store, struct store_query *query, store_row_fn *each,
                     void *context)
{
    sqlite3_stmt *statement = NULL;
    int code = prepare_query(store, query, &statement);
    struct str *values = xcalloc(record_columns_count, sizeof *values);
    bool more = code == SQLITE_OK;
    while (more && sqlite3_step(statement) == SQLITE_ROW) {
        if (query->after >= 0)
            query->position = sqlite3_column_int64(statement, 0);
        for (size_t i = 0; i < record_columns_count; i++)
            values[i] = column_text(statement, i);
        more = each(context, values);
    }
    free(values);
    int end = sqlite3_finalize(statement);
    return code == SQLITE_OK ? end : code;
}

/* Rows and position are of one snapshot: what is stored after it comes with the next query. */
static bool sqlite_query(struct store *store, struct store_query *query, store_row_fn *each,
                         void *context, struct error *error)
{
    int code = run(store, "BEGIN");
    query->position = query->after < 0 ? 0 : query->after;
    if (code == SQLITE_OK && query->after < 0)
        code = read_number(store, "SELECT max(rowid) FROM gateway_logs", &query->position);
    if (code == SQLITE_OK)
        code = read_rows(store, query, each, context);
    bool ok = code == SQLITE_OK || set_error(store, error, "can't read");
    if (!sqlite3_get_autocommit(store->db))
        run(store, "ROLLBACK");
    return ok;
}

const struct store_driver store_sqlite = {
    .name = "sqlite",
    .open = sqlite_open,
    .start = sqlite_start,
    .commit = sqlite_commit,
    .step = sqlite_step,
    .wait = sqlite_wait,
    .open_reader = sqlite_open_reader,
    .query = sqlite_query,
    .close = sqlite_close,
};
