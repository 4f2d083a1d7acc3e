#include "test/steps/log_world.h"

#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/record/frame.h"

#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* ---- what a power cut leaves: files by inode, as far as they were synced */

static struct synced {
    ino_t inode;
    off_t size;
    bool named;
} synced[32];
static size_t synced_count;

static struct synced *find_synced(ino_t inode)
{
    size_t at = 0;
    while (at < synced_count && synced[at].inode != inode)
        at++;
    if (at == sizeof synced / sizeof *synced)
        abort();
    if (at == synced_count)
        synced[synced_count++] = (struct synced){.inode = inode};
    return &synced[at];
}

int fdatasync(int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -1;
    find_synced(status.st_ino)->size = status.st_size;
    return 0;
}

static DIR *open_copy(int directory)
{
    int copy = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = copy < 0 ? NULL : fdopendir(copy);
    if (!stream)
        abort();
    return stream;
}

int fsync(int fd)
{
    struct stat status;
    const struct dirent *entry;
    if (fstat(fd, &status) != 0 || !S_ISDIR(status.st_mode))
        return fdatasync(fd);
    DIR *stream = open_copy(fd);
    while ((entry = readdir(stream)))
        if (entry->d_name[0] != '.')
            find_synced(entry->d_ino)->named = true;
    closedir(stream);
    return 0;
}

static void cut_power(const char *directory)
{
    const struct dirent *entry;
    DIR *stream = opendir(directory);
    while (stream && (entry = readdir(stream))) {
        if (entry->d_name[0] == '.')
            continue;
        const struct synced *file = find_synced(entry->d_ino);
        int fd = openat(dirfd(stream), entry->d_name, O_RDWR | O_CLOEXEC);
        if (fd < 0 || (file->named ? ftruncate(fd, file->size)
                                   : unlinkat(dirfd(stream), entry->d_name, 0)) != 0)
            abort();
        close(fd);
    }
    if (stream)
        closedir(stream);
}

/* ---- the store: whole batches, and never away */

struct store {
    const struct store_driver *driver;
    struct log_world *world;
};

static void take_row(struct log_world *world, const struct record *row)
{
    unsigned slot = row->request_id.bytes[0], number = row->request_id.bytes[1], before = 0;
    for (size_t i = 0; i < world->store.rows_count; i++) {
        if (world->store.rows[i].slot != slot)
            continue;
        if (world->store.rows[i].number == number) {
            world->store.duplicates++;
            return;
        }
        before = world->store.rows[i].number;
    }
    world->store.orderless += number <= before;
    size_t next = world->store.rows_count++;
    world->store.rows[next].slot = slot;
    world->store.rows[next].number = number;
    world->store.rows[next].is_ok = str_eq(row->status, STR("ok"));
    world->store.rows[next].has_attempts = row->attempts.len > 0;
}

static size_t find_offset(const struct log_world *world, const char *segment)
{
    size_t at = 0;
    while (at < world->store.offsets_count &&
           strcmp(world->store.offsets[at].segment, segment) != 0)
        at++;
    return at;
}

static void take_offset(struct log_world *world, const struct store_offset *offset)
{
    size_t at = find_offset(world, offset->segment);
    if (at == world->store.offsets_count)
        world->store.offsets_count++;
    snprintf(world->store.offsets[at].segment, sizeof world->store.offsets[at].segment, "%s",
             offset->segment);
    world->store.offsets[at].committed = offset->committed;
}

static void forget_offset(struct log_world *world, const char *segment)
{
    size_t at = find_offset(world, segment);
    if (at < world->store.offsets_count)
        world->store.offsets[at] = world->store.offsets[--world->store.offsets_count];
}

static enum store_result commit(struct store *store, struct store_batch *batch, struct error *error)
{
    for (size_t i = 0; i < batch->rows_count; i++)
        if (batch->rows[i].request_id.bytes[1] == store->world->poison) {
            error_set(error, "not to my taste");
            return STORE_REFUSED;
        }
    STEP(world_to_commit);
    for (size_t i = 0; i < batch->rows_count; i++)
        take_row(store->world, &batch->rows[i]);
    for (size_t i = 0; i < batch->offsets_count; i++)
        take_offset(store->world, &batch->offsets[i]);
    for (size_t i = 0; i < batch->gone_count; i++)
        forget_offset(store->world, batch->gone[i]);
    STEP(world_committed);
    return STORE_DONE;
}

static const struct store_driver driver = {.name = "model", .commit = commit};

/* ---- the logger */

struct logging {
    struct log_world *world;
    struct spool *spool;
    struct rejected rejected;
    struct batch batch;
    struct store store;
};

static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "%s: %s\n", what, why);
    abort();
}

static void begin_logging(struct logging *logging, struct log_world *world)
{
    struct error error;
    *logging = (struct logging){.world = world, .store = {&driver, world}};
    if (!spool_open(world->spool, world->slots_count, &logging->spool, &error))
        give_up("spool_open", error.message);
    spool_set_segment_bytes(logging->spool, world->segment_bytes);
    for (size_t i = 0; i < world->store.offsets_count; i++)
        spool_set_offset(logging->spool, world->store.offsets[i].segment,
                         world->store.offsets[i].committed);
    rejected_init(&logging->rejected, world->scratch);
    batch_init(&logging->batch, &logging->rejected);
}

/* How many pipes have ended. */
static unsigned splice_all(struct logging *logging)
{
    struct slots *slots = &logging->world->masters[logging->world->master];
    struct error error;
    unsigned ended = 0;
    for (unsigned i = 0; i < slots->count; i++) {
        enum spool_splice result = spool_splice(logging->spool, i, slots->log_pipes[i][0], &error);
        if (result == SPOOL_FAILED)
            give_up("spool_splice", error.message);
        if (result == SPOOL_ENDED)
            spool_end(logging->spool, i);
        ended += result == SPOOL_ENDED;
    }
    return ended;
}

static void sync_all(struct logging *logging, const unsigned pushed[WORLD_SLOTS_MAX])
{
    struct log_world *world = logging->world;
    struct error error;
    if (!spool_sync(logging->spool, &error))
        give_up("spool_sync", error.message);
    if (!world->afterwards)
        memcpy(world->safe, pushed, sizeof world->safe);
}

static void commit_all(struct logging *logging)
{
    struct error error;
    do
        if (batch_commit(&logging->batch, logging->spool, &logging->store, &error) != STORE_DONE)
            give_up("batch_commit", error.message);
    while (logging->batch.submitted); /* it is in parts */
}

/* The pipes are emptied again between a batch's records and its commit, as they are while the store
 * is at work. True when every pipe has ended and all is committed. */
static bool log_round(struct logging *logging)
{
    struct log_world *world = logging->world;
    unsigned pushed[WORLD_SLOTS_MAX];
    memcpy(pushed, world->pushed, sizeof pushed);
    splice_all(logging);
    batch_fill(&logging->batch, logging->spool);
    sync_all(logging, pushed);
    unsigned ended = splice_all(logging);
    batch_fill(&logging->batch, logging->spool);
    bool pending = batch_pending(&logging->batch, logging->spool);
    if (pending)
        commit_all(logging);
    return ended == world->slots_count && !pending;
}

static void end_logging(struct logging *logging)
{
    logging->world->store.damaged += spool_stats(logging->spool).skipped_bytes;
    batch_free(&logging->batch);
    rejected_free(&logging->rejected);
    spool_close(&logging->spool);
}

void log_world_logger_afterwards(void *context)
{
    const struct log_world *world = context;
    while (!world->afterwards)
        interleave_wait();
    log_world_logger(context);
}

void log_world_logger(void *context)
{
    struct log_world *world = context;
    struct logging logging;
    begin_logging(&logging, world);
    for (unsigned i = 0; i < world->rounds; i++)
        log_round(&logging);
    end_logging(&logging);
}

/* ---- workers */

static void open_request(struct log_world *world, struct requests *requests, unsigned slot,
                         struct shm_request **request)
{
    struct request_opening opening = {
        .id = {{(uint8_t)slot, (uint8_t)(world->opened[slot] + 1), [6] = 0x70, [8] = 0x80}},
        .project = ACCOUNT_NONE,
        .token = ACCOUNT_NONE,
        .client_ip = STR("192.0.2.7"),
    };
    *request = requests_open(requests, &opening);
    if (!*request)
        abort();
    world->opened[slot]++;
}

static void serve(struct log_world *world, unsigned slot, struct requests *requests,
                  struct log_writer *writer)
{
    static char body[64 * 1024];
    struct shm_request *request;
    struct record record;
    open_request(world, requests, slot, &request);
    request_resolved(request, ACCOUNT_NONE);
    request_sent(request, ACCOUNT_NONE, 10);
    world->sent[slot]++;
    const struct ledger ledger = ledger_of(&world->counters, slot);
    ledger_settle(&ledger, request, &(struct settlement){.usage = {.total_tokens = 3}});
    const struct request_outcome outcome = {
        .status = STR("ok"), .http_status = 200, .latency_us = 30};
    requests_record(requests, request, &outcome);
    world->recorded[slot]++; /* the client has its answer */
    record_init(&record);
    record.request_id = request->id;
    record.status = STR("ok");
    record.attempts = STR("[{}]");
    if (world->opened[slot] == 1)
        record.response_body = (struct str){body, world->body_bytes};
    memset(body, 'b', sizeof body);
    log_writer_push(writer, &record, request);
    world->pushed[slot]++;
}

static void run_worker(struct log_world *world, unsigned slot)
{
    static uv_loop_t loops[WORLD_SLOTS_MAX];
    static struct requests tables[WORLD_SLOTS_MAX];
    struct slots *slots = &world->masters[0];
    if (uv_loop_init(&loops[slot]) != 0)
        abort();
    requests_init(&tables[slot], &world->counters.workers[slot],
                  counters_requests(&world->counters, slot));
    struct log_writer *writer =
        log_writer_new(&loops[slot], slots->log_pipes[slot][1], 1 << 20, &tables[slot], NULL, NULL);
    for (unsigned i = 0; i < world->requests; i++) {
        serve(world, slot, &tables[slot], writer);
        log_writer_reclaim(writer);
        if (world->pauses && i + 1 < world->requests)
            interleave_wait();
    }
}

void log_world_worker_0(void *context)
{
    run_worker(context, 0);
}

void log_world_worker_1(void *context)
{
    run_worker(context, 1);
}

/* ---- masters */

static void reset_counters(struct log_world *world)
{
    memset(world->counters.header, 0, sizeof *world->counters.header);
    world->counters.header->workers = world->slots_count;
    memset(world->counters.workers, 0, WORLD_SLOTS_MAX * sizeof *world->counters.workers);
    for (unsigned i = 0; i < WORLD_SLOTS_MAX; i++) /* the lowest entries are used first */
        memset(counters_requests(&world->counters, i), 0,
               WORLD_REQUESTS_MAX * sizeof(struct shm_request));
}

static bool is_cleaned(const struct slots *slots)
{
    for (unsigned i = 0; i < slots->count; i++)
        if (slots->states[i] != SLOT_FREE && slots->states[i] != SLOT_TAKEN)
            return false;
    return true;
}

/* Two turns; what they leave the check does, as later turns would. */
void log_world_master(void *context)
{
    struct log_world *world = context;
    struct slots *slots = &world->masters[world->master];
    slots_leave(slots, 0);
    world->left[0] = true;
    if (!is_cleaned(slots))
        interleave_wait();
    slots_clean(slots);
}

void log_world_cold_master(void *context)
{
    struct log_world *world = context;
    struct slots *slots = &world->masters[++world->master];
    struct error error;
    if (!slots_open(slots, &world->counters, &error))
        give_up("slots_open", error.message);
    for (unsigned i = 0; i < slots->count; i++)
        world->left[i] = true;
    slots_clean(slots);
}

/* The counters file is in memory, so it is gone, too; a request of afterwards follows what is left
 * of the earlier ones. */
void log_world_master_after_power_cut(void *context)
{
    enum { AFTERWARDS = 100 };
    static char body[2500]; /* longer than what was lost */
    struct log_world *world = context;
    struct slots *slots = &world->masters[++world->master];
    struct error error;
    struct record record;
    struct buf encoded = {0}, frames = {0};
    cut_power(world->spool);
    reset_counters(world);
    if (!slots_open(slots, &world->counters, &error))
        give_up("slots_open", error.message);
    for (unsigned i = 0; i < slots->count; i++)
        world->left[i] = true;
    record_init(&record);
    record.request_id = (struct uuid){{0, AFTERWARDS, [6] = 0x70, [8] = 0x80}};
    memset(body, 'b', sizeof body);
    record.response_body = (struct str){body, sizeof body};
    record_encode(&record, &encoded);
    if (!frames_encode(&record.request_id, buf_view(&encoded), &frames) ||
        write(slots->log_pipes[0][1], frames.data, frames.len) != (ssize_t)frames.len)
        abort();
    buf_free(&encoded);
    buf_free(&frames);
    world->afterwards = AFTERWARDS;
}

/* ---- the world */

static void remove_files(const char *directory)
{
    DIR *stream = opendir(directory);
    const struct dirent *entry;
    while (stream && (entry = readdir(stream)))
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(stream), entry->d_name, 0);
    if (stream)
        closedir(stream);
}

static unsigned count_files(const char *directory)
{
    DIR *stream = opendir(directory);
    const struct dirent *entry;
    unsigned count = 0;
    while (stream && (entry = readdir(stream)))
        count += entry->d_name[0] != '.';
    if (stream)
        closedir(stream);
    return count;
}

void log_world_open(struct log_world *world)
{
    static uv_loop_t first;
    /* Half a megabyte that comes and goes with each logger stays on the heap. */
    mallopt(M_MMAP_THRESHOLD, 64 << 20);
    mallopt(M_TRIM_THRESHOLD, 128 << 20);
    log_setup(LOG_ERROR, LOG_TEXT);
    uv_replace_allocator(malloc, realloc, calloc, free);
    if (uv_loop_init(&first) != 0) /* what libuv opens for the whole process */
        abort();
    if (access("/dev/shm", W_OK) == 0)
        setenv("TMPDIR", "/dev/shm", 1);
    if (!scratch_make(world->scratch))
        abort();
    scratch_path(world->scratch, "spool", world->spool);
    scratch_path(world->scratch, "rejected", world->rejected);
    if (mkdir(world->spool, 0750) != 0)
        abort();
    world->counters = (struct counters){.fd = -1};
    world->counters.header = aligned_alloc(256, sizeof *world->counters.header);
    world->counters.workers = aligned_alloc(256, WORLD_SLOTS_MAX * sizeof *world->counters.workers);
    world->counters.requests =
        aligned_alloc(256, WORLD_SLOTS_MAX * SHM_REQUESTS_PER_SLOT * sizeof(struct shm_request));
    memset(world->counters.requests, 0,
           WORLD_SLOTS_MAX * SHM_REQUESTS_PER_SLOT * sizeof(struct shm_request));
}

void log_world_close(struct log_world *world)
{
    free(world->counters.header);
    free(world->counters.workers);
    free(world->counters.requests);
    scratch_remove(world->scratch);
}

void log_world_begin(void *context)
{
    struct log_world *world = context;
    struct error error;
    remove_files(world->spool);
    remove_files(world->rejected);
    synced_count = 0;
    reset_counters(world);
    world->afterwards = 0;
    memset(world->pushed, 0, sizeof world->pushed);
    memset(world->safe, 0, sizeof world->safe);
    memset(world->left, 0, sizeof world->left);
    memset(world->opened, 0, sizeof world->opened);
    memset(world->sent, 0, sizeof world->sent);
    memset(world->recorded, 0, sizeof world->recorded);
    memset(&world->store, 0, sizeof world->store);
    memset(world->masters, 0, sizeof world->masters);
    world->master = 0;
    if (!slots_open(&world->masters[0], &world->counters, &error))
        give_up("slots_open", error.message);
    for (unsigned i = 0; i < world->slots_count; i++)
        slots_take(&world->masters[0]);
}

void log_world_end(void *context)
{
    struct log_world *world = context;
    slots_free(&world->masters[0]);
}

/* As the last master and the last logger do when the gateway stops. False when they can't. */
static bool finish(struct log_world *world)
{
    struct slots *slots = &world->masters[world->master];
    struct logging logging;
    begin_logging(&logging, world);
    for (unsigned i = 0; i < world->slots_count; i++)
        if (!world->left[i])
            slots_leave(slots, i);
    unsigned turns = 0;
    for (; turns < 10 && !is_cleaned(slots); turns++) {
        log_round(&logging);
        slots_clean(slots);
    }
    slots_end_pipes(slots);
    while (turns++ < 20 && !log_round(&logging))
        continue;
    slots_emptied(slots);
    end_logging(&logging);
    return turns < 20;
}

static bool slot_is_right(const struct log_world *world, unsigned slot,
                          char why[INTERLEAVE_WHY_BYTES])
{
    const struct shm_worker *counts = &world->counters.workers[slot];
    uint64_t requests = atomic_load(&counts->requests), rows = atomic_load(&counts->rows);
    unsigned found = 0;
    for (size_t i = 0; i < world->store.rows_count; i++) {
        if (world->store.rows[i].slot != slot)
            continue;
        unsigned number = world->store.rows[i].number;
        found++;
        if (number <= world->recorded[slot] && !world->store.rows[i].is_ok)
            return !snprintf(why, INTERLEAVE_WHY_BYTES, "request %u was answered, its row says no",
                             number);
        if (number <= world->sent[slot] && !world->store.rows[i].has_attempts)
            return !snprintf(why, INTERLEAVE_WHY_BYTES, "request %u was sent, its row says no",
                             number);
    }
    if (world->poison > 0 && world->poison <= world->opened[slot])
        found++; /* it was set aside */
    snprintf(why, INTERLEAVE_WHY_BYTES,
             "slot %u: %u requests accepted, %u rows, %llu and %llu counted", slot,
             world->opened[slot], found, (unsigned long long)requests, (unsigned long long)rows);
    return found >= world->opened[slot] && found <= world->opened[slot] + 1 && found == requests &&
           found == rows;
}

/* Each record that was synced, or in the store, and the one of afterwards. */
static bool is_left_by_power_cut(const struct log_world *world, char why[INTERLEAVE_WHY_BYTES])
{
    for (unsigned slot = 0; slot < world->slots_count; slot++) {
        unsigned found = 0, afterwards = 0;
        for (size_t i = 0; i < world->store.rows_count; i++) {
            unsigned number = world->store.rows[i].number;
            found += world->store.rows[i].slot == slot && number <= world->safe[slot];
            afterwards += world->store.rows[i].slot == slot && number == world->afterwards;
        }
        snprintf(why, INTERLEAVE_WHY_BYTES, "slot %u: %u of %u synced rows, %u of afterwards", slot,
                 found, world->safe[slot], afterwards);
        if (found != world->safe[slot] || (slot == 0 && afterwards != 1))
            return false;
    }
    return true;
}

bool log_world_check(void *context, char why[INTERLEAVE_WHY_BYTES])
{
    struct log_world *world = context;
    snprintf(why, INTERLEAVE_WHY_BYTES, "rows of the dead are never done with");
    if (!finish(world))
        return false;
    /* The offset of a closed segment that a power cut took is forgotten at the next start. */
    if (world->afterwards && !finish(world))
        return false;
    for (unsigned i = 0; i < world->slots_count; i++) {
        if (world->afterwards ? !is_left_by_power_cut(world, why) : !slot_is_right(world, i, why))
            return false;
        const struct shm_request *table = counters_requests(&world->counters, i);
        for (unsigned j = 0; j < WORLD_REQUESTS_MAX; j++)
            if (request_state(&table[j]) != REQUEST_FREE)
                return !snprintf(why, INTERLEAVE_WHY_BYTES, "an entry is left in slot %u", i);
    }
    unsigned set_aside = world->poison > 0 ? world->slots_count : 0;
    if (world->store.damaged > 0)
        return !snprintf(why, INTERLEAVE_WHY_BYTES, "%u bytes are no part of a good frame",
                         (unsigned)world->store.damaged);
    if (count_files(world->rejected) != set_aside)
        return !snprintf(why, INTERLEAVE_WHY_BYTES, "%u files are set aside",
                         count_files(world->rejected));
    snprintf(why, INTERLEAVE_WHY_BYTES,
             "%u rows came twice, %u not in order, %zu offsets and %u segments are left",
             world->store.duplicates, world->store.orderless, world->store.offsets_count,
             count_files(world->spool));
    return (world->duplicates_are_fine || world->store.duplicates == 0) &&
           world->store.orderless == 0 && world->store.offsets_count == 0 &&
           count_files(world->spool) == 0;
}
