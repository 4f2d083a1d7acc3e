/* The spool: what the workers' pipes carried, on disk, until it is in the store. One append-only
 * segment for each worker slot at a time, spliced from the slot's pipe at offset = file size: a
 * kill at any moment leaves each byte in exactly one of pipe and segment. A segment is DIR/SLOT-
 * UUID.seg; its name is never used again, so an offset that the store holds for it can't be
 * mistaken.
 *
 * A segment is closed, and the slot's next one begun, only when it is large and was read to its
 * end at a record's boundary: until then the rest of a frame may still be in the pipe. A closed
 * one is deleted when all of it is committed; its offset in the store is forgotten later. */
#pragma once

#include "master/store/store.h"
#include "shared/base/error.h"
#include "shared/base/str.h"

#include <stddef.h>
#include <stdint.h>

enum { SPOOL_SEGMENT_BYTES = 4 << 20 }; /* "large" */

struct spool;

/* Opens every segment in `directory` (made when missing). Nothing is read before the offsets that
 * the store holds are told. */
bool spool_open(const char *directory, unsigned slots, struct spool **spool, struct error *error)
    __attribute__((warn_unused_result));
/* What is not committed stays on disk. The caller's pointer becomes NULL. */
void spool_close(struct spool **spool);
/* Another size than SPOOL_SEGMENT_BYTES. */
void spool_set_segment_bytes(struct spool *spool, uint64_t bytes);

/* What the store holds, once before the first spool_next. A segment that isn't there any more is
 * put on the list of those to be forgotten. */
void spool_set_offset(struct spool *spool, const char *segment, uint64_t committed);

enum spool_splice {
    SPOOL_TAKEN,  /* what the pipe had is in the segment; there may be more already */
    SPOOL_ENDED,  /* it is empty, and nobody can write to it any more */
    SPOOL_FAILED, /* disk full or broken: what was not taken is still in the pipe */
};

/* Moves what `pipe` holds into the slot's segment. */
enum spool_splice spool_splice(struct spool *spool, unsigned slot, int pipe, struct error *error)
    __attribute__((warn_unused_result));
/* After SPOOL_ENDED: an unfinished record at the segment's end will never be finished. */
void spool_end(struct spool *spool, unsigned slot);

/* The next whole record of any slot, in each slot's order; false when there is none. `*record` is
 * valid until the next call. */
bool spool_next(struct spool *spool, struct str *record) __attribute__((warn_unused_result));

/* The segments from which spool_next gave records since the last spool_committed, and how far the
 * store will be in them once these are committed. Returns how many; valid until the next call of
 * spool_next or spool_committed. */
size_t spool_offsets(struct spool *spool, const struct store_offset **offsets);
/* Names of deleted segments that the store may still hold offsets for. */
size_t spool_gone(struct spool *spool, const char *const **names);
/* The store has committed all records that were given, their offsets, and the first `gone` names
 * of spool_gone's list. Deletes what is done with. */
void spool_committed(struct spool *spool, size_t gone);

/* True while there are bytes that neither the store holds nor the last spool_sync has seen. */
bool spool_dirty(const struct spool *spool);
/* fdatasync of those segments, and fsync of the directory for new ones' names. What a failed one
 * didn't write is written again before the next. */
bool spool_sync(struct spool *spool, struct error *error) __attribute__((warn_unused_result));

/* The same in three parts: a disk takes its time, and meanwhile the spool goes on. Only the second
 * may be called in another thread. */
struct spool_sync;
/* NULL when nothing is dirty. */
struct spool_sync *spool_sync_begin(struct spool *spool) __attribute__((warn_unused_result));
void spool_sync_run(struct spool_sync *sync);
/* The caller's pointer becomes NULL. */
bool spool_sync_end(struct spool *spool, struct spool_sync **sync, struct error *error)
    __attribute__((warn_unused_result));

struct spool_stats {
    uint64_t segments;
    uint64_t pending_bytes; /* on disk, not committed */
    uint64_t skipped_bytes; /* were no part of a good frame */
    uint64_t torn_records;  /* begun and never finished */
};
struct spool_stats spool_stats(const struct spool *spool);
/* Unix time in milliseconds at which the oldest request began whose record isn't committed; 0 when
 * there is none. */
int64_t spool_oldest_wall_ms(const struct spool *spool);
