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

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(lies),
                                       cmocka_unit_test(a_long_decision)};
    return cmocka_run_group_tests_name("kept replies", tests, NULL, NULL);
}
