#include "master/logger/run.h"

#include "master/logger/batch.h"
#include "master/logger/cold_start.h"
#include "master/logger/retention.h"
#include "master/logger/spend_image.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sodium.h>
#include <stdlib.h>
#include <unistd.h>
#include <uv.h>

enum {
    FLUSH_MS = 10, /* from a batch's first record to its commit */
    GATHER_MS = 2, /* a pipe is left alone after it was emptied, so that more comes at once */
    SYNC_MS = 500, /* from one's begin to the next's: a power cut may cost a second */
    SYNC_PAUSE_MS = 20,
    DISK_RETRY_MS = 1000,
    PUBLISH_MS = 1000,
    LOCKED_MS = 1000, /* others write, too: shorter than this a lock is nobody's business */
    RETRY_FIRST_MS = 50,
    RETRY_LONGEST_MS = 5000,
};

enum phase {
    PHASE_STARTING,   /* store_start has to be called, or called again */
    PHASE_IDLE,       /* filling the batch */
    PHASE_COMMITTING, /* the batch is submitted */
    PHASE_EXPIRING,   /* old rows are being deleted */
    PHASE_OVER,
};

struct logger;

struct input {
    struct logger *logger;
    unsigned slot;
    bool blocked; /* the spool couldn't take what its pipe has */
    bool gathers; /* not listened to for a moment */
    uv_poll_t poll;
};

struct logger {
    const struct logger_setup *setup;
    struct spool *spool;
    struct store *store;
    struct rejected rejected;
    struct batch batch;
    enum phase phase;
    int status;
    bool working;          /* the store has answered STORE_WORKING */
    bool away;             /* or STORE_AWAY, and nothing else since */
    int64_t away_since_ms; /* monotonic */
    int told_reason;       /* of what was said in the log about it; 0 = nothing yet */
    unsigned retry_ms;     /* the next wait while it is away */
    bool due;              /* the batch has waited long enough */
    bool slice_due;        /* old rows may be deleted */
    struct retention retention;
    bool sync_failed;
    unsigned inputs_open;
    unsigned inputs_blocked;
    struct input *inputs;
    uv_loop_t loop;
    uv_timer_t flush, retry, sync, disk, gather, publish, expire;
    struct spool_sync *syncing; /* in another thread; NULL = none is */
    int64_t sync_began_ms;
    uv_work_t sync_work;
    struct buf image;           /* of what is spent, as it was written last */
    bool imaging, image_failed; /* it is being written, in another thread; the last time failed */
    uv_work_t image_work;
    struct error image_error;
    uv_poll_t *store_poll; /* NULL: its descriptor isn't watched */
    uv_timer_t store_timer;
};

static void advance(struct logger *logger);
static void attempt(struct logger *logger);
static void take_result(struct logger *logger, enum store_result result, struct error *error);

static void set_phase(struct logger *logger, enum phase phase)
{
    if (logger->phase == PHASE_OVER)
        abort();
    log_debug("phase %d -> %d", (int)logger->phase, (int)phase);
    logger->phase = phase;
}

static void finish(struct logger *logger, int status)
{
    logger->status = status;
    set_phase(logger, PHASE_OVER);
    uv_stop(&logger->loop);
}

/* ---- what others see, before the log says so ---- */

static struct shm_header *shared_header(const struct logger *logger)
{
    return logger->setup->counters->header;
}

static void publish(struct logger *logger)
{
    struct logger_state *state = &shared_header(logger)->logger;
    atomic_store(&state->heartbeat_ms, clock_now_ms());
    struct spool_stats stats = spool_stats(logger->spool);
    STEP(spool_publishing);
    atomic_store(&state->spool_segments, stats.segments);
    atomic_store(&state->spool_pending_bytes, stats.pending_bytes);
    atomic_store(&state->oldest_wall_ms, spool_oldest_wall_ms(logger->spool));
    atomic_store(&state->rejected, logger->rejected.count);
}

static bool is_cold(const struct logger *logger)
{
    return atomic_load(&shared_header(logger)->cold) != 0;
}

static void run_image(uv_work_t *work)
{
    struct logger *logger = work->data;
    logger->image_failed =
        !spend_image_write(logger->setup->config->state_dir, &logger->image, &logger->image_error);
}

static void on_imaged(uv_work_t *work, int status)
{
    struct logger *logger = work->data;
    (void)status;
    logger->imaging = false;
    if (!logger->image_failed)
        return;
    log_error("%s; what is spent is in the store alone", logger->image_error.message);
    buf_clear(&logger->image); /* so that it is tried again */
}

/* Not before a new counters file has what an older image says. */
static void keep_image(struct logger *logger)
{
    struct buf image = {0};
    if (logger->imaging || is_cold(logger))
        return;
    spend_image_take(logger->setup->counters, &image);
    if (str_eq(buf_view(&image), buf_view(&logger->image))) {
        buf_free(&image);
        return;
    }
    buf_free(&logger->image);
    logger->image = image;
    logger->imaging = true;
    logger->image_work.data = logger;
    uv_queue_work(&logger->loop, &logger->image_work, run_image, on_imaged);
}

static void on_publish(uv_timer_t *timer)
{
    publish(timer->data);
    keep_image(timer->data);
}

static void publish_store(struct logger *logger, enum logger_store store, int reason)
{
    struct logger_state *state = &shared_header(logger)->logger;
    if (atomic_load(&state->store) != (int32_t)store)
        atomic_store(&state->store_since_wall_ms, clock_wall_ms());
    atomic_store(&state->store_reason, reason);
    STEP(store_reason_published);
    atomic_store(&state->store, (int32_t)store);
    publish(logger);
}

static void publish_disk(struct logger *logger)
{
    atomic_store(&shared_header(logger)->logger.disk_full_wall_ms,
                 logger->inputs_blocked ? clock_wall_ms() : 0);
}

/* Was the store reached since this master began? Then what it refuses now is no mistake in the
 * configuration, and requests are being served. */
static bool reached_before(const struct logger *logger)
{
    int64_t master = atomic_load(&shared_header(logger)->master_pid);
    return master != 0 && atomic_load(&shared_header(logger)->logger.reached_for) == master;
}

/* ---- the store: away and back ---- */

static void store_is_back(struct logger *logger)
{
    logger->retry_ms = RETRY_FIRST_MS;
    if (!logger->away)
        return;
    logger->away = false;
    publish_store(logger, LOGGER_STORE_OK, STORE_REASON_none);
    if (logger->told_reason)
        log_info("the store is back after %" PRId64 " ms", clock_now_ms() - logger->away_since_ms);
    logger->told_reason = 0;
}

static void finish_away(struct logger *logger, const struct error *error)
{
    log_warning("leaving while the store is away (%s): %" PRIu64 " bytes stay in the spool and go "
                "in at the next start",
                error->message, spool_stats(logger->spool).pending_bytes);
    finish(logger, 0);
}

static void on_retry(uv_timer_t *timer)
{
    attempt(timer->data);
}

/* One line when it goes, and one whenever the reason is another. */
static void tell_away(struct logger *logger, int reason, const struct error *error)
{
    int64_t away_ms = clock_now_ms() - logger->away_since_ms;
    if (reason == logger->told_reason || (reason == STORE_REASON_locked && away_ms < LOCKED_MS))
        return;
    logger->told_reason = reason;
    log_error("the store is away (%s), rows wait in the spool: %s", store_reason_text(reason),
              error->message);
}

static void store_is_away(struct logger *logger, const struct error *error)
{
    int reason = logger->batch.stuck ? STORE_REASON_full : (int)store_reason(logger->store);
    if (!logger->away) {
        logger->away = true;
        logger->away_since_ms = clock_now_ms();
    }
    publish_store(logger, LOGGER_STORE_AWAY, reason);
    tell_away(logger, reason, error);
    if (logger->inputs_open == 0) {
        finish_away(logger, error);
        return;
    }
    /* Spread by a quarter, so that the loggers of several hosts don't come all at once. */
    unsigned spread = randombytes_uniform(logger->retry_ms / 4 + 1);
    uv_timer_start(&logger->retry, on_retry, logger->retry_ms + spread, 0);
    logger->retry_ms =
        2 * logger->retry_ms < RETRY_LONGEST_MS ? 2 * logger->retry_ms : RETRY_LONGEST_MS;
}

/* ---- the store: waiting for its answer ---- */

static void free_handle(uv_handle_t *handle)
{
    free(handle);
}

static void unwatch_store(struct logger *logger)
{
    uv_timer_stop(&logger->store_timer);
    if (!logger->store_poll)
        return;
    uv_close((uv_handle_t *)logger->store_poll, free_handle);
    logger->store_poll = NULL;
}

static void step_store(struct logger *logger)
{
    struct error error;
    unwatch_store(logger);
    logger->working = false;
    bool committing = logger->phase == PHASE_COMMITTING;
    take_result(logger,
                committing ? batch_step(&logger->batch, logger->spool, logger->store, &error)
                           : store_step(logger->store, &error),
                &error);
}

static void on_store_ready(uv_poll_t *poll, int status, int events)
{
    (void)status; /* an error is the driver's to find */
    (void)events;
    step_store(poll->data);
}

static void on_store_timeout(uv_timer_t *timer)
{
    step_store(timer->data);
}

static void watch_store(struct logger *logger)
{
    struct store_wait wait = store_wait(logger->store);
    logger->working = true;
    if (wait.timeout_ms >= 0)
        uv_timer_start(&logger->store_timer, on_store_timeout, (uint64_t)wait.timeout_ms, 0);
    if (wait.descriptor < 0)
        return;
    int events =
        (wait.events & POLLIN ? UV_READABLE : 0) | (wait.events & POLLOUT ? UV_WRITABLE : 0);
    logger->store_poll = xcalloc(1, sizeof *logger->store_poll);
    uv_poll_init(&logger->loop, logger->store_poll, wait.descriptor);
    logger->store_poll->data = logger;
    uv_poll_start(logger->store_poll, events, on_store_ready);
}

/* ---- what the store answered ---- */

static void tell_ready(const struct logger *logger)
{
    if (logger->setup->ready < 0)
        return;
    ssize_t ignored = write(logger->setup->ready, "", 1);
    (void)ignored; /* nobody waits for it any more, then */
}

static void store_started(struct logger *logger)
{
    store_is_back(logger);
    publish_store(logger, LOGGER_STORE_OK, STORE_REASON_none);
    atomic_store(&shared_header(logger)->logger.reached_for,
                 atomic_load(&shared_header(logger)->master_pid));
    set_phase(logger, PHASE_IDLE);
    uint64_t pending = spool_stats(logger->spool).pending_bytes;
    if (pending)
        log_info("%" PRIu64 " bytes are in the spool and go into the store now", pending);
    STEP(store_reached);
    if (!is_cold(logger))
        tell_ready(logger);
    advance(logger);
}

/* Through the loop, so that the pipes get their turn between two batches. */
static void on_more(uv_timer_t *timer)
{
    advance(timer->data);
}

static void batch_done(struct logger *logger)
{
    store_is_back(logger);
    STEP(batch_stored);
    atomic_fetch_add_explicit(&shared_header(logger)->logged_rows, logger->batch.request.new_rows,
                              memory_order_relaxed);
    set_phase(logger, PHASE_IDLE);
    uv_timer_start(&logger->flush, on_more, 0, 0);
}

static void on_expire(uv_timer_t *timer)
{
    struct logger *logger = timer->data;
    logger->slice_due = true;
    advance(logger);
}

/* Of a store that is away the next batch tells. */
static void slice_ended(struct logger *logger, enum store_result result, const struct error *error)
{
    if (result != STORE_DONE)
        log_debug("old rows stay: %s", error->message);
    int64_t pause_ms = retention_end(&logger->retention, result == STORE_DONE);
    uv_timer_start(&logger->expire, on_expire, (uint64_t)pause_ms, 0);
    set_phase(logger, PHASE_IDLE);
    advance(logger);
}

static void take_result(struct logger *logger, enum store_result result, struct error *error)
{
    bool starting = logger->phase == PHASE_STARTING;
    if (result == STORE_WORKING)
        watch_store(logger);
    else if (logger->phase == PHASE_EXPIRING)
        slice_ended(logger, result, error);
    else if (result == STORE_DONE && starting)
        store_started(logger);
    else if (result == STORE_DONE)
        batch_done(logger);
    else if (result == STORE_REFUSED && !logger->away && !reached_before(logger)) {
        log_error("%s", error->message);
        finish(logger, 1);
    } else {
        store_is_away(logger, error);
        if (starting && counters_parent_is_second(logger->setup->counters))
            tell_ready(logger); /* requests are being served: their rows wait in the spool */
    }
}

/* ---- from the spool into the store ---- */

static void set_offset(void *context, const char *segment, uint64_t committed)
{
    spool_set_offset(context, segment, committed);
}

static void attempt(struct logger *logger)
{
    struct error error;
    if (logger->phase == PHASE_STARTING)
        take_result(logger, store_start(logger->store, set_offset, logger->spool, &error), &error);
    else
        take_result(logger, batch_commit(&logger->batch, logger->spool, logger->store, &error),
                    &error);
}

static void on_flush(uv_timer_t *timer)
{
    struct logger *logger = timer->data;
    logger->due = true;
    advance(logger);
}

static bool begin_slice(struct logger *logger)
{
    struct error error;
    int64_t keep_ms = atomic_load(&shared_header(logger)->logger.retention_ms);
    if (!logger->slice_due || logger->inputs_open == 0)
        return false;
    logger->slice_due = false;
    if (keep_ms == 0) {
        uv_timer_start(&logger->expire, on_expire, RETENTION_FIRST_MS, 0);
        return false;
    }
    set_phase(logger, PHASE_EXPIRING);
    retention_begin(&logger->retention, keep_ms);
    take_result(logger, store_expire(logger->store, &logger->retention.expiry, &error), &error);
    return true;
}

/* The spool is in the store: the budgets get what was spent, and requests may come. */
static bool end_cold(struct logger *logger)
{
    struct error error;
    if (cold_start(logger->setup->config, logger->setup->counters, &error)) {
        tell_ready(logger);
        return true;
    }
    log_error("the month's spending cannot be read: %s", error.message);
    uv_timer_start(&logger->flush, on_flush, DISK_RETRY_MS, 0);
    return false;
}

/* Goes on with a batch that is in parts. Else takes what the spool has; commits when there is
 * enough of it, or it has waited, or nothing more will come. */
static void advance(struct logger *logger)
{
    if (logger->phase != PHASE_IDLE)
        return;
    if (logger->batch.submitted) {
        set_phase(logger, PHASE_COMMITTING);
        attempt(logger);
        return;
    }
    if (begin_slice(logger))
        return;
    bool full = batch_fill(&logger->batch, logger->spool);
    bool last = logger->inputs_open == 0;
    bool due = (logger->due || is_cold(logger)) && logger->batch.count > 0;
    if (full || due || (last && batch_pending(&logger->batch, logger->spool))) {
        logger->due = false;
        uv_timer_stop(&logger->flush);
        set_phase(logger, PHASE_COMMITTING);
        attempt(logger);
    } else if (is_cold(logger) && !end_cold(logger)) {
        return;
    } else if (last) {
        finish(logger, 0);
    } else if (logger->batch.count > 0 && !uv_is_active((uv_handle_t *)&logger->flush)) {
        uv_timer_start(&logger->flush, on_flush, FLUSH_MS, 0);
    }
}

/* ---- from the pipes into the spool ---- */

static void run_sync(uv_work_t *work)
{
    struct logger *logger = work->data;
    spool_sync_run(logger->syncing);
}

static void on_sync(uv_timer_t *timer);

static void sync_again(struct logger *logger, int64_t after_ms)
{
    if (spool_dirty(logger->spool) && logger->phase != PHASE_OVER)
        uv_timer_start(&logger->sync, on_sync,
                       (uint64_t)(after_ms > SYNC_PAUSE_MS ? after_ms : SYNC_PAUSE_MS), 0);
}

static void on_synced(uv_work_t *work, int status)
{
    (void)status;
    struct logger *logger = work->data;
    struct error error;
    bool failed = !spool_sync_end(logger->spool, &logger->syncing, &error);
    if (failed && !logger->sync_failed)
        log_error("%s; what the store lacks may not outlive a power cut", error.message);
    if (!failed && logger->sync_failed)
        log_info("spool: it can be synced again");
    logger->sync_failed = failed;
    sync_again(logger, SYNC_MS - (clock_now_ms() - logger->sync_began_ms));
}

static void on_sync(uv_timer_t *timer)
{
    struct logger *logger = timer->data;
    logger->sync_began_ms = clock_now_ms();
    logger->syncing = spool_sync_begin(logger->spool);
    logger->sync_work.data = logger;
    if (logger->syncing)
        uv_queue_work(&logger->loop, &logger->sync_work, run_sync, on_synced);
}

static void on_input(uv_poll_t *poll, int status, int events);

static void on_disk_retry(uv_timer_t *timer)
{
    struct logger *logger = timer->data;
    for (unsigned i = 0; i < logger->setup->pipes_count; i++)
        if (logger->inputs[i].blocked)
            uv_poll_start(&logger->inputs[i].poll, UV_READABLE, on_input);
}

static void on_gathered(uv_timer_t *timer)
{
    struct logger *logger = timer->data;
    for (unsigned i = 0; i < logger->setup->pipes_count; i++) {
        if (logger->inputs[i].gathers)
            uv_poll_start(&logger->inputs[i].poll, UV_READABLE, on_input);
        logger->inputs[i].gathers = false;
    }
}

/* Rows are few bytes each; to be woken for each one costs more than the row. */
static void gather(struct input *input)
{
    struct logger *logger = input->logger;
    input->gathers = true;
    uv_poll_stop(&input->poll);
    if (!uv_is_active((uv_handle_t *)&logger->gather))
        uv_timer_start(&logger->gather, on_gathered, GATHER_MS, 0);
}

/* What isn't taken stays in the pipe; its worker waits. */
static void input_blocked(struct input *input, const struct error *error)
{
    struct logger *logger = input->logger;
    if (!input->blocked && logger->inputs_blocked++ == 0) {
        publish_disk(logger);
        log_error("%s; the pipes wait, and requests are refused when they are full",
                  error->message);
    }
    input->blocked = true;
    uv_poll_stop(&input->poll);
    if (!uv_is_active((uv_handle_t *)&logger->disk))
        uv_timer_start(&logger->disk, on_disk_retry, DISK_RETRY_MS, 0);
}

static void input_freed(struct input *input)
{
    struct logger *logger = input->logger;
    if (!input->blocked)
        return;
    input->blocked = false;
    if (--logger->inputs_blocked > 0)
        return;
    publish_disk(logger);
    log_info("spool: it can be written to again");
}

static void input_ended(struct input *input)
{
    struct logger *logger = input->logger;
    uv_close((uv_handle_t *)&input->poll, NULL);
    spool_end(logger->spool, input->slot);
    if (--logger->inputs_open > 0 || !logger->away || logger->working)
        return;
    uv_timer_stop(&logger->retry);
    attempt(logger);
}

static void on_input(uv_poll_t *poll, int status, int events)
{
    (void)status;
    (void)events;
    struct input *input = poll->data;
    struct logger *logger = input->logger;
    struct error error;
    enum spool_splice result =
        spool_splice(logger->spool, input->slot, logger->setup->pipes[input->slot], &error);
    if (result == SPOOL_FAILED) {
        input_blocked(input, &error);
        return;
    }
    input_freed(input);
    if (result == SPOOL_ENDED)
        input_ended(input);
    else
        gather(input);
    if (!logger->syncing && !uv_is_active((uv_handle_t *)&logger->sync))
        uv_timer_start(&logger->sync, on_sync, SYNC_MS, 0);
    advance(logger);
}

/* ---- beginning and end ---- */

static void open_inputs(struct logger *logger)
{
    const struct logger_setup *setup = logger->setup;
    logger->inputs = xcalloc(setup->pipes_count, sizeof *logger->inputs);
    logger->inputs_open = setup->pipes_count;
    for (unsigned i = 0; i < setup->pipes_count; i++) {
        struct input *input = &logger->inputs[i];
        input->logger = logger;
        input->slot = i;
        uv_poll_init(&logger->loop, &input->poll, setup->pipes[i]);
        input->poll.data = input;
        uv_poll_start(&input->poll, UV_READABLE, on_input);
    }
}

static void open_timers(struct logger *logger)
{
    uv_timer_t *timers[] = {&logger->flush,  &logger->retry,   &logger->sync,
                            &logger->disk,   &logger->publish, &logger->store_timer,
                            &logger->expire, &logger->gather};
    for (size_t i = 0; i < sizeof timers / sizeof *timers; i++) {
        uv_timer_init(&logger->loop, timers[i]);
        timers[i]->data = logger;
    }
    uv_timer_start(&logger->publish, on_publish, PUBLISH_MS, PUBLISH_MS);
    uv_timer_start(&logger->expire, on_expire, RETENTION_FIRST_MS, 0);
    /* What an earlier logger left. */
    if (spool_dirty(logger->spool))
        uv_timer_start(&logger->sync, on_sync, 0, 0);
}

static void close_handle(uv_handle_t *handle, void *context)
{
    struct logger *logger = context;
    if (!uv_is_closing(handle))
        uv_close(handle, handle == (uv_handle_t *)logger->store_poll ? free_handle : NULL);
}

static void close_all(struct logger *logger)
{
    uv_walk(&logger->loop, close_handle, logger);
    while (uv_run(&logger->loop, UV_RUN_DEFAULT))
        continue;
    uv_loop_close(&logger->loop);
    buf_free(&logger->image);
    batch_free(&logger->batch);
    rejected_free(&logger->rejected);
    free(logger->inputs);
}

int logger_run(const struct logger_setup *setup, struct spool *spool, struct store *store)
{
    struct logger logger = {
        .setup = setup, .spool = spool, .store = store, .retry_ms = RETRY_FIRST_MS};
    int failed = uv_loop_init(&logger.loop);
    if (failed) {
        log_error("can't begin: %s", uv_strerror(failed));
        return 1;
    }
    rejected_init(&logger.rejected, setup->config->state_dir);
    batch_init(&logger.batch, &logger.rejected);
    retention_init(&logger.retention);
    publish_store(&logger, LOGGER_STORE_UNKNOWN, STORE_REASON_none);
    publish_disk(&logger);
    open_timers(&logger);
    open_inputs(&logger);
    attempt(&logger);
    if (logger.phase != PHASE_OVER)
        uv_run(&logger.loop, UV_RUN_DEFAULT);
    struct error error;
    if (spool_dirty(spool) && !spool_sync(spool, &error))
        log_error("%s", error.message);
    publish(&logger);
    keep_image(&logger);
    close_all(&logger);
    return logger.status;
}
