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

/* `some` as the first version of records writes it. */
static const unsigned char version_1[] = {
    0xff, 0x00, 0x69, 0x06, 0x00, 0xc4, 0xc2, 0xf4, 0xa0, 0x01, 0x01, 0x74, 0x0c, 0x75,
    0x6e, 0x61, 0x75, 0x74, 0x68, 0x6f, 0x72, 0x69, 0x7a, 0x65, 0x64, 0x02, 0x74, 0x0c,
    0x31, 0x39, 0x32, 0x2e, 0x30, 0x2e, 0x32, 0x2e, 0x30, 0x2f, 0x32, 0x34, 0x03, 0x74,
    0x06, 0x68, 0x6f, 0x73, 0x74, 0x2d, 0x31, 0x04, 0x69, 0x02, 0x2c, 0x01,
};

static void the_first_version(void **state)
{
    (void)state;
    const struct str bytes = {(const char *)version_1, sizeof version_1};
    struct buf out = {0};
    struct refused read;
    struct error error;
    assert_true(refused_decode(bytes, &read, &error));
    assert_int_equal(read.minute_wall_ms, some.minute_wall_ms);
    assert_true(str_eq(read.code, some.code) && str_eq(read.network, some.network));
    assert_true(str_eq(read.host, some.host));
    assert_int_equal(read.count, some.count);
    refused_encode(&some, &out);
    assert_int_equal(out.len, sizeof version_1);
    assert_memory_equal(out.data, version_1, sizeof version_1);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_read_is_what_was_written),
        cmocka_unit_test(a_row_is_none),
        cmocka_unit_test(a_count_of_nothing_is_refused),
        cmocka_unit_test(the_first_version),
    };
    return cmocka_run_group_tests_name("refused", tests, NULL, NULL);
}
