/* The logger's process, as the master forks it: pipes in, rows in a real database out. */
#include "master/logger/logger.h"
#include "master/logger/run.h"
#include "shared/record/frame.h"
#include "test/unit/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { SLOTS = 2, PATIENCE_MS = 60000 };

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

struct place {
    char state_dir[SCRATCH_PATH], path[SCRATCH_PATH];
    struct config config;
    struct counters counters;
    int pipes[SLOTS][2];
    int readable[SLOTS];
    int ready[2];
    bool stopped;           /* the logger begins with the next SIGCONT */
    bool unprivileged;      /* and as another user, when the test is the superuser */
    char log[SCRATCH_PATH]; /* what it writes to stderr */
    pid_t logger;
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (!scratch_make(place->state_dir))
        return -1;
    scratch_path(place->state_dir, "logs.db", place->path);
    scratch_path(place->state_dir, "log", place->log);
    memset(faults, 0, sizeof *faults);
    place->config.state_dir = place->state_dir;
    place->config.store = (struct config_store){.driver = "sqlite", .path = place->path};
    place->counters.header = mmap(NULL, sizeof(struct shm_header), PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    for (int i = 0; i < SLOTS; i++)
        if (pipe2(place->pipes[i], O_CLOEXEC) != 0)
            return -1;
    if (pipe2(place->ready, O_CLOEXEC) != 0)
        return -1;
    *state = place;
    return 0;
}

static void close_inputs(struct place *place)
{
    for (int i = 0; i < SLOTS; i++) {
        close(place->pipes[i][1]);
        place->pipes[i][1] = -1;
    }
}

static int tear_down(void **state)
{
    struct place *place = *state;
    if (place->logger > 0) {
        kill(place->logger, SIGKILL);
        waitpid(place->logger, NULL, 0);
    }
    close_inputs(place);
    for (int i = 0; i < SLOTS; i++)
        close(place->pipes[i][0]);
    close(place->ready[0]);
    close(place->ready[1]);
    munmap(place->counters.header, sizeof(struct shm_header));
    scratch_remove(place->state_dir);
    free(place);
    return 0;
}

typedef void logger_fn(const struct logger_setup *setup);

static void plain_logger(const struct logger_setup *setup)
{
    logger_main(setup);
}

static void start_with(struct place *place, logger_fn *run)
{
    for (int i = 0; i < SLOTS; i++)
        place->readable[i] = place->pipes[i][0];
    struct logger_setup setup = {.config = &place->config,
                                 .counters = &place->counters,
                                 .pipes = place->readable,
                                 .pipes_count = SLOTS,
                                 .ready = place->ready[1]};
    place->logger = fork();
    assert_true(place->logger >= 0);
    if (place->logger > 0)
        return;
    for (int i = 0; i < SLOTS; i++)
        close(place->pipes[i][1]);
    int log = open(place->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    dup2(log, STDERR_FILENO);
    if (place->unprivileged && geteuid() == 0 &&
        (setgroups(0, NULL) != 0 || setgid(65534) != 0 || setuid(65534) != 0))
        _exit(97);
    if (place->stopped)
        raise(SIGSTOP);
    run(&setup);
    _exit(99);
}

static void start(struct place *place)
{
    start_with(place, plain_logger);
}

static int wait_for_end(struct place *place)
{
    int status = 0;
    assert_int_equal(waitpid(place->logger, &status, 0), place->logger);
    place->logger = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static bool is_ready(struct place *place, int timeout_ms)
{
    struct pollfd poller = {.fd = place->ready[0], .events = POLLIN};
    char byte;
    return poll(&poller, 1, timeout_ms) == 1 && read(place->ready[0], &byte, 1) == 1;
}

static void send_row(struct place *place, unsigned slot, unsigned number, size_t body)
{
    struct record row;
    record_init(&row);
    memcpy(row.request_id.bytes, &number, sizeof number);
    row.status = STR("ok");
    row.worker = slot;
    char *text = malloc(body + 1);
    memset(text, 'b', body);
    row.response_body = (struct str){text, body};
    struct buf bytes = {0}, frames = {0};
    record_encode(&row, &bytes);
    assert_true(frames_encode(&row.request_id, buf_view(&bytes), &frames));
    for (struct str rest = buf_view(&frames); rest.len > 0;) {
        size_t length = frame_length(rest);
        assert_int_equal(write(place->pipes[slot][1], rest.at, length), length);
        rest.at += length;
        rest.len -= length;
    }
    buf_free(&bytes);
    buf_free(&frames);
    free(text);
}

static int64_t number(const struct place *place, const char *sql)
{
    sqlite3 *db;
    sqlite3_stmt *statement;
    int64_t value = -1;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, PATIENCE_MS);
    if (sqlite3_prepare_v2(db, sql, -1, &statement, NULL) != SQLITE_OK)
        fail_msg("%s", sqlite3_errmsg(db));
    if (sqlite3_step(statement) == SQLITE_ROW)
        value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    sqlite3_close(db);
    return value;
}

static void wait_for_rows(struct place *place, uint64_t rows)
{
    for (int waited = 0; atomic_load(&place->counters.header->logged_rows) < rows; waited++) {
        assert_true(waited < PATIENCE_MS);
        usleep(1000);
    }
}

static unsigned segments(const struct place *place)
{
    char path[SCRATCH_PATH];
    DIR *stream = opendir(scratch_path(place->state_dir, "spool", path));
    struct dirent *entry;
    unsigned count = 0;
    while (stream && (entry = readdir(stream)))
        count += entry->d_name[0] != '.';
    if (stream)
        closedir(stream);
    return count;
}

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

static sqlite3 *lock_database(const struct place *place)
{
    sqlite3 *other;
    assert_int_equal(sqlite3_open(place->path, &other), SQLITE_OK);
    sqlite3_busy_timeout(other, PATIENCE_MS);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return other;
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

/* ---- what goes wrong with files ---- */

/* How often its log says so. */
static unsigned said(const struct place *place, const char *text)
{
    FILE *file = fopen(place->log, "r");
    char line[4096];
    unsigned count = 0;
    while (file && fgets(line, sizeof line, file))
        count += strstr(line, text) != NULL;
    if (file)
        fclose(file);
    return count;
}

static void wait_until_said(const struct place *place, const char *text, unsigned times)
{
    for (int waited = 0; said(place, text) < times; waited += 10) {
        if (waited > PATIENCE_MS)
            fail_msg("it never said \"%s\"", text);
        usleep(10000);
    }
}

static bool run_sql(const struct place *place, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, PATIENCE_MS);
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_close(db);
    return code == SQLITE_OK;
}

static const struct logger_state *published(const struct place *place)
{
    return &place->counters.header->logger;
}

static unsigned rejected_files(const struct place *place)
{
    char path[SCRATCH_PATH];
    DIR *stream = opendir(scratch_path(place->state_dir, "rejected", path));
    struct dirent *entry;
    unsigned count = 0;
    while (stream && (entry = readdir(stream)))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (stream)
        closedir(stream);
    return count;
}

static void end_well(struct place *place, int64_t rows)
{
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), rows);
    assert_int_equal(segments(place), 0);
}

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

static pid_t start_again(struct place *place)
{
    kill(place->logger, SIGKILL);
    assert_int_equal(wait_for_end(place), -SIGKILL);
    start(place);
    return place->logger;
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
        TEST(a_lonely_row_is_committed_soon),
        TEST(termination_is_not_for_the_logger),
        TEST(killed_and_started_again),
        TEST(a_locked_store_holds_nobody_up),
        TEST(leaves_while_the_store_is_away),
        TEST(a_long_row_of_an_earlier_logger),
        TEST(waits_for_the_store_to_start),
        TEST(an_unusable_store_ends_it),
        TEST(a_slow_store_is_waited_for),
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
