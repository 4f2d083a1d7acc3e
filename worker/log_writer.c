#include "worker/log_writer.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"
#include "shared/record/frame.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* A request whose entry waits for its record to reach the spool. */
struct pushed {
    struct shm_request *request;
    uint64_t end; /* of its record, counted from the first byte ever pushed */
};

struct log_writer {
    uv_poll_t poll;
    int pipe;
    size_t queue_max;
    struct buf frames; /* whole frames that wait, from `sent` on */
    size_t sent;
    struct buf encoded; /* scratch */
    bool polling;
    bool broken; /* nobody will ever read the pipe again */
    struct requests *requests;
    /* A queue in a ring, as many places as the table has: those from `in_pipe` on are not, or not
     * wholly, in the pipe yet. The three run on for ever. */
    struct pushed *ring;
    size_t oldest, in_pipe, next;
    size_t looked_at; /* `in_pipe` when the pipe was looked at last */
    uint64_t pushed_bytes, written_bytes;
    void (*emptied)(void *context);
    void *context;
};

struct log_writer *log_writer_new(uv_loop_t *loop, int pipe, size_t queue_max,
                                  struct requests *requests, void (*emptied)(void *context),
                                  void *context)
{
    struct log_writer *writer = xcalloc(1, sizeof *writer);
    writer->pipe = pipe;
    writer->queue_max = queue_max;
    writer->requests = requests;
    writer->ring = xcalloc(SHM_REQUESTS_PER_SLOT, sizeof *writer->ring);
    writer->emptied = emptied;
    writer->context = context;
    uv_poll_init(loop, &writer->poll, pipe);
    writer->poll.data = writer;
    return writer;
}

static struct pushed *place(struct log_writer *writer, size_t number)
{
    return &writer->ring[number % SHM_REQUESTS_PER_SLOT];
}

/* The master keeps the pipe's other end for as long as it lives, so the next logger finds what was
 * written: a broken pipe means that both are gone, and this process is to leave, too. The entries
 * stay as they are: from them the next master makes the rows. */
static void give_up(struct log_writer *writer, int reason)
{
    log_error("the log pipe is broken: %s; the rows of %zu requests follow at the next start",
              strerror(reason), writer->next - writer->in_pipe);
    writer->broken = true;
    buf_free(&writer->frames);
    writer->sent = 0;
}

static void note_written(struct log_writer *writer)
{
    for (; writer->in_pipe != writer->next; writer->in_pipe++) {
        const struct pushed *pushed = place(writer, writer->in_pipe);
        if (pushed->end > writer->written_bytes)
            break;
        request_written(pushed->request);
    }
}

void log_writer_reclaim(struct log_writer *writer)
{
    int in_pipe = 0;
    writer->looked_at = writer->in_pipe;
    if (writer->oldest == writer->in_pipe || ioctl(writer->pipe, FIONREAD, &in_pipe) != 0)
        return;
    uint64_t spooled = writer->written_bytes - (uint64_t)in_pipe;
    while (writer->oldest != writer->in_pipe) {
        const struct pushed *pushed = place(writer, writer->oldest);
        if (pushed->end > spooled)
            break;
        writer->oldest++;
        requests_free(writer->requests, pushed->request);
    }
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
        writer->written_bytes += length;
        rest.at += length;
        rest.len -= length;
        note_written(writer);
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

/* What `encoded` holds. */
static void add_frames(struct log_writer *writer, const struct uuid *id)
{
    size_t before = writer->frames.len;
    if (!frames_encode(id, buf_view(&writer->encoded), &writer->frames))
        log_error("a record of %zu bytes is too long to be logged", writer->encoded.len);
    writer->pushed_bytes += writer->frames.len - before;
    buf_clear(&writer->encoded);
}

static void send_frames(struct log_writer *writer)
{
    if (!writer->polling)
        write_frames(writer);
    if (!writer->polling && writer->frames.len > 0) {
        writer->polling = true;
        uv_poll_start(&writer->poll, UV_WRITABLE, on_writable);
    }
}

/* One look at the pipe for so many records. */
enum { RECLAIM_AFTER = 64 };

void log_writer_push(struct log_writer *writer, const struct record *record,
                     struct shm_request *request)
{
    if (writer->broken)
        return;
    drop_sent(writer);
    record_encode(record, &writer->encoded);
    add_frames(writer, &record->request_id);
    *place(writer, writer->next++) =
        (struct pushed){.request = request, .end = writer->pushed_bytes};
    send_frames(writer);
    if (writer->in_pipe - writer->looked_at >= RECLAIM_AFTER)
        log_writer_reclaim(writer);
}

void log_writer_push_refused(struct log_writer *writer, const struct refused *refused)
{
    if (writer->broken)
        return;
    struct uuid id = uuid_v7(clock_wall_ms());
    drop_sent(writer);
    refused_encode(refused, &writer->encoded);
    add_frames(writer, &id);
    send_frames(writer);
}

bool log_writer_is_full(const struct log_writer *writer)
{
    return writer->broken || writer->frames.len - writer->sent >= writer->queue_max;
}

bool log_writer_is_empty(const struct log_writer *writer)
{
    return writer->frames.len == 0;
}
