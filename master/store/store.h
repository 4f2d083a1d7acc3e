/* Where gateway_logs rows end up. One interface, a driver behind it for each kind of store.
 *
 * Made for one caller with one thing in hand at a time. A driver that waits for a network answers
 * STORE_WORKING; its caller then polls what store_wait names and calls store_step, until another
 * answer comes. A driver that works at once never says so. */
#pragma once

#include "shared/config.h"
#include "shared/record/record.h"
#include "shared/record/refused.h"

#include <stddef.h>
#include <stdint.h>

enum store_result {
    STORE_DONE,
    STORE_WORKING, /* not finished: store_wait, then store_step */
    STORE_AWAY,    /* not now: nothing was changed, the same call may be made again later */
    STORE_REFUSED, /* not ever as it is. From store_start: a schema that is too new, a path that
                      can't be opened. From store_commit: the content of a row, and only that */
};

/* Why the last call answered STORE_AWAY or STORE_REFUSED. */
enum store_reason {
#define REASON(name, text) STORE_REASON_##name,
#include "master/store/reasons.def"
#undef REASON
    STORE_REASON_COUNT
};

/* How far a spool segment is in the store. */
struct store_offset {
    const char *segment;
    uint64_t committed; /* bytes from the segment's start */
};

/* What is committed in one transaction, all of it or nothing. The caller's; it must stay as it is
 * until the answer is not STORE_WORKING. */
struct store_batch {
    const struct record *rows;
    size_t rows_count;
    const struct store_offset *offsets; /* put in place of the segments' earlier ones */
    size_t offsets_count;
    const char *const *gone; /* segments whose file is deleted: their offsets are forgotten */
    size_t gone_count;
    const struct refused *refused; /* added to what is counted there; once only, for they come */
    size_t refused_count;          /* together with the offsets */
    size_t new_rows;               /* out: rows whose request_id was not there before */
};

/* What a caller in STORE_WORKING waits for. */
struct store_wait {
    int descriptor;     /* may change from step to step */
    short events;       /* POLLIN, POLLOUT */
    int64_t timeout_ms; /* step then at the latest; -1 = no limit */
};

typedef void store_offset_fn(void *context, const char *segment, uint64_t committed);

/* What is too old to be kept: rows of gateway_logs by request id, and of gateway_refused. A driver
 * deletes about `rows_max` of them, or whole partitions; gateway_usage_hourly stays as it is. */
struct store_expiry {
    int64_t before_wall_ms;
    size_t rows_max;
    size_t rows; /* out: how many rows of gateway_logs are gone, as far as the driver knows */
    bool more;   /* out: there are more to delete */
};

/* One row for a reader: values as text, in the order of columns.def, absent ones with a NULL `at`.
 * Times are RFC 3339 in UTC, ids canonical, integers decimal, booleans "true" and "false". Valid
 * during the call. False ends the reading. */
typedef bool store_row_fn(void *context, const struct str *values);

/* Rows that a reader wants: an absent text is any. */
struct store_filter {
    struct str project, endpoint, token, status, decision;
    int64_t since_wall_ms; /* by request id: not before, */
    int64_t until_wall_ms; /* and before; 0 = whenever */
};

struct store_query {
    struct store_filter filter;
    /* The newest rows by request id, oldest of them first, at most `limit`. With `after` not
     * negative: the rows stored since the query that answered this position, in the order they
     * were stored, at most `limit`. Only those that the filter lets through, either way. (A row is
     * stored when its request has ended, so its id may be older than others that are there already:
     * an id can't say what is new.) */
    size_t limit;
    int64_t after;
    int64_t position; /* out: for the next query's `after` */
};

/* A month's requests, added up from gateway_usage_hourly. */
enum store_spend_by { STORE_BY_ENDPOINT, STORE_BY_TOKEN, STORE_BY_MODEL };

struct store_spend {
    /* A project and its endpoint, a project and its token, or a provider and its model. "" for
     * requests that had none. */
    struct str group, name;
    int64_t requests, prompt_tokens, completion_tokens, cost_nano_usd;
};

/* The dearest first; valid during the call. False ends the reading. */
typedef bool store_spend_fn(void *context, const struct store_spend *spend);

/* What a reader learns of a store and of what it holds. */
struct store_found {
    bool exists;              /* else all else is 0 */
    int schema, schema_known; /* its newest step, and this program's */
    int64_t rows;             /* in gateway_logs */
};

struct store; /* a driver's own struct begins with `const struct store_driver *driver` */

struct store_driver {
    const char *name;
    bool waits; /* start and commit never block */
    void (*place)(const struct config_store *config, struct buf *place);
    bool (*open)(const struct config_store *config, const char *host, struct store **store,
                 struct error *error);
    enum store_result (*start)(struct store *store, store_offset_fn *each, void *context,
                               struct error *error);
    enum store_result (*commit)(struct store *store, struct store_batch *batch,
                                struct error *error);
    enum store_result (*expire)(struct store *store, struct store_expiry *expiry,
                                struct error *error);
    enum store_result (*step)(struct store *store, struct error *error);
    struct store_wait (*wait)(const struct store *store);
    enum store_reason (*reason)(const struct store *store);
    bool (*open_reader)(const struct config_store *config, struct store **store,
                        struct error *error);
    bool (*query)(struct store *store, struct store_query *query, store_row_fn *each, void *context,
                  struct error *error);
    bool (*spend)(struct store *store, const char *month, enum store_spend_by by,
                  store_spend_fn *each, void *context, struct error *error);
    bool (*inspect)(const struct config_store *config, const char *host, struct store_found *found,
                    store_offset_fn *each, void *context, struct error *error);
    void (*close)(struct store *store);
};

/* The driver that `name` ("sqlite") stands for, or NULL. */
const struct store_driver *store_driver(const char *name);

/* Appends where the store is, for a person: the file, or "HOST:PORT/DATABASE", and no secret. */
void store_place(const struct config_store *config, struct buf *place);

/* The logger's side. Opening only looks at the configuration; nothing is reached yet. `host` marks
 * this host's spool segments where several share a store. */
bool store_open(const struct config_store *config, const char *host, struct store **store,
                struct error *error) __attribute__((warn_unused_result));
/* Reaches the store, brings its schema up to date, and tells the offsets of this host's segments
 * (before it answers STORE_DONE; it may tell them again when it is called again). */
enum store_result store_start(struct store *store, store_offset_fn *each, void *context,
                              struct error *error) __attribute__((warn_unused_result));
/* STORE_DONE: everything is durable. A store that was away, or whose file another one has replaced,
 * is opened anew, without telling offsets. Rows that were there already are left as they were. */
enum store_result store_commit(struct store *store, struct store_batch *batch, struct error *error)
    __attribute__((warn_unused_result));
/* Deletes a slice of what is too old, between two batches. STORE_REFUSED never. */
enum store_result store_expire(struct store *store, struct store_expiry *expiry,
                               struct error *error) __attribute__((warn_unused_result));
/* Goes on with the call that answered STORE_WORKING. */
enum store_result store_step(struct store *store, struct error *error)
    __attribute__((warn_unused_result));
struct store_wait store_wait(const struct store *store);
/* Waits for the answer to a call that gave `result`, for a caller with nothing else to do. */
enum store_result store_complete(struct store *store, enum store_result result, struct error *error)
    __attribute__((warn_unused_result));
/* Do its start and commit never block? */
bool store_waits(const struct store *store);
enum store_reason store_reason(const struct store *store);
/* "locked", and "locked by another process". A number that is no reason is "other". */
const char *store_reason_name(int reason);
const char *store_reason_text(int reason);

/* The command line's side: reads only, and waits for its answer. */
bool store_open_reader(const struct config_store *config, struct store **store, struct error *error)
    __attribute__((warn_unused_result));
bool store_query(struct store *store, struct store_query *query, store_row_fn *each, void *context,
                 struct error *error) __attribute__((warn_unused_result));
/* `month` is "YYYY-MM", as rows are summed up by. */
bool store_spend(struct store *store, const char *month, enum store_spend_by by,
                 store_spend_fn *each, void *context, struct error *error)
    __attribute__((warn_unused_result));
/* Looks without changing anything, whatever schema it has, and tells the offsets of this host's
 * segments. A store that isn't there yet is found, too; false when it can't be read. */
bool store_inspect(const struct config_store *config, const char *host, struct store_found *found,
                   store_offset_fn *each, void *context, struct error *error)
    __attribute__((warn_unused_result));

/* The caller's pointer becomes NULL. */
void store_close(struct store **store);
