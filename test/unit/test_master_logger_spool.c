#include "master/logger/spool.h"
#include "master/logger/spool_look.h"
#include "shared/base/clock.h"
#include "shared/record/frame.h"
#include "test/unit/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/syscall.h>

#include <cmocka.h>

enum { SLOTS = 3 };

/* What goes wrong, and what was seen. */
static int fdatasync_fails, fsync_fails;
static uint64_t written_again;

static int sync_result(int number, long call, int fd)
{
    if (number)
        errno = number;
    return number ? -1 : (int)syscall(call, fd);
}

int fdatasync(int fd)
{
    return sync_result(fdatasync_fails, SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return sync_result(fsync_fails, SYS_fsync, fd);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t at)
{
    written_again += len;
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

struct place {
    char scratch[SCRATCH_PATH], directory[SCRATCH_PATH];
    int pipes[SLOTS][2];
    struct spool *spool;
};

static int64_t wall_ms = 1790000000000;

static int64_t fixed_wall_ms(void)
{
    return wall_ms;
}

static int64_t fixed_now_us(void)
{
    return 1000;
}

static void reopen(struct place *place)
{
    struct error error;
    spool_close(&place->spool);
    if (!spool_open(place->directory, SLOTS, &place->spool, &error))
        fail_msg("%s", error.message);
}

static int set_up(void **state)
{
    static const struct clock_source source = {fixed_now_us, fixed_wall_ms};
    fdatasync_fails = fsync_fails = 0;
    struct place *place = calloc(1, sizeof *place);
    if (!scratch_make(place->scratch))
        return -1;
    clock_set_source(&source);
    scratch_path(place->scratch, "spool", place->directory);
    for (int i = 0; i < SLOTS; i++)
        if (pipe2(place->pipes[i], O_NONBLOCK | O_CLOEXEC) != 0)
            return -1;
    reopen(place);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    spool_close(&place->spool);
    for (int i = 0; i < SLOTS; i++) {
        close(place->pipes[i][0]);
        close(place->pipes[i][1]);
    }
    scratch_remove(place->scratch);
    free(place);
    clock_set_source(NULL);
    return 0;
}

static void append_record(struct buf *out, unsigned number, size_t len)
{
    struct uuid id = {{0}};
    memcpy(id.bytes, &number, sizeof number);
    struct buf record = {0};
    buf_printf(&record, "%u:", number);
    while (record.len < len)
        buf_putc(&record, '.');
    assert_true(frames_encode(&id, buf_view(&record), out));
    buf_free(&record);
}

static void write_bytes(struct place *place, unsigned slot, const char *bytes, size_t len)
{
    assert_int_equal(write(place->pipes[slot][1], bytes, len), len);
}

static void write_record(struct place *place, unsigned slot, unsigned number, size_t len)
{
    struct buf out = {0};
    append_record(&out, number, len);
    write_bytes(place, slot, out.data, out.len);
    buf_free(&out);
}

static void take_in(struct place *place, unsigned slot)
{
    struct error error;
    if (spool_splice(place->spool, slot, place->pipes[slot][0], &error) != SPOOL_TAKEN)
        fail_msg("%s", error.message);
}

/* The numbers of all records the spool gives now. */
static const char *drain(struct place *place)
{
    static char seen[8192];
    size_t len = 0;
    struct str record;
    seen[0] = '\0';
    while (spool_next(place->spool, &record)) {
        struct str rest = record;
        struct str number = str_split(&rest, ':');
        len += (size_t)snprintf(seen + len, sizeof seen - len, "%.*s ", STR_ARG(number));
    }
    return seen;
}

static unsigned files(const struct place *place, char name[64])
{
    DIR *stream = opendir(place->directory);
    struct dirent *entry;
    unsigned count = 0;
    while ((entry = readdir(stream)))
        if (entry->d_name[0] != '.') {
            count++;
            if (name)
                snprintf(name, 64, "%.63s", entry->d_name);
        }
    closedir(stream);
    return count;
}

/* The offsets as the store would keep them. */
struct offset {
    char segment[64];
    uint64_t committed;
};

static size_t copy_offsets(struct place *place, struct offset copies[8])
{
    const struct store_offset *offsets;
    size_t count = spool_offsets(place->spool, &offsets);
    for (size_t i = 0; i < count; i++) {
        snprintf(copies[i].segment, sizeof copies[i].segment, "%s", offsets[i].segment);
        copies[i].committed = offsets[i].committed;
    }
    return count;
}

static void each_slot_in_its_order(void **state)
{
    struct place *place = *state;
    for (unsigned i = 0; i < 5; i++) {
        write_record(place, 0, i, 50);
        write_record(place, 2, 10 + i, 9000);
    }
    take_in(place, 0);
    take_in(place, 2);
    assert_string_equal(drain(place), "0 1 2 3 4 10 11 12 13 14 ");
    assert_string_equal(drain(place), "");
    write_record(place, 0, 5, 50);
    take_in(place, 0);
    assert_string_equal(drain(place), "5 ");
}

static void nothing_committed_is_read_again(void **state)
{
    struct place *place = *state;
    write_record(place, 0, 1, 50);
    take_in(place, 0);
    assert_string_equal(drain(place), "1 ");
    reopen(place);
    assert_string_equal(drain(place), "1 ");
}

/* The process dies after it has written to the segment, before the store has it. */
static void goes_on_behind_what_the_store_has(void **state)
{
    struct place *place = *state;
    struct offset kept[8];
    write_record(place, 0, 1, 50);
    write_record(place, 0, 2, 5000);
    write_record(place, 1, 3, 50);
    take_in(place, 0);
    take_in(place, 1);
    assert_string_equal(drain(place), "1 2 3 ");
    size_t count = copy_offsets(place, kept);
    assert_int_equal(count, 2);
    spool_committed(place->spool, 0);
    assert_int_equal(spool_stats(place->spool).pending_bytes, 0);
    write_record(place, 0, 4, 50);
    take_in(place, 0);
    reopen(place);
    for (size_t i = 0; i < count; i++)
        spool_set_offset(place->spool, kept[i].segment, kept[i].committed);
    assert_string_equal(drain(place), "4 ");
}

/* One half of a frame in the segment, the other still in the pipe when the process dies. */
static void a_frame_split_by_a_death(void **state)
{
    struct place *place = *state;
    struct buf out = {0};
    append_record(&out, 7, 300);
    for (size_t cut = 1; cut < out.len; cut += 37) {
        write_bytes(place, 0, out.data, cut);
        take_in(place, 0);
        assert_string_equal(drain(place), "");
        write_bytes(place, 0, out.data + cut, out.len - cut);
        reopen(place);
        assert_string_equal(cut == 1 ? drain(place) : "", "");
        take_in(place, 0);
        const char *seen = drain(place);
        assert_string_equal(seen + strlen(seen) - 2, "7 ");
        assert_int_equal(files(place, NULL), 1);
        assert_int_equal(spool_stats(place->spool).skipped_bytes, 0);
    }
    buf_free(&out);
}

static void a_record_split_by_a_death(void **state)
{
    struct place *place = *state;
    struct buf out = {0};
    append_record(&out, 8, 9000);
    write_bytes(place, 0, out.data, FRAME_MAX);
    take_in(place, 0);
    assert_string_equal(drain(place), "");
    reopen(place);
    assert_string_equal(drain(place), "");
    write_bytes(place, 0, out.data + FRAME_MAX, out.len - FRAME_MAX);
    take_in(place, 0);
    assert_string_equal(drain(place), "8 ");
    buf_free(&out);
}

/* Large and read to its end at a record's boundary: only then a new segment is begun. */
static void rotation_and_deletion(void **state)
{
    struct place *place = *state;
    struct buf out = {0};
    const char *const *gone;
    char first[64], second[64];
    spool_set_segment_bytes(place->spool, 1000);
    append_record(&out, 1, 1500);
    write_bytes(place, 0, out.data, 1400);
    take_in(place, 0);
    drain(place);
    files(place, first);
    write_bytes(place, 0, out.data + 1400, out.len - 1400);
    take_in(place, 0);
    write_record(place, 0, 2, 50);
    take_in(place, 0);
    assert_int_equal(files(place, NULL), 1); /* the rest of record 1 was not read yet */
    assert_string_equal(drain(place), "1 2 ");
    write_record(place, 0, 3, 50);
    take_in(place, 0);
    assert_int_equal(files(place, NULL), 2);
    assert_string_equal(drain(place), "3 ");
    assert_int_equal(files(place, NULL), 2); /* nothing is deleted before the commit */
    assert_int_equal(spool_gone(place->spool, &gone), 0);
    spool_committed(place->spool, 0);
    assert_int_equal(files(place, second), 1);
    assert_string_not_equal(first, second);
    assert_int_equal(spool_gone(place->spool, &gone), 1);
    assert_string_equal(gone[0], first);
    spool_committed(place->spool, 1);
    assert_int_equal(spool_gone(place->spool, &gone), 0);
    buf_free(&out);
}

static void a_record_begun_keeps_its_segment(void **state)
{
    struct place *place = *state;
    struct buf out = {0};
    spool_set_segment_bytes(place->spool, 1000);
    append_record(&out, 1, 9000);
    write_bytes(place, 0, out.data, 2 * FRAME_MAX);
    take_in(place, 0);
    drain(place);
    write_bytes(place, 0, out.data + 2 * FRAME_MAX, out.len - 2 * FRAME_MAX);
    take_in(place, 0);
    assert_int_equal(files(place, NULL), 1);
    assert_string_equal(drain(place), "1 ");
    buf_free(&out);
}

static void several_segments_after_a_restart(void **state)
{
    struct place *place = *state;
    spool_set_segment_bytes(place->spool, 1000);
    for (unsigned i = 0; i < 4; i++) {
        write_record(place, 0, i, 1500);
        take_in(place, 0);
        drain(place);
        wall_ms -= 5000; /* the wall clock goes backwards; the order stays */
    }
    assert_int_equal(files(place, NULL), 4);
    reopen(place);
    assert_string_equal(drain(place), "0 1 2 3 ");
    spool_committed(place->spool, 0);
    assert_int_equal(files(place, NULL), 1);
    write_record(place, 0, 9, 50);
    take_in(place, 0);
    assert_int_equal(files(place, NULL), 1); /* the newest goes on */
    assert_string_equal(drain(place), "9 ");
}

/* The last logger's wall clock was ahead; what is newest stays clear all the same. */
static void segments_from_the_future(void **state)
{
    struct place *place = *state;
    char name[64], from[SCRATCH_PATH], to[SCRATCH_PATH];
    write_record(place, 0, 1, 50);
    take_in(place, 0);
    files(place, name);
    spool_close(&place->spool);
    scratch_path(place->directory, name, from);
    scratch_path(place->directory, "000-7f000000-0000-7000-8000-000000000000.seg", to);
    assert_int_equal(rename(from, to), 0);
    reopen(place);
    spool_set_segment_bytes(place->spool, 10);
    assert_string_equal(drain(place), "1 ");
    write_record(place, 0, 2, 50);
    take_in(place, 0);
    assert_int_equal(files(place, NULL), 2);
    reopen(place);
    assert_string_equal(drain(place), "1 2 ");
}

static void torn_tail_then_a_new_record(void **state)
{
    struct place *place = *state;
    struct buf out = {0};
    append_record(&out, 1, 3000);
    write_bytes(place, 0, out.data, 2000);
    take_in(place, 0);
    assert_string_equal(drain(place), "");
    write_record(place, 0, 2, 50);
    take_in(place, 0);
    assert_string_equal(drain(place), "2 ");
    assert_int_equal(spool_stats(place->spool).skipped_bytes, 2000);
    buf_free(&out);
}

static void the_end_of_a_pipe_is_the_end(void **state)
{
    struct place *place = *state;
    struct error error;
    write_record(place, 0, 1, 50);
    write_bytes(place, 0, "PGF1 half a frame", 17);
    close(place->pipes[0][1]);
    place->pipes[0][1] = -1;
    assert_int_equal(spool_splice(place->spool, 0, place->pipes[0][0], &error), SPOOL_ENDED);
    spool_end(place->spool, 0);
    assert_string_equal(drain(place), "1 ");
    assert_int_equal(spool_stats(place->spool).skipped_bytes, 17);
    assert_int_equal(files(place, NULL), 1);
    spool_committed(place->spool, 0);
    assert_int_equal(files(place, NULL), 0);
}

static void offsets_without_a_file_are_forgotten(void **state)
{
    struct place *place = *state;
    const char *const *gone;
    for (int i = 0; i < 2; i++) { /* told twice, when the store was away in between */
        spool_set_offset(place->spool, "000-01980000-0000-7000-8000-000000000000.seg", 77);
        spool_set_offset(place->spool, "../evil", 77);
    }
    assert_int_equal(spool_gone(place->spool, &gone), 2);
}

/* A power cut took the end of a segment that the store had already: what comes later must not be
 * skipped, not even after one more death. */
static void a_shortened_segment_gets_a_new_name(void **state)
{
    struct place *place = *state;
    struct offset kept[8];
    const char *const *gone;
    char name[64], path[SCRATCH_PATH];
    write_record(place, 0, 1, 2000);
    take_in(place, 0);
    drain(place);
    assert_int_equal(copy_offsets(place, kept), 1);
    files(place, name);
    spool_close(&place->spool);
    assert_int_equal(truncate(scratch_path(place->directory, name, path), 700), 0);

    reopen(place);
    write_record(place, 0, 2, 50);
    take_in(place, 0); /* before the store could be asked */
    spool_set_offset(place->spool, kept[0].segment, kept[0].committed);
    assert_int_equal(spool_gone(place->spool, &gone), 1);
    assert_string_equal(drain(place), "2 ");
    reopen(place);
    spool_set_offset(place->spool, kept[0].segment, kept[0].committed);
    write_record(place, 0, 3, 50);
    take_in(place, 0);
    assert_string_equal(drain(place), "2 3 ");
}

static void slots_that_are_no_more(void **state)
{
    struct place *place = *state;
    struct error error;
    write_record(place, 2, 1, 50);
    take_in(place, 2);
    spool_close(&place->spool);
    assert_true(spool_open(place->directory, 1, &place->spool, &error));
    assert_string_equal(drain(place), "1 ");
    spool_committed(place->spool, 0);
    assert_int_equal(files(place, NULL), 0);
}

static void other_files_are_left_alone(void **state)
{
    struct place *place = *state;
    char path[SCRATCH_PATH];
    close(creat(scratch_path(place->directory, "000-README", path), 0600));
    reopen(place);
    assert_string_equal(drain(place), "");
    assert_int_equal(access(path, F_OK), 0);
}

static void sync_only_what_the_store_lacks(void **state)
{
    struct place *place = *state;
    struct error error;
    assert_false(spool_dirty(place->spool));
    write_record(place, 0, 1, 50);
    take_in(place, 0);
    assert_true(spool_dirty(place->spool));
    assert_true(spool_sync(place->spool, &error));
    assert_false(spool_dirty(place->spool));
    write_record(place, 0, 2, 50);
    take_in(place, 0);
    assert_true(spool_dirty(place->spool));
    drain(place);
    spool_committed(place->spool, 0);
    assert_false(spool_dirty(place->spool));
}

/* A long backlog in one slot does not keep the others waiting. */
static void a_backlog_shares(void **state)
{
    struct place *place = *state;
    struct str record;
    for (unsigned i = 0; i < 600; i++) {
        write_record(place, 0, i, 1000);
        take_in(place, 0);
    }
    write_record(place, 1, 9999, 50);
    take_in(place, 1);
    unsigned before = 0;
    do
        assert_true(spool_next(place->spool, &record) && ++before < 300);
    while (!str_starts(record, STR("9999:")));
    drain(place);
    assert_int_equal(spool_stats(place->spool).skipped_bytes, 0);
}

static void more_than_a_pipe_holds(void **state)
{
    struct place *place = *state;
    struct error error;
    struct buf out = {0};
    unsigned sent = 0, got = 0;
    for (; sent < 3000; sent++) {
        append_record(&out, sent, 100 + sent % 7000);
        while (out.len) {
            ssize_t n = write(place->pipes[1][1], out.data, out.len);
            if (n > 0)
                buf_consume(&out, (size_t)n);
            else
                assert_int_equal(spool_splice(place->spool, 1, place->pipes[1][0], &error),
                                 SPOOL_TAKEN);
        }
        struct str record;
        while (sent % 50 == 0 && spool_next(place->spool, &record)) {
            char expected[16];
            int len = snprintf(expected, sizeof expected, "%u:", got++);
            assert_memory_equal(record.at, expected, (size_t)len);
        }
        if (sent % 100 == 0)
            spool_committed(place->spool, 0);
    }
    take_in(place, 1);
    struct str record;
    while (spool_next(place->spool, &record))
        got++;
    assert_int_equal(got, sent);
    spool_committed(place->spool, 0);
    assert_int_equal(files(place, NULL), 1);
    buf_free(&out);
}

/* All of them are in the spool when it is first read, as after an outage of the store. */
static void records_longer_than_a_turn(void **state)
{
    struct place *place = *state;
    for (unsigned slot = 0; slot < SLOTS; slot += 2) {
        struct buf out = {0};
        append_record(&out, slot, 1000000);
        while (out.len) {
            ssize_t n = write(place->pipes[slot][1], out.data, out.len);
            assert_true(n > 0);
            buf_consume(&out, (size_t)n);
            take_in(place, slot);
        }
        buf_free(&out);
        write_record(place, slot, 10 + slot, 50);
        take_in(place, slot);
    }
    assert_string_equal(drain(place), "0 10 2 12 ");
    assert_string_equal(drain(place), "");
    assert_int_equal(spool_stats(place->spool).skipped_bytes, 0);
}

/* Nobody knows whether the process before has synced what it took. */
static void what_was_there_is_not_synced(void **state)
{
    struct place *place = *state;
    struct error error;
    write_record(place, 0, 1, 50);
    take_in(place, 0);
    reopen(place);
    assert_true(spool_dirty(place->spool));
    assert_true(spool_sync(place->spool, &error));
    assert_false(spool_dirty(place->spool));
}

/* After a failed one, the kernel answers the next fdatasync with success, and has written nothing.
 */
static void a_failed_sync_is_made_up_for(void **state)
{
    struct place *place = *state;
    struct error error;
    struct offset kept[8];
    write_record(place, 0, 1, 300);
    take_in(place, 0);
    assert_true(spool_sync(place->spool, &error));
    for (unsigned i = 2; i < 50; i++) {
        write_record(place, 0, i, 7000);
        take_in(place, 0);
    }
    copy_offsets(place, kept);
    uint64_t pending = spool_stats(place->spool).pending_bytes;
    fdatasync_fails = EIO;
    assert_false(spool_sync(place->spool, &error));
    assert_non_null(strstr(error.message, strerror(EIO)));
    assert_true(spool_dirty(place->spool));
    fdatasync_fails = 0;
    written_again = 0;
    assert_true(spool_sync(place->spool, &error));
    assert_int_equal(written_again, pending - 300 - FRAME_HEAD);
    assert_false(spool_dirty(place->spool));
    const char *seen = drain(place);
    assert_memory_equal(seen, "1 2 3 ", 6);
    assert_string_equal(seen + strlen(seen) - 6, "48 49 ");
    assert_int_equal(spool_stats(place->spool).skipped_bytes, 0);
}

/* A segment whose name might not outlive a power cut is not synced, whatever its bytes are. */
static void a_name_that_cant_be_synced(void **state)
{
    struct place *place = *state;
    struct error error;
    write_record(place, 0, 1, 50);
    fsync_fails = EIO;
    take_in(place, 0);
    for (int i = 0; i < 3; i++) {
        assert_false(spool_sync(place->spool, &error));
        assert_non_null(strstr(error.message, strerror(EIO)));
        assert_true(spool_dirty(place->spool));
    }
    fsync_fails = 0;
    assert_true(spool_sync(place->spool, &error));
    assert_false(spool_dirty(place->spool));
    assert_string_equal(drain(place), "1 ");
    assert_int_equal(files(place, NULL), 1);
}

/* What comes while a sync is under way waits for the next; a segment may even go. */
static void the_spool_goes_on_during_a_sync(void **state)
{
    struct place *place = *state;
    struct error error;
    assert_null(spool_sync_begin(place->spool));
    write_record(place, 0, 1, 50);
    write_record(place, 1, 2, 50);
    take_in(place, 0);
    take_in(place, 1);
    struct spool_sync *sync = spool_sync_begin(place->spool);
    assert_non_null(sync);
    write_record(place, 0, 3, 50);
    take_in(place, 0);
    spool_sync_run(sync);
    assert_true(spool_sync_end(place->spool, &sync, &error));
    assert_null(sync);
    assert_true(spool_dirty(place->spool)); /* record 3 */
    assert_true(spool_sync(place->spool, &error));
    assert_false(spool_dirty(place->spool));

    spool_set_segment_bytes(place->spool, 10);
    write_record(place, 0, 4, 50);
    take_in(place, 0);
    sync = spool_sync_begin(place->spool);
    assert_non_null(sync);
    (void)drain(place);
    spool_committed(place->spool, 0);
    write_record(place, 0, 5, 50);
    take_in(place, 0); /* the next segment: the one before is committed, and deleted */
    (void)drain(place);
    spool_committed(place->spool, 0);
    spool_sync_run(sync);
    assert_true(spool_sync_end(place->spool, &sync, &error));
}

static void write_at(struct place *place, unsigned slot, int64_t began_ms, size_t len)
{
    struct uuid id = {{0}};
    for (int i = 0; i < 6; i++)
        id.bytes[i] = (uint8_t)(began_ms >> (40 - 8 * i));
    struct buf text = {0}, out = {0};
    while (text.len < len)
        buf_putc(&text, 'x');
    assert_true(frames_encode(&id, buf_view(&text), &out));
    write_bytes(place, slot, out.data, out.len);
    buf_free(&text);
    buf_free(&out);
}

static void look(const struct place *place, const struct offset *offsets, size_t count,
                 struct spool_depth *depth)
{
    struct spool_committed_to list[8];
    struct error error;
    for (size_t i = 0; i < count; i++)
        list[i] = (struct spool_committed_to){(char *)(uintptr_t)offsets[i].segment,
                                              offsets[i].committed};
    assert_true(spool_look(place->directory, list, count, depth, &error));
    struct spool_stats stats = spool_stats(place->spool);
    assert_int_equal(depth->segments, stats.segments);
    assert_int_equal(depth->pending_bytes, stats.pending_bytes);
    assert_int_equal(depth->oldest_wall_ms, spool_oldest_wall_ms(place->spool));
}

/* The logger itself and who looks from outside see the same. */
static void how_deep_and_how_old(void **state)
{
    struct place *place = *state;
    struct offset kept[8];
    struct spool_depth depth;
    struct str record;
    look(place, NULL, 0, &depth);
    assert_int_equal(depth.oldest_wall_ms, 0);
    const int64_t base = 1790000000000;
    write_at(place, 1, base + 10, 9000);
    write_at(place, 0, base + 30, 40);
    write_at(place, 1, base + 50, 40);
    take_in(place, 0);
    take_in(place, 1);
    look(place, NULL, 0, &depth);
    assert_int_equal(depth.segments, 2);
    assert_int_equal(depth.oldest_wall_ms, base + 10);
    assert_true(spool_next(place->spool, &record)); /* slot 0's */
    assert_true(spool_next(place->spool, &record)); /* slot 1's first */
    size_t count = copy_offsets(place, kept);
    look(place, NULL, 0, &depth); /* given out isn't committed */
    spool_committed(place->spool, 0);
    look(place, kept, count, &depth);
    assert_int_equal(depth.oldest_wall_ms, base + 50);
    assert_int_equal(depth.pending_bytes, FRAME_HEAD + 40);
    scratch_path(place->scratch, "nothing", place->directory);
    struct error error;
    assert_true(spool_look(place->directory, NULL, 0, &depth, &error));
    assert_int_equal(depth.segments, 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(each_slot_in_its_order),
        TEST(nothing_committed_is_read_again),
        TEST(goes_on_behind_what_the_store_has),
        TEST(a_frame_split_by_a_death),
        TEST(a_record_split_by_a_death),
        TEST(rotation_and_deletion),
        TEST(a_record_begun_keeps_its_segment),
        TEST(several_segments_after_a_restart),
        TEST(segments_from_the_future),
        TEST(torn_tail_then_a_new_record),
        TEST(the_end_of_a_pipe_is_the_end),
        TEST(offsets_without_a_file_are_forgotten),
        TEST(a_shortened_segment_gets_a_new_name),
        TEST(slots_that_are_no_more),
        TEST(other_files_are_left_alone),
        TEST(sync_only_what_the_store_lacks),
        TEST(a_backlog_shares),
        TEST(more_than_a_pipe_holds),
        TEST(records_longer_than_a_turn),
        TEST(what_was_there_is_not_synced),
        TEST(a_failed_sync_is_made_up_for),
        TEST(a_name_that_cant_be_synced),
        TEST(the_spool_goes_on_during_a_sync),
        TEST(how_deep_and_how_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
