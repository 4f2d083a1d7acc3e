#include "master/keeper/keeper.h"

#include "master/keeper/commits.h"
#include "master/keeper/trouble.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

enum {
    HEARTBEAT_MS = 1000,
    SWEEP_MS = 1000, /* between two sweeps; a part of one comes with every turn of the loop */
    /* Those who were connected to the one before come back at once, and say what they have open;
     * nobody else begins a turn before. And a store in a network is reached meanwhile. */
    ANNOUNCING_MS = 500,
    BEGIN_MS = 10, /* between two looks whether the master serves */
    KEPT_BUFFER_BYTES = 256 * 1024,
};

struct peer {
    struct keeper *keeper;
    uv_pipe_t pipe;
    struct buf in;
    struct peer *previous, *next;
};

/* A turn that waits for the others to have said what they have open. */
struct waiting {
    struct peer *peer;
    struct buf frame;
    struct waiting *next;
};

struct keeper {
    const struct keeper_setup *setup;
    uv_loop_t loop;
    uv_pipe_t listener;
    uv_poll_t lifeline;
    uv_signal_t on_term;
    uv_timer_t heartbeat, announcing, sweep, renewal, beginning;
    uv_check_t flush;
    struct sessions_store *store; /* NULL = it can't be opened */
    struct turns *turns;
    struct holds *holds;
    struct answers answers;
    struct commits *commits;
    struct peer *peers;
    struct waiting *waiting, **last_waiting;
    bool begun, announced, orphaned;
};

/* --- writing --- */

struct outgoing {
    uv_write_t write;
    struct buf bytes;
};

static void on_written(uv_write_t *write, int status)
{
    struct outgoing *outgoing = write->data;
    (void)status; /* one that is gone is read to its end */
    buf_free(&outgoing->bytes);
    free(outgoing);
}

static void say(void *context, void *to, const struct keeper_message *message)
{
    struct peer *peer = to;
    struct outgoing *outgoing = xcalloc(1, sizeof *outgoing);
    (void)context;
    keeper_write(&outgoing->bytes, message);
    outgoing->write.data = outgoing;
    uv_buf_t bytes = uv_buf_init(outgoing->bytes.data, (unsigned)outgoing->bytes.len);
    if (uv_write(&outgoing->write, (uv_stream_t *)&peer->pipe, &bytes, 1, on_written) != 0)
        on_written(&outgoing->write, UV_EPIPE);
}

/* --- peers --- */

static void leave_if_done(struct keeper *keeper)
{
    if (keeper->orphaned && !keeper->peers) {
        sessions_close(&keeper->store);
        _exit(0);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    struct keeper *keeper = peer->keeper;
    buf_free(&peer->in);
    free(peer);
    leave_if_done(keeper);
}

static void store_commits(struct keeper *keeper);

static void drop(struct peer *peer)
{
    struct keeper *keeper = peer->keeper;
    if (uv_is_closing((uv_handle_t *)&peer->pipe))
        return;
    store_commits(keeper); /* what it has said before it went counts */
    turns_forget_peer(keeper->turns, peer);
    holds_forget_peer(keeper->holds, keeper->store, peer);
    commits_forget_peer(keeper->commits, peer);
    for (struct waiting *one = keeper->waiting; one; one = one->next)
        if (one->peer == peer)
            one->peer = NULL;
    if (peer->previous)
        peer->previous->next = peer->next;
    else
        keeper->peers = peer->next;
    if (peer->next)
        peer->next->previous = peer->previous;
    uv_close((uv_handle_t *)&peer->pipe, on_closed);
}

static void refuse(struct peer *peer, const struct keeper_message *asked)
{
    const struct keeper_message answer = {.type = KEEPER_REFUSED,
                                          .refusal = KEEPER_UNAVAILABLE,
                                          .ticket = asked->ticket,
                                          .session = asked->session};
    say(NULL, peer, &answer);
}

/* Whoever has the session or the key may have said COMMIT already. */
static void begin(struct peer *peer, const struct keeper_message *asked)
{
    struct keeper *keeper = peer->keeper;
    struct keeper_message answer;
    if (turns_has(keeper->turns, &asked->session))
        store_commits(keeper);
    turns_begin(keeper->turns, peer, asked, clock_wall_ms(), &answer);
    STEP(turn_begun);
    say(NULL, peer, &answer);
}

static void hold(struct peer *peer, const struct keeper_message *asked)
{
    struct keeper *keeper = peer->keeper;
    struct keeper_message answer;
    if (holds_has(keeper->holds, asked->key))
        store_commits(keeper);
    holds_begin(keeper->holds, keeper->store, peer, asked, clock_wall_ms(), &answer);
    STEP(key_held);
    say(NULL, peer, &answer);
}

static void wait_for_announcements(struct peer *peer, const struct keeper_message *asked)
{
    struct keeper *keeper = peer->keeper;
    struct waiting *waiting = xcalloc(1, sizeof *waiting);
    waiting->peer = peer;
    keeper_write(&waiting->frame, asked);
    *keeper->last_waiting = waiting;
    keeper->last_waiting = &waiting->next;
}

static void announce(struct peer *peer, const struct keeper_message *said)
{
    if (!uuid_is_nil(&said->session))
        turns_announce(peer->keeper->turns, peer, said);
    if (said->key.len > 0)
        holds_announce(peer->keeper->holds, peer, said);
}

static void give_up(struct peer *peer, const struct keeper_message *said)
{
    struct keeper *keeper = peer->keeper;
    const struct keeper_message answer = {.type = KEEPER_ABORTED, .ticket = said->ticket};
    store_commits(keeper); /* what it has said before counts */
    if (!uuid_is_nil(&said->session))
        turns_abort(keeper->turns, said);
    if (said->key.len > 0)
        holds_abort(keeper->holds, keeper->store, said);
    if (said->ticket != 0)
        say(NULL, peer, &answer);
}

static void take(struct peer *peer, const struct keeper_message *asked)
{
    struct keeper *keeper = peer->keeper;
    bool begins = asked->type == KEEPER_BEGIN || (asked->type == KEEPER_HOLD && asked->key.len > 0);
    if ((begins || asked->type == KEEPER_COMMIT) && !keeper->store)
        refuse(peer, asked);
    else if (begins && !keeper->announced)
        wait_for_announcements(peer, asked);
    else if (asked->type == KEEPER_BEGIN)
        begin(peer, asked);
    else if (begins)
        hold(peer, asked);
    else if (asked->type == KEEPER_COMMIT)
        commits_take(keeper->commits, peer, asked);
    else if (asked->type == KEEPER_ANNOUNCE)
        announce(peer, asked);
    else if (asked->type == KEEPER_ABORT)
        give_up(peer, asked);
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *room)
{
    struct peer *peer = handle->data;
    (void)suggested;
    enum { AT_ONCE = 64 * 1024 };
    *room = uv_buf_init(buf_reserve(&peer->in, AT_ONCE), AT_ONCE);
}

static bool take_frames(struct peer *peer)
{
    struct keeper_message asked;
    size_t taken = 0, used;
    enum keeper_read read = KEEPER_MORE;
    while (taken < peer->in.len) {
        struct str rest = {peer->in.data + taken, peer->in.len - taken};
        read = keeper_read(rest, &asked, &used);
        if (read != KEEPER_READ)
            break;
        take(peer, &asked);
        taken += used;
    }
    buf_consume(&peer->in, taken);
    if (peer->in.len == 0 && peer->in.cap > KEPT_BUFFER_BYTES)
        buf_free(&peer->in);
    return read != KEEPER_BROKEN;
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *room)
{
    struct peer *peer = stream->data;
    (void)room;
    if (count > 0)
        peer->in.len += (size_t)count;
    bool good = count >= 0 && take_frames(peer);
    if (!good && count >= 0)
        log_error("keeper: a worker says what can't be read");
    if (!good)
        drop(peer);
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct keeper *keeper = listener->data;
    if (status != 0)
        return;
    struct peer *peer = xcalloc(1, sizeof *peer);
    peer->keeper = keeper;
    peer->next = keeper->peers;
    if (peer->next)
        peer->next->previous = peer;
    keeper->peers = peer;
    uv_pipe_init(&keeper->loop, &peer->pipe, 0);
    peer->pipe.data = peer;
    if (uv_accept(listener, (uv_stream_t *)&peer->pipe) != 0 ||
        uv_read_start((uv_stream_t *)&peer->pipe, on_allocate, on_read) != 0)
        drop(peer);
}

/* --- the loop --- */

/* Reloads change it. */
static void take_bound(struct keeper *keeper)
{
    keeper->answers.most_bytes = atomic_load(&keeper->setup->counters->header->idempotency_bytes);
}

/* Everything that has come together is one transaction. */
static void store_commits(struct keeper *keeper)
{
    if (!commits_any(keeper->commits))
        return;
    take_bound(keeper);
    STEP(commits_taken);
    commits_store(keeper->commits, keeper->store, clock_wall_ms(), say, NULL);
    STEP(commits_answered);
}

static void on_flush(uv_check_t *check)
{
    store_commits(check->data);
}

/* A part of it; whether there is more. */
static bool sweep(struct keeper *keeper)
{
    struct error error;
    int64_t now_ms = clock_wall_ms();
    take_bound(keeper);
    struct answers before = keeper->answers;
    bool turns = false, answers = false;
    if (sessions_begin(keeper->store, &error) &&
        turns_sweep(keeper->turns, now_ms, &turns, &error) &&
        answers_tidy(&keeper->answers, keeper->store, now_ms, &answers, &error) &&
        sessions_commit(keeper->store, &error)) {
        trouble_over();
        return turns || answers;
    }
    trouble_say(&error);
    sessions_undo(keeper->store);
    keeper->answers = before;
    return false;
}

static void on_sweep(uv_timer_t *timer)
{
    struct keeper *keeper = timer->data;
    bool more = keeper->store && sweep(keeper);
    uv_timer_start(timer, on_sweep, more ? 1 : SWEEP_MS, 0);
}

/* Whoever's claims ran out would share a session with another host. */
static void on_renewal(uv_timer_t *timer)
{
    struct keeper *keeper = timer->data;
    if (!keeper->store || !sessions_shared(keeper->store))
        return;
    turns_renew(keeper->turns);
    holds_renew(keeper->holds, keeper->store);
}

static void on_announced(uv_timer_t *timer)
{
    struct keeper *keeper = timer->data;
    keeper->announced = true;
    while (keeper->waiting) {
        struct waiting *one = keeper->waiting;
        struct keeper_message asked;
        size_t used;
        keeper->waiting = one->next;
        if (one->peer && keeper_read(buf_view(&one->frame), &asked, &used) == KEEPER_READ)
            take(one->peer, &asked);
        buf_free(&one->frame);
        free(one);
    }
    keeper->last_waiting = &keeper->waiting;
}

/* Of all gateways that may share a store, on this machine as well. */
static void name_host(const struct config *config, struct buf *name)
{
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    buf_printf(name, "%s:%s", host, config->state_dir);
}

/* One that is reached over a network is begun to be reached now. */
static void use_store(struct keeper *keeper)
{
    struct error not_yet;
    turns_use(keeper->turns, keeper->store);
    if (sessions_shared(keeper->store) && sessions_begin(keeper->store, &not_yet))
        sessions_undo(keeper->store);
}

/* A store that can't be opened is tried again. */
static void open_store(struct keeper *keeper)
{
    struct error error;
    struct buf name = {0};
    if (keeper->store || !keeper->begun)
        return;
    name_host(keeper->setup->config, &name);
    if (sessions_open(keeper->setup->config, buf_cstr(&name), &keeper->store, &error))
        use_store(keeper);
    else
        trouble_say(&error);
    buf_free(&name);
}

static void on_heartbeat(uv_timer_t *timer)
{
    struct keeper *keeper = timer->data;
    atomic_store(&keeper->setup->counters->header->keeper_heartbeat_ms, clock_now_ms());
    open_store(keeper);
}

static void on_term(uv_signal_t *signal, int number)
{
    struct keeper *keeper = signal->data;
    (void)number;
    sessions_close(&keeper->store);
    _exit(0);
}

static void on_lifeline(uv_poll_t *poll, int status, int events)
{
    struct keeper *keeper = poll->data;
    (void)status;
    (void)events;
    uv_poll_stop(poll);
    uv_close((uv_handle_t *)&keeper->listener, NULL);
    keeper->orphaned = true;
    leave_if_done(keeper);
}

/* While an upgrade may still be given up the store is as the earlier version knows it: nobody is
 * answered, and workers wait. */
static void on_beginning(uv_timer_t *timer)
{
    struct keeper *keeper = timer->data;
    if (counters_parent_is_second(keeper->setup->counters))
        return;
    uv_timer_stop(timer);
    if (keeper->orphaned)
        return;
    keeper->begun = true;
    open_store(keeper);
    if (!keeper->announced)
        uv_timer_start(&keeper->announcing, on_announced, ANNOUNCING_MS, 0);
    if (uv_listen((uv_stream_t *)&keeper->listener, 128, on_connection) != 0) {
        log_error("keeper: its socket cannot be listened on");
        _exit(1);
    }
}

static void start_timers(struct keeper *keeper)
{
    uv_timer_t *const timers[] = {&keeper->heartbeat, &keeper->announcing, &keeper->sweep,
                                  &keeper->renewal, &keeper->beginning};
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(&keeper->loop, timers[i]);
        timers[i]->data = keeper;
    }
    uv_timer_start(&keeper->heartbeat, on_heartbeat, HEARTBEAT_MS, HEARTBEAT_MS);
    uv_timer_start(&keeper->sweep, on_sweep, SWEEP_MS, 0);
    uv_timer_start(&keeper->renewal, on_renewal, SESSIONS_LEASE_MS / 3, SESSIONS_LEASE_MS / 3);
    uv_timer_start(&keeper->beginning, on_beginning, 0, BEGIN_MS);
}

static bool start(struct keeper *keeper)
{
    uv_check_init(&keeper->loop, &keeper->flush);
    uv_signal_init(&keeper->loop, &keeper->on_term);
    uv_pipe_init(&keeper->loop, &keeper->listener, 0);
    keeper->flush.data = keeper->on_term.data = keeper->listener.data = keeper->lifeline.data =
        keeper;
    uv_check_start(&keeper->flush, on_flush);
    uv_signal_start(&keeper->on_term, on_term, SIGTERM);
    start_timers(keeper);
    return uv_poll_init(&keeper->loop, &keeper->lifeline, keeper->setup->lifeline) == 0 &&
           uv_poll_start(&keeper->lifeline, UV_READABLE | UV_DISCONNECT, on_lifeline) == 0 &&
           uv_pipe_open(&keeper->listener, keeper->setup->socket) == 0;
}

_Noreturn void keeper_main(const struct keeper_setup *setup)
{
    static struct keeper keeper;
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    keeper.setup = setup;
    trouble_publish(&setup->counters->header->sessions_away_ms);
    keeper.turns = turns_new(NULL);
    keeper.holds = holds_new();
    keeper.commits = commits_new(keeper.turns, keeper.holds, &keeper.answers);
    keeper.announced = !setup->replaces && strcmp(setup->config->store.driver, "sqlite") == 0;
    keeper.last_waiting = &keeper.waiting;
    if (uv_loop_init(&keeper.loop) != 0 || !start(&keeper)) {
        log_error("keeper: no event loop");
        _exit(1);
    }
    uv_run(&keeper.loop, UV_RUN_DEFAULT);
    log_error("keeper: the event loop has ended");
    _exit(1);
}
