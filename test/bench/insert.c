/* What rows cost when nothing but a prepared INSERT writes them: takes the newest row of
 * gateway_logs, and inserts it COUNT times under new ids, BATCH rows in a transaction, with the
 * durability that the gateway asks for. Prints the microseconds of processor time, user and system,
 * of this process for each row.
 *
 *   insert sqlite PATH COUNT
 *   insert postgres CONNINFO COUNT */
#include <inttypes.h>
#include <libpq-fe.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { BATCH = 1000, COLUMNS_MAX = 64, TEXT_MAX = 4096, ID_LEN = 36 };

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "insert: %s: %s\n", what, why);
    exit(1);
}

static int64_t cpu_us(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * INT64_C(1000000) +
           usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* Ids of now that rise, as UUIDv7 do, so that indexes grow as they do under a gateway. */
static void put_id(char id[ID_LEN + 1], unsigned count)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    snprintf(id, ID_LEN + 1, "%08x-%04x-7%03x-8000-%012x", (unsigned)(ms >> 16) & 0xffffffff,
             (unsigned)ms & 0xffff, (count >> 16) & 0xfff, count);
}

/* "INSERT INTO gateway_logs (a, b) VALUES (?, ?)", of names parted by commas. */
static void put_insert(char sql[TEXT_MAX], const char *names, const char *marks)
{
    if (snprintf(sql, TEXT_MAX, "INSERT INTO gateway_logs (%s) VALUES (%s)", names, marks) >=
        TEXT_MAX)
        fail("statement", "too long");
}

/* ---- SQLite */

static void sqlite_run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail(sql, sqlite3_errmsg(db));
}

static sqlite3_stmt *sqlite_prepared(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement;
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail(sql, sqlite3_errmsg(db));
    return statement;
}

/* A statement that has the newest row bound; its first column is the id. */
static sqlite3_stmt *sqlite_insert(sqlite3 *db)
{
    char names[TEXT_MAX] = "", marks[TEXT_MAX] = "", sql[TEXT_MAX];
    sqlite3_stmt *columns = sqlite_prepared(db, "SELECT group_concat(name), group_concat('?') FROM "
                                                "pragma_table_info('gateway_logs')");
    if (sqlite3_step(columns) == SQLITE_ROW) {
        snprintf(names, sizeof names, "%s", (const char *)sqlite3_column_text(columns, 0));
        snprintf(marks, sizeof marks, "%s", (const char *)sqlite3_column_text(columns, 1));
    }
    sqlite3_finalize(columns);
    put_insert(sql, names, marks);
    sqlite3_stmt *insert = sqlite_prepared(db, sql);
    snprintf(sql, sizeof sql, "SELECT %s FROM gateway_logs ORDER BY rowid DESC LIMIT 1", names);
    sqlite3_stmt *row = sqlite_prepared(db, sql);
    if (sqlite3_step(row) != SQLITE_ROW)
        fail("gateway_logs", "has no row to copy");
    for (int i = 1; i < sqlite3_column_count(row); i++)
        sqlite3_bind_value(insert, i + 1, sqlite3_column_value(row, i));
    sqlite3_finalize(row);
    return insert;
}

static void run_sqlite(const char *path, long count)
{
    sqlite3 *db;
    char id[ID_LEN + 1];
    if (sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
        fail(path, sqlite3_errmsg(db));
    sqlite_run(db, "PRAGMA synchronous = FULL");
    sqlite3_stmt *insert = sqlite_insert(db);
    int64_t began_us = cpu_us();
    for (long i = 0; i < count; i++) {
        if (i % BATCH == 0)
            sqlite_run(db, i ? "COMMIT; BEGIN IMMEDIATE" : "BEGIN IMMEDIATE");
        put_id(id, (unsigned)i);
        sqlite3_bind_text(insert, 1, id, ID_LEN, SQLITE_STATIC);
        if (sqlite3_step(insert) != SQLITE_DONE)
            fail("INSERT", sqlite3_errmsg(db));
        sqlite3_reset(insert);
    }
    sqlite_run(db, "COMMIT");
    printf("%.3f\n", (double)(cpu_us() - began_us) / (double)count);
    sqlite3_finalize(insert);
    sqlite3_close(db);
}

/* ---- PostgreSQL */

static PGresult *postgres_taken(PGconn *conn, const char *sql, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail(sql, PQerrorMessage(conn));
    return result;
}

static PGresult *postgres_run(PGconn *conn, const char *sql)
{
    return postgres_taken(conn, sql, PQexec(conn, sql));
}

/* Prepares "row"; returns the newest one, whose first column is the id. */
static PGresult *postgres_insert(PGconn *conn)
{
    char sql[TEXT_MAX];
    PGresult *columns = postgres_run(
        conn, "SELECT string_agg(column_name, ', ' ORDER BY ordinal_position), string_agg('$' || "
              "place, ', ' ORDER BY ordinal_position) FROM (SELECT column_name, "
              "ordinal_position, row_number() OVER (ORDER BY ordinal_position) AS place FROM "
              "information_schema.columns WHERE table_name = 'gateway_logs' AND "
              "table_schema = 'public' AND is_generated = 'NEVER' AND column_name <> 'stored') "
              "AS columns");
    put_insert(sql, PQgetvalue(columns, 0, 0), PQgetvalue(columns, 0, 1));
    PQclear(postgres_taken(conn, sql, PQprepare(conn, "row", sql, 0, NULL)));
    snprintf(sql, sizeof sql, "SELECT %s FROM gateway_logs ORDER BY stored DESC LIMIT 1",
             PQgetvalue(columns, 0, 0));
    PQclear(columns);
    PGresult *row = postgres_run(conn, sql);
    if (PQntuples(row) == 0 || PQnfields(row) > COLUMNS_MAX)
        fail("gateway_logs", "has no row to copy");
    return row;
}

static void run_postgres(const char *conninfo, long count)
{
    PGconn *conn = PQconnectdb(conninfo);
    const char *values[COLUMNS_MAX];
    char id[ID_LEN + 1];
    if (PQstatus(conn) != CONNECTION_OK)
        fail("connection", PQerrorMessage(conn));
    PGresult *row = postgres_insert(conn);
    values[0] = id;
    for (int i = 1; i < PQnfields(row); i++)
        values[i] = PQgetisnull(row, 0, i) ? NULL : PQgetvalue(row, 0, i);
    int64_t began_us = cpu_us();
    for (long i = 0; i < count; i++) {
        if (i % BATCH == 0)
            PQclear(postgres_run(conn, i ? "COMMIT; BEGIN" : "BEGIN"));
        put_id(id, (unsigned)i);
        PQclear(postgres_taken(conn, "INSERT",
                               PQexecPrepared(conn, "row", PQnfields(row), values, NULL, NULL, 0)));
    }
    PQclear(postgres_run(conn, "COMMIT"));
    printf("%.3f\n", (double)(cpu_us() - began_us) / (double)count);
    PQclear(row);
    PQfinish(conn);
}

int main(int argc, char **argv)
{
    long count = argc == 4 ? strtol(argv[3], NULL, 10) : 0;
    if (count > 0 && strcmp(argv[1], "sqlite") == 0)
        run_sqlite(argv[2], count);
    else if (count > 0 && strcmp(argv[1], "postgres") == 0)
        run_postgres(argv[2], count);
    else
        fail("usage", "insert sqlite|postgres WHERE COUNT");
    return 0;
}
