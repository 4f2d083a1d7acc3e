/* What a turn of a session costs: begun with the history of about 100 messages, taken, and stored,
 * in a real file; beside a bare transaction with one INSERT of the same bytes into a table of one
 * column. Both take turns in the same run. Prints microseconds, medians and means.
 *
 *   bench-sessions [ROUNDS] */
#include "master/keeper/commits.h"

#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <time.h>

enum {
    SESSIONS = 200,
    TURNS = 50, /* of a session, before the first that is measured */
    QUESTION_BYTES = 200,
    ROUNDS_MAX = 100000,
};

struct samples {
    size_t count;
    double us[ROUNDS_MAX];
};

struct bench {
    char folder[SCRATCH_PATH], path[SCRATCH_PATH];
    struct config config;
    struct sessions_store *store;
    struct turns *turns;
    struct commits *commits;
    struct uuid sessions[SESSIONS];
    struct buf messages; /* of one turn */
    sqlite3 *bare;
    sqlite3_stmt *begin, *insert, *commit;
    bool stored;
};

static void fail(const char *what, const char *why)
{
    fprintf(stderr, "bench-sessions: %s: %s\n", what, why);
    exit(1);
}

static double now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

/* --- the bare table --- */

static void bare_run(sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) != SQLITE_OK)
        fail(sql, sqlite3_errmsg(db));
}

static sqlite3_stmt *bare_prepared(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *statement = NULL;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &statement, NULL) != SQLITE_OK)
        fail(sql, sqlite3_errmsg(db));
    return statement;
}

static void bare_step(sqlite3_stmt *statement)
{
    sqlite3_step(statement);
    if (sqlite3_reset(statement) != SQLITE_OK)
        fail("bare", sqlite3_errmsg(sqlite3_db_handle(statement)));
}

static void bare_open(struct bench *bench)
{
    char path[SCRATCH_PATH];
    scratch_path(bench->folder, "bare.db", path);
    if (sqlite3_open_v2(path, &bench->bare,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
                        NULL) != SQLITE_OK)
        fail(path, sqlite3_errmsg(bench->bare));
    bare_run(bench->bare, "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; "
                          "PRAGMA journal_size_limit = 67108864; "
                          "CREATE TABLE turns (body TEXT NOT NULL) STRICT");
    bench->begin = bare_prepared(bench->bare, "BEGIN IMMEDIATE");
    bench->insert = bare_prepared(bench->bare, "INSERT INTO turns (body) VALUES (?)");
    bench->commit = bare_prepared(bench->bare, "COMMIT");
}

static void bare_turn(struct bench *bench)
{
    bare_step(bench->begin);
    sqlite3_bind_text(bench->insert, 1, bench->messages.data, (int)bench->messages.len,
                      SQLITE_STATIC);
    bare_step(bench->insert);
    bare_step(bench->commit);
}

static void bare_close(struct bench *bench)
{
    sqlite3_finalize(bench->begin);
    sqlite3_finalize(bench->insert);
    sqlite3_finalize(bench->commit);
    sqlite3_close(bench->bare);
}

/* --- the keeper's turns --- */

static void open_turns(struct bench *bench)
{
    struct error error;
    if (!sessions_open(&bench->config, "", &bench->store, &error))
        fail("open", error.message);
    bench->turns = turns_new(bench->store);
    bench->commits = commits_new(bench->turns, NULL, NULL); /* there are no keys */
}

static void close_turns(struct bench *bench)
{
    commits_free(&bench->commits);
    turns_free(&bench->turns);
    sessions_close(&bench->store);
}

static struct keeper_message message_of(enum keeper_type type, const struct uuid *session)
{
    return (struct keeper_message){.type = (uint8_t)type,
                                   .session = *session,
                                   .ttl_ms = 3600000,
                                   .max_messages = 100000,
                                   .max_tokens = INT64_C(1) << 40,
                                   .messages = type == KEEPER_BEGIN ? 1 : 2,
                                   .tokens = 250,
                                   .project = STR("shop"),
                                   .endpoint = STR("chat"),
                                   .token = STR("till")};
}

static void on_answer(void *context, void *peer, const struct keeper_message *answer)
{
    struct bench *bench = context;
    (void)peer;
    bench->stored = answer->type == KEEPER_COMMITTED;
}

static void one_turn(struct bench *bench, struct uuid *session, int64_t now_ms)
{
    struct keeper_message asked = message_of(KEEPER_BEGIN, session), begun;
    turns_begin(bench->turns, bench, &asked, now_ms, &begun);
    if (begun.type != KEEPER_BEGUN || begun.body.len < (size_t)begun.turn * bench->messages.len)
        fail("turn", "not begun");
    *session = begun.session;
    asked = message_of(KEEPER_COMMIT, session);
    asked.turn = begun.turn;
    asked.body = buf_view(&bench->messages);
    commits_take(bench->commits, bench, &asked);
    commits_store(bench->commits, bench->store, now_ms, on_answer, bench);
    if (!bench->stored)
        fail("turn", "not stored");
}

/* --- */

static void put_text(struct buf *out, const char *role, size_t bytes)
{
    buf_printf(out, "{\"role\":\"%s\",\"content\":\"", role);
    memset(buf_reserve(out, bytes), 'x', bytes);
    out->len += bytes;
    buf_puts(out, "\"}");
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void note(struct samples *samples, double began_us)
{
    samples->us[samples->count++] = now_us() - began_us;
}

static double median(struct samples *samples)
{
    qsort(samples->us, samples->count, sizeof *samples->us, compare);
    return samples->us[samples->count / 2];
}

static double mean(const struct samples *samples)
{
    double sum = 0;
    for (size_t i = 0; i < samples->count; i++)
        sum += samples->us[i];
    return sum / (double)samples->count;
}

static void print(const char *name, struct samples *turns, struct samples *bare)
{
    printf("%-28s turn %7.2f us, bare insert %7.2f us: %.2f x (means %.2f and %.2f: %.2f x)\n",
           name, median(turns), median(bare), median(turns) / median(bare), mean(turns), mean(bare),
           mean(turns) / mean(bare));
}

static void prepare(struct bench *bench, size_t answer_bytes)
{
    if (!scratch_make(bench->folder))
        fail("scratch", "no folder");
    scratch_path(bench->folder, "sessions.db", bench->path);
    bench->config.store.driver = "sqlite";
    bench->config.sessions_path = bench->path;
    put_text(&bench->messages, "user", QUESTION_BYTES);
    buf_putc(&bench->messages, ',');
    put_text(&bench->messages, "assistant", answer_bytes);
    open_turns(bench);
    bare_open(bench);
    for (size_t i = 0; i < SESSIONS; i++)
        for (int turn = 0; turn < TURNS; turn++) {
            one_turn(bench, &bench->sessions[i], clock_wall_ms());
            bare_turn(bench);
        }
}

static void finish(struct bench *bench)
{
    close_turns(bench);
    bare_close(bench);
    buf_free(&bench->messages);
    scratch_remove(bench->folder);
}

/* With `cold` nothing of the session is in memory but what the operating system keeps. */
static void measure(struct bench *bench, size_t rounds, bool cold, struct samples *turns,
                    struct samples *bare)
{
    for (size_t i = 0; i < rounds; i++) {
        struct uuid *session = &bench->sessions[i % SESSIONS];
        if (cold) {
            commits_free(&bench->commits);
            turns_free(&bench->turns);
            bench->turns = turns_new(bench->store);
            bench->commits = commits_new(bench->turns, NULL, NULL);
        }
        for (size_t j = 0; j < 2; j++) {
            bool ours = j == i / SESSIONS % 2; /* neither always comes first */
            double began_us = now_us();
            if (ours)
                one_turn(bench, session, clock_wall_ms());
            else
                bare_turn(bench);
            note(ours ? turns : bare, began_us);
        }
    }
}

static void run(size_t answer_bytes, size_t rounds, bool cold)
{
    static struct samples turns, bare;
    struct bench bench = {0};
    char name[64];
    turns.count = bare.count = 0;
    prepare(&bench, answer_bytes);
    measure(&bench, rounds, cold, &turns, &bare);
    snprintf(name, sizeof name, "answers of %zu bytes, %s", answer_bytes, cold ? "cold" : "hot");
    print(name, &turns, &bare);
    finish(&bench);
}

int main(int argc, char **argv)
{
    size_t rounds = argc > 1 ? strtoul(argv[1], NULL, 10) : 4 * SESSIONS;
    if (rounds == 0 || rounds > ROUNDS_MAX)
        fail("usage", "bench-sessions [ROUNDS]");
    run(800, rounds, false);
    run(2048, rounds, false);
    run(800, rounds, true);
    run(2048, rounds, true);
    return 0;
}
