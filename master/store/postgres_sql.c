#include "master/store/postgres_private.h"

static const char *type_of(enum record_kind kind)
{
    static const char *const types[] = {[RECORD_KIND_UUID] = "uuid",
                                        [RECORD_KIND_TIME] = "timestamptz",
                                        [RECORD_KIND_TEXT] = "text",
                                        [RECORD_KIND_INT] = "bigint",
                                        [RECORD_KIND_BOOL] = "boolean"};
    return types[kind];
}

static void put_columns(struct buf *sql)
{
    for (size_t i = 0; i < record_columns_count; i++)
        buf_printf(sql, "%s%s", i ? ", " : "", record_columns[i].name);
}

static void put_staging(struct buf *sql)
{
    buf_puts(sql, "CREATE TEMPORARY TABLE gateway_staging (place integer");
    for (size_t i = 0; i < record_columns_count; i++)
        buf_printf(sql, ", %s %s", record_columns[i].name, type_of(record_columns[i].kind));
    buf_puts(sql, ") ON COMMIT DELETE ROWS;");
}

/* The ids of the rows that are new, in their order in the batch: of two rows with one id the first
 * is taken. A table by itself has no order, not even that in which its rows came. */
static void put_take(struct buf *sql)
{
    buf_puts(sql, "PREPARE gateway_take AS INSERT INTO gateway_logs (");
    put_columns(sql);
    buf_puts(sql, ") SELECT ");
    put_columns(sql);
    buf_puts(sql,
             " FROM pg_temp.gateway_staging ORDER BY place ON CONFLICT (request_id) DO NOTHING "
             "RETURNING request_id AS new_row;");
}

static void put_names(struct buf *sql, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_printf(sql, "%s%s", i ? ", " : "", usage_columns[i].name);
}

static void put_add(struct buf *sql)
{
    buf_puts(sql, "PREPARE gateway_add AS INSERT INTO gateway_usage_hourly AS known (");
    put_names(sql, usage_columns_count);
    buf_puts(sql, ") VALUES (");
    for (size_t i = 0; i < usage_columns_count; i++)
        buf_printf(sql, "%s$%zu", i ? ", " : "", i + 1);
    buf_puts(sql, ") ON CONFLICT (");
    put_names(sql, usage_keys_count);
    buf_puts(sql, ") DO UPDATE SET ");
    for (size_t i = usage_keys_count; i < usage_columns_count; i++)
        buf_printf(sql, "%s%s = known.%s + excluded.%s", i > usage_keys_count ? ", " : "",
                   usage_columns[i].name, usage_columns[i].name, usage_columns[i].name);
}

void postgres_sql_prepare(struct buf *sql)
{
    put_staging(sql);
    put_take(sql);
    put_add(sql);
}

void postgres_sql_literal(PGconn *conn, struct str text, struct buf *sql)
{
    char *quoted = PQescapeLiteral(conn, text.at ? text.at : "", text.len);
    buf_puts(sql, quoted ? quoted : "''");
    PQfreemem(quoted);
}

static void put_time(struct buf *sql, int64_t wall_ms)
{
    char text[CLOCK_RFC3339_SIZE];
    buf_printf(sql, "'%s'", clock_rfc3339(wall_ms, text));
}

static void put_usage_column(PGconn *conn, const struct usage *usage,
                             const struct usage_column *column, struct buf *sql)
{
    const char *field = (const char *)usage + column->offset;
    if (column->kind == USAGE_KIND_TEXT)
        postgres_sql_literal(conn, *(const struct str *)field, sql);
    else if (column->kind == USAGE_KIND_HOUR)
        put_time(sql, *(const int64_t *)field);
    else if (column->kind == USAGE_KIND_BOOL)
        buf_puts(sql, *(const int64_t *)field ? "true" : "false");
    else
        buf_i64(sql, *(const int64_t *)field);
}

static void put_usage(PGconn *conn, const struct usage_table *table, struct buf *sql)
{
    for (size_t i = 0; i < table->count; i++) {
        buf_puts(sql, "EXECUTE gateway_add (");
        for (size_t j = 0; j < usage_columns_count; j++) {
            buf_puts(sql, j ? ", " : "");
            put_usage_column(conn, &table->sums[i], &usage_columns[j], sql);
        }
        buf_puts(sql, ");");
    }
}

/* A commit whose answer was lost may have been done, and the batch comes again: then all its
 * offsets are there already, and nothing is counted twice. */
static void put_unless_done(PGconn *conn, const char *host, const struct store_batch *batch,
                            struct buf *sql)
{
    for (size_t i = 0; i < batch->offsets_count; i++) {
        buf_puts(sql, i ? ", (" : " WHERE EXISTS (SELECT FROM (VALUES (");
        postgres_sql_literal(conn, str_of(batch->offsets[i].segment), sql);
        buf_printf(sql, ", %llu)", (unsigned long long)batch->offsets[i].committed);
    }
    if (batch->offsets_count == 0)
        return;
    buf_puts(sql, ") AS mine (segment, committed) LEFT JOIN gateway_spool AS known ON "
                  "known.segment = mine.segment AND known.host = ");
    postgres_sql_literal(conn, str_of(host), sql);
    buf_puts(sql, " WHERE known.committed IS DISTINCT FROM mine.committed)");
}

static void put_refused(PGconn *conn, const char *host, const struct store_batch *batch,
                        struct buf *sql)
{
    for (size_t i = 0; i < batch->refused_count; i++) {
        const struct refused *refused = &batch->refused[i];
        const struct str texts[] = {refused->code, refused->network, refused->host};
        buf_puts(sql, i ? ", ("
                        : "INSERT INTO gateway_refused AS known (minute, code, network, "
                          "host, count) SELECT minute::timestamptz, code, network, host, "
                          "sum(count) FROM (VALUES (");
        put_time(sql, refused->minute_wall_ms);
        for (size_t j = 0; j < sizeof texts / sizeof *texts; j++) {
            buf_puts(sql, ", ");
            postgres_sql_literal(conn, texts[j], sql);
        }
        buf_printf(sql, ", %lld)", (long long)refused->count);
    }
    if (batch->refused_count == 0)
        return;
    buf_puts(sql, ") AS mine (minute, code, network, host, count)");
    put_unless_done(conn, host, batch, sql);
    buf_puts(sql, " GROUP BY 1, 2, 3, 4 ON CONFLICT (minute, code, network, host) "
                  "DO UPDATE SET count = known.count + excluded.count;");
}

static void put_offsets(PGconn *conn, const char *host, const struct store_batch *batch,
                        struct buf *sql)
{
    for (size_t i = 0; i < batch->offsets_count; i++) {
        buf_puts(sql, i ? ", (" : "INSERT INTO gateway_spool (host, segment, committed) VALUES (");
        postgres_sql_literal(conn, str_of(host), sql);
        buf_puts(sql, ", ");
        postgres_sql_literal(conn, str_of(batch->offsets[i].segment), sql);
        buf_puts(sql, ", ");
        buf_u64(sql, batch->offsets[i].committed);
        buf_putc(sql, ')');
    }
    if (batch->offsets_count > 0)
        buf_puts(sql, " ON CONFLICT (host, segment) DO UPDATE SET committed = excluded.committed;");
}

static void put_gone(PGconn *conn, const char *host, const struct store_batch *batch,
                     struct buf *sql)
{
    if (batch->gone_count == 0)
        return;
    buf_puts(sql, "DELETE FROM gateway_spool WHERE host = ");
    postgres_sql_literal(conn, str_of(host), sql);
    for (size_t i = 0; i < batch->gone_count; i++) {
        buf_puts(sql, i ? ", " : " AND segment IN (");
        postgres_sql_literal(conn, str_of(batch->gone[i]), sql);
    }
    buf_puts(sql, ");");
}

void postgres_sql_rows(struct buf *sql)
{
    buf_puts(sql, "BEGIN; COPY pg_temp.gateway_staging (place, ");
    put_columns(sql);
    buf_puts(sql, ") FROM STDIN (FORMAT binary);"
                  "SELECT pg_advisory_xact_lock(" POSTGRES_LOCK_STORED ");"
                  "EXECUTE gateway_take");
}

void postgres_sql_rest(PGconn *conn, const char *host, const struct store_batch *batch,
                       const struct usage_table *usage, struct buf *sql)
{
    put_usage(conn, usage, sql);
    put_refused(conn, host, batch, sql);
    put_offsets(conn, host, batch, sql);
    put_gone(conn, host, batch, sql);
    buf_puts(sql, "COMMIT");
}

void postgres_sql_readable(struct buf *sql)
{
    for (size_t i = 0; i < record_columns_count; i++) {
        const char *name = record_columns[i].name;
        if (record_columns[i].kind == RECORD_KIND_TIME)
            buf_printf(sql, "%sto_char(%s AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')",
                       i ? ", " : "", name);
        else
            buf_printf(sql, "%s%s::text", i ? ", " : "", name);
    }
}
