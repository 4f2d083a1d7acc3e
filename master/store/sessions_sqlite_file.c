/* The SQLite file of sessions: how it is made, opened, and watched. */
#include "master/store/sessions_sqlite_private.h"

#include "master/store/migrations.h"
#include "master/store/sqlite_undo.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

/* The folder of the migrations. */
static const char driver[] = "sessions";

enum {
    LOOK_MS = 1000, /* what becomes of the folders above is not watched */
    ASK_MS = 2,     /* the watch is asked behind each commit; before one, not so soon again */
    WAL_INDEX_BYTES = 32768,
};

static int run(struct sessions_store *store, const char *sql)
{
    return sqlite3_exec(store->db, sql, NULL, NULL, NULL);
}

void sessions_sqlite_disconnect(struct sessions_store *store)
{
    for (size_t i = 0; i < STATEMENTS; i++) {
        sqlite3_finalize(store->statements[i]);
        store->statements[i] = NULL;
    }
    sqlite3_close(store->db);
    store->db = NULL;
    store->shared_head = NULL;
    if (store->watch >= 0)
        close(store->watch);
    store->watch = -1;
}

/* --- opening --- */

/* Whole conversations are nobody else's, whatever the umask. SQLite gives its -wal and -shm files
 * the same mode. */
static bool create_file(struct sessions_store *store, struct error *error)
{
    int fd = open(store->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return true;
    int failed = fd < 0 ? errno : 0;
    if (!failed)
        failed = sqlite_give_to_owner(store->path, fd);
    if (!failed && fchmod(fd, 0600) != 0)
        failed = errno;
    if (fd >= 0)
        close(fd);
    if (!failed && store->was_open)
        log_warning("%s is not there any more: it is made anew, without the sessions it had",
                    store->path);
    return !failed || error_errno(error, failed, "can't create %s", store->path);
}

static int connect_file(struct sessions_store *store)
{
    int code = sqlite3_open_v2(store->path, &store->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX,
                               sqlite_undo_vfs());
    if (code != SQLITE_OK)
        return code;
    sqlite3_busy_timeout(store->db, SESSIONS_WAIT_MS);
    code = run(store, "PRAGMA journal_mode = WAL");
    /* A power cut may take the latest turns, but never half of one. */
    if (code == SQLITE_OK)
        code = run(store, "PRAGMA synchronous = NORMAL");
    /* Grown in a burst, the WAL is cut back to 64 MiB after its checkpoint. */
    if (code == SQLITE_OK)
        code = run(store, "PRAGMA journal_size_limit = 67108864");
    return code;
}

static int read_version(struct sessions_store *store, int *number)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, "PRAGMA user_version", -1, &statement, NULL);
    if (code != SQLITE_OK)
        return code;
    if (sqlite3_step(statement) == SQLITE_ROW)
        *number = sqlite3_column_int(statement, 0);
    return sqlite3_finalize(statement);
}

static int apply(struct sessions_store *store, const struct migration *step)
{
    char note[64];
    snprintf(note, sizeof note, "PRAGMA user_version = %d", step->number);
    int code = run(store, step->sql);
    return code == SQLITE_OK ? run(store, note) : code;
}

/* All missing steps in one transaction. Without SCHEMA_GOOD in `*state` nothing was done. */
static int migrate(struct sessions_store *store, enum schema_state *state, struct error *error)
{
    int number = 0;
    int code = run(store, "BEGIN IMMEDIATE");
    if (code == SQLITE_OK)
        code = read_version(store, &number);
    if (code == SQLITE_OK)
        *state = migrations_look(driver, number, error);
    if (code == SQLITE_OK && *state != SCHEMA_GOOD)
        return run(store, "ROLLBACK");
    const struct migration *step;
    while (code == SQLITE_OK && (step = migrations_after(driver, number))) {
        code = apply(store, step);
        number = step->number;
    }
    return code == SQLITE_OK ? run(store, "COMMIT") : code;
}

static int prepare_statements(struct sessions_store *store)
{
    int code = SQLITE_OK;
    for (size_t i = 0; code == SQLITE_OK && i < STATEMENTS; i++)
        code = sqlite3_prepare_v3(store->db, sessions_sqlite_statements[i], -1,
                                  SQLITE_PREPARE_PERSISTENT, &store->statements[i], NULL);
    return code;
}

/* Without a watch every call looks. */
static void watch_folder(struct sessions_store *store)
{
    char *path = xstrdup(store->path);
    store->watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    store->touched = true;
    if (store->watch >= 0 && inotify_add_watch(store->watch, dirname(path),
                                               IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
                                                   IN_DELETE_SELF | IN_MOVE_SELF) < 0) {
        close(store->watch);
        store->watch = -1;
    }
    free(path);
}

static void note_wal(struct sessions_store *store)
{
    struct stat status;
    bool there = stat(store->wal, &status) == 0;
    store->wal_device = there ? status.st_dev : 0;
    store->wal_inode = there ? status.st_ino : 0;
}

/* SQLite's own mapping: a descriptor of the file that is closed here would take SQLite's locks. */
static void find_shared_head(struct sessions_store *store)
{
    sqlite3_file *file = NULL;
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
    if (store->wal_inode != 0 && file && file->pMethods->iVersion >= 2 &&
        file->pMethods->xShmMap(file, 0, WAL_INDEX_BYTES, 0, &store->shared_head) != SQLITE_OK)
        store->shared_head = NULL;
}

static void take_up(struct sessions_store *store)
{
    note_wal(store);
    find_shared_head(store);
    store->was_open = true;
    store->new_turns = PLACES_AT_ONCE; /* nobody knows */
    store->epoch++;
    sessions_sqlite_know_nothing(store);
}

/* Everything up to the prepared statements. */
bool sessions_sqlite_bring_up(struct sessions_store *store, struct error *error)
{
    if (!create_file(store, error))
        return false;
    watch_folder(store);
    enum schema_state schema = SCHEMA_GOOD;
    int code = connect_file(store);
    if (code == SQLITE_OK)
        code = migrate(store, &schema, error);
    if (code == SQLITE_OK && schema == SCHEMA_GOOD)
        code = prepare_statements(store);
    bool up = code == SQLITE_OK && schema == SCHEMA_GOOD;
    if (code != SQLITE_OK)
        error_set(error, "%s: can't open the sessions: %s", store->path, sqlite3_errmsg(store->db));
    else if (up && sqlite3_db_readonly(store->db, "main") == 1)
        up = error_set(error, "%s: can't open the sessions for writing", store->path);
    if (up)
        take_up(store);
    else
        sessions_sqlite_disconnect(store);
    return up;
}

/* --- files that others delete or replace --- */

/* SQLite goes on writing to files that were deleted or replaced: those turns nobody would ever see
 * again. Asked for each transaction, the files themselves would cost as much as to write one. */
static bool touched(struct sessions_store *store)
{
    char events[4096];
    int64_t now_ms = clock_now_ms();
    store->asked_ms = now_ms;
    while (store->watch >= 0 && read(store->watch, events, sizeof events) > 0)
        store->touched = true;
    store->touched |= store->watch < 0 || now_ms - store->looked_ms >= LOOK_MS;
    return store->touched;
}

static bool touched_lately(struct sessions_store *store)
{
    bool asked = clock_now_ms() - store->asked_ms < ASK_MS;
    return asked && store->watch >= 0 ? store->touched : touched(store);
}

static bool database_moved(struct sessions_store *store)
{
    int moved = 0;
    return sqlite3_file_control(store->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved;
}

bool sessions_sqlite_moved(struct sessions_store *store)
{
    return touched(store) && database_moved(store);
}

static bool wal_is_ours(const struct sessions_store *store)
{
    struct stat status;
    return stat(store->wal, &status) == 0 && status.st_dev == store->wal_device &&
           status.st_ino == store->wal_inode;
}

/* The -wal that stayed when another database was put in this one's place would be played into
 * that. */
static void leave_database(struct sessions_store *store)
{
    bool ours = wal_is_ours(store);
    log_warning("%s was deleted or replaced: it is opened anew", store->path);
    sessions_sqlite_disconnect(store);
    if (ours) {
        unlink(store->wal);
        unlink(store->shm);
    }
}

/* What is in a WAL without a name goes into the database, before the connection that alone knows
 * it is closed. */
static bool leave_wal(struct sessions_store *store, struct error *error)
{
    int code = sqlite3_wal_checkpoint_v2(store->db, NULL, SQLITE_CHECKPOINT_RESTART, NULL, NULL);
    if (code != SQLITE_OK)
        return error_set(error, "%s: the file is gone, and can't be made up for: %s", store->wal,
                         sqlite3_errmsg(store->db));
    log_warning("%s was deleted or replaced: what it held is in the database now", store->wal);
    sessions_sqlite_disconnect(store);
    return true;
}

bool sessions_sqlite_connected(struct sessions_store *store, struct error *error)
{
    if (sessions_sqlite_in_transaction(store))
        return true;
    if (store->db && touched_lately(store)) {
        store->touched = false;
        store->looked_ms = clock_now_ms();
        if (database_moved(store))
            leave_database(store);
        else if (store->wal_inode != 0 && !wal_is_ours(store) && !leave_wal(store, error))
            return !(store->touched = true);
    }
    return store->db || sessions_sqlite_bring_up(store, error);
}

/* --- what others write --- */

static struct wal_head read_head(const struct sessions_store *store)
{
    struct wal_head head = {0};
    const volatile uint32_t *from = store->shared_head;
    uint32_t *to = (uint32_t *)&head;
    for (size_t i = 0; from && i < sizeof head / sizeof *to; i++)
        to[i] = from[i];
    return head;
}

void sessions_sqlite_know_nothing(struct sessions_store *store)
{
    memset(store->known, 0, sizeof store->known);
}

static void take_head(struct sessions_store *store, const struct wal_head *head, bool same)
{
    store->head = *head;
    if (same && store->shared_head)
        return;
    store->epoch++;
    store->new_turns = PLACES_AT_ONCE; /* there may be others' as well */
    sessions_sqlite_know_nothing(store);
}

void sessions_sqlite_look(struct sessions_store *store)
{
    const struct wal_head head = read_head(store);
    take_head(store, &head, memcmp(&head, &store->head, sizeof head) == 0);
}

/* Nobody else could write before it, and whoever did since has made it one change more. */
void sessions_sqlite_look_behind_commit(struct sessions_store *store)
{
    const struct wal_head head = read_head(store);
    bool wrote = sqlite3_total_changes(store->db) != store->changes;
    take_head(store, &head, head.change == store->head.change + wrote);
}
