#include "shared/counters/shm.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

struct place {
    char directory[64];
    char path[96], fresh[96];
    struct error error;
};

static int set_up(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    strcpy(place->directory, "/tmp/counters-XXXXXX");
    if (!mkdtemp(place->directory))
        return -1;
    snprintf(place->path, sizeof place->path, "%s/counters", place->directory);
    snprintf(place->fresh, sizeof place->fresh, "%s/counters.new", place->directory);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    unlink(place->path);
    int result = rmdir(place->directory); /* nothing else was left there */
    free(place);
    return result;
}

static struct counters create(struct place *place, unsigned workers)
{
    struct counters counters = {0};
    if (!counters_create(&counters, place->path, workers, &place->error))
        fail_msg("%s", place->error.message);
    return counters;
}

static struct stat status_of(const char *path)
{
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    return status;
}

static void expect_zero(const struct counters *counters, unsigned workers)
{
    assert_int_equal(counters->header->workers, workers);
    assert_int_equal(atomic_load(&counters->header->logged_rows), 0);
    assert_int_equal(atomic_load(&counters->header->master_pid), 0);
    for (unsigned i = 0; i < workers; i++) {
        assert_int_equal(atomic_load(&counters->workers[i].requests), 0);
        assert_int_equal(atomic_load(&counters->workers[i].state), SHM_SLOT_FREE);
    }
}

static void makes_a_new_file(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 3);
    expect_zero(&counters, 3);
    assert_int_equal(counters.header->layout, SHM_LAYOUT);
    size_t parts =
        sizeof(struct shm_header) +
        3 * (sizeof(struct shm_worker) + SHM_REQUESTS_PER_SLOT * sizeof(struct shm_request));
    assert_true(counters.size_bytes >= parts && counters.size_bytes < parts + 4096);
    assert_int_equal((uintptr_t)counters_requests(&counters, 1) % _Alignof(struct shm_request), 0);
    assert_int_equal(atomic_load(&counters.header->accounts), 0);
    struct stat status = status_of(place->path);
    assert_int_equal((size_t)status.st_size, counters.size_bytes);
    assert_int_equal(status.st_mode & 0137, 0); /* nothing for others */
    counters_close(&counters);
    assert_null(counters.header);
    counters_close(&counters); /* once more does no harm */
}

/* Allocated: a page that is written first when the disk is full would be SIGBUS. Tables are when a
 * slot is used first. */
static void leaves_no_holes(void **state)
{
    enum { TABLE_BYTES = SHM_REQUESTS_PER_SLOT * sizeof(struct shm_request) };
    struct place *place = *state;
    struct counters counters = create(place, 3);
    assert_true(status_of(place->path).st_blocks * 512 < TABLE_BYTES);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(atomic_load(&counters.workers[i].has_table), 0);
        assert_true(counters_allot_table(&counters, i, &place->error));
        assert_int_equal(atomic_load(&counters.workers[i].has_table), 1);
        assert_true(counters_allot_table(&counters, i, &place->error));
    }
    struct stat status = status_of(place->path);
    assert_true(status.st_blocks * 512 >= status.st_size);
    counters_close(&counters);
}

static void takes_over_its_own(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 2);
    atomic_store(&counters.workers[1].requests, 41);
    atomic_store(&counters.header->logged_rows, 7);
    ino_t inode = status_of(place->path).st_ino;
    counters_close(&counters);
    counters = create(place, 2);
    assert_int_equal(atomic_load(&counters.workers[1].requests), 41);
    assert_int_equal(atomic_load(&counters.header->logged_rows), 7);
    assert_int_equal(status_of(place->path).st_ino, inode);
    counters_close(&counters);
}

/* Two mappings of one file see each other's counts, in another process, too. */
static void is_shared(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 1), other = create(place, 1);
    atomic_fetch_add(&counters.workers[0].rows, 5);
    assert_int_equal(atomic_load(&other.workers[0].rows), 5);
    pid_t child = fork();
    if (child == 0) {
        atomic_fetch_add(&counters.workers[0].rows, 1);
        _exit(0);
    }
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(atomic_load(&other.workers[0].rows), 6);
    counters_close(&counters);
    counters_close(&other);
}

/* What was counted stays; the old file's users (a worker that outlived its master) keep theirs. */
static void more_slots_carry_over(void **state)
{
    struct place *place = *state;
    struct counters old = create(place, 2), counters;
    assert_true(counters_grow(&old, 3, &place->error));
    assert_true(counters_allot_table(&old, 1, &place->error));
    atomic_store(&old.workers[1].requests, 9);
    atomic_store(&old.workers[1].entries, SHM_REQUESTS_PER_SLOT);
    atomic_store(&counters_requests(&old, 1)[SHM_REQUESTS_PER_SLOT - 1].state, REQUEST_SENT);
    atomic_store(&old.accounts[2].key, 77);
    atomic_store(&old.header->logged_rows, 5);
    counters = create(place, 5);
    assert_int_equal(counters.header->workers, 5);
    assert_int_equal(atomic_load(&counters.header->accounts), 3);
    assert_int_equal(atomic_load(&counters.header->logged_rows), 5);
    assert_int_equal(atomic_load(&counters.workers[1].requests), 9);
    assert_int_equal(atomic_load(&counters.workers[2].requests), 0);
    assert_int_equal(atomic_load(&counters_requests(&counters, 1)[SHM_REQUESTS_PER_SLOT - 1].state),
                     REQUEST_SENT);
    assert_int_equal(atomic_load(&counters.workers[0].has_table), 0);
    assert_int_equal(atomic_load(&counters.workers[1].has_table), 1);
    assert_int_equal(atomic_load(&counters.accounts[2].key), 77);
    atomic_fetch_add(&old.workers[1].requests, 1);
    assert_int_equal(atomic_load(&counters.workers[1].requests), 9);
    counters_close(&counters);
    counters_close(&old);
    counters = create(place, 1); /* there are never fewer */
    assert_int_equal(counters.header->workers, 5);
    assert_int_equal(atomic_load(&counters.workers[1].requests), 9);
    counters_close(&counters);
}

/* Growing keeps what is there, and who has mapped the file before goes on with what there was. */
static void accounts_grow(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 1), before = {0};
    assert_true(counters_grow(&counters, 2, &place->error));
    atomic_store(&counters.accounts[1].key, 11);
    atomic_store(&counters.workers[0].rows, 4);
    assert_true(counters_open(&before, place->path, &place->error));
    assert_true(counters_grow(&counters, 5000, &place->error));
    assert_int_equal(atomic_load(&counters.header->accounts), 5000);
    assert_int_equal(atomic_load(&counters.accounts[1].key), 11);
    assert_int_equal(atomic_load(&counters.accounts[4999].key), 0);
    atomic_store(&counters.accounts[4999].key, 12);
    /* Who has mapped it before sees what came then, as far as the addresses go. */
    assert_int_equal(atomic_load(&before.accounts[4999].key), 12);
    atomic_store(&counters.accounts[1].key, 13);
    atomic_store(&counters.workers[0].rows, 5);
    assert_int_equal(atomic_load(&before.accounts[1].key), 13);
    assert_int_equal(atomic_load(&before.workers[0].rows), 5);
    assert_true(counters_grow(&counters, 10, &place->error)); /* less is no change */
    assert_int_equal(atomic_load(&counters.header->accounts), 5000);
    uint32_t mapped = counters_accounts_mapped(&counters);
    assert_true(counters_grow(&counters, mapped + 1, &place->error));
    assert_true(counters_accounts_mapped(&counters) > mapped);
    atomic_store(&counters.accounts[mapped].key, 14);
    assert_int_equal(atomic_load(&counters.accounts[4999].key), 12);
    counters_close(&before);
    counters_close(&counters);
    counters = create(place, 1);
    assert_int_equal(atomic_load(&counters.accounts[4999].key), 12);
    counters_close(&counters);
}

/* A master that was killed while it made room leaves a file that is longer than it says. */
static void a_longer_file_is_taken_over(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 1);
    atomic_store(&counters.workers[0].requests, 41);
    counters_close(&counters);
    assert_int_equal(truncate(place->path, status_of(place->path).st_size + 4096), 0);
    counters = create(place, 1);
    assert_int_equal(atomic_load(&counters.workers[0].requests), 41);
    counters_close(&counters);
}

static void overwrite(const char *path, off_t offset, const void *bytes, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, len, offset), (ssize_t)len);
    close(fd);
}

/* A header whose bytes at `offset` are others: refused by readers, made anew by the master. */
static void expect_distrust(struct place *place, size_t offset, const void *bytes, size_t len)
{
    struct counters counters = create(place, 2), reader;
    atomic_store(&counters.workers[0].requests, 3);
    counters_close(&counters);
    overwrite(place->path, (off_t)offset, bytes, len);
    assert_false(counters_open(&reader, place->path, &place->error));
    assert_non_null(strstr(place->error.message, "not a counters file of this version and boot"));
    counters = create(place, 2);
    expect_zero(&counters, 2);
    counters_close(&counters);
}

static void other_headers_are_made_anew(void **state)
{
    struct place *place = *state;
    uint32_t layout = SHM_LAYOUT + 1, workers = 3, accounts = 1;
    expect_distrust(place, offsetof(struct shm_header, magic), "pgcounT", 8);
    expect_distrust(place, offsetof(struct shm_header, layout), &layout, sizeof layout);
    expect_distrust(place, offsetof(struct shm_header, workers), &workers, sizeof workers);
    expect_distrust(place, offsetof(struct shm_header, accounts), &accounts, sizeof accounts);
    expect_distrust(place, offsetof(struct shm_header, boot_id), "00000000-0000-0000", 18);
}

static void other_files_are_made_anew(void **state)
{
    struct place *place = *state;
    struct counters counters;
    overwrite(place->path, 0, "hello", 5);
    counters = create(place, 1);
    expect_zero(&counters, 1);
    counters_close(&counters);
    assert_int_equal(truncate(place->path, sizeof(struct shm_header) - 1), 0);
    counters = create(place, 1);
    expect_zero(&counters, 1);
    counters_close(&counters);
    unlink(place->path);
    assert_int_equal(mkfifo(place->path, 0600), 0);
    counters = create(place, 1);
    expect_zero(&counters, 1);
    counters_close(&counters);
}

/* A master that was killed while it made the file leaves the half of one under the other name. */
static void a_left_over_is_no_obstacle(void **state)
{
    struct place *place = *state;
    struct counters counters;
    overwrite(place->fresh, 0, "half", 4);
    counters = create(place, 1);
    expect_zero(&counters, 1);
    assert_int_not_equal(access(place->fresh, F_OK), 0);
    counters_close(&counters);
}

static void cannot_be_made(void **state)
{
    struct place *place = *state;
    struct counters counters;
    char path[128];
    snprintf(path, sizeof path, "%s/missing/counters", place->directory);
    assert_false(counters_create(&counters, path, 1, &place->error));
    assert_non_null(strstr(place->error.message, "No such file or directory"));
    assert_non_null(strstr(place->error.message, path));
    assert_int_equal(mkdir(place->path, 0700), 0);
    assert_false(counters_create(&counters, place->path, 1, &place->error));
    assert_non_null(strstr(place->error.message, "Is a directory"));
    assert_int_not_equal(access(place->fresh, F_OK), 0);
    assert_int_equal(rmdir(place->path), 0);
}

/* Another master's, by a descriptor of the same file. */
static struct counters join(struct place *place, const struct counters *first)
{
    struct counters joined = {0};
    int fd = fcntl(first->fd, F_DUPFD_CLOEXEC, 0);
    if (!counters_join(&joined, fd, &place->error))
        fail_msg("%s", place->error.message);
    assert_int_equal(joined.fd, fd);
    return joined;
}

static void a_second_master_joins(void **state)
{
    struct place *place = *state;
    struct counters first = create(place, 3);
    assert_true(counters_grow(&first, 4, &place->error));
    atomic_store(&first.workers[2].rows, 5);
    struct counters second = join(place, &first);
    assert_int_equal(second.header->workers, 3);
    assert_int_equal(second.size_bytes, first.size_bytes);
    assert_int_equal(atomic_load(&second.workers[2].rows), 5);
    assert_true(counters_allot_table(&second, 2, &place->error));
    assert_int_equal(atomic_load(&first.workers[2].has_table), 1);
    atomic_store(&counters_requests(&second, 2)[7].state, REQUEST_OPEN);
    assert_int_equal(atomic_load(&counters_requests(&first, 2)[7].state), REQUEST_OPEN);
    atomic_store(&first.accounts[3].key, 9);
    assert_int_equal(atomic_load(&second.accounts[3].key), 9);
    counters_close(&second);
    assert_int_equal(atomic_load(&first.accounts[3].key), 9);
    counters_close(&first);
}

static void who_joins_refuses_what_is_none(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 1), joined = {0};
    uint32_t layout = SHM_LAYOUT + 1;
    counters_close(&counters);
    overwrite(place->path, offsetof(struct shm_header, layout), &layout, sizeof layout);
    int fd = open(place->path, O_RDWR | O_CLOEXEC);
    assert_false(counters_join(&joined, fd, &place->error));
    assert_string_equal(place->error.message,
                        "the counters file has another layout: restart needed");
    assert_null(joined.header);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_false(counters_join(&joined, fd, &place->error));
    close(fd);
    assert_false(counters_join(&joined, fd, &place->error));
    assert_null(joined.header);
}

/* The first master goes on with what the second one made room for. */
static void room_that_another_made_is_seen(void **state)
{
    struct place *place = *state;
    struct counters first = create(place, 1), second = join(place, &first);
    assert_true(counters_grow(&second, 300, &place->error));
    atomic_store(&second.accounts[299].key, 21);
    counters_close(&second);
    assert_true(counters_look_again(&first, &place->error));
    assert_int_equal(first.size_bytes, status_of(place->path).st_size);
    assert_int_equal(atomic_load(&first.accounts[299].key), 21);
    assert_true(counters_grow(&first, 310, &place->error));
    assert_int_equal(atomic_load(&first.accounts[299].key), 21);
    assert_int_equal(atomic_load(&first.header->accounts), 310);
    counters_close(&first);
}

/* Beyond the addresses that the first one had. */
static void more_room_than_was_mapped_is_seen(void **state)
{
    struct place *place = *state;
    struct counters first = create(place, 1), second = join(place, &first);
    uint32_t mapped = counters_accounts_mapped(&first);
    assert_true(counters_grow(&second, mapped + 100, &place->error));
    atomic_store(&second.accounts[mapped + 99].key, 22);
    counters_close(&second);
    assert_true(counters_look_again(&first, &place->error));
    assert_true(counters_accounts_mapped(&first) > mapped + 100);
    assert_int_equal(atomic_load(&first.accounts[mapped + 99].key), 22);
    counters_close(&first);
}

static void readers_see_it_live(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 2), reader = {0};
    if (!counters_open(&reader, place->path, &place->error))
        fail_msg("%s", place->error.message);
    assert_int_equal(reader.header->workers, 2);
    atomic_store(&counters.workers[1].rows, 12);
    assert_int_equal(atomic_load(&reader.workers[1].rows), 12);
    counters_close(&reader);
    counters_close(&counters);
}

/* A write through a reader's mapping ends the process. */
static void readers_cannot_write(void **state)
{
    struct place *place = *state;
    struct counters counters = create(place, 1), reader;
    int status;
    assert_true(counters_open(&reader, place->path, &place->error));
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        atomic_store(&reader.workers[0].rows, 1);
        _exit(0);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), SIGSEGV);
    counters_close(&reader);
    counters_close(&counters);
}

static void readers_refuse_what_is_none(void **state)
{
    struct place *place = *state;
    struct counters reader = {0};
    assert_false(counters_open(&reader, place->path, &place->error));
    assert_non_null(strstr(place->error.message, "No such file or directory"));
    assert_false(counters_open(&reader, place->directory, &place->error));
    assert_non_null(strstr(place->error.message, "is not a counters file"));
    overwrite(place->path, 0, "", 0);
    assert_false(counters_open(&reader, place->path, &place->error));
    assert_non_null(strstr(place->error.message, "is not a counters file"));
    overwrite(place->path, 0, "some text", 9);
    assert_false(counters_open(&reader, place->path, &place->error));
    assert_non_null(strstr(place->error.message, "is not a counters file"));
    assert_null(reader.header);
}

/* What one worker writes all the time shares no cache line with another's. */
static void slots_lie_apart(void **state)
{
    (void)state;
    assert_int_equal(sizeof(struct shm_worker) % 128, 0);
    assert_int_equal(sizeof(struct shm_header) % 128, 0);
    assert_true(atomic_is_lock_free(&((struct shm_worker *)NULL)->rows));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(makes_a_new_file),
        TEST(leaves_no_holes),
        TEST(takes_over_its_own),
        TEST(is_shared),
        TEST(more_slots_carry_over),
        TEST(accounts_grow),
        TEST(a_longer_file_is_taken_over),
        TEST(other_headers_are_made_anew),
        TEST(other_files_are_made_anew),
        TEST(a_left_over_is_no_obstacle),
        TEST(cannot_be_made),
        TEST(a_second_master_joins),
        TEST(who_joins_refuses_what_is_none),
        TEST(room_that_another_made_is_seen),
        TEST(more_room_than_was_mapped_is_seen),
        TEST(readers_see_it_live),
        TEST(readers_cannot_write),
        TEST(readers_refuse_what_is_none),
        cmocka_unit_test(slots_lie_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
