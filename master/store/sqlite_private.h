/* What the files of the SQLite driver share. */
#pragma once

#include "master/store/sqlite.h"
#include "master/store/usage.h"
#include "shared/base/clock.h"

#include <sqlite3.h>
#include <sys/types.h>

/* Text of a UUID or a time while it is bound. */
struct sqlite_scratch {
    char text[UUID_TEXT_LEN + 1];
};

_Static_assert(sizeof(struct sqlite_scratch) >= CLOCK_RFC3339_SIZE, "a time fits");

struct store {
    const struct store_driver *driver;
    char *path, *host;
    enum store_reason reason; /* of the last call */
    bool was_open;            /* once at least: a file that is made now is made anew */
    sqlite3 *db;              /* NULL until started */
    sqlite3_stmt *insert_row, *put_offset, *forget_offset, *add_usage, *add_refused, *delete_rows,
        *delete_refused;
    struct months months;
    struct usage_table usage;       /* of the rows that this transaction has inserted */
    struct sqlite_scratch *scratch; /* one for each column */
    dev_t wal_device;               /* the -wal file that this connection writes; */
    ino_t wal_inode;                /* 0 = not known yet */
};

/* Made by the superuser at the command line, a file is still the gateway's: it belongs to whom its
 * directory belongs. SQLite does the same with -wal and -shm. Returns an errno, 0 = done. */
int sqlite_give_to_owner(const char *file, int fd);
struct store *sqlite_new(const struct config_store *config, const char *host);
void sqlite_close(struct store *store);
/* "PATH: doing: what SQLite says"; returns false. */
bool sqlite_failed(struct store *store, struct error *error, const char *doing);
int sqlite_run(struct store *store, const char *sql);
int sqlite_prepare(struct store *store, const char *sql, sqlite3_stmt **statement);
/* The first column of the first row as a number; `*value` stays when there is no row. */
int sqlite_read_number(struct store *store, const char *sql, int64_t *value);
int sqlite_read_offsets(struct store *store, store_offset_fn *each, void *context);

int sqlite_bind_text(sqlite3_stmt *statement, int place, struct str text);
/* Runs a statement that answers no rows. */
int sqlite_finish(sqlite3_stmt *statement);

/* What is added up beside the rows, in the same transaction. */
int sqlite_prepare_usage(struct store *store);
int sqlite_write_usage(struct store *store);
int sqlite_write_refused(struct store *store, const struct store_batch *batch);

int sqlite_prepare_expiry(struct store *store);
/* In a transaction of its own, which is left open where it fails. */
int sqlite_delete_old(struct store *store, struct store_expiry *expiry);

/* The reader's side. */
bool sqlite_open_reader(const struct config_store *config, struct store **out, struct error *error);
bool sqlite_query(struct store *store, struct store_query *query, store_row_fn *each, void *context,
                  struct error *error);
bool sqlite_spend(struct store *store, const char *month, enum store_spend_by by,
                  store_spend_fn *each, void *context, struct error *error);
/* Their statements; a test looks how they would be run. */
void sqlite_query_text(const struct store_query *query, struct buf *sql);
void sqlite_spend_text(enum store_spend_by by, struct buf *sql);
bool sqlite_inspect(const struct config_store *config, const char *host, struct store_found *found,
                    store_offset_fn *each, void *context, struct error *error);
