#include "master/store/background.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum job { JOB_NONE, JOB_START, JOB_COMMIT, JOB_EXPIRE, JOB_LEAVE };

/* What the inner store told about a segment, for the caller's thread. */
struct told_offset {
    char *segment;
    uint64_t committed;
};

struct background {
    const struct store_driver *driver;
    struct store *inner;
    pthread_t thread;
    bool running; /* the thread has begun */
    int done;     /* eventfd: the job is */
    pthread_mutex_t lock;
    pthread_cond_t given;
    enum job job; /* under the lock */
    /* The thread's while it has a job, else the caller's. */
    enum job last;
    struct store_batch *batch;
    struct store_expiry *expiry;
    enum store_result result;
    struct error error;
    struct told_offset *told;
    size_t told_count;
    /* The caller's of store_start. */
    store_offset_fn *each;
    void *context;
};

static struct background *background_of(const struct store *store)
{
    return (struct background *)(uintptr_t)store;
}

/* --- the thread --- */

static void keep_offset(void *context, const char *segment, uint64_t committed)
{
    struct background *background = context;
    size_t size = (background->told_count + 1) * sizeof *background->told;
    background->told = xrealloc(background->told, size);
    background->told[background->told_count++] = (struct told_offset){xstrdup(segment), committed};
}

static enum job next_job(struct background *background)
{
    pthread_mutex_lock(&background->lock);
    while (background->job == JOB_NONE)
        pthread_cond_wait(&background->given, &background->lock);
    enum job job = background->job;
    background->job = JOB_NONE;
    pthread_mutex_unlock(&background->lock);
    return job;
}

static enum store_result do_job(struct background *background, enum job job)
{
    if (job == JOB_START)
        return store_start(background->inner, keep_offset, background, &background->error);
    if (job == JOB_EXPIRE)
        return store_expire(background->inner, background->expiry, &background->error);
    return store_commit(background->inner, background->batch, &background->error);
}

static void *run(void *context)
{
    struct background *background = context;
    for (enum job job; (job = next_job(background)) != JOB_LEAVE;) {
        background->result = do_job(background, job);
        if (eventfd_write(background->done, 1) != 0)
            abort();
    }
    return NULL;
}

/* --- the caller --- */

static bool begin_thread(struct background *background)
{
    if (!background->running) {
        int failed = pthread_create(&background->thread, NULL, run, background);
        if (failed)
            log_error("no thread for the store: %s", strerror(failed));
        background->running = failed == 0;
    }
    return background->running;
}

static void give(struct background *background, enum job job)
{
    pthread_mutex_lock(&background->lock);
    background->job = job;
    pthread_cond_signal(&background->given);
    pthread_mutex_unlock(&background->lock);
}

static enum store_result submit(struct background *background, enum job job, struct error *error)
{
    if (!begin_thread(background)) {
        error_set(error, "no thread could be made");
        return STORE_AWAY;
    }
    background->last = job;
    give(background, job);
    return STORE_WORKING;
}

static enum store_result start(struct store *store, store_offset_fn *each, void *context,
                               struct error *error)
{
    struct background *background = background_of(store);
    background->each = each;
    background->context = context;
    return submit(background, JOB_START, error);
}

static enum store_result commit(struct store *store, struct store_batch *batch, struct error *error)
{
    struct background *background = background_of(store);
    background->batch = batch;
    return submit(background, JOB_COMMIT, error);
}

static enum store_result expire(struct store *store, struct store_expiry *expiry,
                                struct error *error)
{
    struct background *background = background_of(store);
    background->expiry = expiry;
    return submit(background, JOB_EXPIRE, error);
}

static void pass_offsets_on(struct background *background)
{
    for (size_t i = 0; i < background->told_count; i++) {
        background->each(background->context, background->told[i].segment,
                         background->told[i].committed);
        free(background->told[i].segment);
    }
    free(background->told);
    background->told = NULL;
    background->told_count = 0;
}

static enum store_result step(struct store *store, struct error *error)
{
    struct background *background = background_of(store);
    eventfd_t ignored;
    if (eventfd_read(background->done, &ignored) != 0)
        return STORE_WORKING;
    if (background->last == JOB_START)
        pass_offsets_on(background);
    *error = background->error;
    return background->result;
}

static struct store_wait wait_for(const struct store *store)
{
    return (struct store_wait){
        .descriptor = background_of(store)->done, .events = POLLIN, .timeout_ms = -1};
}

static enum store_reason reason(const struct store *store)
{
    return store_reason(background_of(store)->inner);
}

static void close_background(struct store *store)
{
    struct background *background = background_of(store);
    if (background->running) {
        give(background, JOB_LEAVE);
        pthread_join(background->thread, NULL);
    }
    for (size_t i = 0; i < background->told_count; i++)
        free(background->told[i].segment);
    free(background->told);
    close(background->done);
    pthread_mutex_destroy(&background->lock);
    pthread_cond_destroy(&background->given);
    store_close(&background->inner);
    free(background);
}

void store_in_background(struct store **store)
{
    static const struct store_driver driver = {
        .name = "background",
        .start = start,
        .commit = commit,
        .expire = expire,
        .step = step,
        .wait = wait_for,
        .reason = reason,
        .close = close_background,
    };
    if (store_waits(*store))
        return;
    struct background *background = xcalloc(1, sizeof *background);
    background->driver = &driver;
    background->inner = *store;
    background->done = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (background->done < 0) {
        log_warning("the store works in the logger's own thread: %s", strerror(errno));
        free(background);
        return;
    }
    pthread_mutex_init(&background->lock, NULL);
    pthread_cond_init(&background->given, NULL);
    *store = (struct store *)background;
}
