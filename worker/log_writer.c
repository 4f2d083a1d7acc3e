#include "worker/log_writer.h"

#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"
#include "shared/record/frame.h"

#include <errno.h>
#include <unistd.h>

struct log_writer {
    uv_poll_t poll;
    int pipe;
    size_t queue_max;
    struct buf frames; /* whole frames that wait, from `sent` on */
    size_t sent;
    struct buf encoded; /* scratch */
    bool polling;
    bool broken; /* nobody will ever read the pipe again */
    void (*emptied)(void *context);
    void *context;
};

struct log_writer *log_writer_new(uv_loop_t *loop, int pipe, size_t queue_max,
                                  void (*emptied)(void *context), void *context)
{
    struct log_writer *writer = xcalloc(1, sizeof *writer);
    writer->pipe = pipe;
    writer->queue_max = queue_max;
    writer->emptied = emptied;
    writer->context = context;
    uv_poll_init(loop, &writer->poll, pipe);
    writer->poll.data = writer;
    return writer;
}

/* The master keeps the pipe's other end for as long as it lives, so the next logger finds what was
 * written: a broken pipe means that both are gone, and this process is to leave, too. */
static void give_up(struct log_writer *writer, int reason)
{
    log_error("the log pipe is broken: %s; %zu bytes of records are lost", strerror(reason),
              writer->frames.len - writer->sent);
    writer->broken = true;
    buf_free(&writer->frames);
    writer->sent = 0;
}

/* One write for each frame: more than PIPE_BUF bytes at once could be cut by a kill. */
static void write_frames(struct log_writer *writer)
{
    struct str rest = {writer->frames.data + writer->sent, writer->frames.len - writer->sent};
    while (rest.len > 0) {
        size_t length = frame_length(rest);
        STEP(frame_to_write);
        ssize_t written = write(writer->pipe, rest.at, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0 && errno != EAGAIN)
            give_up(writer, errno);
        if (written < 0)
            return;
        STEP(frame_written);
        writer->sent += length;
        rest.at += length;
        rest.len -= length;
    }
    buf_clear(&writer->frames);
    writer->sent = 0;
}

enum { KEPT_BYTES = 256 * 1024 };

static void on_writable(uv_poll_t *poll, int status, int events)
{
    struct log_writer *writer = poll->data;
    (void)status;
    (void)events;
    write_frames(writer);
    if (writer->frames.len > 0)
        return;
    uv_poll_stop(poll);
    writer->polling = false;
    if (writer->frames.cap > KEPT_BYTES)
        buf_free(&writer->frames);
    if (writer->emptied)
        writer->emptied(writer->context);
}

/* What was sent is dropped once it is the greater part: each byte is moved at most once. */
static void drop_sent(struct log_writer *writer)
{
    if (writer->sent > writer->frames.len / 2) {
        buf_consume(&writer->frames, writer->sent);
        writer->sent = 0;
    }
}

void log_writer_push(struct log_writer *writer, const struct record *record)
{
    buf_clear(&writer->encoded);
    record_encode(record, &writer->encoded);
    drop_sent(writer);
    if (writer->broken)
        log_error("the log pipe is broken: a record is lost");
    else if (!frames_encode(&record->request_id, buf_view(&writer->encoded), &writer->frames))
        log_error("a record of %zu bytes is too long to be logged", writer->encoded.len);
    if (writer->polling)
        return;
    write_frames(writer);
    if (writer->frames.len > 0) {
        writer->polling = true;
        uv_poll_start(&writer->poll, UV_WRITABLE, on_writable);
    }
}

bool log_writer_is_full(const struct log_writer *writer)
{
    return writer->broken || writer->frames.len - writer->sent >= writer->queue_max;
}

bool log_writer_is_empty(const struct log_writer *writer)
{
    return writer->frames.len == 0;
}
