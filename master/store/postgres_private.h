/* What the files of the PostgreSQL driver share. */
#pragma once

#include "master/store/postgres.h"
#include "master/store/usage.h"

#include <libpq-fe.h>

/* Advisory locks: two numbers, the first of which is "pglg". */
#define POSTGRES_LOCK_SCHEMA "1885826151, 1" /* one host at a time changes tables */
#define POSTGRES_LOCK_STORED "1885826151, 2" /* rows become visible in the order of `stored` */

enum { POSTGRES_SERVER_MIN = 130000, POSTGRES_CONNECT_MS = 10000, POSTGRES_SQLSTATE_SIZE = 6 };

/* ---- what leads to the server */

/* Checks that libpq understands it. The sentence never repeats any of it. */
bool postgres_dsn_check(const char *dsn, struct error *error) __attribute__((warn_unused_result));
/* Appends "HOST:PORT/DATABASE", and nothing else of it. */
void postgres_dsn_place(const char *dsn, struct buf *place);

/* ---- a connection that is being made, in a thread: names are looked up there, however long that
 * takes */

struct postgres_attempt;

/* NULL when no thread could be made, or too many that were left still wait for a name. */
struct postgres_attempt *postgres_attempt_begin(const char *dsn, struct error *error);
/* Readable once it is over. */
int postgres_attempt_descriptor(const struct postgres_attempt *attempt);
/* False while it is under way. Else the attempt is gone, and `*conn` the caller's, good or bad;
 * NULL when there was no memory. */
bool postgres_attempt_end(struct postgres_attempt **attempt, PGconn **conn);
/* Gives it up. The caller's pointer becomes NULL. */
void postgres_attempt_leave(struct postgres_attempt **attempt);
/* For a caller that may wait. */
PGconn *postgres_connect(const char *dsn);

/* ---- statements */

/* Of every session that writes. A commit that was answered is durable, whatever the server's
 * default is. */
#define POSTGRES_SETTINGS                                                                          \
    "SET standard_conforming_strings = on; SET client_min_messages = error;"                       \
    "SET tcp_keepalives_idle = 15; SET tcp_keepalives_interval = 5;"                               \
    "SET tcp_keepalives_count = 3; SET jit = off;"                                                 \
    "SELECT set_config('synchronous_commit', 'on', false) "                                        \
    "WHERE current_setting('synchronous_commit') = 'off';"

/* The staging table of a session, and its prepared statements. */
void postgres_sql_prepare(struct buf *sql);
/* From BEGIN on: stops for COPY, then takes the rows from there, with an id for each new one. */
void postgres_sql_rows(struct buf *sql);
/* And from there to COMMIT. */
void postgres_sql_rest(PGconn *conn, const char *host, const struct store_batch *batch,
                       const struct usage_table *usage, struct buf *sql);
/* gateway_logs' columns as store_row_fn wants them, parted by commas. */
void postgres_sql_readable(struct buf *sql);
/* Quoted; an absent text is ''. */
void postgres_sql_literal(PGconn *conn, struct str text, struct buf *sql);

/* ---- rows in COPY's binary format */

void postgres_copy_begin(struct buf *out);
/* `place` is the row's in its batch. */
void postgres_copy_row(const struct record *row, size_t place, struct buf *out);
void postgres_copy_end(struct buf *out);

/* ---- failures */

/* By SQLSTATE; NULL or "" is a connection that failed without one. */
enum store_reason postgres_reason(const char *sqlstate);
/* While a store is opened: does it take a person to change it? */
bool postgres_is_final(const char *sqlstate);
/* The one in what libpq says of a connection that came to nothing; "" when there is none. */
void postgres_find_sqlstate(struct str text, char sqlstate[POSTGRES_SQLSTATE_SIZE]);
/* One line of what libpq says: of a result when there is one, else of the connection. */
void postgres_say(PGconn *conn, const PGresult *result, struct buf *text);

/* ---- the reader's side */

bool postgres_open_reader(const struct config_store *config, struct store **out,
                          struct error *error);
bool postgres_query(struct store *store, struct store_query *query, store_row_fn *each,
                    void *context, struct error *error);
bool postgres_spend(struct store *store, const char *month, enum store_spend_by by,
                    store_spend_fn *each, void *context, struct error *error);
bool postgres_inspect(const struct config_store *config, const char *host,
                      struct store_found *found, store_offset_fn *each, void *context,
                      struct error *error);
void postgres_close_reader(struct store *store);
/* What two of those ask, appended; `conn` is only for quoting. */
void postgres_query_text(PGconn *conn, const struct store_query *query, struct buf *sql);
void postgres_spend_text(PGconn *conn, const char *month, enum store_spend_by by, struct buf *sql);
