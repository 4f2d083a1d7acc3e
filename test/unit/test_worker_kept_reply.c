#include "worker/kept_reply.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct kept_reply full = {
    .kind = KEPT_EVENTS,
    .session = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
    .decision = {"long", 4},
    .body = {"data: [DONE]\n\n\0x", 16},
};

static void there_and_back(void **state)
{
    (void)state;
    struct buf out = {0};
    struct kept_reply read;
    kept_reply_write(&full, &out);
    assert_true(kept_reply_read(buf_view(&out), &read));
    assert_int_equal(read.kind, KEPT_EVENTS);
    assert_int_equal(uuid_compare(&read.session, &full.session), 0);
    assert_true(str_eq(read.decision, full.decision) && str_eq(read.body, full.body));
    buf_clear(&out);
    kept_reply_write(&(struct kept_reply){.kind = KEPT_JSON}, &out);
    assert_true(kept_reply_read(buf_view(&out), &read));
    assert_null(read.decision.at);
    assert_true(uuid_is_nil(&read.session) && read.body.len == 0);
    buf_free(&out);
}

/* What is cut off, of another version or of a kind that comes later is no answer. */
static void lies(void **state)
{
    (void)state;
    struct buf out = {0};
    struct kept_reply read;
    kept_reply_write(&full, &out);
    for (size_t len = 0; len < 24; len++)
        assert_false(kept_reply_read((struct str){out.data, len}, &read));
    assert_true(kept_reply_read((struct str){out.data, 24}, &read));
    out.data[0]++;
    assert_false(kept_reply_read(buf_view(&out), &read));
    out.data[0]--;
    out.data[1] = KEPT_KINDS;
    assert_false(kept_reply_read(buf_view(&out), &read));
    buf_free(&out);
}

/* A decision that could not be said in two bytes is cut; the body is still the body. */
static void a_long_decision(void **state)
{
    (void)state;
    struct buf out = {0}, decision = {0};
    struct kept_reply read;
    for (size_t i = 0; i < 70000; i++)
        buf_putc(&decision, 'd');
    const struct kept_reply reply = {.decision = buf_view(&decision), .body = STR("{}")};
    kept_reply_write(&reply, &out);
    assert_true(kept_reply_read(buf_view(&out), &read));
    assert_int_equal(read.decision.len, 65535);
    assert_true(str_eq(read.body, STR("{}")));
    buf_free(&out);
    buf_free(&decision);
}

/* `full` as the first version writes it: it stays in stores for a day. */
static const unsigned char version_1[] = {
    0x01, 0x01, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c,
    0x0d, 0x0e, 0x0f, 0x10, 0x04, 0x00, 0x6c, 0x6f, 0x6e, 0x67, 0x64, 0x61, 0x74, 0x61,
    0x3a, 0x20, 0x5b, 0x44, 0x4f, 0x4e, 0x45, 0x5d, 0x0a, 0x0a, 0x00, 0x78,
};

static void the_first_version(void **state)
{
    (void)state;
    struct kept_reply read;
    struct buf out = {0};
    assert_true(kept_reply_read((struct str){(const char *)version_1, sizeof version_1}, &read));
    assert_int_equal(read.kind, full.kind);
    assert_int_equal(uuid_compare(&read.session, &full.session), 0);
    assert_true(str_eq(read.decision, full.decision) && str_eq(read.body, full.body));
    kept_reply_write(&full, &out);
    assert_int_equal(out.len, sizeof version_1);
    assert_memory_equal(out.data, version_1, sizeof version_1);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(lies),
                                       cmocka_unit_test(a_long_decision),
                                       cmocka_unit_test(the_first_version)};
    return cmocka_run_group_tests_name("kept replies", tests, NULL, NULL);
}
