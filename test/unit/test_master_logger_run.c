/* The logger's process: pipes in, rows out, with a store that is away or slow. */
#include "test/unit/master_logger.h"

#include <sys/eventfd.h>
#include <sys/ioctl.h>

static void every_row_arrives(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    int64_t bytes = 0;
    for (unsigned i = 0; i < 3000; i++) {
        size_t body = i % 100 == 0 ? 70000 : i % 300;
        send_row(place, i % SLOTS, i, body);
        bytes += (int64_t)body;
    }
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 3000);
    assert_int_equal(number(place, "SELECT sum(length(response_body)) FROM gateway_logs"), bytes);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_spool"), 0);
    assert_int_equal(atomic_load(&place->counters.header->logged_rows), 3000);
    assert_int_equal(segments(place), 0);
}

/* A single row must not wait for others to come. */
static void a_lonely_row_is_committed_soon(void **state)
{
    struct place *place = *state;
    start(place);
    send_row(place, 0, 1, 10);
    wait_for_rows(place, 1);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 1);
}

/* While another master may still go on, the logger takes rows and leaves the schema alone. */
static void an_upgrade_that_may_fail_changes_no_schema(void **state)
{
    struct place *place = *state;
    atomic_store(&place->counters.header->master_pid, getppid()); /* not this one */
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    send_row(place, 0, 1, 10);
    usleep(300000);
    assert_int_equal(atomic_load(&place->counters.header->logger.store), LOGGER_STORE_AWAY);
    assert_int_equal(number(place, "SELECT count(*) FROM sqlite_schema"), 0);
    atomic_store(&place->counters.header->master_pid, getpid());
    wait_for_rows(place, 1);
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 1);
}

static void termination_is_not_for_the_logger(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    kill(place->logger, SIGTERM);
    kill(place->logger, SIGINT);
    send_row(place, 0, 1, 10);
    wait_for_rows(place, 1);
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
}

static void killed_and_started_again(void **state)
{
    struct place *place = *state;
    unsigned sent = 0;
    for (unsigned round = 0; round < 8; round++) {
        start(place);
        for (unsigned i = 0; i < 400; i++, sent++)
            send_row(place, sent % SLOTS, sent, sent % 50 == 0 ? 9000 : 100);
        kill(place->logger, SIGKILL);
        assert_int_equal(wait_for_end(place), -SIGKILL);
    }
    start(place);
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), sent);
    assert_int_equal(segments(place), 0);
}

/* By ids that are of 1970: the rows have their numbers, shifted, in front. */
static void old_rows_are_deleted_beside_new_ones(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    for (unsigned i = 0; i < 1500; i++)
        send_row(place, i % SLOTS, i << 16, 100);
    wait_for_rows(place, 1500);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 1500);
    atomic_store(&place->counters.header->logger.retention_ms, 3600000);
    for (unsigned i = 0; i < 3000; i++)
        send_row(place, i % SLOTS, (1500 + i) << 16, 100);
    wait_for_rows(place, 4500);
    for (int waited = 0; waited < PATIENCE_MS / 10; waited++) {
        if (number(place, "SELECT count(*) FROM gateway_logs WHERE request_id < '0100'") == 0)
            break;
        usleep(10000);
    }
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 0);
    assert_int_equal(number(place, "SELECT sum(requests) FROM gateway_usage_hourly"), 4500);
    assert_int_equal(atomic_load(&place->counters.header->logged_rows), 4500);
}

static int64_t resident_kib(pid_t pid)
{
    char path[64], line[256];
    long long kib = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "VmRSS: %lld", &kib) == 1)
            break;
    if (file)
        fclose(file);
    return kib;
}

/* While the store is away the pipes are emptied all the same, and memory does not grow. */
static void a_locked_store_holds_nobody_up(void **state)
{
    struct place *place = *state;
    start(place);
    send_row(place, 0, 0, 10);
    wait_for_rows(place, 1);
    sqlite3 *other = lock_database(place);
    for (unsigned i = 1; i < 200; i++)
        send_row(place, 0, i, 20000);
    int64_t before = resident_kib(place->logger);
    for (unsigned i = 200; i < 1200; i++)
        send_row(place, i % SLOTS, i, 20000);
    assert_true(resident_kib(place->logger) < before + 4096);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 1);
    sqlite3_close(other);
    wait_for_rows(place, 1200);
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 1200);
    assert_int_equal(segments(place), 0);
}

static void leaves_while_the_store_is_away(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    sqlite3 *other = lock_database(place);
    for (unsigned i = 0; i < 100; i++)
        send_row(place, 0, i, 100);
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    sqlite3_close(other);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 0);
    assert_int_equal(segments(place), 1);
    start(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 100);
}

/* One record of several reads, and nothing behind it: it goes in all the same. */
static void a_long_row_of_an_earlier_logger(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    sqlite3 *other = lock_database(place);
    send_row(place, 0, 1, 900000);
    for (int left = 1; left > 0; usleep(1000))
        assert_int_equal(ioctl(place->pipes[0][0], FIONREAD, &left), 0);
    kill(place->logger, SIGKILL);
    assert_int_equal(wait_for_end(place), -SIGKILL);
    sqlite3_close(other);
    start(place);
    wait_for_rows(place, 1);
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(segments(place), 0);
}

/* Locked when the logger starts: not ready until it can be opened. */
static void waits_for_the_store_to_start(void **state)
{
    struct place *place = *state;
    /* SQLite's own idea of its locks must not be inherited, so the fork comes first. */
    place->stopped = true;
    start(place);
    assert_int_equal(waitpid(place->logger, NULL, WUNTRACED), place->logger);
    number(place, "PRAGMA journal_mode = WAL");
    sqlite3 *other = lock_database(place);
    kill(place->logger, SIGCONT);
    send_row(place, 0, 1, 10);
    assert_false(is_ready(place, 300));
    sqlite3_close(other);
    assert_true(is_ready(place, PATIENCE_MS));
    wait_for_rows(place, 1);
}

static void an_unusable_store_ends_it(void **state)
{
    struct place *place = *state;
    place->config.store.path = "/nonexistent/logs.db";
    start(place);
    assert_int_equal(wait_for_end(place), 1);
    assert_false(is_ready(place, 0));
}

/* ---- a store that takes its time: answers come over a descriptor ---- */

struct slow_store {
    const struct store_driver *driver;
    struct store *inner;
    int answer;
    unsigned steps_left;
    enum { SLOW_START, SLOW_COMMIT } doing;
    struct store_batch *batch;
    store_offset_fn *each;
    void *context;
};

static enum store_result slow_begin(struct slow_store *slow)
{
    slow->steps_left = 3;
    eventfd_write(slow->answer, 1);
    return STORE_WORKING;
}

static enum store_result slow_start(struct store *store, store_offset_fn *each, void *context,
                                    struct error *error)
{
    (void)error;
    struct slow_store *slow = (struct slow_store *)store;
    slow->doing = SLOW_START;
    slow->each = each;
    slow->context = context;
    return slow_begin(slow);
}

static enum store_result slow_commit(struct store *store, struct store_batch *batch,
                                     struct error *error)
{
    (void)error;
    struct slow_store *slow = (struct slow_store *)store;
    slow->doing = SLOW_COMMIT;
    slow->batch = batch;
    return slow_begin(slow);
}

static enum store_result slow_step(struct store *store, struct error *error)
{
    struct slow_store *slow = (struct slow_store *)store;
    if (--slow->steps_left > 0)
        return STORE_WORKING;
    if (slow->doing == SLOW_START)
        return store_start(slow->inner, slow->each, slow->context, error);
    return store_commit(slow->inner, slow->batch, error);
}

/* A descriptor first, then a time alone. */
static struct store_wait slow_wait(const struct store *store)
{
    const struct slow_store *slow = (const struct slow_store *)store;
    if (slow->steps_left == 1)
        return (struct store_wait){.descriptor = -1, .timeout_ms = 5};
    return (struct store_wait){.descriptor = slow->answer, .events = POLLIN, .timeout_ms = -1};
}

static enum store_reason slow_reason(const struct store *store)
{
    return store_reason(((const struct slow_store *)store)->inner);
}

static void slow_logger(const struct logger_setup *setup)
{
    static const struct store_driver driver = {.name = "slow",
                                               .start = slow_start,
                                               .commit = slow_commit,
                                               .step = slow_step,
                                               .wait = slow_wait,
                                               .reason = slow_reason};
    struct slow_store slow = {.driver = &driver, .answer = eventfd(0, EFD_CLOEXEC)};
    struct spool *spool = NULL;
    struct error error;
    char path[SCRATCH_PATH];
    if (!spool_open(scratch_path(setup->config->state_dir, "spool", path), setup->pipes_count,
                    &spool, &error) ||
        !store_open(&setup->config->store, "host", &slow.inner, &error))
        _exit(98);
    int status = logger_run(setup, spool, (struct store *)&slow);
    store_close(&slow.inner);
    spool_close(&spool);
    _exit(status);
}

static void a_slow_store_is_waited_for(void **state)
{
    struct place *place = *state;
    start_with(place, slow_logger);
    assert_true(is_ready(place, PATIENCE_MS));
    for (unsigned i = 0; i < 2000; i++)
        send_row(place, i % SLOTS, i, 500);
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 2000);
    assert_int_equal(segments(place), 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(every_row_arrives),
        TEST(old_rows_are_deleted_beside_new_ones),
        TEST(a_lonely_row_is_committed_soon),
        TEST(an_upgrade_that_may_fail_changes_no_schema),
        TEST(termination_is_not_for_the_logger),
        TEST(killed_and_started_again),
        TEST(a_locked_store_holds_nobody_up),
        TEST(leaves_while_the_store_is_away),
        TEST(a_long_row_of_an_earlier_logger),
        TEST(waits_for_the_store_to_start),
        TEST(an_unusable_store_ends_it),
        TEST(a_slow_store_is_waited_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
