#include "master/store/postgres_link.h"

#include "master/store/migrations.h"
#include "master/store/postgres_private.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <endian.h>
#include <poll.h>
#include <stdlib.h>

enum {
    PAUSE_MS = 500,  /* after an attempt that came to nothing */
    MARGIN_MS = 100, /* by which the server gives a statement up before this side does */
    LOCK_MS = 1000,
    /* Between two statements of a transaction: a host that stands still must not keep its locks. */
    IDLE_MS = 5000,
};

enum transaction { TRANSACTION_NONE, TRANSACTION_WANTED, TRANSACTION_BEGUN };

struct postgres_link {
    struct postgres_link_setup setup;
    struct buf place; /* "HOST:PORT/DATABASE" */
    PGconn *conn;
    struct postgres_attempt *attempt;
    struct error refusal; /* why the latest attempt came to nothing */
    int64_t pause_until_ms;
    int64_t deadline_ms;
    uint64_t epoch;
    enum transaction transaction;
    bool unsent; /* libpq did not take what it was to send */
    PGresult *result;
};

/* ---- values */

void postgres_give_bytes(struct postgres_parameters *to, struct str bytes)
{
    if (to->count == POSTGRES_PARAMETERS_MAX)
        abort();
    to->values[to->count] = bytes.at;
    to->lengths[to->count++] = (int)bytes.len;
}

void postgres_give_number(struct postgres_parameters *to, int64_t number)
{
    uint64_t *place = &to->numbers[to->count];
    postgres_give_bytes(to, (struct str){(const char *)place, sizeof *place});
    *place = htobe64((uint64_t)number);
}

void postgres_give_uuid(struct postgres_parameters *to, const struct uuid *id)
{
    postgres_give_bytes(to, (struct str){(const char *)id->bytes, sizeof id->bytes});
}

struct str postgres_bytes_at(const PGresult *result, int row, int column)
{
    if (PQgetisnull(result, row, column))
        return STR_ABSENT;
    return (struct str){PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column)};
}

int64_t postgres_number_at(const PGresult *result, int row, int column)
{
    struct str bytes = postgres_bytes_at(result, row, column);
    uint64_t number = 0;
    if (bytes.len == sizeof number)
        memcpy(&number, bytes.at, sizeof number);
    return (int64_t)be64toh(number);
}

bool postgres_bool_at(const PGresult *result, int row, int column)
{
    struct str bytes = postgres_bytes_at(result, row, column);
    return bytes.len == 1 && bytes.at[0];
}

struct uuid postgres_uuid_at(const PGresult *result, int row, int column)
{
    struct str bytes = postgres_bytes_at(result, row, column);
    struct uuid id = {0};
    if (bytes.len == sizeof id.bytes)
        memcpy(id.bytes, bytes.at, sizeof id.bytes);
    return id;
}

int64_t postgres_rows_of(const PGresult *result)
{
    return strtoll(PQcmdTuples((PGresult *)(uintptr_t)result), NULL, 10);
}

/* ---- failures */

bool postgres_link_say(const struct postgres_link *link, const char *doing, const char *what,
                       struct error *error)
{
    return error_set(error, "PostgreSQL at %.*s: %s: %s", STR_ARG(buf_view(&link->place)), doing,
                     what);
}

static void say_result(struct postgres_link *link, const PGresult *result, const char *doing,
                       struct error *error)
{
    struct buf text = {0};
    postgres_say(link->conn, result, &text);
    postgres_link_say(link, doing, buf_cstr(&text), error);
    buf_free(&text);
}

static void drop_result(struct postgres_link *link)
{
    PQclear(link->result);
    link->result = NULL;
}

static void disconnect(struct postgres_link *link)
{
    drop_result(link);
    PQfinish(link->conn);
    link->conn = NULL;
    link->transaction = TRANSACTION_NONE;
    link->unsent = false;
}

static bool lost(struct postgres_link *link, const char *doing, struct error *error)
{
    say_result(link, NULL, doing, error);
    disconnect(link);
    return false;
}

static bool too_late(struct postgres_link *link, const char *doing, struct error *error)
{
    disconnect(link);
    return postgres_link_say(link, doing, "no answer in time", error);
}

/* May the connection go on after that? Of all else, a fresh one finds out what became of the
 * server and its tables. */
static bool passes(const char *sqlstate)
{
    static const char *const codes[] = {"22", "23", "40", "55P03", "57014", "53100"};
    size_t i = 0;
    while (i < sizeof codes / sizeof *codes && strncmp(sqlstate, codes[i], strlen(codes[i])) != 0)
        i++;
    return i < sizeof codes / sizeof *codes;
}

/* ---- questions and answers */

static bool wait_for_more(struct postgres_link *link, const char *doing, struct error *error)
{
    int left = PQflush(link->conn);
    if (left < 0)
        return lost(link, doing, error);
    int64_t left_ms = link->deadline_ms - clock_now_ms();
    struct pollfd wait = {.fd = PQsocket(link->conn),
                          .events = left > 0 ? POLLIN | POLLOUT : POLLIN};
    if (left_ms <= 0 || poll(&wait, 1, (int)left_ms) == 0)
        return too_late(link, doing, error);
    return PQconsumeInput(link->conn) || lost(link, doing, error);
}

/* The answer's end: a synchronization point, or nothing more where there is no pipeline. */
static bool is_end(struct postgres_link *link, const PGresult *result)
{
    bool piped = PQpipelineStatus(link->conn) != PQ_PIPELINE_OFF;
    return piped ? PQresultStatus(result) == PGRES_PIPELINE_SYNC : !result;
}

static bool is_good(const PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    return status == PGRES_TUPLES_OK || status == PGRES_COMMAND_OK;
}

/* The first failure counts: what follows are its consequences. */
static void take_result(struct postgres_link *link, PGresult *result)
{
    if (link->result && !is_good(link->result)) {
        PQclear(result);
        return;
    }
    drop_result(link);
    link->result = result;
}

static bool read_answer(struct postgres_link *link, const char *doing, struct error *error)
{
    drop_result(link);
    if (link->unsent)
        return lost(link, doing, error);
    for (;;) {
        while (PQisBusy(link->conn))
            if (!wait_for_more(link, doing, error))
                return false;
        PGresult *result = PQgetResult(link->conn);
        if (is_end(link, result)) {
            PQclear(result);
            return true;
        }
        if (result)
            take_result(link, result);
        if (PQstatus(link->conn) == CONNECTION_BAD)
            break;
    }
    say_result(link, is_good(link->result) ? NULL : link->result, doing, error);
    disconnect(link);
    return false;
}

/* To what was sent before. NULL as in postgres_link_ask. */
static const PGresult *answer(struct postgres_link *link, const char *doing, struct error *error)
{
    link->unsent |= !PQpipelineSync(link->conn);
    if (!read_answer(link, doing, error))
        return NULL;
    if (is_good(link->result))
        return link->result;
    const char *code = PQresultErrorField(link->result, PG_DIAG_SQLSTATE);
    say_result(link, link->result, doing, error);
    if (!passes(code ? code : ""))
        disconnect(link);
    postgres_link_undo(link);
    return NULL;
}

static void send_text(struct postgres_link *link, const char *sql)
{
    link->unsent |= !PQsendQueryParams(link->conn, sql, 0, NULL, NULL, NULL, NULL, 1);
}

void postgres_link_send(struct postgres_link *link, size_t statement,
                        const struct postgres_parameters *parameters)
{
    static const int binary[POSTGRES_PARAMETERS_MAX] = {1, 1, 1, 1, 1, 1, 1, 1,
                                                        1, 1, 1, 1, 1, 1, 1, 1};
    if (link->transaction == TRANSACTION_WANTED) {
        send_text(link, "BEGIN");
        link->transaction = TRANSACTION_BEGUN;
    }
    link->unsent |=
        !PQsendQueryPrepared(link->conn, link->setup.statements[statement].name, parameters->count,
                             parameters->values, parameters->lengths, binary, 1);
}

const PGresult *postgres_link_ask(struct postgres_link *link, size_t statement,
                                  const struct postgres_parameters *parameters, struct error *error)
{
    postgres_link_send(link, statement, parameters);
    return answer(link, link->setup.statements[statement].doing, error);
}

/* ---- transactions */

bool postgres_link_in_transaction(const struct postgres_link *link)
{
    return link->transaction != TRANSACTION_NONE;
}

void postgres_link_begin(struct postgres_link *link)
{
    link->transaction = TRANSACTION_WANTED;
}

void postgres_link_undo(struct postgres_link *link)
{
    struct error ignored;
    bool begun = link->transaction == TRANSACTION_BEGUN;
    link->transaction = TRANSACTION_NONE;
    if (!begun || !link->conn)
        return;
    send_text(link, "ROLLBACK");
    if (!answer(link, "can't undo", &ignored))
        disconnect(link);
}

bool postgres_link_commit(struct postgres_link *link, struct error *error)
{
    bool begun = link->transaction == TRANSACTION_BEGUN;
    if (!begun) {
        link->transaction = TRANSACTION_NONE;
        return true;
    }
    send_text(link, "COMMIT");
    if (!answer(link, "can't commit", error))
        return false;
    link->transaction = TRANSACTION_NONE;
    return strcmp(PQcmdStatus(link->result), "COMMIT") == 0 ||
           postgres_link_say(link, "can't commit", "the transaction was rolled back", error);
}

/* ---- connecting */

static const char beginning[] = "can't begin a session";

/* Several statements at once, of which the last one's result is kept. */
static bool ask_plainly(struct postgres_link *link, const char *sql, struct error *error)
{
    if (!PQsendQuery(link->conn, sql))
        return lost(link, beginning, error);
    if (!read_answer(link, beginning, error))
        return false;
    if (link->result && is_good(link->result))
        return true;
    say_result(link, link->result, beginning, error);
    return false;
}

static bool make_settings(struct postgres_link *link, struct error *error)
{
    struct buf sql = {0};
    buf_printf(&sql,
               POSTGRES_SETTINGS "SET statement_timeout = %d; SET lock_timeout = %d;"
                                 "SET idle_in_transaction_session_timeout = %d;"
                                 "SELECT to_regclass('schema_migrations') IS NOT NULL",
               (int)link->setup.wait_ms - MARGIN_MS, LOCK_MS, IDLE_MS);
    bool good = ask_plainly(link, buf_cstr(&sql), error);
    buf_free(&sql);
    return good;
}

static int plain_number(const struct postgres_link *link)
{
    return PQntuples(link->result) == 1 ? atoi(PQgetvalue(link->result, 0, 0)) : 0;
}

static bool check_schema(struct postgres_link *link, struct error *error)
{
    struct error newer;
    int number = 0;
    if (PQntuples(link->result) == 1 && PQgetvalue(link->result, 0, 0)[0] == 't') {
        if (!ask_plainly(link, "SELECT coalesce(max(number), 0) FROM schema_migrations", error))
            return false;
        number = plain_number(link);
    }
    if (number < link->setup.schema)
        return postgres_link_say(link, beginning, "the logger has not made the tables yet", error);
    return migrations_look(store_postgres.name, number, &newer) != SCHEMA_TOO_NEW ||
           postgres_link_say(link, beginning, newer.message, error);
}

static bool prepare(struct postgres_link *link, struct error *error)
{
    struct buf sql = {0};
    for (size_t i = 0; i < link->setup.statements_count; i++) {
        const struct postgres_statement *one = &link->setup.statements[i];
        buf_printf(&sql, "PREPARE %s%s AS %s;", one->name, one->types, one->sql);
    }
    bool good = ask_plainly(link, buf_cstr(&sql), error);
    buf_free(&sql);
    return good && (PQenterPipelineMode(link->conn) || lost(link, beginning, error));
}

static bool come_to_nothing(struct postgres_link *link, struct error *error)
{
    link->refusal = *error;
    link->pause_until_ms = clock_now_ms() + PAUSE_MS;
    disconnect(link);
    return false;
}

static bool take_connection(struct postgres_link *link, struct error *error)
{
    if (PQstatus(link->conn) == CONNECTION_BAD) {
        say_result(link, NULL, "can't connect", error);
        return come_to_nothing(link, error);
    }
    if (PQstatus(link->conn) != CONNECTION_OK) {
        postgres_link_say(link, "can't connect", "no answer in time", error);
        return come_to_nothing(link, error);
    }
    PQsetnonblocking(link->conn, 1);
    if (!make_settings(link, error) || !check_schema(link, error) || !prepare(link, error))
        return come_to_nothing(link, error);
    drop_result(link);
    link->epoch++;
    return true;
}

/* Whoever waits has the time for it. */
static bool connect_patiently(struct postgres_link *link, struct error *error)
{
    link->conn = postgres_connect(link->setup.dsn);
    link->deadline_ms = clock_now_ms() + link->setup.wait_ms;
    return take_connection(link, error);
}

static bool begin_attempt(struct postgres_link *link, struct error *error)
{
    if (clock_now_ms() < link->pause_until_ms) {
        *error = link->refusal;
        return false;
    }
    link->attempt = postgres_attempt_begin(link->setup.dsn, error);
    return link->attempt || come_to_nothing(link, error);
}

static bool make_connection(struct postgres_link *link, struct error *error)
{
    if (link->setup.patient)
        return connect_patiently(link, error);
    if (!link->attempt && !begin_attempt(link, error))
        return false;
    if (postgres_attempt_end(&link->attempt, &link->conn))
        return take_connection(link, error);
    return postgres_link_say(link, "can't connect", "not connected yet", error);
}

/* A server that was restarted while nothing was asked has said so, or hung up. */
static bool is_connected(struct postgres_link *link)
{
    for (int i = 0; i < 2; i++)
        if (!PQconsumeInput(link->conn) || PQisBusy(link->conn))
            return false;
    return PQstatus(link->conn) == CONNECTION_OK;
}

bool postgres_link_call(struct postgres_link *link, struct error *error)
{
    drop_result(link);
    link->deadline_ms = clock_now_ms() + link->setup.wait_ms;
    if (link->transaction != TRANSACTION_BEGUN && link->conn && !is_connected(link))
        disconnect(link);
    return link->conn || make_connection(link, error);
}

/* ---- all */

struct postgres_link *postgres_link_new(const struct postgres_link_setup *setup,
                                        struct error *error)
{
    if (!postgres_dsn_check(setup->dsn, error))
        return NULL;
    struct postgres_link *link = xcalloc(1, sizeof *link);
    link->setup = *setup;
    postgres_dsn_place(setup->dsn, &link->place);
    if (!setup->patient && !begin_attempt(link, error))
        log_debug("%s", error->message);
    return link;
}

void postgres_link_free(struct postgres_link **place)
{
    struct postgres_link *link = *place;
    *place = NULL;
    if (!link)
        return;
    disconnect(link);
    postgres_attempt_leave(&link->attempt);
    buf_free(&link->place);
    free(link);
}

uint64_t postgres_link_epoch(const struct postgres_link *link)
{
    return link->epoch;
}
