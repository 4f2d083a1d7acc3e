#include "shared/schema/pattern.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct pattern *compiled(struct arena *arena, const char *source)
{
    struct pattern *pattern = NULL;
    struct error error;
    size_t offset;
    if (!pattern_compile(str_of(source), arena, &pattern, &offset, &error))
        fail_msg("%s: %s", source, error.message);
    return pattern;
}

static void texts_that_match_and_differ(void **state)
{
    static const struct {
        const char *pattern, *text;
        enum pattern_verdict verdict;
    } cases[] = {
        {"b", "abc", PATTERN_MATCHES},
        {"^b", "abc", PATTERN_DIFFERS},
        {"^a.c$",
         "a\xc3\xa4"
         "c",
         PATTERN_MATCHES},
        {"^\\d{3}$", "123", PATTERN_MATCHES},
        {"^\\d{3}$", "123\n", PATTERN_DIFFERS},
        {"^\\p{Lu}", "\xc3\x84", PATTERN_MATCHES},
        {"", "", PATTERN_MATCHES},
        {"^(a|b)*$", "abba", PATTERN_MATCHES},
        {"^$", "x", PATTERN_DIFFERS},
    };
    struct arena arena = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (pattern_match(compiled(&arena, cases[i].pattern), str_of(cases[i].text)) !=
            cases[i].verdict)
            fail_msg("%s on %s", cases[i].pattern, cases[i].text);
    arena_free(&arena);
}

static void mistakes_have_a_place(void **state)
{
    static const struct {
        const char *source;
        size_t offset;
    } cases[] = {{"a(b", 3}, {"a)", 1}, {"[z-a]", 3}, {"*", 0}, {"\\C", 2}};
    struct arena arena = {0};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct pattern *pattern;
        struct error error;
        size_t offset;
        assert_false(pattern_compile(str_of(cases[i].source), &arena, &pattern, &offset, &error));
        assert_int_equal(offset, cases[i].offset);
        assert_true(strlen(error.message) > 5);
    }
    arena_free(&arena);
}

/* A hostile text on a careless pattern: exponential without a limit. */
static void work_is_bounded(void **state)
{
    static char text[5001];
    struct arena arena = {0};
    (void)state;
    memset(text, 'a', sizeof text - 1);
    assert_int_equal(pattern_match(compiled(&arena, "^(a+)+$"),
                                   (struct str){"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", 41}),
                     PATTERN_TOO_COSTLY);
    assert_int_equal(pattern_match(compiled(&arena, "(x+x+)+y"), str_of(text)), PATTERN_DIFFERS);
    assert_int_equal(pattern_match(compiled(&arena, "^a*$"), str_of(text)), PATTERN_MATCHES);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_that_match_and_differ),
        cmocka_unit_test(mistakes_have_a_place),
        cmocka_unit_test(work_is_bounded),
    };
    return cmocka_run_group_tests_name("pattern", tests, NULL, NULL);
}
