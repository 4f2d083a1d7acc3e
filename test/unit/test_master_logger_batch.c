/* Batches with rows that the store refuses, a store that dies in between, and records that can't
 * be read. The store is a fake that keeps what it is given. */
#include "master/logger/batch.h"
#include "shared/record/frame.h"
#include "test/unit/scratch.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { ROWS = 400 };

/* What a store would have made durable. */
struct fake {
    const struct store_driver *driver;
    unsigned char kept[ROWS]; /* times a row was taken */
    uint64_t committed;       /* of the one segment */
    unsigned commits, refusals;
    int64_t refused;      /* requests, by the counts that came with offsets */
    unsigned away_at;     /* answers STORE_AWAY at this call, counted from 1; 0 = never */
    bool refuses_always;  /* also where there are no rows */
    const char *rejected; /* directory: what was refused must be there before the offset moves */
    unsigned poisoned;
};

static unsigned number_of(const struct record *row)
{
    unsigned number;
    memcpy(&number, row->request_id.bytes + 8, sizeof number);
    return number;
}

static unsigned files(const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    unsigned count = 0;
    while (stream && (entry = readdir(stream)))
        count += strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
    if (stream)
        closedir(stream);
    return count;
}

static bool poisonous(const struct record *row)
{
    return str_eq(row->status, STR("poison"));
}

static enum store_result fake_commit(struct store *store, struct store_batch *batch,
                                     struct error *error)
{
    struct fake *fake = (struct fake *)store;
    bool refuse = fake->refuses_always;
    if (++fake->commits == fake->away_at) {
        error_set(error, "gone for a while");
        return STORE_AWAY;
    }
    for (size_t i = 0; i < batch->rows_count; i++)
        refuse = refuse || poisonous(&batch->rows[i]);
    if (refuse) {
        fake->refusals++;
        error_set(error, "not to my taste");
        return STORE_REFUSED;
    }
    for (size_t i = 0; i < batch->rows_count; i++)
        batch->new_rows += fake->kept[number_of(&batch->rows[i])]++ == 0;
    for (size_t i = 0; i < batch->refused_count; i++)
        fake->refused += batch->refused[i].count;
    assert_true(batch->offsets_count > 0 || batch->refused_count == 0);
    for (size_t i = 0; i < batch->offsets_count; i++) {
        fake->committed = batch->offsets[i].committed;
        assert_int_equal(files(fake->rejected), fake->poisoned);
    }
    return STORE_DONE;
}

static enum store_reason fake_reason(const struct store *store)
{
    (void)store;
    return STORE_REASON_other;
}

static const struct store_driver fake_driver = {
    .name = "fake", .commit = fake_commit, .reason = fake_reason};

struct place {
    char state_dir[SCRATCH_PATH], spool_dir[SCRATCH_PATH], rejected_dir[SCRATCH_PATH];
    int pipe[2];
    struct spool *spool;
    struct rejected rejected;
    struct batch batch;
    struct fake fake;
};

static void open_all(struct place *place)
{
    struct error error;
    assert_true(spool_open(place->spool_dir, 1, &place->spool, &error));
    rejected_init(&place->rejected, place->state_dir);
    batch_init(&place->batch, &place->rejected);
}

static void close_all(struct place *place)
{
    batch_free(&place->batch);
    rejected_free(&place->rejected);
    spool_close(&place->spool);
}

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    if (!scratch_make(place->state_dir) || pipe2(place->pipe, O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    scratch_path(place->state_dir, "spool", place->spool_dir);
    scratch_path(place->state_dir, "rejected", place->rejected_dir);
    place->fake = (struct fake){.driver = &fake_driver, .rejected = place->rejected_dir};
    open_all(place);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    close_all(place);
    close(place->pipe[0]);
    close(place->pipe[1]);
    scratch_remove(place->state_dir);
    free(place);
    return 0;
}

static void write_frames(struct place *place, const struct uuid *id, struct str record)
{
    struct buf frames = {0};
    struct error error;
    assert_true(frames_encode(id, record, &frames));
    assert_int_equal(write(place->pipe[1], frames.data, frames.len), frames.len);
    assert_int_equal(spool_splice(place->spool, 0, place->pipe[0], &error), SPOOL_TAKEN);
    buf_free(&frames);
}

static struct uuid id_of(unsigned number)
{
    struct uuid id = {{1, 2, 3}};
    memcpy(id.bytes + 8, &number, sizeof number);
    return id;
}

static void send_row(struct place *place, unsigned number, bool poison)
{
    struct record row;
    struct buf bytes = {0};
    record_init(&row);
    row.request_id = id_of(number);
    row.created_at = 1790000000042;
    row.streamed = 0;
    row.http_status = 200;
    row.status = poison ? STR("poison") : STR("ok");
    row.error_message = STR("tab\t\"quote\"");
    record_encode(&row, &bytes);
    write_frames(place, &row.request_id, buf_view(&bytes));
    place->fake.poisoned += poison;
    buf_free(&bytes);
}

/* Until the batch is empty or the store is away. */
static enum store_result commit(struct place *place, uint64_t *new_rows)
{
    struct error error;
    enum store_result result;
    unsigned calls = 0;
    do {
        assert_true(++calls < 10000);
        result = batch_commit(&place->batch, place->spool, (struct store *)&place->fake, &error);
        if (result == STORE_DONE)
            *new_rows += place->batch.request.new_rows;
    } while (result == STORE_DONE && place->batch.submitted);
    return result;
}

static void assert_once(const struct place *place, unsigned rows, const bool *poison)
{
    for (unsigned i = 0; i < rows; i++)
        if (place->fake.kept[i] != !(poison && poison[i]))
            fail_msg("row %u is there %u times", i, place->fake.kept[i]);
}

static void commits_in_one_go(void **state)
{
    struct place *place = *state;
    uint64_t new_rows = 0;
    for (unsigned i = 0; i < 100; i++)
        send_row(place, i, false);
    batch_fill(&place->batch, place->spool);
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    assert_int_equal(new_rows, 100);
    assert_int_equal(place->fake.commits, 1);
    assert_int_equal(spool_stats(place->spool).pending_bytes, 0);
    assert_once(place, 100, NULL);
}

static void one_poisonous_row_anywhere(void **state)
{
    struct place *place = *state;
    for (unsigned at = 0; at < 37; at++) {
        bool poison[37] = {false};
        uint64_t new_rows = 0;
        poison[at] = true;
        memset(place->fake.kept, 0, sizeof place->fake.kept);
        place->fake.poisoned = at; /* earlier rounds' files */
        for (unsigned i = 0; i < 37; i++)
            send_row(place, i, poison[i]);
        assert_true(batch_fill(&place->batch, place->spool) || place->batch.count == 37);
        assert_int_equal(commit(place, &new_rows), STORE_DONE);
        assert_int_equal(new_rows, 36);
        assert_int_equal(place->batch.count, 0);
        assert_once(place, 37, poison);
        assert_int_equal(place->rejected.count, at + 1);
        assert_int_equal(spool_stats(place->spool).pending_bytes, 0);
    }
}

/* "halved until the one row is alone": not one by one. */
static void few_commits_for_one_row(void **state)
{
    struct place *place = *state;
    uint64_t new_rows = 0;
    for (unsigned i = 0; i < ROWS; i++)
        send_row(place, i, i == 300);
    batch_fill(&place->batch, place->spool);
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    assert_int_equal(new_rows, ROWS - 1);
    assert_true(place->fake.commits < 50);
    assert_true(place->fake.refusals < 25);
}

static void many_and_nothing_but_poison(void **state)
{
    struct place *place = *state;
    bool poison[ROWS];
    uint64_t new_rows = 0;
    for (unsigned i = 0; i < ROWS; i++) {
        poison[i] = i % 3 == 0 || i < 20 || i > ROWS - 20;
        send_row(place, i, poison[i]);
    }
    batch_fill(&place->batch, place->spool);
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    assert_once(place, ROWS, poison);
    assert_int_equal(files(place->rejected_dir), place->fake.poisoned);
    assert_int_equal(new_rows, ROWS - place->fake.poisoned);
}

/* The store goes away at each call in turn; then the same batch goes on, or another process reads
 * all of it again: both end with each row once, in the store or set aside. */
static void away_at_each_call(void **state)
{
    struct place *place = *state;
    bool poison[23] = {[0] = true, [9] = true, [10] = true, [22] = true};
    for (unsigned round = 0; round < 80; round++) {
        uint64_t new_rows = 0;
        memset(place->fake.kept, 0, sizeof place->fake.kept);
        place->fake.commits = place->fake.poisoned = 0;
        place->fake.committed = UINT64_MAX;
        place->fake.away_at = round / 2 + 1;
        for (unsigned i = 0; i < 23; i++)
            send_row(place, i, poison[i]);
        batch_fill(&place->batch, place->spool);
        enum store_result result = commit(place, &new_rows);
        if (result == STORE_AWAY) {
            assert_int_equal(place->fake.committed, UINT64_MAX);
            if (round % 2) {
                close_all(place);
                open_all(place);
                batch_fill(&place->batch, place->spool);
            }
            result = commit(place, &new_rows);
        }
        assert_int_equal(result, STORE_DONE);
        assert_int_equal(new_rows, 19);
        for (unsigned i = 0; i < 23; i++)
            assert_int_equal(place->fake.kept[i] > 0, !poison[i]);
        assert_int_equal(files(place->rejected_dir), 4);
        close_all(place);
        scratch_remove(place->spool_dir);
        scratch_remove(place->rejected_dir);
        open_all(place);
    }
}

/* A refusal where there is no row to blame must not lose anything, nor end. */
static void a_store_that_refuses_everything(void **state)
{
    struct place *place = *state;
    uint64_t new_rows = 0;
    place->fake.refuses_always = true;
    send_row(place, 0, false);
    send_row(place, 1, false);
    batch_fill(&place->batch, place->spool);
    assert_int_equal(commit(place, &new_rows), STORE_AWAY);
    assert_int_equal(files(place->rejected_dir), 2);
    place->fake.refuses_always = false;
    place->fake.poisoned = 2;
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    assert_int_equal(spool_stats(place->spool).pending_bytes, 0);
}

static void send_count(struct place *place, int64_t count)
{
    struct buf bytes = {0};
    struct uuid id = id_of(999);
    const struct refused refused = {60000, STR("unauthorized"), STR("unix"), STR("host"), count};
    refused_encode(&refused, &bytes);
    write_frames(place, &id, buf_view(&bytes));
    buf_free(&bytes);
}

/* They are added to what is there, so they come once, whatever becomes of the rows beside them and
 * wherever the store goes away. */
static void counts_are_added_once(void **state)
{
    struct place *place = *state;
    for (unsigned round = 0; round < 60; round++) {
        uint64_t new_rows = 0;
        place->fake.commits = place->fake.poisoned = 0;
        place->fake.refused = 0;
        place->fake.away_at = round / 2 + 1;
        send_count(place, 1000);
        for (unsigned i = 0; i < 9; i++)
            send_row(place, i, i == 4 || i == 8);
        send_count(place, 7);
        batch_fill(&place->batch, place->spool);
        if (commit(place, &new_rows) == STORE_AWAY) {
            assert_int_equal(place->fake.refused, 0);
            if (round % 2) {
                close_all(place);
                open_all(place);
                batch_fill(&place->batch, place->spool);
            }
            assert_int_equal(commit(place, &new_rows), STORE_DONE);
        }
        assert_int_equal(place->fake.refused, 1007);
        assert_int_equal(spool_stats(place->spool).pending_bytes, 0);
        close_all(place);
        scratch_remove(place->spool_dir);
        scratch_remove(place->rejected_dir);
        open_all(place);
    }
    send_count(place, 5);
    batch_fill(&place->batch, place->spool);
    uint64_t new_rows = 0;
    place->fake.away_at = place->fake.poisoned = 0;
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    assert_int_equal(place->fake.refused, 1012);
    assert_int_equal(new_rows, 0);
}

static char *read_whole(const char *directory, const char *name, size_t *len)
{
    char path[SCRATCH_PATH];
    FILE *file = fopen(scratch_path(directory, name, path), "r");
    assert_non_null(file);
    char *text = calloc(1, 65536);
    *len = fread(text, 1, 65535, file);
    fclose(file);
    return text;
}

static void what_is_in_the_file(void **state)
{
    struct place *place = *state;
    uint64_t new_rows = 0;
    char name[64], id[UUID_TEXT_LEN + 1];
    size_t len;
    send_row(place, 7, true);
    batch_fill(&place->batch, place->spool);
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    struct uuid seven = id_of(7);
    snprintf(name, sizeof name, "%s.json", uuid_format(&seven, id));
    char *text = read_whole(place->rejected_dir, name, &len);
    assert_non_null(strstr(text, "\"reason\":\"not to my taste\""));
    assert_non_null(strstr(text, id));
    assert_non_null(strstr(text, "\"created_at\":\"2026-09-21T14:13:20.042Z\""));
    assert_non_null(strstr(text, "\"error_message\":\"tab\\t\\\"quote\\\"\""));
    assert_non_null(strstr(text, "\"streamed\":false"));
    assert_non_null(strstr(text, "\"http_status\":200"));
    assert_non_null(strstr(text, "\"model\":null"));
    for (size_t i = 0; i < record_columns_count; i++)
        assert_non_null(strstr(text, record_columns[i].name));
    struct stat status;
    char path[SCRATCH_PATH];
    assert_int_equal(stat(scratch_path(place->rejected_dir, name, path), &status), 0);
    assert_int_equal(status.st_mode & 0007, 0);
    free(text);
}

static void a_record_that_cant_be_read(void **state)
{
    struct place *place = *state;
    static const char bytes[] = "no record at all";
    uint64_t new_rows = 0;
    struct uuid id = id_of(3);
    size_t len;
    send_row(place, 0, false);
    write_frames(place, &id, STR(bytes));
    write_frames(place, &id, STR(bytes));
    send_row(place, 1, false);
    place->fake.poisoned = 1;
    batch_fill(&place->batch, place->spool);
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    assert_int_equal(new_rows, 2);
    assert_int_equal(place->rejected.count, 1); /* the same bytes twice */
    /* sha256sum's first half */
    char *text = read_whole(place->rejected_dir, "bcee28d2f25de5fe253a6a25c5697273.bin", &len);
    assert_int_equal(len, sizeof bytes - 1);
    assert_memory_equal(text, bytes, len);
    assert_int_equal(spool_stats(place->spool).pending_bytes, 0);
    free(text);
}

/* The spool waits behind what can't be set aside. */
static void no_room_to_set_aside(void **state)
{
    struct place *place = *state;
    uint64_t new_rows = 0;
    send_row(place, 0, false);
    send_row(place, 1, true);
    send_row(place, 2, false);
    int fd = creat(place->rejected_dir, 0600); /* a file where the directory belongs */
    close(fd);
    batch_fill(&place->batch, place->spool);
    assert_int_equal(commit(place, &new_rows), STORE_AWAY);
    assert_true(place->batch.stuck);
    assert_true(spool_stats(place->spool).pending_bytes > 0);
    assert_int_equal(commit(place, &new_rows), STORE_AWAY);
    assert_int_equal(unlink(place->rejected_dir), 0);
    assert_int_equal(commit(place, &new_rows), STORE_DONE);
    assert_false(place->batch.stuck);
    assert_int_equal(new_rows, 2);
    assert_int_equal(place->rejected.count, 1);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(commits_in_one_go),
        TEST(one_poisonous_row_anywhere),
        TEST(few_commits_for_one_row),
        TEST(many_and_nothing_but_poison),
        TEST(counts_are_added_once),
        TEST(away_at_each_call),
        TEST(a_store_that_refuses_everything),
        TEST(what_is_in_the_file),
        TEST(a_record_that_cant_be_read),
        TEST(no_room_to_set_aside),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
