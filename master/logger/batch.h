/* Records on their way from the spool into the store: taken until there are enough, then committed
 * in one transaction with the spool's offsets. At most one batch is in hand, so memory is bounded
 * whatever the store does. */
#pragma once

#include "master/logger/spool.h"
#include "master/store/store.h"
#include "shared/base/buf.h"

enum { BATCH_ROWS = 512, BATCH_BYTES = 1 << 20 };

struct batch {
    struct buf bytes; /* the encoded records, one behind the other */
    struct {
        size_t at, len;
    } entries[BATCH_ROWS];
    size_t count;         /* of entries */
    struct record *rows;  /* decoded when the batch is first submitted */
    bool submitted;       /* and kept as it is until it is committed */
    uint64_t undecodable; /* since the start */
    struct store_batch request;
};

void batch_init(struct batch *batch);
void batch_free(struct batch *batch);

/* Takes records from the spool; true when the batch is full (a record of any size fits into an
 * empty one). Not while it is submitted. */
bool batch_fill(struct batch *batch, struct spool *spool);
/* Is there anything to commit: records, or names of segments to forget? */
bool batch_pending(const struct batch *batch, struct spool *spool);
/* Commits, or tries again. After STORE_DONE the batch is empty and `request.new_rows` tells how
 * many rows were new; else it stays as it was. */
enum store_result batch_commit(struct batch *batch, struct spool *spool, struct store *store,
                               struct error *error) __attribute__((warn_unused_result));
/* Goes on after STORE_WORKING, with the same answers. */
enum store_result batch_step(struct batch *batch, struct spool *spool, struct store *store,
                             struct error *error) __attribute__((warn_unused_result));
