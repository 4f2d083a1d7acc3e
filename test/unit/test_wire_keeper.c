#include "shared/wire/keeper.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static const struct keeper_message full = {
    .type = KEEPER_COMMIT,
    .refusal = KEEPER_BUSY,
    .ticket = UINT64_C(0x0123456789abcdef),
    .deadline_ms = INT64_C(-2),
    .session = {{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}},
    .request = {{16, 15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1}},
    .turn = 7,
    .ttl_ms = INT64_C(3600000),
    .max_messages = 500,
    .max_tokens = INT64_MAX,
    .messages = -1,
    .tokens = 99,
    .project = {"demo", 4},
    .endpoint = {"chat", 4},
    .token = {"web", 3},
    .key = {"0123456789abcdef0123456789abcdef", KEEPER_HASH_BYTES},
    .content = {"fedcba9876543210fedcba987654321\0", KEEPER_HASH_BYTES},
    .body = {"\0\1\2", 3},
    .answer = {"\n", 1},
};

static void assert_same(const struct keeper_message *a, const struct keeper_message *b)
{
    assert_int_equal(a->type, b->type);
    assert_int_equal(a->refusal, b->refusal);
    assert_true(a->ticket == b->ticket && a->deadline_ms == b->deadline_ms);
    assert_int_equal(uuid_compare(&a->session, &b->session), 0);
    assert_int_equal(uuid_compare(&a->request, &b->request), 0);
    assert_true(a->turn == b->turn && a->ttl_ms == b->ttl_ms);
    assert_true(a->max_messages == b->max_messages && a->max_tokens == b->max_tokens);
    assert_true(a->messages == b->messages && a->tokens == b->tokens);
    assert_true(str_eq(a->project, b->project) && str_eq(a->endpoint, b->endpoint));
    assert_true(str_eq(a->token, b->token) && str_eq(a->body, b->body));
    assert_true(str_eq(a->key, b->key) && str_eq(a->content, b->content));
    assert_true(str_eq(a->answer, b->answer));
}

static void there_and_back(void **state)
{
    (void)state;
    struct buf out = {0};
    struct keeper_message read;
    size_t used;
    keeper_write(&out, &full);
    size_t first = out.len;
    keeper_write(&out, &(struct keeper_message){.type = KEEPER_ABORT});
    for (size_t len = 0; len < first; len++)
        assert_int_equal(keeper_read((struct str){out.data, len}, &read, &used), KEEPER_MORE);
    assert_int_equal(keeper_read(buf_view(&out), &read, &used), KEEPER_READ);
    assert_int_equal(used, first);
    assert_same(&read, &full);
    struct keeper_message later = full;
    later.deadline_ms = INT64_C(0x123456789abcdef0);
    keeper_write_deadline(&out, later.deadline_ms);
    assert_int_equal(keeper_read(buf_view(&out), &read, &used), KEEPER_READ);
    assert_same(&read, &later);
    assert_int_equal(keeper_read((struct str){out.data + first, out.len - first}, &read, &used),
                     KEEPER_READ);
    assert_int_equal(read.type, KEEPER_ABORT);
    assert_int_equal(read.body.len, 0);
    buf_free(&out);
}

/* A byte that is another one changes a value, or breaks the frame; it leads nowhere else. */
static void lies(void **state)
{
    (void)state;
    struct buf out = {0};
    struct keeper_message read;
    size_t used, broken = 0;
    keeper_write(&out, &full);
    for (size_t i = 0; i < out.len; i++)
        for (int bit = 0; bit < 8; bit++) {
            out.data[i] = (char)(out.data[i] ^ 1 << bit);
            broken += keeper_read(buf_view(&out), &read, &used) == KEEPER_BROKEN;
            out.data[i] = (char)(out.data[i] ^ 1 << bit);
        }
    assert_true(broken > 8 * 5);
    out.data[4] = KEEPER_VERSION + 1;
    assert_int_equal(keeper_read(buf_view(&out), &read, &used), KEEPER_BROKEN);
    out.data[4] = KEEPER_VERSION;
    out.data[5] = KEEPER_TYPES;
    assert_int_equal(keeper_read(buf_view(&out), &read, &used), KEEPER_BROKEN);
    assert_int_equal(keeper_read(STR("\xff\xff\xff\xff"), &read, &used), KEEPER_BROKEN);
    assert_int_equal(keeper_read(STR("\0\0\0\0"), &read, &used), KEEPER_MORE + KEEPER_BROKEN);
    buf_free(&out);
}

/* A key is a hash, and comes with what was asked. */
static void hashes(void **state)
{
    (void)state;
    struct keeper_message read, said = full;
    struct buf out = {0};
    size_t used;
    said.key.len--;
    keeper_write(&out, &said);
    assert_int_equal(keeper_read(buf_view(&out), &read, &used), KEEPER_BROKEN);
    buf_clear(&out);
    said.key.len = 0;
    keeper_write(&out, &said);
    assert_int_equal(keeper_read(buf_view(&out), &read, &used), KEEPER_BROKEN);
    buf_clear(&out);
    said.content.len = 0;
    keeper_write(&out, &said);
    assert_int_equal(keeper_read(buf_view(&out), &read, &used), KEEPER_READ);
    buf_free(&out);
}

/* `full` as the first version writes it: an older worker, or an older keeper, says it like that. */
static const unsigned char version_1[] = {
    0xce, 0x00, 0x00, 0x00, 0x01, 0x03, 0x02, 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01,
    0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07,
    0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d, 0x0e, 0x0f, 0x10, 0x10, 0x0f, 0x0e, 0x0d, 0x0c, 0x0b,
    0x0a, 0x09, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01, 0x07, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x80, 0xee, 0x36, 0x00, 0x00, 0x00, 0x00, 0x00, 0xf4, 0x01, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0x63, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x04, 0x00,
    0x00, 0x00, 0x64, 0x65, 0x6d, 0x6f, 0x04, 0x00, 0x00, 0x00, 0x63, 0x68, 0x61, 0x74, 0x03,
    0x00, 0x00, 0x00, 0x77, 0x65, 0x62, 0x20, 0x00, 0x00, 0x00, 0x30, 0x31, 0x32, 0x33, 0x34,
    0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x30, 0x31, 0x32, 0x33,
    0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x20, 0x00, 0x00,
    0x00, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61, 0x39, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32,
    0x31, 0x30, 0x66, 0x65, 0x64, 0x63, 0x62, 0x61, 0x39, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33,
    0x32, 0x31, 0x00, 0x03, 0x00, 0x00, 0x00, 0x00, 0x01, 0x02, 0x01, 0x00, 0x00, 0x00, 0x0a,
};

static void the_first_version(void **state)
{
    (void)state;
    const struct str bytes = {(const char *)version_1, sizeof version_1};
    struct keeper_message read;
    struct buf out = {0};
    size_t used;
    assert_int_equal(keeper_read(bytes, &read, &used), KEEPER_READ);
    assert_int_equal(used, sizeof version_1);
    assert_same(&read, &full);
    keeper_write(&out, &full);
    assert_int_equal(KEEPER_VERSION, 1); /* else the bytes of both are to stand here */
    assert_int_equal(out.len, sizeof version_1);
    assert_memory_equal(out.data, version_1, sizeof version_1);
    buf_free(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(there_and_back), cmocka_unit_test(lies),
                                       cmocka_unit_test(hashes),
                                       cmocka_unit_test(the_first_version)};
    return cmocka_run_group_tests_name("keeper's messages", tests, NULL, NULL);
}
