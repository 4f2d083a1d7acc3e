#include "master/store/migrations.h"
#include "master/store/store.h"
#include "shared/base/clock.h"
#include "test/unit/postgres_server.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

static struct postgres_server server;
static bool installed;

struct place {
    char name[32]; /* of the database */
    char dsn[2 * SCRATCH_PATH];
    struct config_store config;
    PGconn *admin; /* the superuser, in that database */
};

static void name_database(struct place *place, const char *user, const char *database)
{
    snprintf(place->dsn, sizeof place->dsn, "host=%s user=%s dbname=%s password=very-secret",
             server.directory, user, database);
    place->config = (struct config_store){.driver = "postgres", .dsn = place->dsn};
}

static int set_up(void **state)
{
    static int count;
    struct place *place = calloc(1, sizeof *place);
    char sql[128];
    *state = place;
    if (!installed)
        return 0;
    PGconn *conn = server_connect(&server, "postgres", "postgres");
    snprintf(place->name, sizeof place->name, "test_%d", ++count);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s OWNER gateway", place->name);
    server_run(conn, sql);
    PQfinish(conn);
    place->admin = server_connect(&server, "postgres", place->name);
    name_database(place, "gateway", place->name);
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    PQfinish(place->admin);
    free(place);
    return 0;
}

static void no_offset(void *context, const char *segment, uint64_t committed)
{
    (void)context;
    fail_msg("unexpected offset %s %llu", segment, (unsigned long long)committed);
}

static enum store_result start(struct store *store, store_offset_fn *each, void *context,
                               struct error *error)
{
    return store_complete(store, store_start(store, each, context, error), error);
}

static struct store *open_store(const struct place *place, store_offset_fn *each, void *context)
{
    struct store *store = NULL;
    struct error error;
    assert_true(store_open(&place->config, "host-1", &store, &error));
    if (start(store, each, context, &error) != STORE_DONE)
        fail_msg("%s", error.message);
    return store;
}

/* What the database says; '|' between columns, ';' behind rows. */
static const char *ask(const struct place *place, const char *sql)
{
    static char answer[4096];
    PGresult *result = PQexec(place->admin, sql);
    size_t len = 0;
    answer[0] = '\0';
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQerrorMessage(place->admin));
    for (int row = 0; row < PQntuples(result); row++) {
        for (int i = 0; i < PQnfields(result); i++)
            len +=
                (size_t)snprintf(answer + len, sizeof answer - len, "%s%s", i ? "|" : "",
                                 PQgetisnull(result, row, i) ? "NULL" : PQgetvalue(result, row, i));
        len += (size_t)snprintf(answer + len, sizeof answer - len, ";");
    }
    PQclear(result);
    return answer;
}

static const int64_t now_ms = 1790000000042;

/* uuid_v7 never goes back in time; this does. */
static struct record row_at(int64_t wall_ms)
{
    struct record row;
    record_init(&row);
    row.request_id = uuid_v7(now_ms);
    for (int i = 0; i < 6; i++)
        row.request_id.bytes[i] = (uint8_t)(wall_ms >> (40 - 8 * i));
    row.created_at = wall_ms;
    row.status = STR("ok");
    return row;
}

static enum store_result commit_with(struct store *store, struct store_batch *batch,
                                     struct error *error)
{
    error->message[0] = '\0';
    enum store_result result = store_complete(store, store_commit(store, batch, error), error);
    if ((result == STORE_DONE) != (error->message[0] == '\0'))
        fail_msg("%d: %s", (int)result, error->message);
    return result;
}

static enum store_result commit(struct store *store, struct store_batch *batch)
{
    struct error error;
    return commit_with(store, batch, &error);
}

static void assert_committed(struct store *store, struct store_batch *batch)
{
    struct error error;
    if (commit_with(store, batch, &error) != STORE_DONE)
        fail_msg("%s", error.message);
}

/* No list of columns is written twice: the migration's must be those of columns.def. */
static void table_has_the_records_columns(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    static const char *types[] = {[RECORD_KIND_UUID] = "uuid",
                                  [RECORD_KIND_TIME] = "timestamp with time zone",
                                  [RECORD_KIND_TEXT] = "text",
                                  [RECORD_KIND_INT] = "bigint",
                                  [RECORD_KIND_BOOL] = "boolean"};
    struct buf expected = {0};
    for (size_t i = 0; i < record_columns_count; i++) {
        buf_printf(&expected, "%s|%s;", record_columns[i].name, types[record_columns[i].kind]);
        if (strcmp(record_columns[i].name, "cost_nano_usd") == 0)
            buf_puts(&expected, "cost_usd|double precision;");
    }
    buf_puts(&expected, "stored|bigint;");
    assert_string_equal(ask(place, "SELECT column_name, data_type FROM information_schema.columns "
                                   "WHERE table_name = 'gateway_logs' ORDER BY ordinal_position"),
                        buf_cstr(&expected));
    buf_free(&expected);
    store_close(&store);
}

static void a_row_is_read_as_it_was_written(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    row.cost_nano_usd = 1500000;
    row.streamed = 1;
    row.latency_ms = -5;
    row.model = STR("");
    row.error_message = STR("it's \"bad\"\t\\N\r\n\\. \xC3\xA9; DROP TABLE gateway_logs");
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    assert_string_equal(ask(place, "SELECT created_at AT TIME ZONE 'UTC', admitted_at, cost_usd, "
                                   "streamed, latency_ms, model, error_message, http_status "
                                   "FROM gateway_logs"),
                        "2026-09-21 14:13:20.042|NULL|0.0015|t|-5||"
                        "it's \"bad\"\t\\N\r\n\\. \xC3\xA9; DROP TABLE gateway_logs|NULL;");
    store_close(&store);
}

static void known_rows_are_left_alone(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[4] = {row_at(now_ms), row_at(now_ms), row_at(now_ms), row_at(now_ms)};
    struct store_batch batch = {.rows = rows, .rows_count = 2};
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 2);
    rows[0].status = rows[1].status = STR("worker_died");
    rows[3] = rows[2]; /* twice in one batch: the first counts */
    rows[3].status = STR("worker_died");
    batch.rows_count = 4;
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    assert_string_equal(ask(place, "SELECT status FROM gateway_logs"), "ok;ok;ok;");
    store_close(&store);
}

static void note_offset(void *context, const char *segment, uint64_t committed)
{
    buf_printf(context, "%s=%llu;", segment, (unsigned long long)committed);
}

static void offsets_come_back(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    const struct store_offset offsets[] = {{"a", 10}, {"it's", 20}, {"a", 30}};
    const char *gone[] = {"it's", "never-there"};
    struct store_batch batch = {.offsets = offsets, .offsets_count = 2};
    assert_committed(store, &batch);
    batch = (struct store_batch){
        .offsets = offsets + 2, .offsets_count = 1, .gone = gone, .gone_count = 2};
    assert_committed(store, &batch);
    store_close(&store);

    struct buf seen = {0};
    store = open_store(place, note_offset, &seen);
    assert_string_equal(buf_cstr(&seen), "a=30;");
    store_close(&store);
    buf_free(&seen);

    struct error error;
    assert_true(store_open(&place->config, "host-2", &store, &error));
    assert_int_equal(start(store, no_offset, NULL, &error), STORE_DONE);
    store_close(&store);
}

/* A failure behind the rows (here: the offsets' table refuses) takes the rows back as well, and is
 * no row's fault. */
static void all_or_nothing(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    ask(place, "ALTER TABLE gateway_spool ADD CHECK (segment <> 'bad')");
    struct record rows[2] = {row_at(now_ms), row_at(now_ms)};
    const struct store_offset offsets[] = {{"good", 5}, {"bad", 10}};
    struct store_batch batch = {
        .rows = rows, .rows_count = 2, .offsets = offsets, .offsets_count = 2};
    assert_int_equal(commit(store, &batch), STORE_AWAY);
    assert_int_equal(batch.new_rows, 0);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "0;");
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_spool"), "0;");
    batch.offsets_count = 1;
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 2);
    store_close(&store);
}

static void content_is_refused(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    ask(place, "ALTER TABLE gateway_logs ADD CHECK (status <> 'poison')");
    struct record rows[3] = {row_at(now_ms), row_at(now_ms), row_at(now_ms)};
    struct error error;
    rows[1].status = STR("poison");
    rows[2].created_at = INT64_MAX; /* no time that PostgreSQL has */
    struct store_batch batch = {.rows = rows, .rows_count = 3};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(commit_with(store, &batch, &error), STORE_REFUSED);
        assert_int_equal(store_reason(store), STORE_REASON_content);
        assert_int_equal(batch.new_rows, 0);
        batch.rows_count = 2;
    }
    assert_non_null(strstr(error.message, "check constraint"));
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "0;");
    batch.rows_count = 1;
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    store_close(&store);
}

static void locked_is_away_and_changes_nothing(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    const struct store_offset offset = {"a", 10};
    struct store_batch batch = {
        .rows = &row, .rows_count = 1, .offsets = &offset, .offsets_count = 1};
    ask(place, "BEGIN; LOCK TABLE gateway_spool");
    assert_int_equal(commit(store, &batch), STORE_AWAY);
    assert_int_equal(store_reason(store), STORE_REASON_locked);
    assert_int_equal(batch.new_rows, 0);
    ask(place, "ROLLBACK");
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "0;");
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    assert_string_equal(ask(place, "SELECT segment, committed FROM gateway_spool"), "a|10;");
    store_close(&store);
}

static void end_sessions(const struct place *place)
{
    ask(place, "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
               "WHERE datname = current_database() AND pid <> pg_backend_pid()");
}

static void read_only_is_away(void **state)
{
    struct place *place = *state;
    char sql[128];
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    snprintf(sql, sizeof sql, "ALTER DATABASE %s SET default_transaction_read_only = on",
             place->name);
    ask(place, sql);
    end_sessions(place);
    assert_int_equal(commit(store, &batch), STORE_AWAY);
    assert_int_equal(store_reason(store), STORE_REASON_read_only);
    snprintf(sql, sizeof sql, "ALTER DATABASE %s RESET default_transaction_read_only", place->name);
    ask(place, sql);
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    store_close(&store);
}

/* Ended while there was nothing to do, it is connected anew without a word. */
static void an_idle_connection_is_made_anew(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    end_sessions(place);
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    store_close(&store);
}

static struct record *many_rows(size_t count, size_t body_len)
{
    struct record *rows = calloc(count, sizeof *rows);
    char *body = malloc(body_len);
    memset(body, 'x', body_len);
    for (size_t i = 0; i < count; i++) {
        rows[i] = row_at(now_ms);
        rows[i].request_body = (struct str){body, body_len};
    }
    return rows;
}

static void free_rows(struct record *rows)
{
    free((char *)(uintptr_t)rows[0].request_body.at);
    free(rows);
}

/* Cut after each number of steps in turn, until there are no more of them: always all or nothing,
 * and told so. */
static void a_connection_cut_in_mid_batch_is_away(void **state)
{
    enum { ROWS = 64, BODY = 64 << 10 };
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record *rows = many_rows(ROWS, BODY);
    struct store_batch batch = {.rows = rows, .rows_count = ROWS};
    unsigned cuts = 0;
    for (unsigned at = 0;; at++) {
        struct error error;
        ask(place, "TRUNCATE gateway_logs");
        enum store_result result = store_commit(store, &batch, &error);
        for (unsigned i = 0; i < at && result == STORE_WORKING; i++) {
            struct store_wait wait = store_wait(store);
            poll(&(struct pollfd){.fd = wait.descriptor, .events = wait.events}, 1, 5000);
            result = store_step(store, &error);
        }
        if (result != STORE_WORKING) {
            assert_int_equal(result, STORE_DONE);
            break;
        }
        end_sessions(place);
        result = store_complete(store, result, &error);
        if (result == STORE_AWAY) {
            cuts++;
            assert_int_equal(store_reason(store), STORE_REASON_unreachable);
            assert_int_equal(batch.new_rows, 0);
            if (strcmp(ask(place, "SELECT count(*) FROM gateway_logs"), "0;") != 0)
                assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "64;");
        }
        assert_committed(store, &batch);
        assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "64;");
    }
    assert_true(cuts > 3);
    store_close(&store);
    free_rows(rows);
}

static void partitions_are_made_for_what_comes(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    assert_string_equal(ask(place, "SELECT count(*) FROM pg_inherits "
                                   "WHERE inhparent = 'gateway_logs'::regclass"),
                        "2;"); /* this month and the next */
    const int64_t times[] = {0, 946684799999, 946684800000, now_ms, (INT64_C(1) << 48) - 1};
    struct record rows[5];
    for (int i = 0; i < 5; i++) {
        rows[i] = row_at(times[i]);
        rows[i].created_at = RECORD_NULL;
    }
    struct store_batch batch = {.rows = rows, .rows_count = 5};
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 5);
    assert_string_equal(ask(place, "SELECT tableoid::regclass FROM gateway_logs ORDER BY 1"),
                        "gateway_logs_1970_01;gateway_logs_1999_12;gateway_logs_2000_01;"
                        "gateway_logs_2026_09;gateway_logs_10889_08;");
    /* One that the driver knows is dropped behind its back. */
    ask(place, "DROP TABLE gateway_logs_1999_12");
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "5;");
    store_close(&store);
}

static void many_months_in_one_batch(void **state)
{
    enum { MONTHS = 100 };
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[MONTHS];
    for (int i = 0; i < MONTHS; i++)
        rows[i] = row_at(i * INT64_C(31) * 86400000);
    struct store_batch batch = {.rows = rows, .rows_count = MONTHS};
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, MONTHS);
    store_close(&store);
}

static void assert_start(const struct place *place, enum store_result expected,
                         enum store_reason reason, const char *part)
{
    struct store *store = NULL;
    struct error error;
    assert_true(store_open(&place->config, "host-1", &store, &error));
    assert_int_equal(start(store, no_offset, NULL, &error), expected);
    assert_int_equal(store_reason(store), reason);
    if (!strstr(error.message, part))
        fail_msg("\"%s\" lacks \"%s\"", error.message, part);
    assert_null(strstr(error.message, "very-secret"));
    store_close(&store);
}

static void what_nobody_is_let_in_to_is_refused(void **state)
{
    struct place *place = *state;
    name_database(place, "gateway", "no_such_database");
    assert_start(place, STORE_REFUSED, STORE_REASON_unreachable, "no_such_database");
    name_database(place, "stranger", place->name);
    assert_start(place, STORE_REFUSED, STORE_REASON_unreachable, "stranger");
    name_database(place, "other", place->name); /* may connect, and make no table */
    assert_start(place, STORE_REFUSED, STORE_REASON_read_only, "permission denied");
    snprintf(place->dsn, sizeof place->dsn, "host=/nowhere password=very-secret");
    assert_start(place, STORE_AWAY, STORE_REASON_unreachable, "/nowhere");
    snprintf(place->dsn, sizeof place->dsn, "host=name.invalid password=very-secret");
    assert_start(place, STORE_AWAY, STORE_REASON_unreachable, "name.invalid");
}

static void dsns_are_not_repeated(void **state)
{
    (void)state;
    static const char *const wrong[] = {"very-secret", "password = 'very-secret", "",
                                        "postgresql://me:very-@secret@host/db",
                                        "postgresql://me:pw@host/db?very=secret"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct config_store config = {.driver = "postgres", .dsn = wrong[i]};
        struct store *store = NULL;
        struct error error;
        assert_false(store_open(&config, "host-1", &store, &error));
        assert_non_null(strstr(error.message, "store.dsn"));
        assert_null(strstr(error.message, "secret"));
    }
}

static void the_encoding_must_be_utf8(void **state)
{
    struct place *place = *state;
    ask(place, "CREATE DATABASE latin OWNER gateway TEMPLATE template0 ENCODING 'LATIN1' "
               "LOCALE 'C'");
    name_database(place, "gateway", "latin");
    assert_start(place, STORE_REFUSED, STORE_REASON_schema, "UTF8");
}

static int64_t jump_ms;

static int64_t jumped_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000 + jump_ms * 1000;
}

static int64_t wall_ms(void)
{
    return now_ms;
}

/* Something listens and says nothing: the time is limited. */
static void a_silent_server_is_away(void **state)
{
    struct place *place = *state;
    char directory[SCRATCH_PATH], path[SCRATCH_PATH];
    assert_non_null(scratch_make(directory));
    scratch_path(directory, ".s.PGSQL.5432", path);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%.100s", path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(listener, 5), 0);
    snprintf(place->dsn, sizeof place->dsn, "host=%s", directory);
    struct store *store = NULL;
    struct error error;
    const struct clock_source source = {jumped_now_us, wall_ms};
    clock_set_source(&source);
    assert_true(store_open(&place->config, "host-1", &store, &error));
    assert_int_equal(store_start(store, no_offset, NULL, &error), STORE_WORKING);
    struct store_wait wait = store_wait(store);
    assert_true(wait.timeout_ms > 0 && wait.timeout_ms < 20000);
    assert_int_equal(store_step(store, &error), STORE_WORKING);
    jump_ms = wait.timeout_ms;
    assert_int_equal(store_step(store, &error), STORE_AWAY);
    assert_int_equal(store_reason(store), STORE_REASON_unreachable);
    assert_non_null(strstr(error.message, "no answer in time"));
    store_close(&store);
    clock_set_source(NULL);
    close(listener);
    scratch_remove(directory);
}

static void migrations_are_applied_once(void **state)
{
    enum { HOSTS = 4 };
    struct place *place = *state;
    struct store *stores[HOSTS];
    enum store_result results[HOSTS];
    struct error error;
    unsigned done = 0;
    /* Several hosts at once: one does it, the others wait for it. */
    for (int i = 0; i < HOSTS; i++) {
        assert_true(store_open(&place->config, "host-1", &stores[i], &error));
        results[i] = store_start(stores[i], no_offset, NULL, &error);
    }
    while (done < HOSTS) {
        done = 0;
        for (int i = 0; i < HOSTS; i++) {
            if (results[i] == STORE_WORKING)
                results[i] = store_step(stores[i], &error);
            if (results[i] != STORE_WORKING && results[i] != STORE_DONE)
                fail_msg("%s", error.message);
            done += results[i] == STORE_DONE;
        }
        usleep(1000);
    }
    for (int i = 0; i < HOSTS; i++)
        store_close(&stores[i]);
    char expected[64];
    int newest = migrations_newest("postgres");
    snprintf(expected, sizeof expected, "%d|%d;", newest, newest);
    assert_true(newest >= 1);
    assert_string_equal(ask(place, "SELECT max(number), count(*) FROM schema_migrations"),
                        expected);
}

/* A role that may not make tables is enough when another has made them. */
static void a_newer_schema_is_refused(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    store_close(&store);
    ask(place, "INSERT INTO schema_migrations (number, name) VALUES (9000, 'later')");
    assert_start(place, STORE_REFUSED, STORE_REASON_schema, "9000");
    struct error error;
    assert_false(store_open_reader(&place->config, &store, &error));
    assert_non_null(strstr(error.message, "9000"));
}

/* One whose schema became newer while it ran: nothing of its is lost. */
static void a_schema_that_became_newer_is_away(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    ask(place, "INSERT INTO schema_migrations (number, name) VALUES (9000, 'later')");
    end_sessions(place);
    assert_int_equal(commit(store, &batch), STORE_AWAY);
    assert_int_equal(store_reason(store), STORE_REASON_schema);
    ask(place, "DELETE FROM schema_migrations WHERE number = 9000");
    assert_committed(store, &batch);
    store_close(&store);
}

static bool note_row(void *context, const struct str *values)
{
    buf_str(context, values[0]);
    buf_putc(context, ' ');
    return true;
}

static int64_t query(struct store *store, size_t limit, int64_t after, struct buf *seen)
{
    struct error error;
    struct store_query query = {.limit = limit, .after = after};
    buf_clear(seen);
    if (!store_query(store, &query, note_row, seen, &error))
        fail_msg("%s", error.message);
    return query.position;
}

static void assert_ids(struct buf *seen, const struct record *rows, const char *order)
{
    struct buf expected = {0};
    for (; *order; order++) {
        char text[UUID_TEXT_LEN + 1];
        buf_printf(&expected, "%s ", uuid_format(&rows[*order - '0'].request_id, text));
    }
    assert_string_equal(buf_cstr(seen), buf_cstr(&expected));
    buf_free(&expected);
}

static void readers_get_the_newest_then_the_new(void **state)
{
    struct place *place = *state;
    struct error error;
    struct store *reader = NULL, *store;
    assert_false(store_open_reader(&place->config, &reader, &error));
    assert_non_null(strstr(error.message, "no rows yet"));
    store = open_store(place, no_offset, NULL);
    struct record rows[6];
    for (int i = 0; i < 6; i++)
        rows[i] = row_at(now_ms + i);
    struct buf seen = {0};
    assert_true(store_open_reader(&place->config, &reader, &error));
    assert_int_equal(query(reader, 10, -1, &seen), 0);
    assert_ids(&seen, rows, "");

    struct store_batch batch = {.rows = rows + 1, .rows_count = 4};
    assert_committed(store, &batch);
    int64_t position = query(reader, 3, -1, &seen);
    assert_ids(&seen, rows, "234");
    assert_int_equal(query(reader, 0, -1, &seen), position);
    assert_int_equal(query(reader, 10, position, &seen), position);
    assert_ids(&seen, rows, "");

    /* 0 began before all others and ended last: it is new all the same. */
    struct record late[2] = {rows[5], rows[0]};
    batch = (struct store_batch){.rows = late, .rows_count = 2};
    assert_committed(store, &batch);
    position = query(reader, 1, position, &seen);
    assert_ids(&seen, rows, "5");
    query(reader, 10, position, &seen);
    assert_ids(&seen, rows, "0");
    query(reader, 10, -1, &seen);
    assert_ids(&seen, rows, "012345");
    store_close(&reader);
    store_close(&store);
    buf_free(&seen);
}

static bool check_values(void *context, const struct str *values)
{
    *(int *)context += 1;
    for (size_t i = 0; i < record_columns_count; i++) {
        const char *name = record_columns[i].name;
        const char *expected = strcmp(name, "created_at") == 0      ? "1970-01-01T00:00:00.007Z"
                               : strcmp(name, "streamed") == 0      ? "false"
                               : strcmp(name, "latency_ms") == 0    ? "-5"
                               : strcmp(name, "error_message") == 0 ? ""
                               : strcmp(name, "status") == 0        ? "ok"
                                                                    : NULL;
        if (i == 0)
            assert_int_equal(values[i].len, UUID_TEXT_LEN);
        else if (expected)
            assert_true(values[i].at && str_eq(values[i], str_of(expected)));
        else
            assert_null(values[i].at);
    }
    return false; /* one is enough */
}

static void values_are_text(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL), *reader;
    struct record rows[2] = {row_at(7), row_at(8)};
    rows[0].streamed = 0;
    rows[0].latency_ms = -5;
    rows[0].error_message = STR("");
    struct store_batch batch = {.rows = rows, .rows_count = 2};
    assert_committed(store, &batch);
    struct error error;
    assert_true(store_open_reader(&place->config, &reader, &error));
    struct store_query query = {.limit = 10, .after = -1};
    int count = 0;
    assert_true(store_query(reader, &query, check_values, &count, &error));
    assert_int_equal(count, 1);
    store_close(&reader);
    store_close(&store);
}

static void looking_changes_nothing(void **state)
{
    struct place *place = *state;
    struct store_found found;
    struct error error;
    assert_true(store_inspect(&place->config, "host-1", &found, no_offset, NULL, &error));
    assert_false(found.exists);
    assert_int_equal(found.schema_known, migrations_newest("postgres"));
    assert_string_equal(ask(place, "SELECT count(*) FROM pg_class WHERE relname = "
                                   "'schema_migrations'"),
                        "0;");
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    const struct store_offset offset = {"a", 10};
    struct store_batch batch = {
        .rows = &row, .rows_count = 1, .offsets = &offset, .offsets_count = 1};
    assert_committed(store, &batch);
    struct buf seen = {0};
    assert_true(store_inspect(&place->config, "host-1", &found, note_offset, &seen, &error));
    assert_true(found.exists);
    assert_int_equal(found.schema, found.schema_known);
    assert_int_equal(found.rows, 1);
    assert_string_equal(buf_cstr(&seen), "a=10;");
    store_close(&store);
    buf_free(&seen);
    name_database(place, "gateway", "no_such_database");
    assert_false(store_inspect(&place->config, "host-1", &found, no_offset, NULL, &error));
    assert_null(strstr(error.message, "very-secret"));
}

/* Stopped and started again: away, then back. */
static void a_restarted_server_is_found_again(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record row = row_at(now_ms);
    struct store_batch batch = {.rows = &row, .rows_count = 1};
    PQfinish(place->admin);
    server_end(&server, SIGINT);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(commit(store, &batch), STORE_AWAY);
        assert_int_equal(store_reason(store), STORE_REASON_unreachable);
    }
    assert_true(server_begin(&server));
    place->admin = server_connect(&server, "postgres", place->name);
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 1);
    store_close(&store);
}

static int start_server(void **state)
{
    (void)state;
    if (!server_start(&server, &installed))
        return installed ? -1 : 0;
    PGconn *conn = server_connect(&server, "postgres", "postgres");
    server_run(conn, "CREATE ROLE gateway LOGIN");
    server_run(conn, "CREATE ROLE other LOGIN");
    PQfinish(conn);
    return 0;
}

static int remove_server(void **state)
{
    (void)state;
    server_remove(&server);
    return 0;
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(table_has_the_records_columns),
        TEST(a_row_is_read_as_it_was_written),
        TEST(known_rows_are_left_alone),
        TEST(offsets_come_back),
        TEST(all_or_nothing),
        TEST(content_is_refused),
        TEST(locked_is_away_and_changes_nothing),
        TEST(read_only_is_away),
        TEST(an_idle_connection_is_made_anew),
        TEST(a_connection_cut_in_mid_batch_is_away),
        TEST(partitions_are_made_for_what_comes),
        TEST(many_months_in_one_batch),
        TEST(what_nobody_is_let_in_to_is_refused),
        TEST(dsns_are_not_repeated),
        TEST(the_encoding_must_be_utf8),
        TEST(a_silent_server_is_away),
        TEST(migrations_are_applied_once),
        TEST(a_newer_schema_is_refused),
        TEST(a_schema_that_became_newer_is_away),
        TEST(readers_get_the_newest_then_the_new),
        TEST(values_are_text),
        TEST(looking_changes_nothing),
        TEST(a_restarted_server_is_found_again),
    };
    struct postgres_server found = {0};
    server_find(&found);
    if (!found.programs[0]) {
        printf("store_postgres: skipped, no PostgreSQL server is installed\n");
        return 0;
    }
    return cmocka_run_group_tests_name("store_postgres", tests, start_server, remove_server);
}
