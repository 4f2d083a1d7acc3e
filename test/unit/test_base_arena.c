#include "shared/base/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static bool all_zero(const unsigned char *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (bytes[i])
            return false;
    return true;
}

static void memory_is_zero_aligned_and_its_own(void **state)
{
    (void)state;
    struct arena a = {0};
    unsigned char *blocks[500];
    for (size_t i = 0; i < 500; i++) {
        blocks[i] = arena_alloc(&a, i);
        assert_int_equal((uintptr_t)blocks[i] % _Alignof(max_align_t), 0);
        assert_true(all_zero(blocks[i], i));
        memset(blocks[i], (int)(i % 255) + 1, i);
    }
    for (size_t i = 0; i < 500; i++)
        for (size_t j = 0; j < i; j++)
            assert_int_equal(blocks[i][j], i % 255 + 1);
    arena_free(&a);
    assert_null(a.chunks);
}

static void large_blocks_fit(void **state)
{
    (void)state;
    struct arena a = {0};
    char *small = arena_strdup(&a, "small");
    unsigned char *large = arena_alloc(&a, 1000000);
    assert_true(all_zero(large, 1000000));
    memset(large, 0xFF, 1000000);
    assert_string_equal(small, "small");
    assert_string_equal(arena_strdup(&a, "after"), "after");
    arena_free(&a);
}

static void reset_keeps_the_first_chunk(void **state)
{
    (void)state;
    struct arena a = {0};
    char *first = arena_alloc(&a, 100);
    memset(first, 'x', 100);
    for (int i = 0; i < 100; i++)
        memset(arena_alloc(&a, 5000), 'x', 5000);
    arena_reset(&a);
    char *again = arena_alloc(&a, 100);
    assert_ptr_equal(again, first);
    assert_true(all_zero((unsigned char *)again, 100));
    arena_free(&a);
}

static void reset_gives_a_large_first_chunk_back(void **state)
{
    (void)state;
    struct arena a = {0};
    memset(arena_alloc(&a, 1000000), 'x', 1000000);
    arena_reset(&a);
    assert_null(a.chunks);
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, 1));
    arena_free(&a);
    arena_free(&a);
}

static void copies_are_terminated(void **state)
{
    (void)state;
    struct arena a = {0};
    struct str copy = arena_copy(&a, (struct str){"abcdef", 3});
    assert_int_equal(copy.len, 3);
    assert_string_equal(copy.at, "abc");
    struct str nul = arena_copy(&a, STR("a\0b"));
    assert_true(str_eq(nul, STR("a\0b")));
    assert_null(arena_copy(&a, STR_ABSENT).at);
    struct str empty = arena_copy(&a, STR(""));
    assert_string_equal(empty.at, "");
    arena_free(&a);
}

static void prints(void **state)
{
    (void)state;
    struct arena a = {0};
    assert_string_equal(arena_printf(&a, "%s=%d", "x", -1), "x=-1");
    assert_int_equal(strlen(arena_printf(&a, "%20000s", "")), 20000);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_is_zero_aligned_and_its_own),
        cmocka_unit_test(large_blocks_fit),
        cmocka_unit_test(reset_keeps_the_first_chunk),
        cmocka_unit_test(reset_gives_a_large_first_chunk_back),
        cmocka_unit_test(copies_are_terminated),
        cmocka_unit_test(prints),
    };
    return cmocka_run_group_tests_name("base/arena", tests, NULL, NULL);
}
