/* What goes wrong with the logger's files, and with rows and records that nothing takes. */
#include "test/unit/master_logger.h"

#include <sys/resource.h>
#include <sys/syscall.h>

/* The errno that these calls fail with in the logger, also while it runs; 0 = they work. */
static struct faults {
    _Atomic int splice, fdatasync;
} * faults;

static bool fails(_Atomic int *fault)
{
    int number = faults ? atomic_load(fault) : 0;
    if (number)
        errno = number;
    return number != 0;
}

ssize_t splice(int in, off64_t *in_at, int out, off64_t *out_at, size_t len, unsigned flags)
{
    return fails(&faults->splice)
               ? -1
               : (ssize_t)syscall(SYS_splice, in, in_at, out, out_at, len, flags);
}

int fdatasync(int fd)
{
    return fails(&faults->fdatasync) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

static int set_up_without_faults(void **state)
{
    memset(faults, 0, sizeof *faults);
    return set_up(state);
}

/* ---- files ---- */

/* "alarm, wait, and on by itself": the pipes keep what the spool can't take. */
static void a_spool_that_takes_nothing(void **state)
{
    static const int reasons[] = {ENOSPC, EDQUOT, EFBIG, EIO};
    struct place *place = *state;
    unsigned sent = 0;
    start(place);
    for (unsigned round = 0; round < sizeof reasons / sizeof *reasons; round++) {
        atomic_store(&faults->splice, reasons[round]);
        for (unsigned i = 0; i < 20; i++)
            send_row(place, i % SLOTS, sent++, 500);
        wait_until_said(place, strerror(reasons[round]), 1);
        assert_true(atomic_load(&published(place)->disk_full_wall_ms) > 0);
        assert_int_equal(atomic_load(&place->counters.header->logged_rows), sent - 20);
        usleep(20000);
        atomic_store(&faults->splice, 0);
        wait_for_rows(place, sent);
        wait_until_said(place, "can be written to again", round + 1);
        assert_int_equal(said(place, "the pipes wait"), round + 1);
    }
    assert_int_equal(atomic_load(&published(place)->disk_full_wall_ms), 0);
    end_well(place, sent);
}

/* The real thing, for spool and store at once: no file may grow above 64 KiB for a while. */
static void a_limit_on_file_sizes(void **state)
{
    struct place *place = *state;
    struct rlimit before, small = {.rlim_cur = 64 * 1024, .rlim_max = RLIM_INFINITY};
    start(place);
    send_row(place, 0, 0, 10);
    wait_for_rows(place, 1);
    assert_int_equal(prlimit(place->logger, RLIMIT_FSIZE, &small, &before), 0);
    unsigned sent = 1;
    for (; sent < 7; sent++)
        send_row(place, sent % SLOTS, sent, 20000);
    wait_until_said(place, "the store is away", 1);
    assert_int_equal(atomic_load(&published(place)->store), LOGGER_STORE_AWAY);
    assert_int_equal(atomic_load(&published(place)->store_reason), STORE_REASON_full);
    for (; sent < 13; sent++)
        send_row(place, sent % SLOTS, sent, 20000);
    wait_until_said(place, "the pipes wait", 1);
    assert_true(atomic_load(&published(place)->disk_full_wall_ms) > 0);
    assert_true(atomic_load(&published(place)->oldest_wall_ms) > 0);
    assert_int_equal(prlimit(place->logger, RLIMIT_FSIZE, &before, NULL), 0);
    wait_for_rows(place, sent);
    assert_int_equal(said(place, "the store is away"), 1);
    assert_int_equal(said(place, "the store is back"), 1);
    assert_int_equal(atomic_load(&published(place)->store), LOGGER_STORE_OK);
    end_well(place, sent);
    assert_int_equal(atomic_load(&published(place)->spool_pending_bytes), 0);
    assert_int_equal(atomic_load(&published(place)->oldest_wall_ms), 0);
}

static void a_sync_that_fails(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    sqlite3 *other = lock_database(place);
    atomic_store(&faults->fdatasync, EIO);
    send_row(place, 0, 1, 300000);
    wait_until_said(place, "power cut", 1);
    atomic_store(&faults->fdatasync, 0);
    wait_until_said(place, "can be synced again", 1);
    assert_int_equal(said(place, "power cut"), 1);
    sqlite3_close(other);
    wait_for_rows(place, 1);
    assert_int_equal(number(place, "SELECT sum(length(response_body)) FROM gateway_logs"), 300000);
    end_well(place, 1);
}

/* Without a look at the path, SQLite would go on writing to the file that has no name any more. */
static void the_database_is_deleted(void **state)
{
    struct place *place = *state;
    char wal[SCRATCH_PATH + 8], shm[SCRATCH_PATH + 8];
    start(place);
    send_row(place, 0, 0, 10);
    wait_for_rows(place, 1);
    snprintf(wal, sizeof wal, "%s-wal", place->path);
    snprintf(shm, sizeof shm, "%s-shm", place->path);
    assert_int_equal(unlink(place->path), 0);
    assert_int_equal(unlink(wal), 0);
    assert_int_equal(unlink(shm), 0);
    for (unsigned i = 1; i < 11; i++)
        send_row(place, i % SLOTS, i, 10);
    wait_for_rows(place, 11);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), 10);
    end_well(place, 10);
}

static void the_database_is_replaced(void **state)
{
    struct place *place = *state;
    char copy[SCRATCH_PATH], sql[SCRATCH_PATH + 32];
    scratch_path(place->state_dir, "copy.db", copy);
    start(place);
    send_row(place, 0, 0, 10);
    wait_for_rows(place, 1);
    snprintf(sql, sizeof sql, "VACUUM INTO '%s'", copy);
    assert_true(run_sql(place, sql));
    send_row(place, 0, 1, 10);
    wait_for_rows(place, 2);
    assert_int_equal(rename(copy, place->path), 0);
    for (unsigned i = 2; i < 12; i++)
        send_row(place, i % SLOTS, i, 10);
    wait_for_rows(place, 12);
    /* Row 1 was in the old one alone. */
    end_well(place, 11);
    assert_int_equal(number(place, "SELECT count(*) FROM pragma_integrity_check "
                                   "WHERE integrity_check = 'ok'"),
                     1);
}

/* What the -wal file held is not lost with it. */
static void the_wal_is_deleted(void **state)
{
    struct place *place = *state;
    char wal[SCRATCH_PATH + 8];
    snprintf(wal, sizeof wal, "%s-wal", place->path);
    start(place);
    unsigned sent = 0;
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < 10; i++)
            send_row(place, i % SLOTS, sent++, 2000);
        wait_for_rows(place, sent);
        assert_int_equal(unlink(wal), 0);
    }
    send_row(place, 0, sent++, 10);
    wait_for_rows(place, sent);
    end_well(place, sent);
}

/* A process in the middle of reading, until it is killed. */
static pid_t start_reader(const struct place *place)
{
    int reading[2];
    char byte;
    assert_int_equal(pipe(reading), 0);
    pid_t pid = fork();
    if (pid == 0) {
        sqlite3 *db;
        if (sqlite3_open(place->path, &db) != SQLITE_OK ||
            sqlite3_exec(db, "BEGIN; SELECT * FROM gateway_logs", NULL, NULL, NULL) != SQLITE_OK ||
            write(reading[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    close(reading[1]);
    assert_int_equal(read(reading[0], &byte, 1), 1);
    close(reading[0]);
    return pid;
}

/* The same while a reader keeps it from going into the database at once. */
static void the_wal_is_deleted_under_a_reader(void **state)
{
    struct place *place = *state;
    char wal[SCRATCH_PATH + 8];
    snprintf(wal, sizeof wal, "%s-wal", place->path);
    start(place);
    send_row(place, 0, 0, 10);
    wait_for_rows(place, 1);
    pid_t reader = start_reader(place);
    for (unsigned i = 1; i < 30; i++)
        send_row(place, i % SLOTS, i, 10);
    wait_for_rows(place, 30);
    assert_int_equal(unlink(wal), 0);
    send_row(place, 0, 30, 10);
    usleep(200000);
    uint64_t logged = atomic_load(&place->counters.header->logged_rows);
    kill(reader, SIGKILL);
    waitpid(reader, NULL, 0);
    assert_int_equal(logged, 30);
    wait_for_rows(place, 31);
    end_well(place, 31);
}

/* Garbage in the database's place, and a good one again. */
static void the_database_is_no_database(void **state)
{
    struct place *place = *state;
    char kept[SCRATCH_PATH], junk[SCRATCH_PATH];
    start(place);
    send_row(place, 0, 0, 10);
    wait_for_rows(place, 1);
    assert_true(run_sql(place, "PRAGMA wal_checkpoint(TRUNCATE)"));
    FILE *file = fopen(scratch_path(place->state_dir, "junk", junk), "w");
    for (int i = 0; i < 1000; i++)
        fputs("this is no database at all\n", file);
    fclose(file);
    assert_int_equal(rename(place->path, scratch_path(place->state_dir, "kept", kept)), 0);
    assert_int_equal(rename(junk, place->path), 0);
    send_row(place, 0, 1, 10);
    wait_until_said(place, "not a database", 1);
    assert_int_equal(atomic_load(&published(place)->store_reason), STORE_REASON_damaged);
    send_row(place, 0, 2, 10);
    assert_int_equal(rename(kept, place->path), 0);
    wait_for_rows(place, 3);
    end_well(place, 3);
}

/* A logger that replaces a dead one does not give up over what was right when the first began. */
static void the_database_becomes_read_only(void **state)
{
    struct place *place = *state;
    place->unprivileged = true;
    atomic_store(&place->counters.header->master_pid, getpid());
    if (geteuid() == 0)
        assert_int_equal(chown(place->state_dir, 65534, 65534), 0);
    start(place);
    send_row(place, 0, 0, 10);
    wait_for_rows(place, 1);
    assert_int_equal(chmod(place->path, 0400), 0);
    start_again(place);
    for (unsigned i = 1; i < 400; i++)
        send_row(place, i % SLOTS, i, 20000);
    wait_until_said(place, "the store is away (it can't be written to)", 1);
    assert_int_equal(atomic_load(&published(place)->store_reason), STORE_REASON_read_only);
    assert_int_equal(chmod(place->path, 0600), 0);
    wait_for_rows(place, 400);
    assert_int_equal(said(place, "the store is away"), 1);
    end_well(place, 400);
}

/* The same at its very first start, where nobody is being served yet. */
static void a_read_only_store_ends_it(void **state)
{
    struct place *place = *state;
    place->unprivileged = true;
    if (geteuid() == 0)
        assert_int_equal(chown(place->state_dir, 65534, 65534), 0);
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    kill(place->logger, SIGKILL);
    wait_for_end(place);
    assert_int_equal(chmod(place->path, 0400), 0);
    start(place);
    assert_int_equal(wait_for_end(place), 1);
    assert_false(is_ready(place, 0));
}

/* ---- rows and records that nothing takes ---- */

static void a_row_that_sqlite_refuses(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    assert_true(run_sql(place, "CREATE TRIGGER poison BEFORE INSERT ON gateway_logs "
                               "WHEN length(new.response_body) = 666 "
                               "BEGIN SELECT RAISE(ABORT, 'poisonous'); END"));
    for (unsigned i = 0; i < 1000; i++)
        send_row(place, i % SLOTS, i, i % 250 == 7 ? 666 : 10);
    wait_for_rows(place, 996);
    end_well(place, 996);
    assert_int_equal(rejected_files(place), 4);
    assert_int_equal(atomic_load(&published(place)->rejected), 4);
    assert_int_equal(said(place, "poisonous"), 4);
    assert_int_equal(said(place, "the store is away"), 0);
}

/* A table that isn't as it should be is no row's fault. */
static void a_schema_that_sqlite_refuses(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    assert_true(run_sql(place, "CREATE TRIGGER broken BEFORE INSERT ON gateway_logs "
                               "BEGIN SELECT * FROM missing; END"));
    for (unsigned i = 0; i < 10; i++)
        send_row(place, i % SLOTS, i, 10);
    wait_until_said(place, "the store is away", 1);
    assert_true(run_sql(place, "DROP TRIGGER broken"));
    wait_for_rows(place, 10);
    end_well(place, 10);
    assert_int_equal(rejected_files(place), 0);
}

static void a_record_that_nobody_can_read(void **state)
{
    struct place *place = *state;
    struct uuid id = {{9}};
    struct buf frames = {0};
    start(place);
    send_row(place, 0, 0, 10);
    assert_true(frames_encode(&id, STR("\x55 what is this?"), &frames));
    assert_int_equal(write(place->pipes[0][1], frames.data, frames.len), frames.len);
    send_row(place, 0, 1, 10);
    wait_for_rows(place, 2);
    end_well(place, 2);
    assert_int_equal(rejected_files(place), 1);
    buf_free(&frames);
}

/* Killed again and again while it sets rows aside. */
static void killed_while_it_sets_aside(void **state)
{
    struct place *place = *state;
    start(place);
    assert_true(is_ready(place, PATIENCE_MS));
    assert_true(run_sql(place, "CREATE TRIGGER poison BEFORE INSERT ON gateway_logs "
                               "WHEN length(new.response_body) = 666 "
                               "BEGIN SELECT RAISE(ABORT, 'poisonous'); END"));
    for (unsigned i = 0; i < 600; i++)
        send_row(place, i % SLOTS, i, i % 3 == 0 ? 666 : 10);
    for (unsigned i = 0; i < 20; i++) {
        usleep(3000 * (i % 7));
        start_again(place);
    }
    end_well(place, 400);
    unsigned whole = 0;
    char path[SCRATCH_PATH];
    DIR *stream = opendir(scratch_path(place->state_dir, "rejected", path));
    struct dirent *entry;
    while ((entry = readdir(stream)))
        whole += entry->d_name[0] != '.';
    closedir(stream);
    assert_int_equal(whole, 200);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up_without_faults, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_spool_that_takes_nothing),
        TEST(a_limit_on_file_sizes),
        TEST(a_sync_that_fails),
        TEST(the_database_is_deleted),
        TEST(the_database_is_replaced),
        TEST(the_wal_is_deleted),
        TEST(the_wal_is_deleted_under_a_reader),
        TEST(the_database_is_no_database),
        TEST(the_database_becomes_read_only),
        TEST(a_read_only_store_ends_it),
        TEST(a_row_that_sqlite_refuses),
        TEST(a_schema_that_sqlite_refuses),
        TEST(a_record_that_nobody_can_read),
        TEST(killed_while_it_sets_aside),
    };
    faults = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
