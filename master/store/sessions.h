/* What the keeper keeps: conversations, and the answers that a repeated request gets again. One
 * interface, a driver behind it for each kind of store: SQLite is written by one host's keeper
 * alone, PostgreSQL is shared by several hosts.
 *
 * Every function that says false gives a reason: the database failed, nothing of the transaction
 * under way is kept, and the next call tries anew. None waits longer than SESSIONS_WAIT_MS. Times
 * are of the wall clock, in milliseconds. */
#pragma once

#include "shared/base/buf.h"
#include "shared/base/error.h"
#include "shared/base/str.h"
#include "shared/base/uuid.h"
#include "shared/config.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    SESSIONS_WAIT_MS = 1500,
    SESSIONS_LEASE_MS = 30000, /* of a claim that nobody renews */
    SESSIONS_TURNS_MAX = 1024, /* of one session */
    ANSWER_HASH_BYTES = 32,    /* of a key, of a request's content */
};

/* One conversation. Texts are the caller's, or live until the next call. */
struct session_row {
    struct uuid id;
    int64_t number;                            /* the store's own; 0 = it has none yet */
    struct uuid last_request;                  /* whose turn the latest one was */
    struct str project, endpoint, token;       /* names: whose it is */
    int64_t turns, messages, tokens;           /* that are kept; tokens are estimated */
    int64_t created_ms, stored_ms, expires_ms; /* the two last of the latest turn */
    bool ended; /* a tombstone: its messages are gone, and of the times only expires_ms is known */
};

/* An answer that may be asked for again. Texts likewise. */
struct kept_answer {
    struct str key, content; /* hashes: whose it is and under which name, and what was asked */
    struct uuid request;     /* whose answer it is */
    int64_t stored_ms, expires_ms;
    struct str answer; /* bytes that mean nothing here */
};

typedef void session_each_fn(void *context, const struct session_row *row);

struct sessions_store; /* a driver's own begins with `const struct sessions_driver *driver` */

struct sessions_driver {
    const char *name; /* as in store.driver */
    bool shared;      /* with other hosts */
    bool (*open)(const struct config *config, const char *host, struct sessions_store **store,
                 struct error *error);
    void (*close)(struct sessions_store *store);
    bool (*begin)(struct sessions_store *store, struct error *error);
    bool (*commit)(struct sessions_store *store, struct error *error);
    void (*undo)(struct sessions_store *store);
    uint64_t (*epoch)(struct sessions_store *store);
    bool (*claim)(struct sessions_store *store, struct str what, bool *got, struct error *error);
    bool (*release)(struct sessions_store *store, struct str what, struct error *error);
    bool (*renew)(struct sessions_store *store, const struct str *what, size_t count,
                  struct error *error);
    bool (*load)(struct sessions_store *store, const struct uuid *id, int64_t from_turn,
                 struct session_row *row, struct buf *messages, bool *found, struct error *error);
    bool (*add_turn)(struct sessions_store *store, struct session_row *row, struct str messages,
                     bool *moved, struct error *error);
    bool (*delete)(struct sessions_store *store, const struct uuid *id, bool *found,
                   struct error *error);
    bool (*sweep)(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                  struct error *error);
    bool (*list)(struct sessions_store *store, const char *project, unsigned most,
                 session_each_fn *each, void *context, struct error *error);
    bool (*find_answer)(struct sessions_store *store, struct str key, struct kept_answer *answer,
                        bool *found, struct error *error);
    bool (*add_answer)(struct sessions_store *store, const struct kept_answer *answer,
                       bool *existed, struct error *error);
    bool (*sweep_answers)(struct sessions_store *store, int64_t now_ms, unsigned most,
                          unsigned *done, int64_t *bytes, struct error *error);
    bool (*answers_bytes)(struct sessions_store *store, int64_t *bytes, struct error *error);
    bool (*drop_answers)(struct sessions_store *store, unsigned most, unsigned *done,
                         int64_t *bytes, struct error *error);
};

/* SQLite: makes the file and its tables where they are missing; a file of a later program is
 * refused. PostgreSQL: nothing is reached yet; the logger makes the tables. `host` names this
 * gateway among those that share the store; NULL = a tool of the command line, which waits until
 * there is a connection. The configuration stays the caller's. */
bool sessions_open(const struct config *config, const char *host, struct sessions_store **store,
                   struct error *error) __attribute__((warn_unused_result));
/* The caller's pointer becomes NULL; an open transaction is undone. */
void sessions_close(struct sessions_store **store);

/* One transaction around all that the keeper has to write at a time. */
bool sessions_begin(struct sessions_store *store, struct error *error);
bool sessions_commit(struct sessions_store *store, struct error *error);
void sessions_undo(struct sessions_store *store);

/* ---- what others do with it */

/* A number that changes when nothing that was loaded before may be relied on: somebody else has
 * written to the file (`promptgate session delete`), or the connection is another one. */
uint64_t sessions_epoch(struct sessions_store *store);
/* Other hosts write to it at any time: what was loaded is only good after another look
 * (sessions_load with `from_turn`), and what is in use must be claimed. */
bool sessions_shared(const struct sessions_store *store);
/* Takes hold of a session's id or an answer's key for this host, for SESSIONS_LEASE_MS by the
 * store's own clock; `*got` is false while another host has it. What this host has already it gets
 * again: who of the host it is, is the caller's business. Where nothing is shared it always gets
 * it. Not within a transaction. */
bool sessions_claim(struct sessions_store *store, struct str what, bool *got, struct error *error)
    __attribute__((warn_unused_result));
/* Within a transaction: when it is committed. */
bool sessions_release(struct sessions_store *store, struct str what, struct error *error);
/* Another SESSIONS_LEASE_MS for those that this host still has. */
bool sessions_renew(struct sessions_store *store, const struct str *what, size_t count,
                    struct error *error);

/* ---- conversations */

/* `*found` tells whether there is such a session. `messages` (NULL = not wanted) gets the messages
 * of its turns from `from_turn` on (0 = all), JSON objects with a comma between two, in order. */
bool sessions_load(struct sessions_store *store, const struct uuid *id, int64_t from_turn,
                   struct session_row *row, struct buf *messages, bool *found, struct error *error)
    __attribute__((warn_unused_result));
/* Stores the latest turn of the session as `row` has it then, and its messages (JSON objects with a
 * comma between two). With `row->turns` 1 the session is new, and gets its number. `*moved`: that
 * turn is there already, or the session is not there any more; nothing was stored. */
bool sessions_add_turn(struct sessions_store *store, struct session_row *row, struct str messages,
                       bool *moved, struct error *error) __attribute__((warn_unused_result));
/* It and its messages, without a tombstone. `*found` as above. */
bool sessions_delete(struct sessions_store *store, const struct uuid *id, bool *found,
                     struct error *error) __attribute__((warn_unused_result));
/* A small part of the sweep, in the transaction under way: of at most `most` sessions that may have
 * expired those that have lose their messages and become tombstones, and at most `most` tombstones
 * older than 30 days go. What a host has claimed is left alone. `*done`: how many sessions were
 * looked at and tombstones went; fewer than `most` = there are no more. */
bool sessions_sweep(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                    struct error *error) __attribute__((warn_unused_result));
/* What is stored, the latest turn first, tombstones not; `project` NULL = of all. */
bool sessions_list(struct sessions_store *store, const char *project, unsigned most,
                   session_each_fn *each, void *context, struct error *error)
    __attribute__((warn_unused_result));

/* ---- answers */

/* Also one that has expired, as long as it is there. */
bool answers_find(struct sessions_store *store, struct str key, struct kept_answer *answer,
                  bool *found, struct error *error) __attribute__((warn_unused_result));
/* In place of one that has expired at `answer->stored_ms`. `*existed`: there is another one that
 * has not; nothing was stored. */
bool answers_add(struct sessions_store *store, const struct kept_answer *answer, bool *existed,
                 struct error *error) __attribute__((warn_unused_result));
/* At most `most` of those that have expired go; `*bytes`: how much they were. In the transaction
 * under way. */
bool answers_sweep(struct sessions_store *store, int64_t now_ms, unsigned most, unsigned *done,
                   int64_t *bytes, struct error *error) __attribute__((warn_unused_result));
/* How much all of them are, of all hosts. It reads an index as a whole. */
bool answers_bytes(struct sessions_store *store, int64_t *bytes, struct error *error)
    __attribute__((warn_unused_result));
/* Likewise the `most` oldest, whether they have expired or not. */
bool answers_drop(struct sessions_store *store, unsigned most, unsigned *done, int64_t *bytes,
                  struct error *error) __attribute__((warn_unused_result));
