#include "master/store/migrations.h"
#include "master/store/postgres_private.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <poll.h>
#include <stdlib.h>
#include <time.h>

enum {
    COPY_BYTES = 64 << 10, /* sent at once */
    MONTHS_KNOWN = 32,
    ANSWER_MS = 10000,        /* of small statements */
    BATCH_MS = 30000,         /* from BEGIN to the answer of COMMIT; the server gives up before */
    MIGRATION_MS = 3600000,   /* indexes of large tables */
    PARTITION_AHEAD_DAYS = 31 /* into the next month, whatever day it is */
};

/* In the order in which they follow each other. */
enum state {
    STATE_AWAY,         /* no connection */
    STATE_CONNECTING,   /* an attempt is under way */
    STATE_GREETING,     /* the session's settings; what server is it? */
    STATE_NUMBERING,    /* of what step is the schema? */
    STATE_LOCKING,      /* the same, after others were kept from changing it */
    STATE_MIGRATING,    /* the missing steps */
    STATE_PREPARING,    /* the staging table, the statements */
    STATE_PARTITIONING, /* months that have none yet */
    STATE_READING,      /* this host's offsets */
    STATE_READY,        /* nothing under way */
    STATE_COPYING,      /* BEGIN, and rows into the staging table */
    STATE_TAKING,       /* from there into gateway_logs */
    STATE_COMMITTING,   /* what was added up, offsets, COMMIT */
    STATE_EXPIRING,     /* dropping a partition */
    STATE_ROLLING_BACK, /* the connection is good, what was tried is not */
    STATES
};

enum job { JOB_NONE, JOB_START, JOB_COMMIT, JOB_EXPIRE };

struct store {
    const struct store_driver *driver;
    const char *dsn; /* the configuration's */
    char *host;
    struct buf place; /* "HOST:PORT/DATABASE" */
    enum state state;
    enum job job;
    int64_t deadline_ms;
    PGconn *conn;
    struct postgres_attempt *attempt;
    struct buf sql;
    struct buf chunk; /* of COPY's data, not taken by libpq yet */
    bool flushing;    /* libpq has more to send than the socket took */
    bool sending;     /* rows wait for libpq to take them */
    /* The answer to what was asked last. */
    bool asked, failed;
    char sqlstate[POSTGRES_SQLSTATE_SIZE];
    struct error failure;
    enum store_reason reason;
    enum store_result verdict; /* of the job, once nothing is under way */
    /* The schema. */
    bool schema_there, schema_wrong, schema_held;
    int schema;
    /* The batch, and the months that have a partition, as months since 1970. */
    struct store_batch *batch;
    size_t rows_sent, rows_matched, new_rows;
    bool end_sent, committed;
    struct uuid doubtful; /* the first row of a batch whose COMMIT was not answered */
    size_t doubtful_rows; /* and how many of its rows were new */
    struct months zone;
    struct usage_table usage; /* of the new rows */
    struct store_expiry *expiry;
    bool again; /* a partition was missing once already */
    int months[MONTHS_KNOWN];
    size_t months_count;
    store_offset_fn *each;
    void *context;
};

static void enter(struct store *store, enum state state);

/* ---- failures */

static void disconnect(struct store *store)
{
    PQfinish(store->conn);
    store->conn = NULL;
    postgres_attempt_leave(&store->attempt);
    store->months_count = 0;
    enter(store, STATE_AWAY);
}

static void say(struct store *store, const char *doing, const char *what)
{
    error_set(&store->failure, "PostgreSQL at %s: %s: %s", buf_cstr(&store->place), doing, what);
}

/* What is under way, for a person. */
static const char *doing(const struct store *store)
{
    static const char *const words[STATES] = {
        [STATE_CONNECTING] = "can't connect",
        [STATE_GREETING] = "can't begin a session",
        [STATE_NUMBERING] = "can't read the schema's number",
        [STATE_LOCKING] = "can't lock the schema",
        [STATE_MIGRATING] = "can't bring the schema up to date",
        [STATE_PREPARING] = "can't prepare the session",
        [STATE_PARTITIONING] = "can't make a partition",
        [STATE_READING] = "can't read how far the spool is",
        [STATE_COPYING] = "can't send rows",
        [STATE_TAKING] = "can't write",
        [STATE_COMMITTING] = "can't write",
        [STATE_EXPIRING] = "can't delete what is too old",
    };
    return words[store->state] ? words[store->state] : "nothing is under way";
}

static enum store_result leave_with(struct store *store, enum store_reason reason,
                                    enum store_result result)
{
    store->reason = reason;
    if (store->state == STATE_COMMITTING && store->batch->rows_count > 0) {
        store->doubtful = store->batch->rows[0].request_id;
        store->doubtful_rows = store->new_rows;
    }
    disconnect(store);
    return result;
}

/* A connection that was lost, or came to nothing. */
static enum store_result connection_failed(struct store *store)
{
    struct buf text = {0};
    postgres_say(store->conn, NULL, &text);
    say(store, doing(store), buf_cstr(&text));
    postgres_find_sqlstate(buf_view(&text), store->sqlstate);
    buf_free(&text);
    bool final = store->job == JOB_START && postgres_is_final(store->sqlstate);
    return leave_with(store, postgres_reason(store->sqlstate), final ? STORE_REFUSED : STORE_AWAY);
}

static enum store_result too_late(struct store *store)
{
    say(store, doing(store), "no answer in time");
    return leave_with(store, STORE_REASON_unreachable, STORE_AWAY);
}

/* The first failure counts: what follows are its consequences. */
static void note_failure(struct store *store, const PGresult *result)
{
    if (store->failed)
        return;
    const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    struct buf text = {0};
    store->failed = true;
    snprintf(store->sqlstate, sizeof store->sqlstate, "%s", code ? code : "");
    /* A partition that was dropped is no fault of a row's: the one failed check without a name. */
    if (strcmp(store->sqlstate, "23514") == 0 &&
        !PQresultErrorField(result, PG_DIAG_CONSTRAINT_NAME) && !store->again) {
        store->again = true;
        store->months_count = 0;
    }
    postgres_say(store->conn, result, &text);
    say(store, doing(store), buf_cstr(&text));
    buf_free(&text);
}

static bool rows_are_to_blame(const struct store *store)
{
    bool sums = store->state == STATE_COMMITTING && store->batch->rows_count > 0 &&
                strncmp(store->sqlstate, "22", 2) == 0; /* a sum that is out of range */
    return store->state == STATE_COPYING || store->state == STATE_TAKING || sums;
}

/* It has said why. */
static enum store_result server_left(struct store *store)
{
    return leave_with(store,
                      postgres_reason(store->sqlstate) == STORE_REASON_content
                          ? STORE_REASON_other
                          : postgres_reason(store->sqlstate),
                      STORE_AWAY);
}

/* The row's month had a partition, and has none any more. Said once for a batch. */
static bool partition_is_missing(const struct store *store)
{
    return store->again && store->months_count == 0;
}

/* Of a query that has failed, and was answered to its end. */
static enum store_result judge(struct store *store)
{
    enum store_reason reason = postgres_reason(store->sqlstate);
    bool missed = partition_is_missing(store);
    if (reason == STORE_REASON_content && !rows_are_to_blame(store))
        reason = STORE_REASON_other;
    store->reason = reason;
    store->verdict = reason == STORE_REASON_content ? STORE_REFUSED : STORE_AWAY;
    if (store->job == JOB_START && postgres_is_final(store->sqlstate))
        store->verdict = STORE_REFUSED;
    bool keep = missed || reason == STORE_REASON_content || reason == STORE_REASON_locked ||
                reason == STORE_REASON_full;
    if (!keep || store->state < STATE_PARTITIONING || PQstatus(store->conn) != CONNECTION_OK)
        return leave_with(store, reason, store->verdict);
    enter(store, STATE_ROLLING_BACK);
    return STORE_DONE;
}

static enum store_result schema_is_wrong(struct store *store)
{
    return leave_with(store, STORE_REASON_schema,
                      store->job == JOB_START ? STORE_REFUSED : STORE_AWAY);
}

/* ---- what is asked in each state */

static void ask_greeting(struct store *store)
{
    /* A server that hears nothing more from here ends the transaction before this side gives it
     * up and sends the batch again. */
    buf_puts(&store->sql, POSTGRES_SETTINGS
             "SET statement_timeout = '20s'; SET lock_timeout = '3s';"
             "SET idle_in_transaction_session_timeout = '20s';"
             "SELECT to_regclass('schema_migrations') IS NOT NULL AS schema_there, "
             "current_setting('server_encoding') AS server_encoding");
}

static void ask_number(struct store *store)
{
    buf_puts(&store->sql, "SELECT coalesce(max(number), 0) AS schema FROM schema_migrations");
}

static void ask_lock(struct store *store)
{
    buf_puts(&store->sql, "BEGIN; SET LOCAL statement_timeout = 0;"
                          "SELECT pg_advisory_xact_lock(" POSTGRES_LOCK_SCHEMA ");"
                          "CREATE TABLE IF NOT EXISTS schema_migrations (number integer PRIMARY "
                          "KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now());"
                          "SELECT coalesce(max(number), 0) AS schema FROM schema_migrations");
}

static void ask_migration(struct store *store)
{
    const struct migration *step;
    while ((step = migrations_after(store_postgres.name, store->schema))) {
        buf_printf(&store->sql,
                   "%s; INSERT INTO schema_migrations (number, name) VALUES (%d, '%s');", step->sql,
                   step->number, step->name);
        store->schema = step->number;
    }
    buf_puts(&store->sql, "COMMIT");
    STEP(postgres_to_migrate);
}

static void ask_prepare(struct store *store)
{
    postgres_sql_prepare(&store->sql);
}

static int month_of(int64_t wall_ms)
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm parts;
    gmtime_r(&seconds, &parts);
    return (parts.tm_year - 70) * 12 + parts.tm_mon;
}

static void ask_partition(struct store *store, int64_t wall_ms)
{
    int month = month_of(wall_ms);
    for (size_t i = 0; i < store->months_count; i++)
        if (store->months[i] == month)
            return;
    if (store->months_count == MONTHS_KNOWN)
        store->months_count = 0;
    store->months[store->months_count++] = month;
    buf_printf(&store->sql, "SELECT gateway_logs_partition(%lld);", (long long)wall_ms);
}

static void ask_partitions(struct store *store)
{
    int64_t now_ms = clock_wall_ms();
    ask_partition(store, now_ms);
    ask_partition(store, now_ms + PARTITION_AHEAD_DAYS * INT64_C(86400000));
    for (size_t i = 0; store->job == JOB_COMMIT && i < store->batch->rows_count; i++)
        ask_partition(store, uuid_wall_ms(&store->batch->rows[i].request_id));
}

static void ask_offsets(struct store *store)
{
    buf_puts(&store->sql, "SELECT segment, committed FROM gateway_spool WHERE host = ");
    postgres_sql_literal(store->conn, str_of(store->host), &store->sql);
}

static void ask_rows(struct store *store)
{
    store->rows_sent = store->rows_matched = 0;
    store->end_sent = false;
    buf_clear(&store->chunk);
    postgres_copy_begin(&store->chunk);
    postgres_sql_rows(&store->sql);
    STEP(postgres_batch_to_begin);
}

static void ask_rest(struct store *store)
{
    store->committed = false;
    buf_puts(&store->sql, store->batch->rows_count == 0 ? "BEGIN;" : "");
    postgres_sql_rest(store->conn, store->host, store->batch, &store->usage, &store->sql);
    STEP(postgres_to_commit);
}

static void ask_expiry(struct store *store)
{
    buf_printf(&store->sql, "SELECT rows, more FROM gateway_logs_expire(%lld, %zu)",
               (long long)store->expiry->before_wall_ms, store->expiry->rows_max);
}

static void ask_rollback(struct store *store)
{
    buf_puts(&store->sql, "ROLLBACK");
}

/* ---- what is answered */

static const char *field(const PGresult *result, const char *name)
{
    int column = PQfnumber(result, name);
    return column >= 0 && PQntuples(result) == 1 ? PQgetvalue(result, 0, column) : NULL;
}

static void take_greeting(struct store *store, const PGresult *result)
{
    const char *there = field(result, "schema_there");
    const char *encoding = field(result, "server_encoding");
    if (there)
        store->schema_there = there[0] == 't';
    store->schema_wrong = encoding && strcmp(encoding, "UTF8") != 0;
    if (store->schema_wrong)
        say(store, "can't be the store", "the database's encoding must be UTF8");
    if (PQserverVersion(store->conn) < POSTGRES_SERVER_MIN) {
        store->schema_wrong = true;
        say(store, "can't be the store", "it must be PostgreSQL 13 or later");
    }
}

static void take_number(struct store *store, const PGresult *result)
{
    const char *number = field(result, "schema");
    if (!number)
        return;
    struct error error;
    store->schema = atoi(number);
    enum schema_state state = migrations_look(store_postgres.name, store->schema, &error);
    store->schema_wrong = state == SCHEMA_TOO_NEW;
    store->schema_held = state == SCHEMA_HELD;
    if (state != SCHEMA_GOOD)
        say(store, "can't be the store", error.message);
}

static void take_offsets(struct store *store, const PGresult *result)
{
    for (int i = 0; i < PQntuples(result); i++)
        store->each(store->context, PQgetvalue(result, i, 0),
                    strtoull(PQgetvalue(result, i, 1), NULL, 10));
}

/* New rows come in the order of the batch. Of two with one id it is the first. */
static void take_new_row(struct store *store, const char *text)
{
    const struct store_batch *batch = store->batch;
    struct uuid id;
    if (!uuid_parse(str_of(text), &id))
        return;
    while (store->rows_matched < batch->rows_count &&
           uuid_compare(&batch->rows[store->rows_matched].request_id, &id) != 0)
        store->rows_matched++;
    if (store->rows_matched == batch->rows_count)
        return;
    usage_add(&store->usage, &store->zone, &batch->rows[store->rows_matched++]);
    store->new_rows++;
}

static void take_new_rows(struct store *store, const PGresult *result)
{
    if (PQfnumber(result, "new_row") != 0)
        return;
    for (int i = 0; i < PQntuples(result); i++)
        take_new_row(store, PQgetvalue(result, i, 0));
    if (store->new_rows == (size_t)PQntuples(result) || store->failed)
        return;
    store->failed = true;
    say(store, doing(store), "the server has stored other rows than were sent");
}

static void take_commit(struct store *store, const PGresult *result)
{
    store->committed |= strcmp(PQcmdStatus((PGresult *)(uintptr_t)result), "COMMIT") == 0;
    if (store->committed)
        STEP(postgres_commit_answered);
}

static void take_expiry(struct store *store, const PGresult *result)
{
    const char *rows = field(result, "rows"), *more = field(result, "more");
    store->expiry->rows = rows ? strtoull(rows, NULL, 10) : 0;
    store->expiry->more = more && more[0] == 't';
    store->months_count = 0;
}

/* ---- which state follows */

static enum state after_greeting(struct store *store)
{
    return store->schema_there ? STATE_NUMBERING : STATE_LOCKING;
}

static enum state after_number(struct store *store)
{
    return store->schema == migrations_newest(store_postgres.name) ? STATE_PREPARING
                                                                   : STATE_LOCKING;
}

static enum state after_partitions(struct store *store)
{
    if (store->job != JOB_COMMIT)
        return store->job == JOB_START ? STATE_READING : STATE_EXPIRING;
    usage_clear(&store->usage);
    store->new_rows = 0;
    return store->batch->rows_count > 0 ? STATE_COPYING : STATE_COMMITTING;
}

static enum state after_rollback(struct store *store)
{
    if (!partition_is_missing(store))
        return STATE_READY;
    store->verdict = STORE_DONE;
    return STATE_PARTITIONING;
}

typedef void ask_fn(struct store *store);
typedef void take_fn(struct store *store, const PGresult *result);
typedef enum state choose_fn(struct store *store);

/* What is asked, what takes its results, and which state follows: `then`, or what `choose` says. */
static const struct {
    const char *name;
    int64_t limit_ms; /* 0 = the one before goes on */
    ask_fn *ask;
    take_fn *take;
    choose_fn *choose;
    enum state then;
} rules[STATES] = {
    [STATE_AWAY] = {.name = "away"},
    /* What the thread may take, and a little. */
    [STATE_CONNECTING] = {.name = "connecting", .limit_ms = POSTGRES_CONNECT_MS + 1000},
    [STATE_GREETING] = {"greeting", ANSWER_MS, ask_greeting, take_greeting, after_greeting, 0},
    [STATE_NUMBERING] = {"numbering", ANSWER_MS, ask_number, take_number, after_number, 0},
    [STATE_LOCKING] = {"locking", ANSWER_MS, ask_lock, take_number, NULL, STATE_MIGRATING},
    [STATE_MIGRATING] = {"migrating", MIGRATION_MS, ask_migration, NULL, NULL, STATE_PREPARING},
    [STATE_PREPARING] = {"preparing", ANSWER_MS, ask_prepare, NULL, NULL, STATE_PARTITIONING},
    [STATE_PARTITIONING] = {"partitioning", ANSWER_MS, ask_partitions, NULL, after_partitions, 0},
    [STATE_READING] = {"reading", ANSWER_MS, ask_offsets, take_offsets, NULL, STATE_READY},
    [STATE_READY] = {.name = "ready"},
    [STATE_COPYING] = {"copying", BATCH_MS, ask_rows, NULL, NULL, STATE_READY},
    [STATE_TAKING] = {"taking", 0, NULL, take_new_rows, NULL, STATE_COMMITTING},
    [STATE_COMMITTING] = {"committing", BATCH_MS, ask_rest, take_commit, NULL, STATE_READY},
    [STATE_EXPIRING] = {"expiring", BATCH_MS, ask_expiry, take_expiry, NULL, STATE_READY},
    [STATE_ROLLING_BACK] = {"rolling back", ANSWER_MS, ask_rollback, NULL, after_rollback, 0},
};

/* The only place where the state changes. What the new one asks is sent; what fails there is found
 * when the answer is read. */
static void enter(struct store *store, enum state state)
{
    if (state == store->state && state != STATE_AWAY)
        abort();
    log_debug("store: %s -> %s", rules[store->state].name, rules[state].name);
    store->state = state;
    if (rules[state].limit_ms)
        store->deadline_ms = clock_now_ms() + rules[state].limit_ms;
    if (!rules[state].ask)
        return;
    buf_clear(&store->sql);
    store->failed = false;
    store->sqlstate[0] = '\0';
    rules[state].ask(store);
    store->asked = store->sql.len > 0;
    if (store->asked && !PQsendQuery(store->conn, buf_cstr(&store->sql)))
        log_debug("store: the connection is lost");
    if (state == STATE_COMMITTING)
        STEP(postgres_commit_sent);
}

/* ---- the steps: STORE_DONE is one state further */

static enum store_result step_connecting(struct store *store)
{
    if (!postgres_attempt_end(&store->attempt, &store->conn))
        return clock_now_ms() < store->deadline_ms ? STORE_WORKING : too_late(store);
    ConnStatusType status = PQstatus(store->conn);
    if (status == CONNECTION_BAD)
        return connection_failed(store);
    if (status != CONNECTION_OK)
        return too_late(store);
    PQsetnonblocking(store->conn, 1);
    STEP(postgres_connected);
    enter(store, STATE_GREETING);
    return STORE_DONE;
}

static void fill_chunk(struct store *store)
{
    const struct store_batch *batch = store->batch;
    for (; store->rows_sent < batch->rows_count && store->chunk.len < COPY_BYTES;
         store->rows_sent++)
        postgres_copy_row(&batch->rows[store->rows_sent], store->rows_sent, &store->chunk);
    if (store->rows_sent < batch->rows_count || store->end_sent)
        return;
    postgres_copy_end(&store->chunk);
    store->end_sent = true;
}

/* STORE_WORKING: the socket must take more first. */
static enum store_result send_rows(struct store *store)
{
    store->sending = true;
    while (!store->end_sent || store->chunk.len > 0) {
        fill_chunk(store);
        int sent = PQputCopyData(store->conn, store->chunk.data, (int)store->chunk.len);
        if (sent <= 0)
            return sent < 0 ? connection_failed(store) : STORE_WORKING;
        buf_clear(&store->chunk);
        int left = PQflush(store->conn);
        if (left != 0)
            return left < 0 ? connection_failed(store) : STORE_WORKING;
    }
    STEP(postgres_rows_copied);
    int sent = PQputCopyEnd(store->conn, NULL);
    if (sent <= 0)
        return sent < 0 ? connection_failed(store) : STORE_WORKING;
    enter(store, STATE_TAKING);
    return STORE_DONE;
}

static void take_result(struct store *store, PGresult *result)
{
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
        note_failure(store, result);
    else if (rules[store->state].take)
        rules[store->state].take(store, result);
}

/* STORE_DONE: the answer is there to its end. */
static enum store_result read_answer(struct store *store)
{
    while (!PQisBusy(store->conn)) {
        PGresult *result = PQgetResult(store->conn);
        if (!result)
            return STORE_DONE;
        bool wants_rows = PQresultStatus(result) == PGRES_COPY_IN;
        if (!wants_rows)
            take_result(store, result);
        PQclear(result);
        enum store_result sent = wants_rows ? send_rows(store) : STORE_DONE;
        if (sent != STORE_DONE)
            return sent;
    }
    return STORE_WORKING;
}

static enum store_result converse(struct store *store)
{
    if (!PQconsumeInput(store->conn))
        return connection_failed(store);
    /* What the socket has taken meanwhile is no reason to wait. */
    int left = 0;
    do {
        store->sending = false;
        enum store_result result = read_answer(store);
        if (result != STORE_WORKING)
            return result;
        left = PQflush(store->conn);
        if (left < 0)
            return connection_failed(store);
    } while (left == 0 && store->sending);
    store->flushing = left > 0;
    return clock_now_ms() < store->deadline_ms ? STORE_WORKING : too_late(store);
}

static enum store_result not_committed(struct store *store)
{
    say(store, doing(store), "the transaction was rolled back");
    return leave_with(store, STORE_REASON_other, STORE_AWAY);
}

static enum store_result step_query(struct store *store)
{
    enum store_result result = store->asked ? converse(store) : STORE_DONE;
    if (result != STORE_DONE)
        return result;
    if (store->failed)
        return PQstatus(store->conn) == CONNECTION_OK ? judge(store) : server_left(store);
    if (store->schema_wrong)
        return schema_is_wrong(store);
    if (store->schema_held)
        return leave_with(store, STORE_REASON_locked, STORE_AWAY);
    if (store->state == STATE_COPYING || (store->state == STATE_COMMITTING && !store->committed))
        return not_committed(store);
    choose_fn *choose = rules[store->state].choose;
    enter(store, choose ? choose(store) : rules[store->state].then);
    return STORE_DONE;
}

/* A commit whose answer was lost may have been done: its rows were new then. */
static size_t count_new(struct store *store)
{
    const struct store_batch *batch = store->batch;
    bool again = batch->rows_count > 0 && store->new_rows == 0 &&
                 uuid_compare(&batch->rows[0].request_id, &store->doubtful) == 0;
    size_t count = again ? store->doubtful_rows : store->new_rows;
    store->doubtful_rows = 0;
    return count;
}

/* Until something has to be waited for, or the job is over. */
static enum store_result advance(struct store *store, struct error *error)
{
    enum store_result result = STORE_DONE;
    while (result == STORE_DONE && store->state != STATE_READY)
        result = store->state == STATE_CONNECTING ? step_connecting(store) : step_query(store);
    if (result == STORE_WORKING)
        return result;
    if (result == STORE_DONE)
        result = store->verdict;
    if (result == STORE_DONE) {
        store->reason = STORE_REASON_none;
        if (store->job == JOB_COMMIT)
            store->batch->new_rows = count_new(store);
    } else {
        *error = store->failure;
    }
    store->job = JOB_NONE;
    return result;
}

/* ---- the driver */

static void postgres_place(const struct config_store *config, struct buf *place)
{
    postgres_dsn_place(config->dsn, place);
}

static bool postgres_open(const struct config_store *config, const char *host, struct store **out,
                          struct error *error)
{
    if (!postgres_dsn_check(config->dsn, error))
        return false;
    struct store *store = xcalloc(1, sizeof *store);
    store->driver = &store_postgres;
    store->dsn = config->dsn;
    store->host = xstrdup(host);
    store->zone = config->months;
    postgres_dsn_place(config->dsn, &store->place);
    *out = store;
    return true;
}

static void postgres_close(struct store *store)
{
    disconnect(store);
    free(store->host);
    buf_free(&store->place);
    buf_free(&store->sql);
    buf_free(&store->chunk);
    usage_free(&store->usage);
    free(store);
}

static enum store_result connect_anew(struct store *store, struct error *error)
{
    disconnect(store);
    store->attempt = postgres_attempt_begin(store->dsn, error);
    store->reason = STORE_REASON_resources;
    if (!store->attempt)
        return STORE_AWAY;
    store->schema_there = store->schema_wrong = store->schema_held = false;
    store->schema = 0;
    enter(store, STATE_CONNECTING);
    return STORE_WORKING;
}

static enum store_result postgres_start(struct store *store, store_offset_fn *each, void *context,
                                        struct error *error)
{
    store->job = JOB_START;
    store->verdict = STORE_DONE;
    store->again = false;
    store->each = each;
    store->context = context;
    return connect_anew(store, error);
}

/* A server that was restarted while there was nothing to do has said so, or hung up. */
static bool is_connected(struct store *store)
{
    if (store->state != STATE_READY)
        return false;
    for (int i = 0; i < 2; i++)
        if (!PQconsumeInput(store->conn) || PQisBusy(store->conn))
            return false;
    return PQstatus(store->conn) == CONNECTION_OK;
}

static enum store_result begin_job(struct store *store, enum job job, struct error *error)
{
    store->job = job;
    store->verdict = STORE_DONE;
    store->again = false;
    if (!is_connected(store))
        return connect_anew(store, error);
    enter(store, STATE_PARTITIONING);
    return advance(store, error);
}

static enum store_result postgres_commit(struct store *store, struct store_batch *batch,
                                         struct error *error)
{
    store->batch = batch;
    return begin_job(store, JOB_COMMIT, error);
}

static enum store_result postgres_expire(struct store *store, struct store_expiry *expiry,
                                         struct error *error)
{
    store->expiry = expiry;
    return begin_job(store, JOB_EXPIRE, error);
}

static struct store_wait postgres_wait(const struct store *store)
{
    int64_t left_ms = store->deadline_ms - clock_now_ms();
    struct store_wait wait = {.events = POLLIN, .timeout_ms = left_ms > 0 ? left_ms : 0};
    if (store->attempt) {
        wait.descriptor = postgres_attempt_descriptor(store->attempt);
        return wait;
    }
    wait.descriptor = PQsocket(store->conn);
    wait.events |= store->flushing ? POLLOUT : 0;
    return wait;
}

static enum store_reason postgres_store_reason(const struct store *store)
{
    return store->reason;
}

const struct store_driver store_postgres = {
    .name = "postgres",
    .waits = true,
    .place = postgres_place,
    .open = postgres_open,
    .start = postgres_start,
    .commit = postgres_commit,
    .expire = postgres_expire,
    .step = advance,
    .wait = postgres_wait,
    .reason = postgres_store_reason,
    .open_reader = postgres_open_reader,
    .query = postgres_query,
    .spend = postgres_spend,
    .inspect = postgres_inspect,
    .close = postgres_close,
};
