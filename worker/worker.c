#include "worker/worker.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"
#include "shared/http/transport_tls.h"
#include "worker/acceptor.h"
#include "worker/budget_queue.h"
#include "worker/frontend.h"
#include "worker/log_writer.h"
#include "worker/pipeline.h"
#include "worker/refusals.h"
#include "worker/stage/stage.h"
#include "worker/upstream/transfer.h"

#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#if defined __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

enum { HEARTBEAT_MS = 200, STARTING_MS = 10, LOOK_MS = 20 };

struct worker {
    const struct worker_setup *setup;
    uv_loop_t loop;
    struct services services;
    struct requests requests;
    struct frontend frontend;
    struct http_server server;
    struct acceptor *acceptor;
    struct tls_server **tls; /* of each address; NULL where it has none */
    uv_signal_t on_term, on_hup, on_quit;
    uv_poll_t lifeline;
    uv_timer_t heartbeat, deadline, others;
    bool leaving;  /* accepts nothing any more */
    bool draining; /* and keeps no idle connection */
    bool refusing; /* accepts, to say that the gateway stops */
    bool hurried;  /* what is in hand is broken off */
    bool connections_gone;
    char keeper_path[PATH_MAX];
    size_t spare_bytes; /* free, but still ours, when it was looked at last */
};

/* Leaves by _exit: libuv would join its thread pool at exit, and a name look-up that hangs there
 * would hold the process up. */
_Noreturn static void leave(struct worker *worker, int status)
{
    STEP(worker_leaving);
    atomic_store(&worker->services.counts->state, SHM_SLOT_FREE);
    STEP(worker_left);
#if defined __SANITIZE_ADDRESS__
    if (status == 0 && __lsan_do_recoverable_leak_check())
        status = 23;
#endif
    _exit(status);
}

static void leave_when_done(struct worker *worker)
{
    if (!worker->leaving || !worker->connections_gone ||
        transfer_pool_running(worker->services.transfers) > 0)
        return;
    refusals_flush(worker->services.refusals);
    if (log_writer_is_empty(worker->services.log))
        leave(worker, 0);
}

static void on_exchange_ended(void *context)
{
    leave_when_done(context);
}

static void on_log_emptied(void *context)
{
    leave_when_done(context);
}

static void on_all_idle(void *context)
{
    struct worker *worker = context;
    worker->connections_gone = true;
    leave_when_done(worker);
}

static void drain(struct worker *worker);

/* Whatever is still open after shutdown_timeout is answered now. */
static void on_deadline(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    drain(worker);
    http_server_drain(&worker->server);
    while (worker->services.open)
        pipeline_break_off(worker->services.open, API_draining,
                           "The gateway is stopping and the request took too long.");
}

/* It looks at the states then, when it waits for one to change. */
static void wake_master(const struct worker *worker)
{
    ssize_t ignored = write(worker->setup->ready, "", 1);
    (void)ignored;
}

static void begin_leaving(struct worker *worker)
{
    int64_t timeout_ms = worker->setup->config->shutdown_timeout_ms;
    worker->leaving = true;
    acceptor_stop(worker->acceptor);
    STEP(worker_accepts_no_more);
    atomic_store(&worker->services.counts->state, SHM_SLOT_DRAINING);
    STEP(worker_draining);
    wake_master(worker);
    if (!worker->refusing && !worker->hurried)
        uv_timer_start(&worker->deadline, on_deadline, (uint64_t)timeout_ms, 0);
}

static void drain(struct worker *worker)
{
    if (worker->draining)
        return;
    log_debug("draining");
    worker->draining = worker->frontend.draining = true;
    if (!worker->leaving)
        begin_leaving(worker);
    http_server_drain(&worker->server);
}

/* Of all workers, whoever is their master. */
static bool anything_in_hand(const struct worker *worker)
{
    const struct counters *counters = worker->setup->counters;
    bool any = worker->services.open_count > 0;
    for (uint32_t i = 0; !any && i < counters->header->workers; i++)
        any = atomic_load(&counters->workers[i].requests) > atomic_load(&counters->workers[i].rows);
    return any;
}

static void on_refusing(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    if (anything_in_hand(worker))
        return;
    uv_timer_stop(timer);
    drain(worker);
}

/* As long as anybody has a request in hand, whoever comes is told that the gateway stops. */
static void refuse_what_comes(struct worker *worker)
{
    int64_t timeout_ms = worker->setup->config->shutdown_timeout_ms;
    log_debug("refusing");
    worker->refusing = worker->frontend.draining = worker->frontend.refusing = true;
    http_server_close_after_answers(&worker->server);
    uv_timer_start(&worker->deadline, on_deadline, (uint64_t)timeout_ms, 0);
    uv_timer_start(&worker->others, on_refusing, 0, LOOK_MS);
}

/* Else this one alone is to end. */
static bool gateway_stops(const struct worker *worker)
{
    const struct shm_header *header = worker->setup->counters->header;
    return atomic_load(&header->stopping) && !worker->leaving &&
           atomic_load(&header->serving_generation) == worker->setup->generation;
}

/* It shall not begin anything more. */
static void on_term(uv_signal_t *signal, int number)
{
    struct worker *worker = signal->data;
    (void)number;
    if (worker->refusing || worker->hurried)
        return;
    if (gateway_stops(worker))
        refuse_what_comes(worker);
    else
        drain(worker);
}

/* Nor shall it wait for what it has begun. */
static void on_quit(uv_signal_t *signal, int number)
{
    struct worker *worker = signal->data;
    (void)number;
    worker->hurried = true;
    uv_timer_start(&worker->deadline, on_deadline, 0, 0);
}

static void retire(struct worker *worker)
{
    if (worker->leaving || worker->refusing)
        return;
    log_debug("retiring");
    begin_leaving(worker);
    http_server_retire(&worker->server);
}

static void on_hup(uv_signal_t *signal, int number)
{
    (void)number;
    retire(signal->data);
}

/* Nothing is ever written into the lifeline: that it can be read means the master is gone. */
static void on_lifeline(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    uv_poll_stop(poll);
    log_warning("the master is gone");
    drain(poll->data);
}

/* A body of many small values leaves as many free pieces, which the allocator would keep. What a
 * call of malloc_trim could not give back is not tried again. */
static void give_memory_back(struct worker *worker)
{
    enum { SPARE_BYTES = 32 << 20 };
    size_t spare = mallinfo2().fordblks;
    if (spare > worker->spare_bytes + SPARE_BYTES) {
        malloc_trim(0);
        worker->spare_bytes = mallinfo2().fordblks;
    } else if (spare < worker->spare_bytes) {
        worker->spare_bytes = spare;
    }
}

/* Until its generation serves, a worker looks often whether it does. That a newer one serves is
 * told by SIGHUP, too, but one that has only just been forked would not hear it. */
static void follow_generation(struct worker *worker)
{
    int64_t serving = atomic_load(&worker->setup->counters->header->serving_generation);
    if (serving > worker->setup->generation)
        retire(worker);
    uv_timer_set_repeat(&worker->heartbeat,
                        serving < worker->setup->generation ? STARTING_MS : HEARTBEAT_MS);
    acceptor_follow_owners(worker->acceptor);
}

static void on_heartbeat(uv_timer_t *timer)
{
    struct worker *worker = timer->data;
    exchange_tend(&worker->services);
    transfer_pool_tend(worker->services.transfers);
    give_memory_back(worker);
    refusals_tick(worker->services.refusals);
    log_writer_reclaim(worker->services.log);
    STEP(worker_beats);
    atomic_store_explicit(&worker->services.counts->heartbeat_ms, clock_now_ms(),
                          memory_order_relaxed);
    follow_generation(worker);
    leave_when_done(worker);
}

static void on_connection(void *context, uv_stream_t *listener, const struct worker_socket *socket)
{
    struct worker *worker = context;
    STEP(connection_waits);
    atomic_fetch_add_explicit(&worker->services.counts->accepted, 1, memory_order_relaxed);
    http_server_accept(&worker->server, listener, worker->tls[socket->listen]);
}

static void open_services(struct worker *worker)
{
    const struct worker_setup *setup = worker->setup;
    const struct config *config = setup->config;
    struct services *services = &worker->services;
    struct transfer_settings transfers = {
        .connect_timeout_ms = config->upstream.connect_timeout_ms,
        .keepalive = config->upstream.keepalive,
        .hosts = (unsigned)(config->credentials_count ? config->credentials_count : 1),
        .ca_file = config->upstream.ca_file,
    };
    services->loop = &worker->loop;
    services->config = config;
    services->tokens = setup->tokens;
    services->counts = &setup->counters->workers[setup->slot];
    services->logger = &setup->counters->header->logger;
    services->worker = setup->index;
    services->generation = setup->generation;
    services->transfers = transfer_pool_new(&worker->loop, &transfers);
    for (size_t i = 0; i < config->credentials_count; i++)
        transfer_pool_expect(services->transfers, config->credentials[i].base_url);
    requests_init(&worker->requests, services->counts,
                  counters_requests(setup->counters, setup->slot));
    services->requests = &worker->requests;
    services->counters = setup->counters;
    services->counting = counters_shm_new(setup->counters, setup->slot);
    services->waiting = budget_queue_new(&worker->loop, budget_try);
    snprintf(worker->keeper_path, sizeof worker->keeper_path, "%s/keeper", config->runtime_dir);
    services->keeper = keeper_client_new(&worker->loop, worker->keeper_path,
                                         &setup->counters->header->keeper_awaited_ms);
    services->log = log_writer_new(&worker->loop, setup->log_pipe, (size_t)config->log_queue,
                                   &worker->requests, on_log_emptied, worker);
    services->ended = on_exchange_ended;
    services->context = worker;
    if (gethostname(services->host, sizeof services->host - 1) != 0)
        services->host[0] = '\0';
    services->refusals = refusals_new(services->log, services->host);
}

/* Each request may need a connection to a provider beside its client's. */
static size_t most_connections(int64_t configured)
{
    enum { OTHERS = 256 }; /* what the worker itself has open; at most a quarter of all */
    struct rlimit limit;
    if (configured > 0)
        return (size_t)configured;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return 0;
    rlim_t others = limit.rlim_cur / 4 < OTHERS ? limit.rlim_cur / 4 : OTHERS;
    return (limit.rlim_cur - others) / 2;
}

static void open_server(struct worker *worker)
{
    const struct config_http *http = &worker->setup->config->http;
    struct http_limits limits = {
        .max_header = (size_t)http->max_header,
        .max_body = (size_t)http->max_body,
        .max_connections = most_connections(http->max_connections),
        .header_timeout_ms = http->header_timeout_ms,
        .body_timeout_ms = http->body_timeout_ms,
        .idle_timeout_ms = http->idle_timeout_ms,
        .write_timeout_ms = http->write_timeout_ms,
    };
    worker->frontend = (struct frontend){.services = &worker->services,
                                         .server = &worker->server,
                                         .all_idle = on_all_idle,
                                         .context = worker};
    http_server_init(&worker->server, &worker->loop, &limits, &frontend_events, &worker->frontend);
}

/* The master has tried the same certificates and keys. */
static bool open_tls(struct worker *worker)
{
    const struct config *config = worker->setup->config;
    worker->tls = xcalloc(config->listens_count, sizeof *worker->tls);
    for (size_t i = 0; i < config->listens_count; i++) {
        const struct config_listen *listen = &config->listens[i];
        struct tls_pair *pairs = xcalloc(listen->pairs_count + 1, sizeof *pairs);
        struct error error;
        for (size_t j = 0; j < listen->pairs_count; j++)
            pairs[j] = (struct tls_pair){listen->pairs[j].certificate, listen->pairs[j].key};
        if (listen->pairs_count > 0)
            worker->tls[i] =
                tls_server_new(pairs, listen->pairs_count, config->ticket_secret, &error);
        free(pairs);
        if (listen->pairs_count > 0 && !worker->tls[i]) {
            log_error("%s: %s", listen->text, error.message);
            return false;
        }
    }
    return true;
}

static void watch_master(struct worker *worker)
{
    uv_signal_init(&worker->loop, &worker->on_term);
    worker->on_term.data = worker;
    uv_signal_start(&worker->on_term, on_term, SIGTERM);
    uv_signal_init(&worker->loop, &worker->on_hup);
    worker->on_hup.data = worker;
    uv_signal_start(&worker->on_hup, on_hup, SIGHUP);
    uv_signal_init(&worker->loop, &worker->on_quit);
    worker->on_quit.data = worker;
    uv_signal_start(&worker->on_quit, on_quit, SIGQUIT);
    uv_poll_init(&worker->loop, &worker->lifeline, worker->setup->lifeline);
    worker->lifeline.data = worker;
    uv_poll_start(&worker->lifeline, UV_READABLE | UV_DISCONNECT, on_lifeline);
    uv_timer_init(&worker->loop, &worker->heartbeat);
    worker->heartbeat.data = worker;
    uv_timer_start(&worker->heartbeat, on_heartbeat, 0, STARTING_MS);
    uv_timer_init(&worker->loop, &worker->deadline);
    worker->deadline.data = worker;
    uv_timer_init(&worker->loop, &worker->others);
    worker->others.data = worker;
}

static void tell_ready(struct worker *worker)
{
    struct shm_worker *slot = worker->services.counts;
    STEP(worker_starting);
    atomic_store(&slot->started_wall_ms, clock_wall_ms());
    atomic_store(&slot->state, SHM_SLOT_READY);
    STEP(worker_ready);
    wake_master(worker);
}

/* By itself glibc raises this threshold when a large buffer is freed, and from then on keeps such
 * buffers on the heap, where their memory is rarely given back: a full log pipe would cost
 * megabytes for ever. */
static void keep_memory_flat(void)
{
    mallopt(M_MMAP_THRESHOLD, 128 * 1024);
}

_Noreturn void worker_main(const struct worker_setup *setup)
{
    static struct worker worker;
    keep_memory_flat();
    worker.setup = setup;
    if (uv_loop_init(&worker.loop) != 0) {
        log_error("no event loop");
        _exit(1);
    }
    open_services(&worker);
    open_server(&worker);
    if (!open_tls(&worker))
        leave(&worker, 1);
    worker.acceptor = acceptor_new(&worker.loop, setup, on_connection, &worker);
    if (!worker.acceptor)
        leave(&worker, 1);
    watch_master(&worker);
    tell_ready(&worker);
    uv_run(&worker.loop, UV_RUN_DEFAULT);
    log_error("the event loop has ended");
    leave(&worker, 1);
}
