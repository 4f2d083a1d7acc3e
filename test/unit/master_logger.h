/* The logger's process, as the master forks it, with its pipes and a real database. */
#pragma once

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
#include <sys/mman.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { SLOTS = 2, PATIENCE_MS = 60000 };

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

static inline int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (!scratch_make(place->state_dir))
        return -1;
    scratch_path(place->state_dir, "logs.db", place->path);
    scratch_path(place->state_dir, "log", place->log);
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

static inline void close_inputs(struct place *place)
{
    for (int i = 0; i < SLOTS; i++) {
        close(place->pipes[i][1]);
        place->pipes[i][1] = -1;
    }
}

static inline int tear_down(void **state)
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

static inline void plain_logger(const struct logger_setup *setup)
{
    logger_main(setup);
}

static inline void start_with(struct place *place, logger_fn *run)
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

static inline void start(struct place *place)
{
    start_with(place, plain_logger);
}

static inline int wait_for_end(struct place *place)
{
    int status = 0;
    assert_int_equal(waitpid(place->logger, &status, 0), place->logger);
    place->logger = 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static inline bool is_ready(struct place *place, int timeout_ms)
{
    struct pollfd poller = {.fd = place->ready[0], .events = POLLIN};
    char byte;
    return poll(&poller, 1, timeout_ms) == 1 && read(place->ready[0], &byte, 1) == 1;
}

static inline void send_row(struct place *place, unsigned slot, unsigned number, size_t body)
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

static inline int64_t number(const struct place *place, const char *sql)
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

static inline void wait_for_rows(struct place *place, uint64_t rows)
{
    for (int waited = 0; atomic_load(&place->counters.header->logged_rows) < rows; waited++) {
        assert_true(waited < PATIENCE_MS);
        usleep(1000);
    }
}

static inline unsigned segments(const struct place *place)
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

static inline sqlite3 *lock_database(const struct place *place)
{
    sqlite3 *other;
    assert_int_equal(sqlite3_open(place->path, &other), SQLITE_OK);
    sqlite3_busy_timeout(other, PATIENCE_MS);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    return other;
}

/* How often its log says so. */
static inline unsigned said(const struct place *place, const char *text)
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

static inline void wait_until_said(const struct place *place, const char *text, unsigned times)
{
    for (int waited = 0; said(place, text) < times; waited += 10) {
        if (waited > PATIENCE_MS)
            fail_msg("it never said \"%s\"", text);
        usleep(10000);
    }
}

static inline bool run_sql(const struct place *place, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(place->path, &db), SQLITE_OK);
    sqlite3_busy_timeout(db, PATIENCE_MS);
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_close(db);
    return code == SQLITE_OK;
}

static inline const struct logger_state *published(const struct place *place)
{
    return &place->counters.header->logger;
}

static inline unsigned rejected_files(const struct place *place)
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

static inline void end_well(struct place *place, int64_t rows)
{
    close_inputs(place);
    assert_int_equal(wait_for_end(place), 0);
    assert_int_equal(number(place, "SELECT count(*) FROM gateway_logs"), rows);
    assert_int_equal(segments(place), 0);
}

static inline pid_t start_again(struct place *place)
{
    kill(place->logger, SIGKILL);
    assert_int_equal(wait_for_end(place), -SIGKILL);
    start(place);
    return place->logger;
}
