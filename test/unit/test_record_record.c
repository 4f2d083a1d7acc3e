#include "shared/record/record.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static struct str *text_at(struct record *record, size_t i)
{
    return (struct str *)((char *)record + record_columns[i].offset);
}

static int64_t *number_at(struct record *record, size_t i)
{
    return (int64_t *)((char *)record + record_columns[i].offset);
}

static bool same_field(const struct record *a, const struct record *b, size_t i)
{
    const char *left = (const char *)a + record_columns[i].offset;
    const char *right = (const char *)b + record_columns[i].offset;
    if (record_columns[i].kind == RECORD_KIND_UUID)
        return memcmp(left, right, sizeof(struct uuid)) == 0;
    if (record_columns[i].kind != RECORD_KIND_TEXT)
        return memcmp(left, right, sizeof(int64_t)) == 0;
    const struct str *first = (const struct str *)left, *second = (const struct str *)right;
    return !first->at == !second->at && str_eq(*first, *second);
}

static void assert_same(const struct record *a, const struct record *b)
{
    for (size_t i = 0; i < record_columns_count; i++)
        if (!same_field(a, b, i))
            fail_msg("column %s differs", record_columns[i].name);
}

static void round_trip(const struct record *record)
{
    struct buf bytes = {0};
    record_encode(record, &bytes);
    struct record back;
    struct error error;
    if (!record_decode(buf_view(&bytes), &back, &error))
        fail_msg("%s", error.message);
    assert_same(record, &back);
    buf_free(&bytes);
}

static void columns_describe_the_struct(void **state)
{
    (void)state;
    struct record record;
    record_init(&record);
    assert_string_equal(record_columns[0].name, "request_id");
    for (size_t i = 0; i < record_columns_count; i++) {
        if (record_columns[i].kind == RECORD_KIND_TEXT)
            assert_null(text_at(&record, i)->at);
        else if (record_columns[i].kind != RECORD_KIND_UUID)
            assert_true(*number_at(&record, i) == RECORD_NULL);
    }
    record.http_status = 404;
    record.host = STR("h");
    assert_ptr_equal(&record.host, text_at(&record, record_columns_count - 4));
}

static void absent_stays_absent(void **state)
{
    (void)state;
    struct record record;
    record_init(&record);
    record.request_id = uuid_v7(1);
    round_trip(&record);
    struct buf bytes = {0};
    record_encode(&record, &bytes);
    assert_int_equal(bytes.len, 3 + 16);
    buf_free(&bytes);
}

static void every_kind_comes_back(void **state)
{
    (void)state;
    static const int64_t numbers[] = {0,
                                      1,
                                      -1,
                                      127,
                                      128,
                                      -128,
                                      -129,
                                      255,
                                      32767,
                                      32768,
                                      -32768,
                                      -32769,
                                      INT32_MAX,
                                      INT32_MIN,
                                      INT64_MAX,
                                      -INT64_MAX,
                                      1ll << 47,
                                      -(1ll << 47),
                                      (1ll << 55) - 1,
                                      1ll << 55};
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++) {
        struct record record;
        record_init(&record);
        record.request_id = uuid_v7(1790000000000);
        for (size_t i = 1; i < record_columns_count; i++) {
            if (record_columns[i].kind == RECORD_KIND_TEXT)
                *text_at(&record, i) = str_of(record_columns[i].name);
            else
                *number_at(&record, i) = numbers[n];
        }
        round_trip(&record);
    }
}

static void empty_and_long_texts(void **state)
{
    (void)state;
    struct record record;
    record_init(&record);
    record.project = STR("");
    char *body = malloc(300000);
    memset(body, 'x', 300000);
    static const size_t lengths[] = {1, 127, 128, 16383, 16384, 300000};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        record.request_body = (struct str){body, lengths[i]};
        round_trip(&record);
    }
    free(body);
}

static void assert_mended(struct str given, struct str expected)
{
    struct record record, back;
    struct buf bytes = {0};
    struct error error;
    record_init(&record);
    record.error_message = given;
    record_encode(&record, &bytes);
    assert_true(record_decode(buf_view(&bytes), &back, &error));
    assert_int_equal(back.error_message.len, expected.len);
    assert_memory_equal(back.error_message.at, expected.at, expected.len);
    buf_free(&bytes);
}

#define BAD "\xEF\xBF\xBD"

static void text_becomes_utf8_without_nul(void **state)
{
    (void)state;
    assert_mended(STR("gr\xC3\xBC\xC3\x9F"
                      "e \xF0\x9F\x98\x80"),
                  STR("gr\xC3\xBC\xC3\x9F"
                      "e \xF0\x9F\x98\x80"));
    assert_mended(STR("a\0b"), STR("a" BAD "b"));
    assert_mended(STR("12345678\0"), STR("12345678" BAD));
    assert_mended(STR("1234567\0abcdefgh"), STR("1234567" BAD "abcdefgh"));
    assert_mended(STR("\xFF\xFE"), STR(BAD BAD));
    assert_mended(STR("x\xC3"), STR("x" BAD));
    assert_mended(STR("\xC0\x80"), STR(BAD BAD));
    assert_mended(STR("\xED\xA0\x80z"), STR(BAD BAD BAD "z"));
    assert_mended(STR("aaaaaaaa\xF0\x9F\x98 bbbbbbbb"), STR("aaaaaaaa" BAD BAD BAD " bbbbbbbb"));
}

static void assert_refused(struct str bytes)
{
    struct record record;
    struct error error = {""};
    /* In memory of its own, so that reading past it is seen. */
    char *copy = malloc(bytes.len ? bytes.len : 1);
    memcpy(copy, bytes.at, bytes.len);
    assert_false(record_decode((struct str){copy, bytes.len}, &record, &error));
    assert_int_not_equal(strlen(error.message), 0);
    free(copy);
}

#define ID                                                                                         \
    "\0u\x10"                                                                                      \
    "0123456789abcdef"

static void hostile_bytes_are_refused(void **state)
{
    (void)state;
    assert_refused(STR(""));
    assert_refused(STR("\0u"));
    assert_refused(STR("\x01i\x01\x05")); /* no request id */
    assert_refused(STR("\0u\x0F"
                       "0123456789abcde")); /* short id */
    assert_refused(STR("\0t\x10"
                       "0123456789abcdef"));
    assert_refused(STR(ID ID)); /* twice */
    assert_refused(STR(ID "\x02i\x01\x05\x01i\x01\x05"));
    assert_refused(STR(ID "\x01i\x00"));
    assert_refused(STR(ID "\x01i\x09"
                          "123456789"));
    assert_refused(STR(ID "\x01i\x08\0\0\0\0\0\0\0\x80")); /* RECORD_NULL */
    assert_refused(STR(ID "\x01i\x02\x05"));               /* past the end */
    assert_refused(STR(ID "\x03t\xFF\xFF\xFF\xFF\x7F"
                          "a"));
    assert_refused(STR(ID "\x03t\x80\x80\x80\x80\x80\x01"
                          "a"));
    assert_refused(STR(ID "\x03t\x80"));
    assert_refused(STR(ID "\x03t\x01\0"));
    assert_refused(STR(ID "\x03t\x01\xFF"));
    assert_refused(STR(ID "\x03i\x01\x01"));
}

static void newer_fields_are_passed_over(void **state)
{
    (void)state;
    struct record record;
    struct error error;
    assert_true(record_decode(STR(ID "\x03t\x02pr\xFEx\x03\x01\x02\x03"), &record, &error));
    assert_true(str_eq(record.project, STR("pr")));
    assert_null(record.host.at);
}

static void every_cut_is_refused_or_shorter(void **state)
{
    (void)state;
    struct record record, back;
    struct buf bytes = {0};
    struct error error;
    record_init(&record);
    record.request_id = uuid_v7(5);
    record.status = STR("ok");
    record.cost_nano_usd = 123456789;
    record.worker = 3;
    record_encode(&record, &bytes);
    unsigned whole = 0;
    for (size_t cut = 0; cut < bytes.len; cut++) {
        char *copy = malloc(cut ? cut : 1);
        memcpy(copy, bytes.data, cut);
        whole += record_decode((struct str){copy, cut}, &back, &error);
        free(copy);
    }
    /* Behind the id, the status and the cost a shorter record ends as well. */
    assert_int_equal(whole, 3);
    buf_free(&bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(columns_describe_the_struct),
        cmocka_unit_test(absent_stays_absent),
        cmocka_unit_test(every_kind_comes_back),
        cmocka_unit_test(empty_and_long_texts),
        cmocka_unit_test(text_becomes_utf8_without_nul),
        cmocka_unit_test(hostile_bytes_are_refused),
        cmocka_unit_test(newer_fields_are_passed_over),
        cmocka_unit_test(every_cut_is_refused_or_shorter),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
