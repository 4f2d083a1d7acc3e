#include "master/store/migrations.h"
#include "master/store/postgres_private.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>

/* The command line's side of the driver has a connection, and waits. */
struct store {
    const struct store_driver *driver;
    PGconn *conn;
    struct buf place;
};

static const struct store_driver reader_driver = {
    .name = "postgres",
    .query = postgres_query,
    .spend = postgres_spend,
    .close = postgres_close_reader,
};

void postgres_close_reader(struct store *store)
{
    PQfinish(store->conn);
    buf_free(&store->place);
    free(store);
}

static bool failed(struct store *store, const PGresult *result, const char *doing,
                   struct error *error)
{
    struct buf text = {0};
    postgres_say(store->conn, result, &text);
    error_set(error, "PostgreSQL at %s: %s: %s", buf_cstr(&store->place), doing, buf_cstr(&text));
    buf_free(&text);
    return false;
}

/* The result when it is what was hoped for, else NULL. */
static PGresult *ask(struct store *store, const char *sql, const char *doing, struct error *error)
{
    PGresult *result = PQexec(store->conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK)
        return result;
    failed(store, result, doing, error);
    PQclear(result);
    return NULL;
}

static bool ask_number(struct store *store, const char *sql, int64_t *number, struct error *error)
{
    PGresult *result = ask(store, sql, "can't read", error);
    if (!result)
        return false;
    *number = PQntuples(result) > 0 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : 0;
    PQclear(result);
    return true;
}

static bool run(struct store *store, const char *sql, struct error *error)
{
    PGresult *result = ask(store, sql, "can't read", error);
    PQclear(result);
    return result != NULL;
}

static struct store *connect_reader(const struct config_store *config, struct error *error)
{
    if (!postgres_dsn_check(config->dsn, error))
        return NULL;
    struct store *store = xcalloc(1, sizeof *store);
    store->driver = &reader_driver;
    postgres_dsn_place(config->dsn, &store->place);
    store->conn = postgres_connect(config->dsn);
    if (PQstatus(store->conn) == CONNECTION_OK)
        return store;
    if (PQstatus(store->conn) == CONNECTION_BAD)
        failed(store, NULL, "can't connect", error);
    else
        error_set(error, "PostgreSQL at %s: can't connect: no answer in time",
                  buf_cstr(&store->place));
    postgres_close_reader(store);
    return NULL;
}

static const char begin_reading[] = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
static const char tables_there[] =
    "SELECT count(*) FROM (VALUES ('schema_migrations'), ('gateway_logs'), ('gateway_spool')) "
    "AS wanted (name) WHERE to_regclass(name) IS NOT NULL";
static const char newest_step[] = "SELECT coalesce(max(number), 0) FROM schema_migrations";

static bool check_schema(struct store *store, struct error *error)
{
    int64_t tables, number;
    const char *place = buf_cstr(&store->place);
    if (!ask_number(store, tables_there, &tables, error))
        return false;
    if (tables < 3)
        return error_set(error, "no rows yet in PostgreSQL at %s", place);
    if (!ask_number(store, newest_step, &number, error) ||
        migrations_look(store_postgres.name, (int)number, error) == SCHEMA_TOO_NEW)
        return false;
    int newest = migrations_newest(store_postgres.name);
    return number == newest ||
           error_set(error,
                     "PostgreSQL at %s: its schema is step %d, this program needs %d: start the "
                     "gateway once",
                     place, (int)number, newest);
}

bool postgres_open_reader(const struct config_store *config, struct store **out,
                          struct error *error)
{
    struct store *store = connect_reader(config, error);
    if (!store)
        return false;
    if (!check_schema(store, error)) {
        postgres_close_reader(store);
        return false;
    }
    *out = store;
    return true;
}

static bool read_offsets(struct store *store, const char *host, store_offset_fn *each,
                         void *context, struct error *error)
{
    struct buf sql = {0};
    buf_puts(&sql, "SELECT segment, committed FROM gateway_spool WHERE host = ");
    postgres_sql_literal(store->conn, str_of(host), &sql);
    PGresult *result = ask(store, buf_cstr(&sql), "can't read", error);
    buf_free(&sql);
    for (int i = 0; result && i < PQntuples(result); i++)
        each(context, PQgetvalue(result, i, 0), strtoull(PQgetvalue(result, i, 1), NULL, 10));
    PQclear(result);
    return result != NULL;
}

static bool look_around(struct store *store, const char *host, struct store_found *found,
                        store_offset_fn *each, void *context, struct error *error)
{
    int64_t tables, schema;
    if (!run(store, begin_reading, error) || !ask_number(store, tables_there, &tables, error))
        return false;
    found->exists = tables == 3;
    if (!found->exists)
        return true;
    if (!ask_number(store, newest_step, &schema, error))
        return false;
    found->schema = (int)schema;
    return ask_number(store, "SELECT count(*) FROM gateway_logs", &found->rows, error) &&
           read_offsets(store, host, each, context, error);
}

bool postgres_inspect(const struct config_store *config, const char *host,
                      struct store_found *found, store_offset_fn *each, void *context,
                      struct error *error)
{
    found->schema_known = migrations_newest(store_postgres.name);
    struct store *store = connect_reader(config, error);
    if (!store)
        return false;
    bool good = look_around(store, host, found, each, context, error);
    postgres_close_reader(store);
    return good;
}

/* ---- rows */

static void put_equal(PGconn *conn, const char *column, struct str wanted, struct buf *sql)
{
    if (!wanted.at)
        return;
    buf_printf(sql, " AND %s = ", column);
    postgres_sql_literal(conn, wanted, sql);
}

static void put_bound(const char *comparison, int64_t wall_ms, struct buf *sql)
{
    if (wall_ms > 0)
        buf_printf(sql, " AND request_id %s gateway_logs_first_id(%lld)", comparison,
                   (long long)wall_ms);
}

static void put_filter(PGconn *conn, const struct store_filter *filter, struct buf *sql)
{
    put_equal(conn, "project", filter->project, sql);
    put_equal(conn, "endpoint", filter->endpoint, sql);
    put_equal(conn, "token", filter->token, sql);
    put_equal(conn, "status", filter->status, sql);
    put_equal(conn, "routing_decision", filter->decision, sql);
    put_bound(">=", filter->since_wall_ms, sql);
    put_bound("<", filter->until_wall_ms, sql);
}

/* Partial indexes are of use only where what makes them partial is said. */
static void put_hints(const struct store_filter *filter, struct buf *sql)
{
    if (filter->status.at && !str_eq(filter->status, STR("ok")))
        buf_puts(sql, " AND status <> 'ok'");
}

void postgres_query_text(PGconn *conn, const struct store_query *query, struct buf *sql)
{
    buf_puts(sql, "SELECT stored, ");
    postgres_sql_readable(sql);
    if (query->after < 0)
        buf_puts(sql, " FROM (SELECT * FROM gateway_logs WHERE true");
    else
        buf_printf(sql, " FROM gateway_logs WHERE stored > %lld", (long long)query->after);
    put_filter(conn, &query->filter, sql);
    put_hints(&query->filter, sql);
    if (query->after < 0)
        buf_printf(sql, " ORDER BY request_id DESC LIMIT %zu) AS newest ORDER BY request_id",
                   query->limit);
    else
        buf_printf(sql, " ORDER BY stored LIMIT %zu", query->limit);
}

static bool tell_row(const PGresult *result, struct store_query *query, store_row_fn *each,
                     void *context, struct str *values)
{
    if (query->after >= 0)
        query->position = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    for (size_t i = 0; i < record_columns_count; i++) {
        int column = (int)i + 1;
        values[i] =
            (struct str){PQgetvalue(result, 0, column), (size_t)PQgetlength(result, 0, column)};
        if (PQgetisnull(result, 0, column))
            values[i] = STR_ABSENT;
    }
    return each(context, values);
}

/* One row at a time: there may be a million. */
static bool read_rows(struct store *store, struct store_query *query, store_row_fn *each,
                      void *context, struct error *error)
{
    struct buf sql = {0};
    postgres_query_text(store->conn, query, &sql);
    bool good = PQsendQuery(store->conn, buf_cstr(&sql)) && PQsetSingleRowMode(store->conn);
    buf_free(&sql);
    if (!good)
        return failed(store, NULL, "can't read", error);
    struct str *values = xcalloc(record_columns_count, sizeof *values);
    bool more = true;
    for (PGresult *result; (result = PQgetResult(store->conn)); PQclear(result)) {
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_SINGLE_TUPLE)
            more = more && tell_row(result, query, each, context, values);
        else if (status != PGRES_TUPLES_OK && good)
            good = failed(store, result, "can't read", error);
    }
    free(values);
    return good;
}

/* Rows and position are of one snapshot: what is stored after it comes with the next query. */
bool postgres_query(struct store *store, struct store_query *query, store_row_fn *each,
                    void *context, struct error *error)
{
    query->position = query->after < 0 ? 0 : query->after;
    if (!run(store, begin_reading, error))
        return false;
    bool good = query->after >= 0 ||
                ask_number(store, "SELECT max(stored) FROM gateway_logs", &query->position, error);
    good = good && read_rows(store, query, each, context, error);
    struct error ignored;
    bool ended = run(store, "ROLLBACK", good ? error : &ignored);
    return good && ended;
}

/* ---- sums */

static bool tell_spend(const PGresult *result, int row, store_spend_fn *each, void *context)
{
    struct str text[2];
    int64_t numbers[4];
    for (int i = 0; i < 2; i++)
        text[i] = (struct str){PQgetvalue(result, row, i), (size_t)PQgetlength(result, row, i)};
    for (int i = 0; i < 4; i++)
        numbers[i] = strtoll(PQgetvalue(result, row, 2 + i), NULL, 10);
    const struct store_spend spend = {.group = text[0],
                                      .name = text[1],
                                      .requests = numbers[0],
                                      .prompt_tokens = numbers[1],
                                      .completion_tokens = numbers[2],
                                      .cost_nano_usd = numbers[3]};
    return each(context, &spend);
}

void postgres_spend_text(PGconn *conn, const char *month, enum store_spend_by by, struct buf *sql)
{
    static const char *const keys[] = {[STORE_BY_ENDPOINT] = "project, endpoint",
                                       [STORE_BY_TOKEN] = "project, token",
                                       [STORE_BY_MODEL] = "provider, model"};
    buf_printf(sql,
               "SELECT %s, sum(requests), sum(prompt_tokens), sum(completion_tokens), "
               "sum(cost_nano_usd) FROM gateway_usage_hourly WHERE month = ",
               keys[by]);
    postgres_sql_literal(conn, str_of(month), sql);
    buf_puts(sql, " GROUP BY 1, 2 ORDER BY 6 DESC, 1, 2");
}

bool postgres_spend(struct store *store, const char *month, enum store_spend_by by,
                    store_spend_fn *each, void *context, struct error *error)
{
    struct buf sql = {0};
    postgres_spend_text(store->conn, month, by, &sql);
    PGresult *result = ask(store, buf_cstr(&sql), "can't read", error);
    buf_free(&sql);
    bool more = result != NULL;
    for (int row = 0; more && row < PQntuples(result); row++)
        more = tell_spend(result, row, each, context);
    PQclear(result);
    return result != NULL;
}
