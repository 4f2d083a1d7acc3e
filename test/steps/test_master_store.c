/* The whole logger with its real store, in a process that is killed at each step it takes, one
 * after the other; the next one finds what it left. SQLite's locks are a process's, so these are
 * real processes. */
#include "master/logger/run.h"
#include "master/store/background.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/record/frame.h"
#include "shared/record/record.h"
#include "test/unit/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { SLOTS = 2, RECORDS = 3 };
enum { SECOND_EACH = 4 }; /* of the second logger's steps, one in so many */

static unsigned synced; /* calls of the two below, SQLite's too */

int fdatasync(int fd)
{
    synced++;
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    synced++;
    return (int)syscall(SYS_fsync, fd);
}

struct place {
    char directory[SCRATCH_PATH], spool[SCRATCH_PATH], database[SCRATCH_PATH];
    char rejected[SCRATCH_PATH];
    int pipes[SLOTS][2];
    struct shm_header header;
    struct counters counters;
    struct config config;
};

static void send_bytes(struct place *place, unsigned slot, unsigned number, struct str bytes)
{
    struct buf frames = {0};
    struct uuid id = {{(uint8_t)slot, (uint8_t)number, [6] = 0x70, [8] = 0x80}};
    assert_true(frames_encode(&id, bytes, &frames));
    for (struct str rest = buf_view(&frames); rest.len > 0;) {
        size_t length = frame_length(rest);
        assert_int_equal(write(place->pipes[slot][1], rest.at, length), length);
        rest.at += length;
        rest.len -= length;
    }
    buf_free(&frames);
}

static void send_row(struct place *place, unsigned slot, unsigned number)
{
    static char body[6000];
    struct record row;
    struct buf bytes = {0};
    record_init(&row);
    memset(body, 'b', sizeof body);
    row.request_id = (struct uuid){{(uint8_t)slot, (uint8_t)number, [6] = 0x70, [8] = 0x80}};
    row.status = STR("ok");
    row.cost_basis = STR("none");
    row.project = row.token = STR("a");
    row.created_at = 1795000000000;
    row.streamed = 0;
    row.worker = slot;
    row.response_body = (struct str){body, number == 1 ? sizeof body : 1};
    record_encode(&row, &bytes);
    send_bytes(place, slot, number, buf_view(&bytes));
    buf_free(&bytes);
}

static void begin(struct place *place)
{
    memset(place, 0, sizeof *place);
    assert_non_null(scratch_make(place->directory));
    scratch_path(place->directory, "spool", place->spool);
    scratch_path(place->directory, "logs.db", place->database);
    scratch_path(place->directory, "rejected", place->rejected);
    place->counters.header = &place->header;
    place->config.state_dir = place->directory;
    place->config.store = (struct config_store){.driver = "sqlite", .path = place->database};
    for (unsigned i = 0; i < SLOTS; i++) {
        assert_int_equal(pipe2(place->pipes[i], O_CLOEXEC | O_NONBLOCK), 0);
        for (unsigned j = 1; j <= RECORDS; j++)
            send_row(place, i, j);
    }
    send_bytes(place, 1, RECORDS + 1, STR("this is no record"));
    for (unsigned i = 0; i < SLOTS; i++)
        close(place->pipes[i][1]);
}

static void end(struct place *place)
{
    for (unsigned i = 0; i < SLOTS; i++)
        close(place->pipes[i][0]);
    scratch_remove(place->directory);
}

/* ---- the logger's process */

static _Atomic unsigned steps_left; /* the store works in a thread of its own */

static void count_step(const char *name)
{
    (void)name;
    if (atomic_fetch_sub(&steps_left, 1) == 1)
        kill(getpid(), SIGKILL);
}

_Noreturn static void run_logger(struct place *place)
{
    struct spool *spool = NULL;
    struct store *store = NULL;
    struct error error;
    int readable[SLOTS];
    for (unsigned i = 0; i < SLOTS; i++)
        readable[i] = place->pipes[i][0];
    struct logger_setup setup = {.config = &place->config,
                                 .counters = &place->counters,
                                 .pipes = readable,
                                 .pipes_count = SLOTS,
                                 .ready = -1};
    if (!spool_open(place->spool, SLOTS, &spool, &error) ||
        !store_open(&place->config.store, "host", &store, &error))
        _exit(1);
    spool_set_segment_bytes(spool, 1);
    store_in_background(&store);
    int status = logger_run(&setup, spool, store);
    store_close(&store);
    spool_close(&spool);
    _exit(status);
}

/* 0 when it did its work; -SIGKILL when it came to that step. */
static int run_until(struct place *place, unsigned step)
{
    pid_t pid = fork();
    int status;
    assert_true(pid >= 0);
    if (pid == 0) {
        if (!freopen("/dev/null", "w", stderr)) /* what is set aside is told each time */
            _exit(98);
        steps_left = step;
        step_hook = count_step;
        run_logger(place);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* ---- what is there afterwards */

static int each_row(void *context, int columns, char **values, char **names)
{
    (void)columns;
    (void)names;
    strcat(context, values[0]);
    strcat(context, ";");
    return 0;
}

static const char *ask(const struct place *place, const char *sql)
{
    static char answer[1024];
    sqlite3 *db;
    char *why = NULL;
    answer[0] = '\0';
    assert_int_equal(sqlite3_open(place->database, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, each_row, answer, &why) != SQLITE_OK)
        fail_msg("%s: %s", sql, why);
    sqlite3_close(db);
    return answer;
}

static unsigned count_files(const char *directory)
{
    DIR *stream = opendir(directory);
    const struct dirent *entry;
    unsigned count = 0;
    while (stream && (entry = readdir(stream)))
        count += entry->d_name[0] != '.';
    if (stream)
        closedir(stream);
    return count;
}

static void assert_all_is_there(const struct place *place)
{
    for (unsigned slot = 0; slot < SLOTS; slot++) {
        char sql[200];
        snprintf(sql, sizeof sql,
                 "SELECT substr(request_id, 3, 2) FROM gateway_logs WHERE worker = %u "
                 "ORDER BY rowid",
                 slot);
        assert_string_equal(ask(place, sql), "01;02;03;");
    }
    assert_string_equal(ask(place, "PRAGMA integrity_check"), "ok;");
    assert_string_equal(ask(place, "SELECT count(*) FROM gateway_spool"), "0;");
    assert_int_equal(count_files(place->spool), 0);
    assert_int_equal(count_files(place->rejected), 1);
    assert_true(atomic_load(&place->header.logged_rows) <= SLOTS * RECORDS);
}

/* Whether the first logger came to that step; the second one is killed at `second`, unless 0. */
static bool kill_at(unsigned first, unsigned second)
{
    struct place place;
    begin(&place);
    int how = run_until(&place, first);
    if (how == -SIGKILL && second)
        run_until(&place, second);
    if (how == -SIGKILL)
        assert_int_equal(run_until(&place, 0), 0);
    else
        assert_int_equal(how, 0);
    assert_all_is_there(&place);
    end(&place);
    return how == -SIGKILL;
}

static unsigned steps_taken;

static void a_logger_is_killed_at_each_step(void **state)
{
    (void)state;
    while (kill_at(steps_taken + 1, 0))
        steps_taken++;
    printf("a logger with its store: killed at each of its %u steps\n", steps_taken);
    assert_true(steps_taken > 40);
}

static void and_the_next_one_too(void **state)
{
    (void)state;
    unsigned pairs = 0;
    for (unsigned first = 1; first <= steps_taken; first++)
        for (unsigned second = 1 + first % SECOND_EACH; second <= steps_taken;
             second += SECOND_EACH, pairs++)
            assert_true(kill_at(first, second));
    printf("a logger with its store, and the next one: %u pairs of steps, 1 in %u of all\n", pairs,
           (unsigned)SECOND_EACH);
}

static void no_offset(void *context, const char *segment, uint64_t committed)
{
    (void)context;
    fail_msg("%s: %llu", segment, (unsigned long long)committed);
}

/* "STORE_DONE: everything is durable." */
static void each_commit_is_synced(void **state)
{
    (void)state;
    struct place place;
    struct store *store = NULL;
    struct error error;
    begin(&place);
    assert_true(store_open(&place.config.store, "host", &store, &error));
    assert_int_equal(store_start(store, no_offset, NULL, &error), STORE_DONE);
    for (unsigned i = 0; i < 5; i++) {
        struct record row;
        record_init(&row);
        row.request_id = (struct uuid){{9, (uint8_t)i}};
        row.status = row.cost_basis = row.project = row.token = STR("a");
        row.created_at = 1795000000000;
        row.streamed = 0;
        struct store_batch batch = {.rows = &row, .rows_count = 1};
        synced = 0;
        assert_int_equal(store_commit(store, &batch, &error), STORE_DONE);
        assert_int_equal(batch.new_rows, 1);
        assert_true(synced >= 1);
    }
    store_close(&store);
    end(&place);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_logger_is_killed_at_each_step),
        cmocka_unit_test(and_the_next_one_too),
        cmocka_unit_test(each_commit_is_synced),
    };
    log_setup(LOG_ERROR, LOG_TEXT);
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
