#include "master/logger/batch.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>

/* One very large record must not hold its memory for ever. */
enum { KEEP_BYTES = 2 * BATCH_BYTES };

void batch_init(struct batch *batch)
{
    *batch = (struct batch){.rows = xcalloc(BATCH_ROWS, sizeof *batch->rows)};
}

void batch_free(struct batch *batch)
{
    buf_free(&batch->bytes);
    free(batch->rows);
    batch->rows = NULL;
}

bool batch_fill(struct batch *batch, struct spool *spool)
{
    while (batch->count < BATCH_ROWS && batch->bytes.len < BATCH_BYTES) {
        struct str record;
        if (!spool_next(spool, &record))
            return false;
        batch->entries[batch->count].at = batch->bytes.len;
        batch->entries[batch->count].len = record.len;
        batch->count++;
        buf_str(&batch->bytes, record);
    }
    return true;
}

bool batch_pending(const struct batch *batch, struct spool *spool)
{
    const char *const *names;
    return batch->count > 0 || spool_gone(spool, &names) > 0;
}

static void decode_rows(struct batch *batch)
{
    size_t rows = 0;
    for (size_t i = 0; i < batch->count; i++) {
        struct str bytes = {batch->bytes.data + batch->entries[i].at, batch->entries[i].len};
        struct error error;
        if (record_decode(bytes, &batch->rows[rows], &error)) {
            rows++;
            continue;
        }
        batch->undecodable++;
        log_error("a record of %zu bytes is whole but can't be read, and is left out: %s",
                  bytes.len, error.message);
    }
    batch->request.rows = batch->rows;
    batch->request.rows_count = rows;
}

static enum store_result settle(struct batch *batch, struct spool *spool, enum store_result result)
{
    if (result != STORE_DONE)
        return result;
    spool_committed(spool, batch->request.gone_count);
    batch->submitted = false;
    batch->count = 0;
    buf_clear(&batch->bytes);
    if (batch->bytes.cap > KEEP_BYTES)
        buf_free(&batch->bytes);
    return result;
}

enum store_result batch_commit(struct batch *batch, struct spool *spool, struct store *store,
                               struct error *error)
{
    struct store_batch *request = &batch->request;
    if (!batch->submitted) {
        batch->submitted = true;
        decode_rows(batch);
        request->offsets_count = spool_offsets(spool, &request->offsets);
        request->gone_count = spool_gone(spool, &request->gone);
    }
    return settle(batch, spool, store_commit(store, request, error));
}

enum store_result batch_step(struct batch *batch, struct spool *spool, struct store *store,
                             struct error *error)
{
    return settle(batch, spool, store_step(store, error));
}
