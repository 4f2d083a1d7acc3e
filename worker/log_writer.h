/* A worker's end of its log pipe: records go out as frames, each written whole or not at all; what
 * the pipe doesn't take waits in memory, up to gateway_logs.queue.
 *
 * A record's request keeps its entry in the table of requests in flight until the record is in the
 * spool. The pipe itself tells: what was written into it and is not in it any more has been moved
 * there. */
#pragma once

#include "shared/counters/requests.h"
#include "shared/record/record.h"
#include "shared/record/refused.h"

#include <uv.h>

struct log_writer;

/* `pipe` is non-blocking and empty; `queue_max` is in bytes. `emptied` (may be NULL) is called when
 * the last waiting byte has gone into the pipe. */
struct log_writer *log_writer_new(uv_loop_t *loop, int pipe, size_t queue_max,
                                  struct requests *requests, void (*emptied)(void *context),
                                  void *context);
/* Takes the record of a request that is RECORDED; it is never refused, though it may pass the
 * limit. When nobody is left who could ever read the pipe, nothing more is written: the next
 * gateway makes the rows of what is in the table. */
void log_writer_push(struct log_writer *writer, const struct record *record,
                     struct shm_request *request);
/* Takes a count of refused requests; it is never refused, either. */
void log_writer_push_refused(struct log_writer *writer, const struct refused *refused);
/* Frees the entries of the requests whose records are in the spool. Push does so now and then;
 * call it when the table is full, and once in a while. */
void log_writer_reclaim(struct log_writer *writer);
/* The limit is reached or the pipe is broken: accept nothing that would need a record. */
bool log_writer_is_full(const struct log_writer *writer);
/* Nothing waits in memory. */
bool log_writer_is_empty(const struct log_writer *writer);
