#include "shared/record/record.h"
#include "shared/record/refused.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct refused some = {
    1790812800000, {"unauthorized", 12}, {"192.0.2.0/24", 12}, {"host-1", 6}, 300};

static void what_is_read_is_what_was_written(void **state)
{
    (void)state;
    struct buf bytes = {0};
    struct refused read;
    struct error error;
    refused_encode(&some, &bytes);
    assert_true(refused_marked(buf_view(&bytes)));
    assert_true(refused_decode(buf_view(&bytes), &read, &error));
    assert_int_equal(read.minute_wall_ms, some.minute_wall_ms);
    assert_true(str_eq(read.code, some.code));
    assert_true(str_eq(read.network, some.network));
    assert_true(str_eq(read.host, some.host));
    assert_int_equal(read.count, 300);
    for (size_t len = 0; len < bytes.len; len++)
        assert_false(refused_decode((struct str){bytes.data, len}, &read, &error));
    buf_free(&bytes);
}

/* Rows and counts are never taken for each other. */
static void a_row_is_none(void **state)
{
    (void)state;
    struct buf bytes = {0};
    struct record row;
    struct refused read;
    struct error error;
    record_init(&row);
    record_encode(&row, &bytes);
    assert_false(refused_marked(buf_view(&bytes)));
    assert_false(refused_decode(buf_view(&bytes), &read, &error));
    buf_clear(&bytes);
    refused_encode(&some, &bytes);
    assert_false(record_decode(buf_view(&bytes), &row, &error));
    buf_free(&bytes);
}

static void a_count_of_nothing_is_refused(void **state)
{
    (void)state;
    struct buf bytes = {0};
    struct refused none = some, read;
    struct error error;
    none.count = 0;
    refused_encode(&none, &bytes);
    assert_false(refused_decode(buf_view(&bytes), &read, &error));
    buf_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_what_was_written),
        cmocka_unit_test(a_row_is_none),
        cmocka_unit_test(a_count_of_nothing_is_refused),
    };
    return cmocka_run_group_tests_name("refused", tests, NULL, NULL);
}
