#include "shared/base/clock.h"
#include "shared/base/xalloc.h"
#include "shared/record/frame.h"
#include "worker/log_writer.h"
#include "worker/refusals.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const int64_t MINUTE = 1790812800000;
static int64_t wall_ms, now_ms;

static int64_t set_now_us(void)
{
    return now_ms * 1000;
}

static int64_t set_wall_ms(void)
{
    return wall_ms;
}

static const struct clock_source set_clock = {set_now_us, set_wall_ms};

struct place {
    uv_loop_t loop;
    int pipe[2];
    struct shm_worker counts;
    struct shm_request *table;
    struct requests requests;
    struct refusals *refusals;
    struct buf said;
};

static int set_up(void **state)
{
    struct place *place = xcalloc(1, sizeof *place);
    uv_loop_init(&place->loop);
    if (pipe2(place->pipe, O_NONBLOCK | O_CLOEXEC) != 0)
        return -1;
    place->table = aligned_alloc(128, SHM_REQUESTS_PER_SLOT * sizeof *place->table);
    memset((void *)place->table, 0, SHM_REQUESTS_PER_SLOT * sizeof *place->table);
    requests_init(&place->requests, &place->counts, place->table);
    static struct log_writer *writers[8]; /* each lives as long as its process */
    static size_t made;
    writers[made] =
        log_writer_new(&place->loop, place->pipe[1], 1 << 20, &place->requests, NULL, NULL);
    place->refusals = refusals_new(writers[made++], "host-1");
    wall_ms = MINUTE + 1234;
    clock_set_source(&set_clock);
    *state = place;
    return 0;
}

static int tear_down(void **state)
{
    struct place *place = *state;
    clock_set_source(NULL);
    refusals_free(&place->refusals);
    requests_deinit(&place->requests);
    buf_free(&place->said);
    free(place->table);
    close(place->pipe[0]);
    close(place->pipe[1]);
    return 0; /* the loop has the writer's handle in it */
}

/* What has come through the pipe, as "minute code network host count;" with minutes from the
 * first. */
static const char *said(struct place *place)
{
    static char bytes[65536];
    struct frame_reader reader = {0};
    ssize_t got = read(place->pipe[0], bytes, sizeof bytes);
    struct str rest = {bytes, got > 0 ? (size_t)got : 0};
    size_t consumed;
    struct str record;
    buf_clear(&place->said);
    while (frame_reader_next(&reader, rest, &consumed, &record) == FRAME_RECORD) {
        struct refused refused;
        struct error error;
        assert_true(refused_decode(record, &refused, &error));
        buf_printf(&place->said, "%d %.*s %.*s %.*s %d;",
                   (int)((refused.minute_wall_ms - MINUTE) / 60000), STR_ARG(refused.code),
                   STR_ARG(refused.network), STR_ARG(refused.host), (int)refused.count);
        rest.at += consumed;
        rest.len -= consumed;
    }
    assert_int_equal(reader.skipped_bytes, 0);
    frame_reader_free(&reader);
    return buf_cstr(&place->said);
}

static void a_minute_is_told_when_it_is_over(void **state)
{
    struct place *place = *state;
    refusals_count(place->refusals, API_unauthorized, "192.0.2.7");
    refusals_count(place->refusals, API_unauthorized, "192.0.2.200");
    refusals_count(place->refusals, API_not_found, "192.0.2.7");
    refusals_count(place->refusals, API_unauthorized, "192.0.3.7");
    refusals_tick(place->refusals);
    assert_string_equal(said(place), "");
    wall_ms = MINUTE + 60000;
    refusals_tick(place->refusals);
    assert_string_equal(said(place), "0 unauthorized 192.0.2.0/24 host-1 2;"
                                     "0 not_found 192.0.2.0/24 host-1 1;"
                                     "0 unauthorized 192.0.3.0/24 host-1 1;");
    refusals_tick(place->refusals);
    assert_string_equal(said(place), "");
}

static void a_new_minute_begins_with_its_first(void **state)
{
    struct place *place = *state;
    refusals_count(place->refusals, API_bad_http, "unix");
    wall_ms = MINUTE + 180000;
    refusals_count(place->refusals, API_bad_http, "unix");
    assert_string_equal(said(place), "0 bad_http unix host-1 1;");
    refusals_flush(place->refusals);
    assert_string_equal(said(place), "3 bad_http unix host-1 1;");
}

static void networks_of_every_kind(void **state)
{
    struct place *place = *state;
    refusals_count(place->refusals, API_overloaded, "2001:db8:1:2:3:4:5:6");
    refusals_count(place->refusals, API_overloaded, "2001:db8:1:2:ffff::1");
    refusals_count(place->refusals, API_overloaded, "2001:db8:1:3::1");
    refusals_count(place->refusals, API_overloaded, "::1");
    refusals_count(place->refusals, API_overloaded, "who knows");
    refusals_flush(place->refusals);
    assert_string_equal(said(place), "0 overloaded 2001:db8:1:2::/64 host-1 2;"
                                     "0 overloaded 2001:db8:1:3::/64 host-1 1;"
                                     "0 overloaded ::/64 host-1 1;"
                                     "0 overloaded other host-1 1;");
}

/* Every few seconds in between; the store adds them up. A network has its place until the minute is
 * over, or else there would be more of them than so many in a minute. */
static void long_minutes_are_told_in_parts(void **state)
{
    struct place *place = *state;
    for (int i = 0; i < REFUSALS_NETWORKS; i++) {
        char address[32];
        snprintf(address, sizeof address, "10.0.%d.1", i);
        refusals_count(place->refusals, API_unauthorized, address);
    }
    now_ms += REFUSALS_SEND_MS - 1;
    refusals_tick(place->refusals);
    assert_string_equal(said(place), "");
    now_ms++;
    refusals_tick(place->refusals);
    assert_non_null(strstr(said(place), "0 unauthorized 10.0.7.0/24 host-1 1;"));
    refusals_count(place->refusals, API_unauthorized, "10.0.7.5");
    refusals_count(place->refusals, API_unauthorized, "10.1.0.1");
    now_ms += REFUSALS_SEND_MS;
    refusals_tick(place->refusals);
    assert_string_equal(said(place), "0 unauthorized 10.0.7.0/24 host-1 1;"
                                     "0 unauthorized other host-1 1;");
    wall_ms += 60000;
    refusals_count(place->refusals, API_unauthorized, "10.1.0.1");
    refusals_flush(place->refusals);
    assert_string_equal(said(place), "1 unauthorized 10.1.0.0/24 host-1 1;");
}

/* However many networks there are: so many have a count of their own, and none is lost. */
static void a_crowd_is_other(void **state)
{
    struct place *place = *state;
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 1000; i++) {
            char address[32];
            snprintf(address, sizeof address, "10.%d.%d.1", i / 250, i % 250);
            refusals_count(place->refusals, API_unauthorized, address);
        }
    refusals_count(place->refusals, API_not_found, "10.200.0.1");
    refusals_flush(place->refusals);
    const char *all = said(place);
    size_t lines = 0;
    for (const char *at = all; *at; at++)
        lines += *at == ';';
    assert_int_equal(lines, REFUSALS_NETWORKS + 2);
    assert_non_null(strstr(all, " unauthorized 10.1.5.0/24 host-1 2;"));
    assert_null(strstr(all, " unauthorized 10.1.6.0/24 "));
    assert_non_null(strstr(all, "0 unauthorized other host-1 1488;"));
    assert_non_null(strstr(all, "0 not_found other host-1 1;"));
    refusals_flush(place->refusals);
    assert_string_equal(said(place), "");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_minute_is_told_when_it_is_over),
        TEST(a_new_minute_begins_with_its_first),
        TEST(networks_of_every_kind),
        TEST(long_minutes_are_told_in_parts),
        TEST(a_crowd_is_other),
    };
    return cmocka_run_group_tests_name("refusals", tests, NULL, NULL);
}
