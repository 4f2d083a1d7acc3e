#include "shared/counters/accounts.h"
#include "test/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static struct test {
    char directory[SCRATCH_PATH];
    char path[SCRATCH_PATH];
    struct counters counters;
    struct error error;
} test;

static int set_up(void **state)
{
    (void)state;
    if (!scratch_make(test.directory))
        return -1;
    scratch_path(test.directory, "counters", test.path);
    return counters_create(&test.counters, test.path, 1, &test.error) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    counters_close(&test.counters);
    scratch_remove(test.directory);
    return 0;
}

static struct accounts begin(int64_t generation, size_t expected)
{
    struct accounts accounts;
    if (!accounts_begin(&accounts, &test.counters, generation, expected, &test.error))
        fail_msg("%s", test.error.message);
    return accounts;
}

static uint32_t claim(struct accounts *accounts, enum account_kind kind, const char *name)
{
    return accounts_claim(accounts, kind, str_of(name), str_of(name));
}

static const char *label(uint32_t account)
{
    return test.counters.accounts[account].label;
}

static bool is_free(uint32_t account)
{
    return atomic_load(&test.counters.accounts[account].key) == 0;
}

/* "Counter slots by name": the same name has the same account in every generation. */
static void names_keep_their_accounts(void **state)
{
    (void)state;
    struct accounts first = begin(1, 3);
    uint32_t token = claim(&first, ACCOUNT_TOKEN, "web");
    uint32_t endpoint = claim(&first, ACCOUNT_ENDPOINT, "web");
    assert_int_not_equal(token, endpoint); /* kinds don't mix */
    assert_int_equal(claim(&first, ACCOUNT_TOKEN, "web"), token);
    accounts_end(&first, 1);
    struct accounts second = begin(2, 3);
    uint32_t other = claim(&second, ACCOUNT_TOKEN, "mobile");
    assert_int_equal(claim(&second, ACCOUNT_ENDPOINT, "web"), endpoint);
    assert_int_equal(claim(&second, ACCOUNT_TOKEN, "web"), token);
    assert_true(other != token && other != endpoint);
    assert_int_equal(atomic_load(&test.counters.accounts[token].last_generation), 2);
    assert_string_equal(label(other), "mobile");
    accounts_end(&second, 1);
}

/* "a removed name's slot is free only when no process of an older generation lives" */
static void removed_names_are_kept_for_the_old(void **state)
{
    (void)state;
    struct accounts one = begin(1, 1);
    uint32_t gone = claim(&one, ACCOUNT_TOKEN, "gone");
    accounts_end(&one, 1);
    struct accounts two = begin(2, 1);
    uint32_t stays = claim(&two, ACCOUNT_TOKEN, "stays");
    assert_int_not_equal(stays, gone);
    accounts_end(&two, 1); /* generation 1 still lives */
    assert_false(is_free(gone));
    struct accounts three = begin(3, 2);
    assert_int_equal(claim(&three, ACCOUNT_TOKEN, "stays"), stays);
    accounts_end(&three, 2);
    assert_true(is_free(gone));
    assert_false(is_free(stays));
    struct accounts four = begin(4, 2);
    assert_int_equal(claim(&four, ACCOUNT_TOKEN, "new"), gone);
    assert_string_equal(label(gone), "new");
    accounts_end(&four, 2);
}

/* "caps live in the slot, so all generations obey the newest" */
static void caps_are_the_newest(void **state)
{
    (void)state;
    const int64_t tight[CAP_COUNT] = {
        [CAP_PER_MINUTE] = 60, [CAP_PER_HOUR] = CAP_UNLIMITED, [CAP_MONTHLY_NANO_USD] = 25};
    struct accounts one = begin(1, 1);
    uint32_t token = claim(&one, ACCOUNT_TOKEN, "web");
    struct shm_account *account = &test.counters.accounts[token];
    assert_int_equal(atomic_load(&account->caps[CAP_PER_MINUTE]), CAP_UNLIMITED);
    accounts_end(&one, 1);
    struct accounts two = begin(2, 1);
    assert_int_equal(claim(&two, ACCOUNT_TOKEN, "web"), token);
    account = &test.counters.accounts[token];
    /* "a reload that fails changes nothing": not before it serves */
    assert_int_equal(atomic_load(&account->caps[CAP_PER_MINUTE]), CAP_UNLIMITED);
    account_set(account, STR("web"), tight);
    assert_int_equal(atomic_load(&account->caps[CAP_PER_MINUTE]), 60);
    assert_int_equal(atomic_load(&account->caps[CAP_PER_HOUR]), CAP_UNLIMITED);
    assert_int_equal(atomic_load(&account->caps[CAP_MONTHLY_NANO_USD]), 25);
    accounts_end(&two, 1);
}

/* Thousands, made and removed in turn: the file grows, and not for ever. */
static void many_come_and_go(void **state)
{
    enum { MANY = 3000 };
    (void)state;
    uint32_t most = 0;
    for (int64_t generation = 1; generation <= 8; generation++) {
        struct accounts accounts = begin(generation, MANY);
        for (int i = 0; i < MANY; i++) {
            char name[32];
            snprintf(name, sizeof name, "%lld-%d", (long long)generation, i);
            uint32_t account = claim(&accounts, ACCOUNT_ENDPOINT, name);
            assert_string_equal(label(account), name);
        }
        accounts_end(&accounts, generation);
        if (generation == 2)
            most = atomic_load(&test.counters.header->accounts);
    }
    assert_int_equal(atomic_load(&test.counters.header->accounts), most);
}

/* A master that starts counts from 1 again; what is in its configuration goes on. */
static void a_new_master_goes_on(void **state)
{
    (void)state;
    struct accounts before = begin(9, 2);
    uint32_t kept = claim(&before, ACCOUNT_TOKEN, "kept"),
             gone = claim(&before, ACCOUNT_TOKEN, "gone");
    accounts_end(&before, 9);
    counters_close(&test.counters);
    assert_true(counters_create(&test.counters, test.path, 1, &test.error));
    accounts_start(&test.counters);
    struct accounts after = begin(1, 1);
    assert_int_equal(claim(&after, ACCOUNT_TOKEN, "kept"), kept);
    accounts_end(&after, 1);
    assert_false(is_free(kept));
    assert_true(is_free(gone));
}

static void labels(void **state)
{
    char text[ACCOUNT_LABEL_BYTES], wide[300];
    (void)state;
    memset(wide, 'm', sizeof wide);
    struct accounts accounts = begin(1, 4);
    account_target_label(text, STR("openai"), STR("gpt-4o-mini"), STR("main"));
    uint32_t target =
        accounts_claim(&accounts, ACCOUNT_TARGET, STR("1"), (struct str){text, sizeof text});
    account_target_label(text, STR("openai"), (struct str){wide, sizeof wide}, STR("main"));
    uint32_t long_one =
        accounts_claim(&accounts, ACCOUNT_TARGET, STR("2"), (struct str){text, sizeof text});
    memcpy(wide + ACCOUNT_LABEL_BYTES - 2, "\xC3\xA4", 2);
    uint32_t cut =
        accounts_claim(&accounts, ACCOUNT_TOKEN, STR("3"), (struct str){wide, sizeof wide});
    accounts_end(&accounts, 1);
    assert_true(str_eq(account_label(&test.counters, target, 0), STR("openai")));
    assert_true(str_eq(account_label(&test.counters, target, 1), STR("gpt-4o-mini")));
    assert_true(str_eq(account_label(&test.counters, target, 2), STR("main")));
    assert_true(str_eq(account_label(&test.counters, long_one, 0), STR("openai")));
    assert_int_equal(account_label(&test.counters, long_one, 1).len, 95);
    assert_true(str_eq(account_label(&test.counters, long_one, 2), STR("main")));
    assert_int_equal(account_label(&test.counters, cut, 0).len, ACCOUNT_LABEL_BYTES - 2);
    assert_int_equal(account_label(&test.counters, cut, 1).len, 0);
    assert_null(account_label(&test.counters, ACCOUNT_NONE, 0).at);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_keep_their_accounts), TEST(removed_names_are_kept_for_the_old),
        TEST(caps_are_the_newest),       TEST(many_come_and_go),
        TEST(a_new_master_goes_on),      TEST(labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
