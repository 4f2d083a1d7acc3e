#include "worker/keeper_client.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <stdatomic.h>
#include <stdlib.h>

enum {
    WAIT_MS = 2000, /* for an answer, while keepers come and go; in an upgrade from its end on */
    /* Until then the keeper stores what it was sent; whether it did must be known before the client
     * is told that it could not be. */
    PATIENT_MS = 8000,
    KEPT_BUFFER_BYTES = 256 * 1024,
    TICK_MS = 50, /* between two tries to connect, and two looks at who has waited too long */
};

struct keeper_client {
    uv_loop_t *loop;
    const char *path;
    const _Atomic int64_t *awaited_ms;
    uv_pipe_t *pipe; /* NULL = not connected, nor about to be */
    bool connected;
    uv_timer_t timer; /* while anybody waits */
    struct buf in;
    uint64_t last_ticket;
    struct keeper_call *calls;
    struct keeper_holding *holdings;
};

struct outgoing {
    uv_write_t write;
    struct buf bytes;
};

/* --- the connection --- */

static void on_written(uv_write_t *write, int status)
{
    struct outgoing *outgoing = write->data;
    (void)status; /* a connection that is gone is read to its end */
    buf_free(&outgoing->bytes);
    free(outgoing);
}

static void send_bytes(struct keeper_client *client, struct str bytes)
{
    if (!client->connected || bytes.len == 0)
        return;
    struct outgoing *outgoing = xcalloc(1, sizeof *outgoing);
    buf_str(&outgoing->bytes, bytes);
    outgoing->write.data = outgoing;
    uv_buf_t piece = uv_buf_init(outgoing->bytes.data, (unsigned)outgoing->bytes.len);
    if (uv_write(&outgoing->write, (uv_stream_t *)client->pipe, &piece, 1, on_written) != 0)
        on_written(&outgoing->write, UV_EPIPE);
}

static void send_message(struct keeper_client *client, const struct keeper_message *message)
{
    struct buf frame = {0};
    keeper_write(&frame, message);
    send_bytes(client, buf_view(&frame));
    buf_free(&frame);
}

static void on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void on_tick(uv_timer_t *timer);

static void watch(struct keeper_client *client)
{
    if (!uv_is_active((uv_handle_t *)&client->timer))
        uv_timer_start(&client->timer, on_tick, TICK_MS, TICK_MS);
}

/* Somebody who has a turn open has to come back, too. */
static void disconnect(struct keeper_client *client)
{
    uv_close((uv_handle_t *)client->pipe, on_closed);
    client->pipe = NULL;
    client->connected = false;
    buf_clear(&client->in);
    watch(client);
}

static void unlink_call(struct keeper_client *client, struct keeper_call *call)
{
    if (call->previous)
        call->previous->next = call->next;
    else
        client->calls = call->next;
    if (call->next)
        call->next->previous = call->previous;
    buf_free(&call->frame);
    *call = (struct keeper_call){0};
}

static void answer(struct keeper_client *client, struct keeper_call *call,
                   const struct keeper_message *message)
{
    void (*answered)(void *, const struct keeper_message *) = call->answered;
    void *context = call->context;
    unlink_call(client, call);
    answered(context, message);
}

/* An answer to what was cancelled or has waited too long: a turn that it has begun is nobody's, nor
 * is a key. */
static void answer_nobody(struct keeper_client *client, const struct keeper_message *message)
{
    const struct keeper_message abort = {.type = KEEPER_ABORT,
                                         .session = message->session,
                                         .request = message->request,
                                         .key = message->key,
                                         .content = message->content};
    if (message->type == KEEPER_BEGUN || message->type == KEEPER_HELD)
        send_message(client, &abort);
}

static void take(struct keeper_client *client, const struct keeper_message *message)
{
    for (struct keeper_call *call = client->calls; call; call = call->next)
        if (call->ticket == message->ticket) {
            answer(client, call, message);
            return;
        }
    answer_nobody(client, message);
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct keeper_client *client = handle->data;
    enum { AT_ONCE = 64 * 1024 };
    (void)suggested;
    *room = uv_buf_init(buf_reserve(&client->in, AT_ONCE), AT_ONCE);
}

static bool take_frames(struct keeper_client *client)
{
    struct keeper_message message;
    struct buf in = client->in;
    size_t taken = 0, used;
    enum keeper_read read = KEEPER_MORE;
    client->in = (struct buf){0}; /* whoever is answered may end the connection */
    while (taken < in.len) {
        read = keeper_read((struct str){in.data + taken, in.len - taken}, &message, &used);
        if (read != KEEPER_READ)
            break;
        take(client, &message);
        taken += used;
    }
    buf_consume(&in, taken);
    if (client->connected && (in.len > 0 || in.cap <= KEPT_BUFFER_BYTES))
        client->in = in;
    else
        buf_free(&in);
    return read != KEEPER_BROKEN;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *room)
{
    struct keeper_client *client = stream->data;
    (void)room;
    if (count > 0)
        client->in.len += (size_t)count;
    if (count < 0 || !take_frames(client))
        disconnect(client);
}

/* Until when whoever asks now may be without an answer. */
static int64_t end_of_wait(const struct keeper_client *client)
{
    int64_t now_ms = clock_now_ms(), awaited_ms = atomic_load(client->awaited_ms);
    return (awaited_ms > now_ms ? awaited_ms : now_ms) + WAIT_MS;
}

/* Who asked before the upgrade began has as much time as who asks now: nothing that was asked of
 * the last keeper, which is dead, can still be done by it. */
static void wait_on(struct keeper_client *client, struct keeper_call *call)
{
    int64_t until_ms = end_of_wait(client);
    if (call->until_ms == 0 || until_ms <= clock_now_ms() + WAIT_MS)
        return;
    call->until_ms = until_ms;
    if (call->patient_ms > 0)
        keeper_write_deadline(&call->frame, until_ms);
}

/* The new keeper hears what is open before anything is asked of it. */
static void greet(struct keeper_client *client)
{
    for (struct keeper_holding *one = client->holdings; one; one = one->next)
        send_bytes(client, buf_view(&one->frame));
    for (struct keeper_call *call = client->calls; call; call = call->next) {
        wait_on(client, call);
        send_bytes(client, buf_view(&call->frame));
    }
}

static void on_connected(uv_connect_t *connect, int status)
{
    struct keeper_client *client = connect->data;
    bool ours = client->pipe && (uv_stream_t *)client->pipe == connect->handle;
    free(connect);
    if (!ours)
        return;
    client->connected = status == 0;
    if (status == 0 && uv_read_start((uv_stream_t *)client->pipe, on_allocate, on_read) == 0)
        greet(client);
    else
        disconnect(client);
}

static void connect_to(struct keeper_client *client)
{
    if (client->pipe)
        return;
    uv_connect_t *connect = xcalloc(1, sizeof *connect);
    client->pipe = xcalloc(1, sizeof *client->pipe);
    uv_pipe_init(client->loop, client->pipe, 0);
    client->pipe->data = connect->data = client;
    uv_pipe_connect(connect, client->pipe, client->path, on_connected);
}

/* --- who waits --- */

static void refuse_late(struct keeper_client *client)
{
    int64_t now_ms = clock_now_ms();
    for (struct keeper_call *call = client->calls, *next; call; call = next) {
        const struct keeper_message refused = {
            .type = KEEPER_REFUSED, .refusal = KEEPER_UNAVAILABLE, .ticket = call->ticket};
        next = call->next;
        int64_t more_ms = client->connected ? call->patient_ms : 0;
        if (call->until_ms + more_ms > now_ms)
            continue;
        answer(client, call, &refused);
        next = client->calls; /* others may have come or gone */
    }
}

static void on_tick(uv_timer_t *timer)
{
    struct keeper_client *client = timer->data;
    refuse_late(client);
    bool needed = client->calls || client->holdings;
    if (needed)
        connect_to(client);
    if (!client->calls && (client->connected || !needed))
        uv_timer_stop(timer);
}

struct keeper_client *keeper_client_new(uv_loop_t *loop, const char *path,
                                        const _Atomic int64_t *awaited_ms)
{
    struct keeper_client *client = xcalloc(1, sizeof *client);
    client->loop = loop;
    client->path = path;
    client->awaited_ms = awaited_ms;
    uv_timer_init(loop, &client->timer);
    client->timer.data = client;
    return client;
}

void keeper_ask(struct keeper_client *client, struct keeper_call *call,
                struct keeper_message *message,
                void (*answered)(void *context, const struct keeper_message *answer), void *context)
{
    bool fits = message->body.len + message->answer.len <= KEEPER_BODY_MAX;
    call->ticket = message->ticket = ++client->last_ticket;
    call->until_ms = fits ? end_of_wait(client) : 0;
    if (message->type == KEEPER_COMMIT) {
        message->deadline_ms = call->until_ms;
        call->patient_ms = fits ? PATIENT_MS : 0;
    }
    if (fits)
        keeper_write(&call->frame, message);
    call->answered = answered;
    call->context = context;
    call->next = client->calls;
    if (call->next)
        call->next->previous = call;
    client->calls = call;
    send_bytes(client, buf_view(&call->frame));
    connect_to(client);
    watch(client);
}

void keeper_cancel(struct keeper_client *client, struct keeper_call *call)
{
    if (call->answered)
        unlink_call(client, call);
}

void keeper_open(struct keeper_client *client, struct keeper_holding *holding,
                 const struct keeper_message *said)
{
    struct keeper_message announcement = *said;
    announcement.type = KEEPER_ANNOUNCE;
    keeper_write(&holding->frame, &announcement);
    holding->open = true;
    holding->next = client->holdings;
    if (holding->next)
        holding->next->previous = holding;
    client->holdings = holding;
}

static void send_abort(struct keeper_client *client, const struct keeper_holding *holding)
{
    struct keeper_message said;
    size_t used;
    if (keeper_read(buf_view(&holding->frame), &said, &used) != KEEPER_READ)
        return;
    said.type = KEEPER_ABORT;
    send_message(client, &said);
}

void keeper_close(struct keeper_client *client, struct keeper_holding *holding, bool abort)
{
    if (!holding->open)
        return;
    if (abort)
        send_abort(client, holding);
    if (holding->previous)
        holding->previous->next = holding->next;
    else
        client->holdings = holding->next;
    if (holding->next)
        holding->next->previous = holding->previous;
    buf_free(&holding->frame);
    *holding = (struct keeper_holding){0};
}
