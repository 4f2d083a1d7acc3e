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

void postgres_sql_prepare(struct buf *sql)
{
    buf_puts(sql, "CREATE TEMPORARY TABLE gateway_staging (");
    for (size_t i = 0; i < record_columns_count; i++)
        buf_printf(sql, "%s%s %s", i ? ", " : "", record_columns[i].name,
                   type_of(record_columns[i].kind));
    buf_puts(sql, ") ON COMMIT DELETE ROWS; PREPARE gateway_take AS WITH new AS ("
                  "INSERT INTO gateway_logs (");
    put_columns(sql);
    buf_puts(sql, ") SELECT ");
    put_columns(sql);
    buf_puts(sql, " FROM pg_temp.gateway_staging ON CONFLICT (request_id) DO NOTHING "
                  "RETURNING request_id) SELECT count(*) AS new_rows FROM new");
}

void postgres_sql_literal(PGconn *conn, const char *text, struct buf *sql)
{
    char *quoted = PQescapeLiteral(conn, text, strlen(text));
    buf_puts(sql, quoted ? quoted : "''");
    PQfreemem(quoted);
}

static void put_offsets(PGconn *conn, const char *host, const struct store_batch *batch,
                        struct buf *sql)
{
    for (size_t i = 0; i < batch->offsets_count; i++) {
        buf_puts(sql, i ? ", (" : "INSERT INTO gateway_spool (host, segment, committed) VALUES (");
        postgres_sql_literal(conn, host, sql);
        buf_puts(sql, ", ");
        postgres_sql_literal(conn, batch->offsets[i].segment, sql);
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
    postgres_sql_literal(conn, host, sql);
    for (size_t i = 0; i < batch->gone_count; i++) {
        buf_puts(sql, i ? ", " : " AND segment IN (");
        postgres_sql_literal(conn, batch->gone[i], sql);
    }
    buf_puts(sql, ");");
}

void postgres_sql_batch(PGconn *conn, const char *host, const struct store_batch *batch,
                        struct buf *sql)
{
    buf_puts(sql, "BEGIN;");
    if (batch->rows_count > 0) {
        buf_puts(sql, "COPY pg_temp.gateway_staging (");
        put_columns(sql);
        buf_puts(sql, ") FROM STDIN (FORMAT binary);"
                      "SELECT pg_advisory_xact_lock(" POSTGRES_LOCK_STORED ");"
                      "EXECUTE gateway_take;");
    }
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
