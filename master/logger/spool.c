#include "master/logger/spool.h"

#include "master/logger/sync_note.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/uuid.h"
#include "shared/base/xalloc.h"
#include "shared/record/frame.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    WINDOW_BYTES = 128 * 1024,
    SPLICE_BYTES = 1 << 20,
    SPLICES_MAX = 16, /* in one call: a busy pipe must not keep the others waiting */
    SLOTS_MAX = 65536,
    NAME_BYTES = 64,
};

struct segment {
    struct segment *next; /* of the same slot, newer */
    char name[NAME_BYTES];
    struct uuid id;
    int fd;
    bool closed; /* nothing is appended any more */
    bool unreadable;
    bool is_new;      /* its name isn't known to outlive a power cut */
    bool sync_failed; /* the kernel takes what it didn't write for written */
    uint64_t size;
    uint64_t size_at_open;
    uint64_t synced;
    uint64_t read;      /* behind the last byte that the frame reader is done with */
    uint64_t taken;     /* behind the last record given out */
    uint64_t committed; /* the same, as far as the store has it */
    struct frame_reader reader;
    uint64_t told_skipped, told_torn;
};

struct slot {
    struct segment *oldest, *newest;
};

struct spool {
    int directory;
    uint64_t segment_bytes;
    struct slot *slots;
    unsigned slots_count; /* more than asked for, when older segments say so */
    unsigned cursor;      /* the slot whose turn it is */
    bool turn_used;
    char *window; /* bytes window_at.. of window_of */
    struct segment *window_of;
    uint64_t window_at;
    size_t window_len;
    struct store_offset *offsets;
    size_t offsets_cap;
    char **gone;
    size_t gone_count, gone_cap;
    uint64_t read_bytes; /* of all segments, by this process */
    uint64_t skipped_bytes, torn_records;
};

/* Names sort by time within a slot even when the wall clock was set back. */
static void name_segment(struct segment *segment, unsigned slot, const struct segment *newest)
{
    int64_t now = clock_wall_ms();
    int64_t after = newest ? uuid_wall_ms(&newest->id) + 1 : 0;
    segment->id = uuid_v7(now > after ? now : after);
    char text[UUID_TEXT_LEN + 1];
    snprintf(segment->name, sizeof segment->name, "%03u-%s.seg", slot,
             uuid_format(&segment->id, text));
}

static bool parse_name(const char *name, unsigned *slot, struct uuid *id)
{
    struct str rest = str_of(name);
    struct str number = str_split(&rest, '-');
    unsigned long long value;
    if (!rest.at || rest.len != UUID_TEXT_LEN + 4 || strcmp(rest.at + UUID_TEXT_LEN, ".seg") != 0)
        return false;
    if (!str_to_u64(number, &value) || value >= SLOTS_MAX)
        return false;
    *slot = (unsigned)value;
    return uuid_parse((struct str){rest.at, UUID_TEXT_LEN}, id);
}

static struct segment *append_segment(struct slot *slot, struct segment *segment)
{
    if (slot->newest) {
        slot->newest->closed = true;
        slot->newest->next = segment;
    } else {
        slot->oldest = segment;
    }
    slot->newest = segment;
    return segment;
}

static void free_segment(struct segment *segment)
{
    if (segment->fd >= 0)
        close(segment->fd);
    frame_reader_free(&segment->reader);
    free(segment);
}

static bool open_segment(struct spool *spool, struct segment *segment, int flags,
                         struct error *error)
{
    /* Without O_APPEND: splice refuses it. */
    segment->fd = openat(spool->directory, segment->name, O_RDWR | O_CLOEXEC | flags, 0640);
    struct stat status;
    if (segment->fd < 0 || fstat(segment->fd, &status) != 0)
        return error_errno(error, errno, "spool: can't open %s", segment->name);
    /* What an earlier process didn't sync is not known to be on the disk. */
    segment->size = segment->size_at_open = (uint64_t)status.st_size;
    return true;
}

static struct segment *new_segment(struct spool *spool, unsigned number, struct error *error)
{
    struct slot *slot = &spool->slots[number];
    struct segment *segment = xcalloc(1, sizeof *segment);
    name_segment(segment, number, slot->newest);
    if (!open_segment(spool, segment, O_CREAT | O_EXCL, error)) {
        free_segment(segment);
        return NULL;
    }
    STEP(segment_created);
    segment->is_new = true;
    return append_segment(slot, segment);
}

static void free_slot(struct slot *slot)
{
    while (slot->oldest) {
        struct segment *segment = slot->oldest;
        slot->oldest = segment->next;
        free_segment(segment);
    }
    slot->newest = NULL;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of all segments, a slot's from the oldest to the newest. */
static bool list_names(int directory, char ***names, size_t *count, struct error *error)
{
    int copy = fcntl(directory, F_DUPFD_CLOEXEC, 0);
    DIR *stream = copy < 0 ? NULL : fdopendir(copy);
    if (!stream) {
        if (copy >= 0)
            close(copy);
        return error_errno(error, errno, "spool: can't list it");
    }
    struct dirent *entry;
    while ((entry = readdir(stream))) {
        unsigned slot;
        struct uuid id;
        if (!parse_name(entry->d_name, &slot, &id)) {
            if (entry->d_name[0] != '.')
                log_warning("spool: %s is not a segment; left alone", entry->d_name);
            continue;
        }
        *names = xrealloc(*names, (*count + 1) * sizeof **names);
        (*names)[(*count)++] = xstrdup(entry->d_name);
    }
    closedir(stream);
    if (*count)
        qsort(*names, *count, sizeof **names, compare_names);
    return true;
}

static void grow_slots(struct spool *spool, unsigned count)
{
    if (count <= spool->slots_count)
        return;
    spool->slots = xrealloc(spool->slots, count * sizeof *spool->slots);
    memset(spool->slots + spool->slots_count, 0,
           (count - spool->slots_count) * sizeof *spool->slots);
    spool->slots_count = count;
}

static bool adopt_segment(struct spool *spool, const char *name, struct error *error)
{
    struct segment *segment = xcalloc(1, sizeof *segment);
    unsigned number = 0;
    snprintf(segment->name, sizeof segment->name, "%s", name);
    if (!parse_name(name, &number, &segment->id) || !open_segment(spool, segment, 0, error)) {
        free_segment(segment);
        return false;
    }
    segment->is_new = true; /* as far as this process knows */
    grow_slots(spool, number + 1);
    append_segment(&spool->slots[number], segment);
    return true;
}

static bool adopt_all(struct spool *spool, struct error *error)
{
    char **names = NULL;
    size_t count = 0;
    bool ok = list_names(spool->directory, &names, &count, error);
    for (size_t i = 0; i < count; i++) {
        ok = ok && adopt_segment(spool, names[i], error);
        free(names[i]);
    }
    free(names);
    return ok;
}

bool spool_open(const char *directory, unsigned slots, struct spool **out, struct error *error)
{
    if (mkdir(directory, 0750) != 0 && errno != EEXIST)
        return error_errno(error, errno, "spool: can't make %s", directory);
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(error, errno, "spool: can't open %s", directory);
    struct spool *spool = xcalloc(1, sizeof *spool);
    spool->directory = fd;
    spool->segment_bytes = SPOOL_SEGMENT_BYTES;
    spool->window = xmalloc(WINDOW_BYTES);
    grow_slots(spool, slots);
    if (!adopt_all(spool, error)) {
        spool_close(&spool);
        return false;
    }
    /* Nobody writes to the pipes of slots that are no more. */
    for (unsigned i = slots; i < spool->slots_count; i++)
        spool_end(spool, i);
    *out = spool;
    return true;
}

void spool_close(struct spool **out)
{
    struct spool *spool = *out;
    if (!spool)
        return;
    for (unsigned i = 0; i < spool->slots_count; i++)
        free_slot(&spool->slots[i]);
    for (size_t i = 0; i < spool->gone_count; i++)
        free(spool->gone[i]);
    close(spool->directory);
    free(spool->gone);
    free(spool->offsets);
    free(spool->window);
    free(spool->slots);
    free(spool);
    *out = NULL;
}

void spool_set_segment_bytes(struct spool *spool, uint64_t bytes)
{
    spool->segment_bytes = bytes;
}

static void add_gone(struct spool *spool, const char *name)
{
    for (size_t i = 0; i < spool->gone_count; i++)
        if (strcmp(spool->gone[i], name) == 0)
            return;
    if (spool->gone_count == spool->gone_cap) {
        spool->gone_cap = spool->gone_cap ? 2 * spool->gone_cap : 16;
        spool->gone = xrealloc(spool->gone, spool->gone_cap * sizeof *spool->gone);
    }
    spool->gone[spool->gone_count++] = xstrdup(name);
}

static struct segment *find_segment(struct spool *spool, const char *name, unsigned *number)
{
    struct uuid id;
    if (!parse_name(name, number, &id) || *number >= spool->slots_count)
        return NULL;
    for (struct segment *s = spool->slots[*number].oldest; s; s = s->next)
        if (uuid_compare(&s->id, &id) == 0)
            return s;
    return NULL;
}

/* The store has more of this segment than the disk: a power cut took the end of the file. What is
 * appended from now on must not be taken for what was lost, also after a crash, so the segment
 * gets a new name. */
static void rename_shortened(struct spool *spool, struct segment *segment, unsigned number)
{
    struct segment before = *segment;
    name_segment(segment, number, segment);
    bool renamed = renameat(spool->directory, before.name, spool->directory, segment->name) == 0;
    STEP(segment_renamed);
    if (!renamed || fsync(spool->directory) != 0) {
        log_error("spool: can't rename %s: %s", before.name, strerror(errno));
        return;
    }
    sync_note_move(spool->directory, before.name, segment->name);
    add_gone(spool, before.name);
}

void spool_set_offset(struct spool *spool, const char *name, uint64_t committed)
{
    unsigned number;
    struct segment *segment = find_segment(spool, name, &number);
    if (!segment) {
        add_gone(spool, name);
        return;
    }
    if (committed > segment->size_at_open) {
        committed = segment->size_at_open;
        if (!segment->closed)
            rename_shortened(spool, segment, number);
    }
    segment->read = segment->taken = segment->committed = committed;
}

/* Are parts of a record in the reader, and others to come? */
static bool record_begun(const struct segment *segment)
{
    return segment->reader.parts && segment->reader.next_part != segment->reader.parts;
}

static bool read_out(const struct segment *segment)
{
    return segment->read == segment->size && !record_begun(segment);
}

/* Whatever the kernel did before it failed: the file's size says how much is ours. */
static enum spool_splice splice_failed(struct segment *segment, int reason, struct error *error)
{
    struct stat status;
    if (fstat(segment->fd, &status) == 0)
        segment->size = (uint64_t)status.st_size;
    error_errno(error, reason, "spool: can't write to %s", segment->name);
    return SPOOL_FAILED;
}

enum spool_splice spool_splice(struct spool *spool, unsigned number, int pipe, struct error *error)
{
    struct segment *segment = spool->slots[number].newest;
    bool full = segment && segment->size >= spool->segment_bytes && read_out(segment);
    if (!segment || segment->closed || full)
        segment = new_segment(spool, number, error);
    if (!segment)
        return SPOOL_FAILED;
    for (int i = 0; i < SPLICES_MAX; i++) {
        loff_t at = (loff_t)segment->size;
        ssize_t moved =
            splice(pipe, NULL, segment->fd, &at, SPLICE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        STEP(pipe_spliced);
        if (moved == 0)
            return SPOOL_ENDED;
        if (moved > 0)
            segment->size += (uint64_t)moved;
        else if (errno == EAGAIN)
            break;
        else if (errno != EINTR) {
            return splice_failed(segment, errno, error);
        }
    }
    return SPOOL_TAKEN;
}

void spool_end(struct spool *spool, unsigned number)
{
    if (spool->slots[number].newest)
        spool->slots[number].newest->closed = true;
}

/* One line for each damaged place, when what follows it is known. */
static void tell_damage(struct spool *spool, struct segment *segment)
{
    uint64_t skipped = segment->reader.skipped_bytes - segment->told_skipped;
    uint64_t torn = segment->reader.torn_records - segment->told_torn;
    if (!skipped && !torn)
        return;
    log_warning("spool: %s: before byte %" PRIu64 ", %" PRIu64 " bytes are no part of a good frame "
                "and %" PRIu64 " records were never finished",
                segment->name, segment->read, skipped, torn);
    segment->told_skipped += skipped;
    segment->told_torn += torn;
    spool->skipped_bytes += skipped;
    spool->torn_records += torn;
}

/* The bytes from the reader's place on, as far as the window has them. */
static struct str window_view(const struct spool *spool, const struct segment *segment)
{
    if (spool->window_of != segment || segment->read < spool->window_at ||
        segment->read > spool->window_at + spool->window_len)
        return STR_ABSENT;
    size_t skip = (size_t)(segment->read - spool->window_at);
    return (struct str){spool->window + skip, spool->window_len - skip};
}

static bool load_window(struct spool *spool, struct segment *segment)
{
    ssize_t got;
    do
        got = pread(segment->fd, spool->window, WINDOW_BYTES, (off_t)segment->read);
    while (got < 0 && errno == EINTR);
    spool->window_of = got > 0 ? segment : NULL;
    spool->window_at = segment->read;
    spool->window_len = got > 0 ? (size_t)got : 0;
    if (got > 0)
        return true;
    log_error("spool: can't read %s from byte %" PRIu64 " on: %s; it stays where it is",
              segment->name, segment->read, got < 0 ? strerror(errno) : "it became shorter");
    segment->unreadable = true;
    return false;
}

/* Nothing more will come: what is left unfinished is counted as lost. */
static void finish_reading(struct spool *spool, struct segment *segment)
{
    if (record_begun(segment))
        segment->reader.torn_records++;
    segment->reader.parts = segment->reader.next_part = 0;
    segment->reader.skipped_bytes += segment->size - segment->read;
    segment->read = segment->size;
    tell_damage(spool, segment);
}

enum next { NEXT_RECORD, NEXT_NOTHING, NEXT_OTHERS_TURN };

static enum next next_in_segment(struct spool *spool, struct segment *segment, struct str *record)
{
    while (segment->read < segment->size && !segment->unreadable) {
        struct str view = window_view(spool, segment);
        size_t consumed = 0;
        enum frame_result result =
            view.len ? frame_reader_next(&segment->reader, view, &consumed, record) : FRAME_MORE;
        segment->read += consumed;
        spool->read_bytes += consumed;
        if (result == FRAME_RECORD) {
            segment->taken = segment->read;
            tell_damage(spool, segment);
            return NEXT_RECORD;
        }
        bool seen_all = view.at && spool->window_at + spool->window_len >= segment->size;
        if (seen_all)
            break;
        if (spool->turn_used)
            return NEXT_OTHERS_TURN;
        spool->turn_used = true;
        if (!load_window(spool, segment))
            break;
    }
    if (segment->closed && !segment->unreadable)
        finish_reading(spool, segment);
    return NEXT_NOTHING;
}

static enum next next_in_slot(struct spool *spool, struct slot *slot, struct str *record)
{
    for (struct segment *segment = slot->oldest; segment; segment = segment->next) {
        enum next next = next_in_segment(spool, segment, record);
        if (next != NEXT_NOTHING)
            return next;
    }
    return NEXT_NOTHING;
}

/* Deletes the slot's closed segments of which the store has everything. */
static void reap_slot(struct spool *spool, struct slot *slot)
{
    struct segment **link = &slot->oldest, *kept = NULL;
    while (*link) {
        struct segment *segment = *link;
        if (!segment->closed || !read_out(segment) || segment->taken != segment->committed) {
            kept = segment;
            link = &segment->next;
            continue;
        }
        STEP(segment_done);
        if (unlinkat(spool->directory, segment->name, 0) != 0 && errno != ENOENT)
            log_error("spool: can't delete %s: %s", segment->name, strerror(errno));
        else if (segment->committed > 0)
            add_gone(spool, segment->name);
        sync_note_move(spool->directory, segment->name, NULL);
        STEP(segment_deleted);
        *link = segment->next;
        if (spool->window_of == segment)
            spool->window_of = NULL;
        free_segment(segment);
    }
    slot->newest = kept;
}

static void reap(struct spool *spool)
{
    for (unsigned i = 0; i < spool->slots_count; i++)
        reap_slot(spool, &spool->slots[i]);
}

bool spool_next(struct spool *spool, struct str *record)
{
    /* Until a whole round read nothing, and again the slot that it began with: its turn may have
     * been used. A record may be longer than many turns. */
    for (unsigned idle = 0; idle <= spool->slots_count && spool->slots_count; idle++) {
        uint64_t before = spool->read_bytes;
        if (next_in_slot(spool, &spool->slots[spool->cursor], record) == NEXT_RECORD)
            return true;
        if (spool->read_bytes > before)
            idle = 0;
        spool->cursor = (spool->cursor + 1) % spool->slots_count;
        spool->turn_used = false;
    }
    reap(spool);
    return false;
}

size_t spool_offsets(struct spool *spool, const struct store_offset **offsets)
{
    size_t count = 0;
    for (unsigned i = 0; i < spool->slots_count; i++)
        for (struct segment *s = spool->slots[i].oldest; s; s = s->next) {
            if (s->taken == s->committed)
                continue;
            if (count == spool->offsets_cap) {
                spool->offsets_cap = spool->offsets_cap ? 2 * spool->offsets_cap : 16;
                spool->offsets =
                    xrealloc(spool->offsets, spool->offsets_cap * sizeof *spool->offsets);
            }
            spool->offsets[count++] = (struct store_offset){s->name, s->taken};
        }
    *offsets = spool->offsets;
    return count;
}

size_t spool_gone(struct spool *spool, const char *const **names)
{
    *names = (const char *const *)spool->gone;
    return spool->gone_count;
}

void spool_committed(struct spool *spool, size_t gone)
{
    for (size_t i = 0; i < gone; i++)
        free(spool->gone[i]);
    spool->gone_count -= gone;
    if (spool->gone_count > 0)
        memmove(spool->gone, spool->gone + gone, spool->gone_count * sizeof *spool->gone);
    for (unsigned i = 0; i < spool->slots_count; i++)
        for (struct segment *s = spool->slots[i].oldest; s; s = s->next)
            s->committed = s->taken;
    reap(spool);
}

/* What the store has is durable there. */
static bool segment_dirty(const struct segment *segment)
{
    return segment->synced < segment->size && segment->committed < segment->size;
}

bool spool_dirty(const struct spool *spool)
{
    for (unsigned i = 0; i < spool->slots_count; i++)
        for (const struct segment *s = spool->slots[i].oldest; s; s = s->next)
            if (segment_dirty(s))
                return true;
    return false;
}

/* After a failed sync the kernel has the pages as clean, whether they are on the disk or not. */
static bool write_again(struct spool *spool, struct segment *segment)
{
    uint64_t at = segment->synced > segment->committed ? segment->synced : segment->committed;
    spool->window_of = NULL;
    while (at < segment->size) {
        ssize_t got = pread(segment->fd, spool->window, WINDOW_BYTES, (off_t)at);
        if (got > 0)
            got = pwrite(segment->fd, spool->window, (size_t)got, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0)
            errno = EIO; /* it became shorter */
        if (got <= 0)
            return false;
        at += (uint64_t)got;
    }
    return true;
}

/* One segment as it was when the sync began: in the meantime it may grow, or be deleted. */
struct sync_of {
    char name[NAME_BYTES];
    int fd; /* its own */
    bool is_new;
    uint64_t size;
    int failure; /* errno; 0 = none */
};

struct spool_sync {
    int directory;
    size_t count;
    struct sync_of segments[];
};

static void begin_one(struct spool *spool, struct segment *segment, struct sync_of *sync)
{
    *sync = (struct sync_of){.is_new = segment->is_new, .size = segment->size};
    memcpy(sync->name, segment->name, sizeof sync->name);
    sync->fd = fcntl(segment->fd, F_DUPFD_CLOEXEC, 0);
    if (sync->fd < 0 || (segment->sync_failed && !write_again(spool, segment)))
        sync->failure = errno;
}

static size_t count_dirty(const struct spool *spool)
{
    size_t count = 0;
    for (unsigned i = 0; i < spool->slots_count; i++)
        for (const struct segment *s = spool->slots[i].oldest; s; s = s->next)
            count += segment_dirty(s);
    return count;
}

struct spool_sync *spool_sync_begin(struct spool *spool)
{
    size_t count = count_dirty(spool);
    if (count == 0)
        return NULL;
    struct spool_sync *sync = xcalloc(1, sizeof *sync + count * sizeof *sync->segments);
    sync->directory = spool->directory;
    for (unsigned i = 0; i < spool->slots_count; i++)
        for (struct segment *s = spool->slots[i].oldest; s; s = s->next)
            if (segment_dirty(s))
                begin_one(spool, s, &sync->segments[sync->count++]);
    return sync;
}

static void run_one(int directory, struct sync_of *sync)
{
    STEP(segment_to_sync);
    if (!sync->failure && sync->is_new && sync_name(directory, sync->name) != 0)
        sync->failure = errno;
    STEP(segment_named);
    if (!sync->failure && sync_bytes(directory, sync->name, sync->fd) != 0)
        sync->failure = errno;
    STEP(segment_synced);
}

void spool_sync_run(struct spool_sync *sync)
{
    for (size_t i = 0; i < sync->count; i++)
        run_one(sync->directory, &sync->segments[i]);
}

static void end_one(struct spool *spool, const struct sync_of *sync)
{
    unsigned slot;
    struct segment *segment = find_segment(spool, sync->name, &slot);
    if (!segment) {
        sync_note_move(spool->directory, sync->name, NULL);
        return;
    }
    segment->sync_failed = sync->failure != 0;
    if (sync->failure)
        return;
    segment->is_new = false;
    if (segment->synced < sync->size)
        segment->synced = sync->size;
}

bool spool_sync_end(struct spool *spool, struct spool_sync **place, struct error *error)
{
    struct spool_sync *sync = *place;
    bool ok = true;
    for (size_t i = 0; i < sync->count; i++) {
        const struct sync_of *one = &sync->segments[i];
        end_one(spool, one);
        if (one->failure)
            ok = error_errno(error, one->failure, "spool: can't sync %s", one->name);
        if (one->fd >= 0)
            close(one->fd);
    }
    free(sync);
    *place = NULL;
    return ok;
}

bool spool_sync(struct spool *spool, struct error *error)
{
    struct spool_sync *sync = spool_sync_begin(spool);
    if (!sync)
        return true;
    spool_sync_run(sync);
    return spool_sync_end(spool, &sync, error);
}

struct spool_stats spool_stats(const struct spool *spool)
{
    struct spool_stats stats = {.skipped_bytes = spool->skipped_bytes,
                                .torn_records = spool->torn_records};
    for (unsigned i = 0; i < spool->slots_count; i++)
        for (const struct segment *s = spool->slots[i].oldest; s; s = s->next) {
            stats.segments++;
            stats.pending_bytes += s->size - s->committed;
        }
    return stats;
}

/* Its head tells the request's id, and that its time. */
static int64_t time_of_record(const struct segment *segment)
{
    char head[FRAME_HEAD];
    struct uuid id;
    ssize_t got = pread(segment->fd, head, sizeof head, (off_t)segment->committed);
    bool known = got > 0 && frame_request_id((struct str){head, (size_t)got}, &id);
    return uuid_wall_ms(known ? &id : &segment->id);
}

int64_t spool_oldest_wall_ms(const struct spool *spool)
{
    int64_t oldest = 0;
    for (unsigned i = 0; i < spool->slots_count; i++)
        for (const struct segment *s = spool->slots[i].oldest; s; s = s->next) {
            int64_t time = s->committed < s->size ? time_of_record(s) : 0;
            if (time && (!oldest || time < oldest))
                oldest = time;
        }
    return oldest;
}
