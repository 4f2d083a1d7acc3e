/* Answers that are asked for again, in the store of sessions. */
#include "test/unit/master_sessions.h"

static struct str hash_of(uint8_t number)
{
    static char hashes[256][ANSWER_HASH_BYTES];
    memset(hashes[number], number, ANSWER_HASH_BYTES);
    return (struct str){hashes[number], ANSWER_HASH_BYTES};
}

/* It is kept for an hour. */
static struct kept_answer new_answer(uint8_t key, const char *text)
{
    return (struct kept_answer){.key = hash_of(key),
                                .content = hash_of((uint8_t)(key + 100)),
                                .request = id_of(key),
                                .stored_ms = start_ms,
                                .expires_ms = start_ms + hour_ms,
                                .answer = str_of(text)};
}

static bool try_answer(struct sessions_store *store, const struct kept_answer *answer)
{
    struct error error;
    bool existed = true;
    if (!answers_add(store, answer, &existed, &error))
        fail_msg("%s", error.message);
    return !existed;
}

static void put_answer(struct sessions_store *store, const struct kept_answer *answer)
{
    begin(store);
    assert_true(try_answer(store, answer));
    commit_all(store);
}

static bool find(struct sessions_store *store, uint8_t key, struct kept_answer *answer)
{
    struct error error;
    bool found = false;
    if (!answers_find(store, hash_of(key), answer, &found, &error))
        fail_msg("%s", error.message);
    return found;
}

static void assert_answer(struct sessions_store *store, uint8_t key, const char *expected)
{
    struct kept_answer answer;
    assert_true(find(store, key, &answer));
    assert_true(str_eq(answer.answer, str_of(expected)));
}

static int64_t bytes_of(struct sessions_store *store)
{
    struct error error;
    int64_t bytes = -1;
    if (!answers_bytes(store, &bytes, &error))
        fail_msg("%s", error.message);
    return bytes;
}

static unsigned sweep_answers(struct sessions_store *store, int64_t now_ms, unsigned most)
{
    struct error error;
    unsigned done = 12345;
    int64_t bytes = -1;
    begin(store);
    if (!answers_sweep(store, now_ms, most, &done, &bytes, &error))
        fail_msg("%s", error.message);
    commit_all(store);
    assert_true(done > 0 ? bytes >= done : bytes == 0);
    return done;
}

static unsigned drop(struct sessions_store *store, unsigned most, int64_t *bytes)
{
    struct error error;
    unsigned done = 12345;
    begin(store);
    if (!answers_drop(store, most, &done, bytes, &error))
        fail_msg("%s", error.message);
    commit_all(store);
    return done;
}

static void an_answer_is_read_as_it_was_written(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct kept_answer written = new_answer(1, ""), read;
    written.answer = STR("\0HTTP\r\n\xff");
    assert_false(find(store, 1, &read));
    put_answer(store, &written);
    sessions_close(&store);
    store = open_sessions(*state);
    assert_true(find(store, 1, &read));
    assert_true(str_eq(read.key, written.key) && str_eq(read.content, written.content));
    assert_int_equal(uuid_compare(&read.request, &written.request), 0);
    assert_int_equal(read.stored_ms, start_ms);
    assert_int_equal(read.expires_ms, start_ms + hour_ms);
    assert_true(str_eq(read.answer, written.answer));
    assert_false(find(store, 2, &read));
    written = new_answer(2, "");
    written.answer = STR_ABSENT;
    put_answer(store, &written);
    assert_answer(store, 2, "");
    sessions_close(&store);
}

static void the_first_answer_stays(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    const struct kept_answer first = new_answer(1, "first"), second = new_answer(1, "second");
    put_answer(store, &first);
    begin(store);
    assert_false(try_answer(store, &second));
    commit_all(store);
    assert_answer(store, 1, "first");
    assert_int_equal(bytes_of(store), 5);
    sessions_close(&store);
}

static void an_expired_answer_is_replaced(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct kept_answer first = new_answer(1, "first"), second = new_answer(1, "second"),
                       other = new_answer(2, "other"), read;
    int64_t bytes;
    put_answer(store, &first);
    put_answer(store, &other);
    second.stored_ms = first.expires_ms - 1;
    begin(store);
    assert_false(try_answer(store, &second));
    second.stored_ms = first.expires_ms;
    assert_true(try_answer(store, &second));
    commit_all(store);
    assert_answer(store, 1, "second");
    /* It is a younger one than the other now. */
    assert_int_equal(drop(store, 1, &bytes), 1);
    assert_false(find(store, 2, &read));
    assert_answer(store, 1, "second");
    sessions_close(&store);
}

static void expired_answers_go_in_small_parts(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct kept_answer read;
    for (uint8_t i = 0; i < 7; i++) {
        struct kept_answer answer = new_answer(i, "12345");
        answer.expires_ms = start_ms + (i < 5 ? 5 - i : hour_ms);
        put_answer(store, &answer);
    }
    assert_int_equal(bytes_of(store), 35);
    assert_int_equal(sweep_answers(store, start_ms, 3), 0);
    assert_int_equal(sweep_answers(store, start_ms + 4, 3), 3);
    /* Those that expired first. */
    assert_true(find(store, 1, &read));
    assert_false(find(store, 2, &read));
    assert_int_equal(sweep_answers(store, start_ms + 5, 3), 2);
    assert_int_equal(sweep_answers(store, start_ms + 5, 3), 0);
    assert_int_equal(bytes_of(store), 10);
    sessions_close(&store);
}

static void the_oldest_answers_are_dropped(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct kept_answer read;
    static const char *const texts[] = {"1", "22", "333", "4444"};
    int64_t bytes;
    for (uint8_t i = 0; i < 4; i++) {
        struct kept_answer answer = new_answer((uint8_t)(9 - i), texts[i]);
        put_answer(store, &answer);
    }
    assert_int_equal(drop(store, 3, &bytes), 3);
    assert_int_equal(bytes, 6);
    assert_true(find(store, 6, &read));
    assert_int_equal(bytes_of(store), 4);
    assert_int_equal(drop(store, 3, &bytes), 1);
    assert_int_equal(bytes, 4);
    assert_int_equal(drop(store, 3, &bytes), 0);
    assert_int_equal(bytes, 0);
    assert_int_equal(bytes_of(store), 0);
    sessions_close(&store);
}

static void answers_need_a_transaction(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct kept_answer answer = new_answer(1, "a"), read;
    struct error error;
    bool existed;
    unsigned done;
    int64_t bytes;
    assert_false(answers_add(store, &answer, &existed, &error));
    assert_says(&error, "no transaction");
    assert_false(answers_sweep(store, start_ms, 1, &done, &bytes, &error));
    assert_false(answers_drop(store, 1, &done, &bytes, &error));
    begin(store);
    assert_true(try_answer(store, &answer));
    sessions_undo(store);
    assert_false(find(store, 1, &read));
    sessions_close(&store);
}

/* Hashes are that long; nothing of the transaction is kept. */
static void a_key_of_another_length_is_refused(void **state)
{
    struct sessions_store *store = open_sessions(*state);
    struct kept_answer answer = new_answer(1, "a");
    struct error error;
    bool existed;
    begin(store);
    answer.key.len--;
    assert_false(answers_add(store, &answer, &existed, &error));
    assert_says(&error, "can't store an answer");
    assert_false(sessions_commit(store, &error));
    sessions_close(&store);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(an_answer_is_read_as_it_was_written), TEST(the_first_answer_stays),
        TEST(an_expired_answer_is_replaced),       TEST(expired_answers_go_in_small_parts),
        TEST(the_oldest_answers_are_dropped),      TEST(answers_need_a_transaction),
        TEST(a_key_of_another_length_is_refused),
    };
    return cmocka_run_group_tests_name("kept answers", tests, NULL, NULL);
}
