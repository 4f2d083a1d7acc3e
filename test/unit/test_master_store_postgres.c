#include "master/store/migrations.h"
#include "master/store/usage.h"
#include "shared/base/clock.h"
#include "test/unit/postgres_place.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>

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
    assert_string_equal(ask(place, "SELECT column_name, data_type FROM information_schema.columns "
                                   "WHERE table_name = 'gateway_logs' AND column_name <> 'stored' "
                                   "ORDER BY ordinal_position"),
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
    batch.rows_count = 0; /* offsets alone */
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 0);
    assert_string_equal(ask(place, "SELECT status FROM gateway_logs"), "ok;ok;ok;");
    store_close(&store);
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

static const struct refused some_refused[] = {
    {now_ms, STR("unauthorized"), STR("10.0.0.0/24"), STR("host-1"), 5},
    {now_ms, STR("unauthorized"), STR("10.0.0.0/24"), STR("host-1"), 2}};
static const struct store_offset some_offset = {"a", 10};

static struct store_batch batch_of(const struct record *rows)
{
    return (struct store_batch){.rows = rows,
                                .rows_count = 64,
                                .refused = some_refused,
                                .refused_count = 2,
                                .offsets = &some_offset,
                                .offsets_count = 1};
}

static void assert_stored_once(const struct place *place)
{
    assert_string_equal(ask(place, "SELECT (SELECT count(*) FROM gateway_logs), "
                                   "(SELECT sum(requests) FROM gateway_usage_hourly), "
                                   "(SELECT sum(count) FROM gateway_refused), "
                                   "(SELECT sum(committed) FROM gateway_spool)"),
                        "64|64|7|10;");
}

static void wait_for_store(const struct store *store)
{
    struct store_wait wait = store_wait(store);
    poll(&(struct pollfd){.fd = wait.descriptor, .events = wait.events}, 1, 5000);
}

/* Cut after `at` steps, if there are so many: all or nothing, and told so. */
static bool commit_and_cut(struct place *place, struct store *store, struct store_batch *batch,
                           unsigned at)
{
    struct error error;
    ask(place, "TRUNCATE gateway_logs, gateway_usage_hourly, gateway_refused, gateway_spool");
    enum store_result result = store_commit(store, batch, &error);
    for (unsigned i = 0; i < at && result == STORE_WORKING; i++) {
        wait_for_store(store);
        result = store_step(store, &error);
    }
    bool cut = result == STORE_WORKING;
    if (cut)
        end_sessions(place);
    result = store_complete(store, result, &error);
    if (result == STORE_AWAY) {
        assert_int_equal(store_reason(store), STORE_REASON_unreachable);
        assert_int_equal(batch->new_rows, 0);
        if (strcmp(ask(place, "SELECT count(*) FROM gateway_logs"), "0;") != 0)
            assert_stored_once(place);
        assert_committed(store, batch);
    }
    assert_int_equal(batch->new_rows, 64);
    assert_stored_once(place);
    return cut;
}

static void a_connection_cut_in_mid_batch_is_away(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record *rows = many_rows(64, 64 << 10);
    struct store_batch batch = batch_of(rows);
    unsigned at = 0;
    while (commit_and_cut(place, store, &batch, at))
        at++;
    assert_true(at > 0); /* how often it waits on the way depends on how fast the server reads */
    store_close(&store);
    free_rows(rows);
}

/* The server has done it, and its answer never comes: done again, nothing is counted twice. */
static void a_commit_without_an_answer_counts_once(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record *rows = many_rows(64, 10);
    struct store_batch batch = batch_of(rows);
    struct error error;
    char bytes[4096];
    enum store_result result = store_commit(store, &batch, &error);
    for (;;) {
        assert_int_equal(result, STORE_WORKING);
        wait_for_store(store);
        if (strcmp(ask(place, "SELECT count(*) FROM gateway_logs"), "0;") != 0)
            break;
        result = store_step(store, &error);
    }
    int descriptor = store_wait(store).descriptor;
    while (recv(descriptor, bytes, sizeof bytes, MSG_DONTWAIT) > 0)
        continue;
    shutdown(descriptor, SHUT_RDWR);
    assert_int_equal(store_complete(store, result, &error), STORE_AWAY);
    assert_stored_once(place);
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 64);
    assert_stored_once(place);
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 0);
    store_close(&store);
    free_rows(rows);
}

static void new_rows_are_added_up(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[4];
    for (int i = 0; i < 4; i++) {
        rows[i] = row_at(now_ms);
        rows[i].endpoint = STR("o'hara");
        rows[i].cost_nano_usd = 10;
        rows[i].latency_ms = i;
    }
    rows[3].endpoint = STR_ABSENT;
    struct store_batch batch = {.rows = rows, .rows_count = 2};
    assert_committed(store, &batch);
    batch.rows_count = 4;
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 2);
    assert_string_equal(
        ask(place, "SELECT month, hour AT TIME ZONE 'UTC', endpoint, streamed, requests, "
                   "cost_nano_usd, latency_ms, latency_ms_b00, latency_ms_b01, latency_ms_b02, "
                   "first_token_ms_b00 FROM gateway_usage_hourly ORDER BY endpoint"),
        "2026-09|2026-09-21 14:00:00||f|1|10|3|0|0|1|0;"
        "2026-09|2026-09-21 14:00:00|o'hara|f|3|30|3|1|1|1|0;");
    store_close(&store);
}

static void the_rollups_table_has_its_columns(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct buf expected = {0};
    for (size_t i = 0; i < usage_columns_count; i++)
        buf_printf(&expected, "%s;", usage_columns[i].name);
    assert_string_equal(ask(place, "SELECT column_name FROM information_schema.columns WHERE "
                                   "table_name = 'gateway_usage_hourly' ORDER BY ordinal_position"),
                        buf_cstr(&expected));
    buf_free(&expected);
    store_close(&store);
}

/* One row's sum is more than a column holds: that row is set aside, the others are not held up. */
static void a_sum_out_of_range_is_content(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record rows[2] = {row_at(now_ms), row_at(now_ms)};
    rows[0].prompt_tokens = rows[1].prompt_tokens = INT64_MAX - 1;
    struct store_batch batch = {.rows = rows, .rows_count = 1};
    assert_committed(store, &batch);
    batch.rows = rows + 1;
    assert_int_equal(commit(store, &batch), STORE_REFUSED);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "1;");
    store_close(&store);
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

/* Rows of very different sizes don't come out of the staging table as they came in. */
static void the_batchs_order_counts(void **state)
{
    enum { ROWS = 200 };
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    struct record *rows = many_rows(ROWS, 1800);
    for (int i = 0; i < ROWS; i++) {
        rows[i].request_body.len = (size_t)(i * 7919) % 1800;
        rows[i].endpoint = i % 2 ? STR("odd") : STR("even");
        if (i >= ROWS / 2) { /* known from the first half */
            rows[i].request_id = rows[i - ROWS / 2].request_id;
            rows[i].status = STR("worker_died");
        }
    }
    struct store_batch batch = {.rows = rows, .rows_count = ROWS};
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, ROWS / 2);
    assert_string_equal(ask(place, "SELECT status, count(*) FROM gateway_logs GROUP BY 1"),
                        "ok|100;");
    assert_string_equal(
        ask(place, "SELECT endpoint, requests FROM gateway_usage_hourly ORDER BY 1"),
        "even|50;odd|50;");
    store_close(&store);
    free_rows(rows);
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

static void expire(struct store *store, int64_t before_wall_ms, size_t rows, bool more)
{
    struct store_expiry expiry = {.before_wall_ms = before_wall_ms, .rows_max = 100};
    struct error error;
    enum store_result result = store_expire(store, &expiry, &error);
    if (store_complete(store, result, &error) != STORE_DONE)
        fail_msg("%s", error.message);
    assert_int_equal(expiry.rows, rows);
    assert_int_equal(expiry.more, more);
}

static void what_is_too_old_is_dropped_by_months(void **state)
{
    struct place *place = *state;
    struct store *store = open_store(place, no_offset, NULL);
    const int64_t day_ms = 86400000;
    struct record rows[3] = {row_at(0), row_at(40 * day_ms), row_at(now_ms)};
    const struct refused refused[] = {{0, STR("not_found"), STR("unix"), STR("host-1"), 1},
                                      {now_ms, STR("not_found"), STR("unix"), STR("host-1"), 1}};
    struct store_batch batch = {
        .rows = rows, .rows_count = 3, .refused = refused, .refused_count = 2};
    assert_committed(store, &batch);
    ask(place, "ANALYZE gateway_logs");
    expire(store, 30 * day_ms, 0, false); /* in the first month */
    expire(store, 70 * day_ms, 1, true);
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_logs"), "2;");
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_refused"), "1;");
    expire(store, 70 * day_ms, 1, false);
    expire(store, 70 * day_ms, 0, false);
    assert_string_equal(ask(place, "SELECT sum(requests) FROM gateway_usage_hourly"), "3;");
    /* An older row that comes after all has its partition again. */
    batch.refused_count = 0;
    assert_committed(store, &batch);
    assert_int_equal(batch.new_rows, 2);
    store_close(&store);
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

static bool is_held(const void *held)
{
    return *(const bool *)held;
}

static void no_step_is_run_while_they_are_held(void **state)
{
    struct place *place = *state;
    bool held = true;
    migrations_hold_while(is_held, &held);
    assert_start(place, STORE_AWAY, STORE_REASON_locked, "when the upgrade is over");
    assert_string_equal(
        ask(place, "SELECT count(*) FROM pg_tables WHERE tablename = 'gateway_logs'"), "0;");
    held = false;
    struct store *store = open_store(place, no_offset, NULL);
    store_close(&store);
    held = true;
    store = open_store(place, no_offset, NULL); /* nothing is missing */
    store_close(&store);
    migrations_hold_while(NULL, NULL);
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
        TEST(a_commit_without_an_answer_counts_once),
        TEST(new_rows_are_added_up),
        TEST(the_rollups_table_has_its_columns),
        TEST(a_sum_out_of_range_is_content),
        TEST(what_is_too_old_is_dropped_by_months),
        TEST(partitions_are_made_for_what_comes),
        TEST(the_batchs_order_counts),
        TEST(many_months_in_one_batch),
        TEST(what_nobody_is_let_in_to_is_refused),
        TEST(dsns_are_not_repeated),
        TEST(the_encoding_must_be_utf8),
        TEST(a_silent_server_is_away),
        TEST(migrations_are_applied_once),
        TEST(a_newer_schema_is_refused),
        TEST(no_step_is_run_while_they_are_held),
        TEST(a_schema_that_became_newer_is_away),
        TEST(a_restarted_server_is_found_again),
    };
    return RUN_TESTS("store_postgres", tests);
}
