#include "master/store/migrations.h"
#include "master/store/sqlite_private.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

enum { READER_BUSY_MS = 5000 };

static bool check_schema(struct store *store, struct error *error)
{
    int64_t number = 0;
    if (sqlite_read_number(store, "SELECT max(number) FROM schema_migrations", &number) !=
        SQLITE_OK)
        return sqlite_failed(store, error, "can't read the schema's number");
    if (!migrations_known(store_sqlite.name, (int)number, error))
        return false;
    return number == migrations_newest(store_sqlite.name) ||
           error_set(error,
                     "%s: its schema is step %d, this program needs %d: start the gateway once",
                     store->path, (int)number, migrations_newest(store_sqlite.name));
}

static bool open_read_only(const struct config_store *config, const char *host, struct store **out,
                           struct error *error)
{
    struct store *store = sqlite_new(config, host);
    int code =
        sqlite3_open_v2(config->path, &store->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX, NULL);
    *out = store;
    if (code != SQLITE_OK)
        return sqlite_failed(store, error, "can't open the store");
    sqlite3_busy_timeout(store->db, READER_BUSY_MS);
    return true;
}

bool sqlite_open_reader(const struct config_store *config, struct store **out, struct error *error)
{
    if (access(config->path, F_OK) != 0)
        return error_errno(error, errno, "no rows yet in %s", config->path);
    struct store *store;
    if (!open_read_only(config, "", &store, error) || !check_schema(store, error)) {
        sqlite_close(store);
        return false;
    }
    *out = store;
    return true;
}

/* An empty file is a store that was never started. */
static int look_around(struct store *store, struct store_found *found, store_offset_fn *each,
                       void *context)
{
    int64_t tables = 0, schema = 0;
    int code = sqlite_read_number(store,
                                  "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND "
                                  "name IN ('schema_migrations', 'gateway_logs', 'gateway_spool')",
                                  &tables);
    if (code != SQLITE_OK || tables < 3)
        return code;
    code = sqlite_read_number(store, "SELECT max(number) FROM schema_migrations", &schema);
    if (code == SQLITE_OK)
        code = sqlite_read_number(store, "SELECT count(*) FROM gateway_logs", &found->rows);
    if (code == SQLITE_OK)
        code = sqlite_read_offsets(store, each, context);
    found->schema = (int)schema;
    return code;
}

bool sqlite_inspect(const struct config_store *config, const char *host, struct store_found *found,
                    store_offset_fn *each, void *context, struct error *error)
{
    found->schema_known = migrations_newest(store_sqlite.name);
    found->exists = access(config->path, F_OK) == 0;
    if (!found->exists)
        return errno == ENOENT || error_errno(error, errno, "can't look at %s", config->path);
    struct store *store;
    bool good = open_read_only(config, host, &store, error);
    if (good && look_around(store, found, each, context) != SQLITE_OK)
        good = sqlite_failed(store, error, "can't read");
    sqlite_close(store);
    return good;
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
    int code = sqlite_prepare(store, buf_cstr(&sql), statement);
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
bool sqlite_query(struct store *store, struct store_query *query, store_row_fn *each, void *context,
                  struct error *error)
{
    int code = sqlite_run(store, "BEGIN");
    query->position = query->after < 0 ? 0 : query->after;
    if (code == SQLITE_OK && query->after < 0)
        code = sqlite_read_number(store, "SELECT max(rowid) FROM gateway_logs", &query->position);
    if (code == SQLITE_OK)
        code = read_rows(store, query, each, context);
    bool ok = code == SQLITE_OK || sqlite_failed(store, error, "can't read");
    if (!sqlite3_get_autocommit(store->db))
        sqlite_run(store, "ROLLBACK");
    return ok;
}
