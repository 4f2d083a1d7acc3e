/* What the files of the sessions' SQLite driver share. Functions that return an int return
 * SQLite's code. */
#pragma once

#include "master/store/sessions_drivers.h"
#include "master/store/sqlite_private.h"

/* One transaction that is written, as the head of the -shm file tells it
 * (https://sqlite.org/walformat.html#the_wal_index_header). */
struct wal_head {
    uint32_t version, unused;
    uint32_t change; /* one more with each transaction */
    uint32_t others[9];
};

/* The latest turn of a session that this connection has seen or written. */
struct known_turns {
    int64_t number, turns;
};

enum {
    KNOWN_SESSIONS = 1024, /* by their number's last bits */
    PLACES_AT_ONCE = 256,  /* turns that are looked for one by one until their places are stored */
};

enum sessions_statement {
    BEGIN_WRITING,
    COMMIT,
    LOAD_SESSION,
    LATEST_NEW,
    LATEST_PLACED,
    BODIES_PLACED,
    BODIES_NEW,
    SESSION_GOES_ON,
    INSERT_SESSION,
    INSERT_TURN,
    PLACE_TURNS,
    PLACED_ALL,
    DELETE_SESSION,
    DELETE_TURNS,
    DELETE_PLACES,
    SESSIONS_DUE,
    END_SESSION,
    LOOK_LATER,
    FORGET_TOMBSTONES,
    LIST,
    FIND_ANSWER,
    INSERT_ANSWER,
    DELETE_EXPIRED_ANSWER,
    SWEEP_ANSWERS,
    ANSWERS_BYTES,
    DROP_ANSWERS,
    STATEMENTS
};

struct sessions_store {
    const struct sessions_driver *driver;
    char *path, *wal, *shm;
    bool was_open; /* once at least: a file that is made now is made anew */
    sqlite3 *db;   /* NULL: the next call opens it */
    sqlite3_stmt *statements[STATEMENTS];
    dev_t wal_device; /* the -wal file that this connection writes */
    ino_t wal_inode;  /* 0: there was none */
    int watch;        /* tells that names in the file's folder have changed; -1 = none */
    bool touched;     /* it did, or can't */
    int64_t looked_ms, asked_ms;
    volatile void *shared_head; /* the -shm file's; NULL = there is none */
    struct wal_head head;       /* as it was after all that is known here */
    int changes;                /* SQLite's count, when the transaction began */
    uint64_t epoch;
    int64_t new_turns; /* that have no place yet, at most */
    struct known_turns known[KNOWN_SESSIONS];
    struct buf texts; /* of the row that was loaded last */
    struct buf body;  /* of the turn that was stored last */
};

/* --- files (sessions_sqlite_file.c) */

extern const char *const sessions_sqlite_statements[STATEMENTS];

/* A connection to the files that are at the path now; in a transaction, the one that has it. */
bool sessions_sqlite_connected(struct sessions_store *store, struct error *error);
void sessions_sqlite_disconnect(struct sessions_store *store);
/* What happened to the files while they were written to: true if another one is at the path. */
bool sessions_sqlite_moved(struct sessions_store *store);
bool sessions_sqlite_bring_up(struct sessions_store *store, struct error *error);
/* Whether others have written: then the epoch is another one, and nothing is known. */
void sessions_sqlite_look(struct sessions_store *store);
/* The same behind a commit of this connection, which is no other's. */
void sessions_sqlite_look_behind_commit(struct sessions_store *store);
void sessions_sqlite_know_nothing(struct sessions_store *store);

/* --- transactions (sessions_sqlite.c) */

bool sessions_sqlite_in_transaction(const struct sessions_store *store);
/* What is written outside would be kept in part when the rest fails. */
bool sessions_sqlite_under_way(struct sessions_store *store, struct error *error);
/* "PATH: doing: what SQLite says", and the end of the transaction; returns false. */
bool sessions_sqlite_failed(struct sessions_store *store, int code, const char *doing,
                            struct error *error);

/* --- statements */

int sessions_sqlite_bind_blob(sqlite3_stmt *statement, int place, struct str bytes);
int sessions_sqlite_bind_id(sqlite3_stmt *statement, int place, const struct uuid *id);
struct str sessions_sqlite_text(sqlite3_stmt *statement, int column);
struct uuid sessions_sqlite_id(sqlite3_stmt *statement, int column);
/* Runs one that has nothing but numbers bound, in their order. */
int sessions_sqlite_run_numbers(struct sessions_store *store, enum sessions_statement which,
                                const int64_t *numbers, size_t count);
/* What the session's latest turn says goes into `row`; `*found` is false when it has none. */
int sessions_sqlite_latest(struct sessions_store *store, int64_t number, struct session_row *row,
                           bool *found);

/* --- what goes (sessions_sqlite_sweep.c) */

/* The places of all turns that have none yet. */
int sessions_sqlite_place_turns(struct sessions_store *store);
bool sessions_sqlite_delete(struct sessions_store *store, const struct uuid *id, bool *found,
                            struct error *error);
bool sessions_sqlite_sweep(struct sessions_store *store, int64_t now_ms, unsigned most,
                           unsigned *done, struct error *error);

/* --- answers (sessions_sqlite_answers.c) */

bool sessions_sqlite_find_answer(struct sessions_store *store, struct str key,
                                 struct kept_answer *answer, bool *found, struct error *error);
bool sessions_sqlite_add_answer(struct sessions_store *store, const struct kept_answer *answer,
                                bool *existed, struct error *error);
bool sessions_sqlite_sweep_answers(struct sessions_store *store, int64_t now_ms, unsigned most,
                                   unsigned *done, int64_t *bytes, struct error *error);
bool sessions_sqlite_answers_bytes(struct sessions_store *store, int64_t *bytes,
                                   struct error *error);
bool sessions_sqlite_drop_answers(struct sessions_store *store, unsigned most, unsigned *done,
                                  int64_t *bytes, struct error *error);
