/* Records, rows and counts of refused requests, on their way from the spool into the store: taken
 * until there are enough, then committed in one transaction with the spool's offsets. At most one
 * batch is in hand, so memory is bounded whatever the store does.
 *
 * When the store refuses a batch for its content, parts of it are committed without the offsets:
 * half as many rows after each refusal, until the one row is alone and is set aside, then twice as
 * many each time. The offsets follow when every row is in the store or in STATE_DIR/rejected; dead
 * before that, the rows are read again and the store knows those that it has. */
#pragma once

#include "master/logger/rejected.h"
#include "master/logger/spool.h"
#include "master/store/store.h"
#include "shared/base/buf.h"

enum { BATCH_ROWS = 512, BATCH_BYTES = 1 << 20 };

struct batch {
    struct buf bytes; /* the encoded records, one behind the other */
    struct {
        size_t at, len;
    } entries[BATCH_ROWS];
    size_t count;           /* of entries */
    bool submitted;         /* and kept as it is until it is committed */
    struct record *rows;    /* decoded from the entries once it is submitted */
    struct refused *counts; /* likewise */
    size_t rows_count, counts_count;
    size_t decoded; /* entries that were looked at */
    size_t at, len; /* the rows under way; those before `at` are settled */
    bool parted;    /* the offsets come last */
    bool refused;   /* the row at `at` is to be set aside, for this reason: */
    struct error refusal;
    bool stuck; /* the last STORE_AWAY was for want of room to set something aside */
    struct rejected *rejected;
    struct store_batch request;
};

void batch_init(struct batch *batch, struct rejected *rejected);
void batch_free(struct batch *batch);

/* Takes records from the spool; true when the batch is full (a record of any size fits into an
 * empty one). Not while it is submitted. */
bool batch_fill(struct batch *batch, struct spool *spool);
/* Is there anything to commit: records, or names of segments to forget? */
bool batch_pending(const struct batch *batch, struct spool *spool);
/* Commits, goes on with it, or tries again. After STORE_DONE `request.new_rows` tells how many rows
 * are new in the store, and the batch is empty, or it is still `submitted` and there is more to do.
 * Never STORE_REFUSED. */
enum store_result batch_commit(struct batch *batch, struct spool *spool, struct store *store,
                               struct error *error) __attribute__((warn_unused_result));
/* Goes on after STORE_WORKING, with the same answers. */
enum store_result batch_step(struct batch *batch, struct spool *spool, struct store *store,
                             struct error *error) __attribute__((warn_unused_result));
