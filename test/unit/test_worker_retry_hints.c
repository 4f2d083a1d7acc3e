#include "worker/upstream/retry_hints.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static const int64_t now_ms = INT64_C(1795000000000); /* 2026-11-18T11:06:40Z */

struct header {
    const char *name, *value;
};

static struct retry_hints noted(const struct header *headers, size_t count)
{
    struct retry_hints hints = {0};
    for (size_t i = 0; i < count; i++)
        retry_hints_note(&hints, str_of(headers[i].name), str_of(headers[i].value), now_ms);
    return hints;
}

#define WAIT(...)                                                                                  \
    wait_of((const struct header[]){__VA_ARGS__},                                                  \
            sizeof((const struct header[]){__VA_ARGS__}) / sizeof(struct header))

static int64_t wait_of(const struct header *headers, size_t count)
{
    struct retry_hints hints = noted(headers, count);
    return retry_hints_wait_ms(&hints);
}

static void retry_after(void **state)
{
    (void)state;
    assert_int_equal(WAIT({"Retry-After", "12"}), 12000);
    assert_int_equal(WAIT({"retry-after", "0.25"}), 250);
    assert_int_equal(WAIT({"Retry-After", "Wed, 18 Nov 2026 11:07:00 GMT"}), 20000);
    assert_int_equal(WAIT({"Retry-After", "Wed, 18 Nov 2026 11:06:00 GMT"}), 0); /* gone */
    assert_int_equal(WAIT({"Retry-After", "12"}, {"retry-after-ms", "1500.5"}), 1501);
    assert_int_equal(WAIT({"retry-after-ms", "700"}, {"Retry-After", "12"}), 700);
    assert_int_equal(WAIT({"Retry-After", "1e300"}), INT64_C(31) * 24 * 3600 * 1000);
}

static void nonsense_says_nothing(void **state)
{
    (void)state;
    static const char *const values[] = {"",
                                         "-3",
                                         "soon",
                                         "12 s",
                                         "nan",
                                         "-inf",
                                         "0",
                                         "99999999999999999999999999999999999999999999"
                                         "999999999999999999999999999"};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        assert_int_equal(WAIT({"Retry-After", values[i]}), 0);
        assert_int_equal(WAIT({"retry-after-ms", values[i]}), 0);
        assert_int_equal(WAIT({"x-ratelimit-remaining-requests", "0"},
                              {"x-ratelimit-reset-requests", values[i]}),
                         0);
    }
}

/* Only a limit that is used up says when. */
static void limits(void **state)
{
    (void)state;
    assert_int_equal(
        WAIT({"x-ratelimit-remaining-requests", "0"}, {"x-ratelimit-reset-requests", "6m0s"}),
        360000);
    assert_int_equal(
        WAIT({"x-ratelimit-reset-tokens", "2m59.56s"}, {"x-ratelimit-remaining-tokens", "0"}),
        179560);
    assert_int_equal(
        WAIT({"x-ratelimit-remaining-requests", "5"}, {"x-ratelimit-reset-requests", "6m0s"}), 0);
    assert_int_equal(
        WAIT({"x-ratelimit-remaining-requests", "0"}, {"x-ratelimit-reset-requests", "120ms"},
             {"x-ratelimit-remaining-tokens", "0"}, {"x-ratelimit-reset-tokens", "1s"}),
        1000);
    assert_int_equal(WAIT({"anthropic-ratelimit-requests-remaining", "0"},
                          {"anthropic-ratelimit-requests-reset", "2026-11-18T11:06:45Z"}),
                     5000);
    assert_int_equal(WAIT({"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "1795000030"}),
                     30000);
    assert_int_equal(WAIT({"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "7"}), 7000);
    assert_int_equal(
        WAIT({"Retry-After", "1"}, {"x-ratelimit-remaining", "0"}, {"x-ratelimit-reset", "7"}),
        1000);
}

static void should_retry(void **state)
{
    (void)state;
    const struct header headers[] = {
        {"X-Should-Retry", "true"}, {"x-should-retry", "FALSE"}, {"x-should-retry", "maybe"}};
    assert_int_equal(noted(headers, 1).should_retry, SHOULD_RETRY_YES);
    assert_int_equal(noted(headers, 2).should_retry, SHOULD_RETRY_NO);
    assert_int_equal(noted(headers, 3).should_retry, SHOULD_RETRY_NO);
    assert_int_equal(noted(headers, 0).should_retry, SHOULD_RETRY_UNSAID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(retry_after),
        cmocka_unit_test(nonsense_says_nothing),
        cmocka_unit_test(limits),
        cmocka_unit_test(should_retry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
