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
    if (migrations_look(store_sqlite.name, (int)number, error) == SCHEMA_TOO_NEW)
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

/* The row that was stored last; 0 when there is none, as after all were too old. */
static const char newest_position[] = "SELECT coalesce(max(rowid), 0) FROM gateway_logs";

/* Where a filter's parameters stand in every statement: ?1 limit, ?2 after, then these. */
enum { AT_PROJECT = 3, AT_ENDPOINT, AT_TOKEN, AT_STATUS, AT_DECISION, AT_SINCE, AT_UNTIL };

/* `plain` "+" keeps an index out: of rows behind a position, that alone is to be looked at. Few
 * rows have another status than ok, so only those are in its index. */
static void append_filter(struct buf *sql, const struct store_filter *filter, const char *plain)
{
    if (filter->project.at)
        buf_printf(sql, " AND %sproject = ?%d", plain, AT_PROJECT);
    if (filter->endpoint.at)
        buf_printf(sql, " AND %sendpoint = ?%d", plain, AT_ENDPOINT);
    if (filter->token.at)
        buf_printf(sql, " AND %stoken = ?%d", plain, AT_TOKEN);
    if (filter->status.at)
        buf_printf(sql, " AND %sstatus = ?%d", plain, AT_STATUS);
    if (filter->status.at && !str_eq(filter->status, STR("ok")))
        buf_puts(sql, " AND status <> 'ok'");
    if (filter->decision.at)
        buf_printf(sql, " AND %srouting_decision = ?%d", plain, AT_DECISION);
    if (filter->since_wall_ms)
        buf_printf(sql, " AND %srequest_id >= ?%d", plain, AT_SINCE);
    if (filter->until_wall_ms)
        buf_printf(sql, " AND %srequest_id < ?%d", plain, AT_UNTIL);
}

/* The newest by id, so that the inner select runs over an index, however large the rows are, and
 * the outer one over the same, so that nothing is sorted. */
static void append_newest(struct buf *sql, const struct store_filter *filter)
{
    buf_puts(sql, " FROM gateway_logs WHERE request_id >= (SELECT min(request_id) FROM (SELECT "
                  "request_id FROM gateway_logs WHERE true");
    append_filter(sql, filter, "");
    buf_puts(sql, " ORDER BY request_id DESC LIMIT ?1))");
    append_filter(sql, filter, "");
    buf_puts(sql, " ORDER BY request_id LIMIT ?1");
}

void sqlite_query_text(const struct store_query *query, struct buf *sql)
{
    buf_puts(sql, "SELECT rowid");
    for (size_t i = 0; i < record_columns_count; i++)
        buf_printf(sql, ", %s", record_columns[i].name);
    if (query->after < 0) {
        append_newest(sql, &query->filter);
        return;
    }
    buf_puts(sql, " FROM gateway_logs WHERE rowid > ?2");
    append_filter(sql, &query->filter, "+");
    buf_puts(sql, " ORDER BY rowid LIMIT ?1");
}

/* A parameter that the statement lacks is none to bind. */
static int bind_filter(sqlite3_stmt *statement, const struct store_filter *filter,
                       char since[UUID_TEXT_LEN + 1], char until[UUID_TEXT_LEN + 1])
{
    struct uuid from = uuid_first(filter->since_wall_ms), to = uuid_first(filter->until_wall_ms);
    const struct {
        int at;
        struct str value;
    } values[] = {
        {AT_PROJECT, filter->project},
        {AT_ENDPOINT, filter->endpoint},
        {AT_TOKEN, filter->token},
        {AT_STATUS, filter->status},
        {AT_DECISION, filter->decision},
        {AT_SINCE, filter->since_wall_ms ? str_of(uuid_format(&from, since)) : STR_ABSENT},
        {AT_UNTIL, filter->until_wall_ms ? str_of(uuid_format(&to, until)) : STR_ABSENT},
    };
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < sizeof values / sizeof *values; i++)
        if (values[i].value.at)
            code = sqlite_bind_text(statement, values[i].at, values[i].value);
    return code;
}

static int prepare_query(struct store *store, const struct store_query *query,
                         char since[UUID_TEXT_LEN + 1], char until[UUID_TEXT_LEN + 1],
                         sqlite3_stmt **statement)
{
    struct buf sql = {0};
    sqlite_query_text(query, &sql);
    int code = sqlite_prepare(store, buf_cstr(&sql), statement);
    buf_free(&sql);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(*statement, 1, (int64_t)query->limit);
    if (code == SQLITE_OK && query->after >= 0)
        code = sqlite3_bind_int64(*statement, 2, query->after);
    return code == SQLITE_OK ? bind_filter(*statement, &query->filter, since, until) : code;
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

/* With `after` and less than was asked for: whatever there is has been looked at. */
static int read_rows(struct store *store, struct store_query *query, store_row_fn *each,
                     void *context)
{
    sqlite3_stmt *statement = NULL;
    char since[UUID_TEXT_LEN + 1], until[UUID_TEXT_LEN + 1];
    int code = prepare_query(store, query, since, until, &statement);
    struct str *values = xcalloc(record_columns_count, sizeof *values);
    bool more = code == SQLITE_OK;
    size_t count = 0;
    for (; more && sqlite3_step(statement) == SQLITE_ROW; count++) {
        if (query->after >= 0)
            query->position = sqlite3_column_int64(statement, 0);
        for (size_t i = 0; i < record_columns_count; i++)
            values[i] = column_text(statement, i);
        more = each(context, values);
    }
    free(values);
    int end = sqlite3_finalize(statement);
    if (code == SQLITE_OK && end == SQLITE_OK && more && count < query->limit)
        return sqlite_read_number(store, newest_position, &query->position);
    return code == SQLITE_OK ? end : code;
}

/* Rows and position are of one snapshot: what is stored after it comes with the next query. */
bool sqlite_query(struct store *store, struct store_query *query, store_row_fn *each, void *context,
                  struct error *error)
{
    int code = sqlite_run(store, "BEGIN");
    query->position = query->after < 0 ? 0 : query->after;
    if (code == SQLITE_OK && query->after < 0)
        code = sqlite_read_number(store, newest_position, &query->position);
    if (code == SQLITE_OK)
        code = read_rows(store, query, each, context);
    bool ok = code == SQLITE_OK || sqlite_failed(store, error, "can't read");
    if (!sqlite3_get_autocommit(store->db))
        sqlite_run(store, "ROLLBACK");
    return ok;
}

/* --- month totals --- */

void sqlite_spend_text(enum store_spend_by by, struct buf *sql)
{
    static const char *const columns[] = {
        [STORE_BY_ENDPOINT] = "project, endpoint",
        [STORE_BY_TOKEN] = "project, token",
        [STORE_BY_MODEL] = "provider, model",
    };
    buf_printf(sql,
               "SELECT %s, sum(requests), sum(prompt_tokens), sum(completion_tokens), "
               "sum(cost_nano_usd) FROM gateway_usage_hourly WHERE month = ?1 "
               "GROUP BY %s ORDER BY 6 DESC, 3 DESC, 1, 2",
               columns[by], columns[by]);
}

bool sqlite_spend(struct store *store, const char *month, enum store_spend_by by,
                  store_spend_fn *each, void *context, struct error *error)
{
    struct buf sql = {0};
    sqlite3_stmt *statement = NULL;
    sqlite_spend_text(by, &sql);
    int code = sqlite_prepare(store, buf_cstr(&sql), &statement);
    if (code == SQLITE_OK)
        code = sqlite_bind_text(statement, 1, str_of(month));
    bool more = code == SQLITE_OK;
    while (more && sqlite3_step(statement) == SQLITE_ROW) {
        const struct store_spend spend = {
            .group = str_of((const char *)sqlite3_column_text(statement, 0)),
            .name = str_of((const char *)sqlite3_column_text(statement, 1)),
            .requests = sqlite3_column_int64(statement, 2),
            .prompt_tokens = sqlite3_column_int64(statement, 3),
            .completion_tokens = sqlite3_column_int64(statement, 4),
            .cost_nano_usd = sqlite3_column_int64(statement, 5),
        };
        more = each(context, &spend);
    }
    int end = sqlite3_finalize(statement);
    buf_free(&sql);
    return (code == SQLITE_OK && end == SQLITE_OK) || sqlite_failed(store, error, "can't read");
}
