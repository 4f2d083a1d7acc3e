#include "master/logger/batch.h"

#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>

/* One very large record must not hold its memory for ever. */
enum { KEEP_BYTES = 2 * BATCH_BYTES };

void batch_init(struct batch *batch, struct rejected *rejected)
{
    *batch = (struct batch){.rows = xcalloc(BATCH_ROWS, sizeof *batch->rows),
                            .counts = xcalloc(BATCH_ROWS, sizeof *batch->counts),
                            .rejected = rejected};
}

void batch_free(struct batch *batch)
{
    buf_free(&batch->bytes);
    free(batch->rows);
    free(batch->counts);
    batch->rows = NULL;
    batch->counts = NULL;
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

static bool decode_one(struct batch *batch, struct str bytes, struct error *reason)
{
    bool is_row = !refused_marked(bytes);
    bool good = is_row ? record_decode(bytes, &batch->rows[batch->rows_count], reason)
                       : refused_decode(bytes, &batch->counts[batch->counts_count], reason);
    batch->rows_count += good && is_row;
    batch->counts_count += good && !is_row;
    return good;
}

static bool decode_rows(struct batch *batch, struct error *error)
{
    for (; batch->decoded < batch->count; batch->decoded++) {
        size_t i = batch->decoded;
        struct str bytes = {batch->bytes.data + batch->entries[i].at, batch->entries[i].len};
        struct error reason;
        if (!decode_one(batch, bytes, &reason) &&
            !rejected_bytes(batch->rejected, bytes, reason.message, error))
            return false;
    }
    return true;
}

static bool set_aside(struct batch *batch, struct error *error)
{
    if (!batch->refused)
        return true;
    if (!rejected_row(batch->rejected, &batch->rows[batch->at], batch->refusal.message, error))
        return false;
    STEP(row_set_aside);
    batch->refused = false;
    batch->at++;
    batch->len = 1;
    return true;
}

static void prepare(struct batch *batch, struct spool *spool)
{
    struct store_batch *request = &batch->request;
    size_t left = batch->rows_count - batch->at;
    batch->len = batch->len < left ? batch->len : left;
    *request = (struct store_batch){.rows = batch->rows + batch->at, .rows_count = batch->len};
    if (batch->parted && left > 0)
        return;
    request->refused = batch->counts;
    request->refused_count = batch->counts_count;
    request->offsets_count = spool_offsets(spool, &request->offsets);
    request->gone_count = spool_gone(spool, &request->gone);
}

static void clear(struct batch *batch)
{
    batch->submitted = batch->parted = false;
    batch->count = batch->decoded = batch->rows_count = batch->counts_count = batch->at = 0;
    buf_clear(&batch->bytes);
    if (batch->bytes.cap > KEEP_BYTES)
        buf_free(&batch->bytes);
}

static void done(struct batch *batch, struct spool *spool)
{
    bool last = !batch->parted || batch->at == batch->rows_count;
    if (last) {
        STEP(batch_settled);
        spool_committed(spool, batch->request.gone_count);
        clear(batch);
        return;
    }
    batch->at += batch->len;
    batch->len *= 2;
}

static void refused(struct batch *batch, const struct error *error)
{
    batch->parted = true;
    batch->request.new_rows = 0;
    if (batch->len > 1) {
        batch->len /= 2;
        return;
    }
    batch->refused = true;
    batch->refusal = *error;
}

static enum store_result settle(struct batch *batch, struct spool *spool, enum store_result result,
                                const struct error *error)
{
    if (result == STORE_DONE)
        done(batch, spool);
    if (result != STORE_REFUSED)
        return result;
    /* Without a row nothing can be set aside: it is the store that is wrong. */
    if (batch->request.rows_count == 0)
        return STORE_AWAY;
    refused(batch, error);
    return STORE_DONE;
}

enum store_result batch_commit(struct batch *batch, struct spool *spool, struct store *store,
                               struct error *error)
{
    if (!batch->submitted) {
        batch->submitted = true;
        batch->len = BATCH_ROWS;
    }
    batch->stuck = !decode_rows(batch, error) || !set_aside(batch, error);
    if (batch->stuck)
        return STORE_AWAY;
    prepare(batch, spool);
    return settle(batch, spool, store_commit(store, &batch->request, error), error);
}

enum store_result batch_step(struct batch *batch, struct spool *spool, struct store *store,
                             struct error *error)
{
    return settle(batch, spool, store_step(store, error), error);
}
