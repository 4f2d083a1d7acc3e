/* A worker's end of its log pipe: records go out as frames, each written whole or not at all; what
 * the pipe doesn't take waits in memory, up to gateway_logs.queue. */
#pragma once

#include "shared/record/record.h"

#include <uv.h>

struct log_writer;

/* `pipe` is non-blocking; `queue_max` is in bytes. `emptied` (may be NULL) is called when the last
 * waiting byte has gone into the pipe. */
struct log_writer *log_writer_new(uv_loop_t *loop, int pipe, size_t queue_max,
                                  void (*emptied)(void *context), void *context);
/* Takes the record; it is never refused, though it may pass the limit. When nobody is left who
 * could ever read the pipe, it and what waits is lost, which is logged. */
void log_writer_push(struct log_writer *writer, const struct record *record);
/* The limit is reached or the pipe is broken: accept nothing that would need a record. */
bool log_writer_is_full(const struct log_writer *writer);
/* Nothing waits in memory. */
bool log_writer_is_empty(const struct log_writer *writer);
