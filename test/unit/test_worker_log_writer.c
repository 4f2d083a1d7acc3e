#include "shared/record/frame.h"
#include "worker/log_writer.h"

#include <fcntl.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#if defined __SANITIZE_ADDRESS__
size_t __sanitizer_get_current_allocated_bytes(void); /* gcc 12 ships no header for it */
#endif

/* A writer, its pipe, and the reader at the pipe's other end. Writers live as long as their
 * process, so what one has lies in static memory. */
static struct log_test {
    uv_loop_t loop;
    struct log_writer *writer;
    int pipe[2];
    struct shm_worker counts;
    struct shm_request *table;
    struct requests requests;
    struct buf read;
    struct frame_reader frames;
    unsigned emptied;
    unsigned next_read; /* the row that is expected next */
    char text[20000];
} tests_memory[16];

static unsigned tests_begun;

static void on_emptied(void *context)
{
    struct log_test *test = context;
    test->emptied++;
    assert_true(log_writer_is_empty(test->writer));
}

static int set_up_with(void **state, size_t queue_max)
{
    struct log_test *test = &tests_memory[tests_begun++];
    signal(SIGPIPE, SIG_IGN);
    uv_loop_init(&test->loop);
    if (pipe2(test->pipe, O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    fcntl(test->pipe[1], F_SETPIPE_SZ, 16 * 1024);
    test->table = aligned_alloc(128, SHM_REQUESTS_PER_SLOT * sizeof *test->table);
    memset((void *)test->table, 0, SHM_REQUESTS_PER_SLOT * sizeof *test->table);
    requests_init(&test->requests, &test->counts, test->table);
    test->writer =
        log_writer_new(&test->loop, test->pipe[1], queue_max, &test->requests, on_emptied, test);
    memset(test->text, 'x', sizeof test->text);
    *state = test;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, 1 << 20);
}

static int tear_down(void **state)
{
    struct log_test *test = *state;
    if (test->pipe[0] >= 0)
        close(test->pipe[0]);
    buf_free(&test->read);
    frame_reader_free(&test->frames);
    requests_deinit(&test->requests);
    free(test->table);
    return 0;
}

/* A request that has come to its record. */
static struct shm_request *recorded(struct log_test *test, const struct uuid *id)
{
    struct request_opening opening = {.id = *id, .project = 1, .token = 2};
    struct shm_request *request = requests_open(&test->requests, &opening);
    assert_non_null(request);
    requests_record(&test->requests, request,
                    &(struct request_outcome){
                        .status = STR("ok"), .http_status = 200, .bytes_in = 99, .latency_us = 0});
    return request;
}

static void push(struct log_test *test, unsigned number, size_t text_len)
{
    struct record record;
    record_init(&record);
    record.request_id = uuid_v7(1795000000000 + number);
    record.worker = number;
    record.error_message = (struct str){test->text, text_len};
    log_writer_push(test->writer, &record, recorded(test, &record.request_id));
}

static void turn(struct log_test *test)
{
    uv_run(&test->loop, UV_RUN_NOWAIT);
}

/* What the pipe holds goes to the reader's memory; the number of bytes. */
static size_t read_some(struct log_test *test, size_t most)
{
    ssize_t got = read(test->pipe[0], buf_reserve(&test->read, most), most);
    if (got <= 0)
        return 0;
    test->read.len += (size_t)got;
    return (size_t)got;
}

static void expect_next_rows(struct log_test *test, size_t text_len)
{
    struct str record_bytes;
    size_t consumed;
    while (frame_reader_next(&test->frames, buf_view(&test->read), &consumed, &record_bytes) ==
           FRAME_RECORD) {
        struct record record;
        struct error error;
        assert_true(record_decode(record_bytes, &record, &error));
        assert_int_equal(record.worker, test->next_read++);
        assert_int_equal(record.error_message.len, text_len);
        buf_consume(&test->read, consumed);
    }
    buf_consume(&test->read, consumed);
    assert_int_equal(test->frames.skipped_bytes, 0);
    assert_int_equal(test->frames.torn_records, 0);
}

/* Reads in pieces of `most` bytes while the writer goes on, until it has nothing left. */
static void drain(struct log_test *test, size_t most, size_t text_len)
{
    for (unsigned idle = 0; idle < 3;) {
        turn(test);
        idle = read_some(test, most) ? 0 : idle + 1;
        expect_next_rows(test, text_len);
    }
}

static void goes_straight_into_the_pipe(void **state)
{
    struct log_test *test = *state;
    push(test, 0, 100);
    assert_true(log_writer_is_empty(test->writer));
    assert_false(log_writer_is_full(test->writer));
    assert_true(read_some(test, 4096) > 0);
    expect_next_rows(test, 100);
    assert_int_equal(test->next_read, 1);
    turn(test);
    assert_int_equal(test->emptied, 0); /* it was never anything else */
}

static void record_of_many_frames(void **state)
{
    struct log_test *test = *state;
    push(test, 0, 15000);
    drain(test, 1 << 16, 15000);
    assert_int_equal(test->next_read, 1);
}

static void backlog_keeps_order(void **state)
{
    struct log_test *test = *state;
    enum { ROWS = 400, TEXT = 900 };
    for (unsigned i = 0; i < ROWS; i++)
        push(test, i, TEXT);
    assert_false(log_writer_is_empty(test->writer));
    turn(test);
    assert_int_equal(test->emptied, 0);
    drain(test, 3000, TEXT);
    assert_int_equal(test->next_read, ROWS);
    assert_true(log_writer_is_empty(test->writer));
    assert_int_equal(test->emptied, 1);
}

/* New records behind a backlog that is going out: none is lost, none overtakes. */
static void pushed_while_it_waits(void **state)
{
    struct log_test *test = *state;
    enum { ROWS = 2000, TEXT = 700 };
    for (unsigned i = 0; i < ROWS; i++) {
        push(test, i, TEXT);
        if (i % 3 == 0) {
            turn(test);
            read_some(test, 1500);
            expect_next_rows(test, TEXT);
        }
    }
    drain(test, 1 << 16, TEXT);
    assert_int_equal(test->next_read, ROWS);
    assert_int_equal(test->emptied, 1);
}

static void tells_each_time_it_is_empty(void **state)
{
    struct log_test *test = *state;
    for (unsigned round = 1; round <= 3; round++) {
        for (unsigned i = 0; i < 50; i++)
            push(test, test->next_read + i, 1000);
        drain(test, 1 << 16, 1000);
        assert_int_equal(test->emptied, round);
        assert_int_equal(test->next_read, round * 50);
    }
}

static int set_up_small(void **state)
{
    return set_up_with(state, 8000);
}

/* Full is what waits, not what was sent; and a record beyond the limit is taken all the same. */
static void full_and_not_full(void **state)
{
    struct log_test *test = *state;
    unsigned pushed = 0;
    while (log_writer_is_empty(test->writer))
        push(test, pushed++, 1000);
    assert_false(log_writer_is_full(test->writer));
    while (!log_writer_is_full(test->writer))
        push(test, pushed++, 1000);
    push(test, pushed++, 1000);
    assert_true(log_writer_is_full(test->writer));
    while (log_writer_is_full(test->writer)) {
        assert_true(read_some(test, 4096) > 0);
        turn(test);
    }
    assert_false(log_writer_is_empty(test->writer));
    drain(test, 1 << 16, 1000);
    assert_int_equal(test->next_read, pushed);
}

static void idle_writer_does_not_spin(void **state)
{
    struct log_test *test = *state;
    push(test, 0, 10);
    assert_int_equal(uv_run(&test->loop, UV_RUN_NOWAIT), 0);
    while (log_writer_is_empty(test->writer))
        push(test, 1, 1000);
    assert_int_not_equal(uv_run(&test->loop, UV_RUN_NOWAIT), 0);
}

static size_t allocated(void)
{
#if defined __SANITIZE_ADDRESS__
    return __sanitizer_get_current_allocated_bytes();
#else
    return mallinfo2().uordblks + mallinfo2().hblkhd;
#endif
}

static void gives_memory_back(void **state)
{
    struct log_test *test = *state;
    size_t before = allocated();
    for (unsigned i = 0; i < 300; i++)
        push(test, i, 10000);
    assert_true(allocated() > before + 3000000);
    drain(test, 1 << 16, 10000);
    assert_int_equal(test->next_read, 300);
    buf_free(&test->read);
    frame_reader_free(&test->frames);
    assert_true(allocated() < before + 300000);
}

/* The master holds the other end, too: when the pipe breaks, nobody will ever read it. The worker
 * must be able to leave, and must not turn round and round. */
static void broken_pipe(void **state)
{
    struct log_test *test = *state;
    while (log_writer_is_empty(test->writer))
        push(test, 0, 1000);
    close(test->pipe[0]);
    test->pipe[0] = -1;
    for (unsigned i = 0; i < 3; i++)
        turn(test);
    assert_int_equal(test->emptied, 1);
    assert_true(log_writer_is_empty(test->writer));
    assert_true(log_writer_is_full(test->writer));
    push(test, 1, 10);
    assert_true(log_writer_is_empty(test->writer));
    assert_int_equal(uv_run(&test->loop, UV_RUN_NOWAIT), 0);
}

static void breaks_at_once(void **state)
{
    struct log_test *test = *state;
    close(test->pipe[0]);
    test->pipe[0] = -1;
    assert_false(log_writer_is_full(test->writer));
    push(test, 0, 10);
    assert_true(log_writer_is_full(test->writer));
    assert_true(log_writer_is_empty(test->writer));
}

static unsigned count_in(const struct log_test *test, enum shm_request_state state)
{
    unsigned count = 0;
    for (size_t i = 0; i < SHM_REQUESTS_PER_SLOT; i++)
        count += request_state(&test->table[i]) == state;
    return count;
}

/* "free only when ... they are in the spool": an entry outlives its record's stay in memory and in
 * the pipe, and not a byte longer. */
static void entries_wait_for_the_spool(void **state)
{
    struct log_test *test = *state;
    enum { ROWS = 40, TEXT = 900 };
    for (unsigned i = 0; i < ROWS; i++)
        push(test, i, TEXT);
    log_writer_reclaim(test->writer);
    unsigned in_pipe = count_in(test, REQUEST_WRITTEN);
    assert_true(in_pipe > 5 && in_pipe < ROWS);
    assert_int_equal(count_in(test, REQUEST_RECORDED), ROWS - in_pipe);
    assert_int_equal(read_some(test, 500), 500); /* a part of the first */
    log_writer_reclaim(test->writer);
    assert_int_equal(count_in(test, REQUEST_WRITTEN), in_pipe);
    read_some(test, 1000);
    log_writer_reclaim(test->writer);
    assert_int_equal(count_in(test, REQUEST_WRITTEN), in_pipe - 1);
    drain(test, 1 << 16, TEXT);
    assert_int_equal(count_in(test, REQUEST_WRITTEN) + count_in(test, REQUEST_FREE),
                     SHM_REQUESTS_PER_SLOT);
    log_writer_reclaim(test->writer);
    assert_int_equal(count_in(test, REQUEST_FREE), SHM_REQUESTS_PER_SLOT);
}

/* A record of several frames is written when the last one is. */
static void a_record_in_parts_is_not_written(void **state)
{
    struct log_test *test = *state;
    push(test, 0, 15000);
    push(test, 1, 15000); /* its end doesn't fit into the pipe any more */
    assert_int_equal(count_in(test, REQUEST_WRITTEN), 1);
    assert_int_equal(count_in(test, REQUEST_RECORDED), 1);
    drain(test, 1 << 16, 15000);
    assert_int_equal(count_in(test, REQUEST_RECORDED), 0);
}

/* The table is never used up by records that are in the spool already. */
static void entries_come_back_by_themselves(void **state)
{
    struct log_test *test = *state;
    for (unsigned i = 0; i < 3 * SHM_REQUESTS_PER_SLOT; i++) {
        push(test, i, 10);
        read_some(test, 1 << 16);
        expect_next_rows(test, 10);
    }
    assert_int_equal(test->next_read, 3 * SHM_REQUESTS_PER_SLOT);
    assert_true(count_in(test, REQUEST_WRITTEN) <= 64);
}

/* From what stays in the table the next master makes the rows. */
static void a_broken_pipe_keeps_entries(void **state)
{
    struct log_test *test = *state;
    push(test, 0, 10);
    close(test->pipe[0]);
    test->pipe[0] = -1;
    push(test, 1, 10);
    push(test, 2, 10);
    log_writer_reclaim(test->writer);
    assert_int_equal(count_in(test, REQUEST_RECORDED), 2);
    assert_int_equal(count_in(test, REQUEST_FREE), SHM_REQUESTS_PER_SLOT - 3);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(goes_straight_into_the_pipe),
        TEST(record_of_many_frames),
        TEST(backlog_keeps_order),
        TEST(pushed_while_it_waits),
        TEST(tells_each_time_it_is_empty),
        cmocka_unit_test_setup_teardown(full_and_not_full, set_up_small, tear_down),
        TEST(idle_writer_does_not_spin),
        TEST(gives_memory_back),
        TEST(broken_pipe),
        TEST(breaks_at_once),
        TEST(entries_wait_for_the_spool),
        TEST(a_record_in_parts_is_not_written),
        TEST(entries_come_back_by_themselves),
        TEST(a_broken_pipe_keeps_entries),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
