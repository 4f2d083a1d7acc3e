#include "master/store/sqlite_private.h"
#include "shared/base/step.h"

/* Ids of version 7 begin with their time, and as text they sort by it. */
static const char old_rows[] =
    "DELETE FROM gateway_logs WHERE request_id IN (SELECT request_id FROM gateway_logs "
    "WHERE request_id < ?1 ORDER BY request_id LIMIT ?2)";
static const char old_refused[] =
    "DELETE FROM gateway_refused WHERE (minute, code, network, host) IN (SELECT minute, code, "
    "network, host FROM gateway_refused WHERE minute < ?1 ORDER BY minute LIMIT ?2)";

int sqlite_prepare_expiry(struct store *store)
{
    int code = sqlite_prepare(store, old_rows, &store->delete_rows);
    return code == SQLITE_OK ? sqlite_prepare(store, old_refused, &store->delete_refused) : code;
}

static int delete_some(struct store *store, sqlite3_stmt *statement, const char *before,
                       size_t most, size_t *deleted)
{
    *deleted = 0;
    int code = sqlite_bind_text(statement, 1, str_of(before));
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 2, (int64_t)most);
    if (code == SQLITE_OK)
        code = sqlite_finish(statement);
    if (code == SQLITE_OK)
        *deleted = (size_t)sqlite3_changes(store->db);
    return code;
}

int sqlite_delete_old(struct store *store, struct store_expiry *expiry)
{
    char id[UUID_TEXT_LEN + 1], time[CLOCK_RFC3339_SIZE];
    struct uuid first = uuid_first(expiry->before_wall_ms);
    size_t refused = 0;
    int code = sqlite_run(store, "BEGIN IMMEDIATE");
    if (code == SQLITE_OK)
        code = delete_some(store, store->delete_rows, uuid_format(&first, id), expiry->rows_max,
                           &expiry->rows);
    STEP(rows_deleted);
    if (code == SQLITE_OK)
        code = delete_some(store, store->delete_refused,
                           clock_rfc3339(expiry->before_wall_ms, time), expiry->rows_max, &refused);
    if (code == SQLITE_OK)
        code = sqlite_run(store, "COMMIT");
    STEP(slice_committed);
    expiry->more = expiry->rows == expiry->rows_max || refused == expiry->rows_max;
    return code;
}
