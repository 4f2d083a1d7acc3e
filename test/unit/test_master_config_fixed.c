/* Which keys a running gateway refuses to change: exactly those that keys.def calls so; and what it
 * writes of them for a process that takes its place. */
#include "master/config/config_fixed.h"

#include "master/config/drafts.h"
#include "master/config/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Where a key's text is in struct config; NULL for one that is none. */
static const char **text_of(struct config *config, const struct config_key *key)
{
    size_t begin = offsetof(struct service_draft, config);
    if (strcmp(key->path, "store.driver") == 0)
        return (const char **)&config->store.driver;
    bool is_text = key->type == VALUE_PATH || key->type == VALUE_TEXT || key->type == VALUE_SECRET;
    if (key->section != SECTION_SERVICE || !is_text || key->offset < begin ||
        key->offset >= begin + sizeof *config)
        return NULL;
    return (const char **)(void *)((char *)config + (key->offset - begin));
}

static void every_fixed_key_is_named(void **state)
{
    unsigned named = 0;
    (void)state;
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        struct config old = {0}, new = {0};
        const char **before = text_of(&old, key), **after = text_of(&new, key);
        if (!before) {
            assert_true(key->reloadable); /* or config_fixed could not look at it */
            continue;
        }
        *before = "one";
        *after = "other";
        const char *said = config_fixed_difference(&old, &new);
        if (key->reloadable) {
            assert_null(said);
            continue;
        }
        named++;
        assert_string_equal(said, key->path);
        *after = NULL; /* taken out of the file */
        assert_string_equal(config_fixed_difference(&old, &new), key->path);
        assert_string_equal(config_fixed_difference(&new, &old), key->path);
        *after = (char[]){"one"}; /* the same words at another place */
        assert_null(config_fixed_difference(&old, &new));
    }
    assert_true(named >= 6);
}

static void numbers_may_change(void **state)
{
    struct config old = {.workers = 1, .shutdown_timeout_ms = 1};
    struct config new = {.workers = 2, .shutdown_timeout_ms = 2};
    (void)state;
    assert_null(config_fixed_difference(&old, &new));
}

/* --- in another process --- */

static const char *differs(const struct config *old, const struct config *new)
{
    struct buf text = {0};
    config_fixed_write(old, &text);
    const char *said = config_fixed_differs(buf_view(&text), new);
    buf_free(&text);
    return said;
}

/* Each pair of values that are not the same. */
static void expect_told(const struct config_key *key)
{
    static const char *const values[][2] = {{"one", "other"}, {"one", NULL}, {NULL, "one"},
                                            {NULL, ""},       {"-", NULL},   {"one", "one\n"}};
    struct config old = {0}, new = {0};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        *text_of(&old, key) = values[i][0];
        *text_of(&new, key) = values[i][1];
        const char *said = differs(&old, &new);
        assert_string_equal(said ? said : "none", key->reloadable ? "none" : key->path);
        assert_null(differs(&new, &new));
    }
}

static void what_was_written_tells_every_key(void **state)
{
    struct config config = {0};
    (void)state;
    for (size_t i = 0; i < KEYS_COUNT; i++)
        if (text_of(&config, &config_keys[i]))
            expect_told(&config_keys[i]);
}

static const struct config whole = {
    .state_dir = "/var/lib/secret-1",
    .runtime_dir = "/run/secret-2",
    .timezone = "secret-3/Berlin",
    .user = "secret-4",
    .group = "secret-5",
    .store = {.driver = "secret-6",
              .path = "/secret-7",
              .dsn = "postgres://gateway:secret-8@db/logs"},
    .sessions_path = "/secret-9",
};

/* The text is in memory that another program gets. */
static void no_value_is_written_in_clear(void **state)
{
    (void)state;
    struct buf text = {0};
    config_fixed_write(&whole, &text);
    assert_non_null(strstr(buf_cstr(&text), "store.dsn "));
    assert_null(strstr(buf_cstr(&text), "secret"));
    assert_null(config_fixed_differs(buf_view(&text), &whole));
    buf_free(&text);
}

/* A binary that has a key more, or one less. */
static void keys_of_one_side_count_as_the_same(void **state)
{
    (void)state;
    struct config new = whole;
    struct buf text = {0};
    new.user = "another";
    buf_puts(&text, "later.key 0123\n");
    config_fixed_write(&whole, &text);
    assert_string_equal(config_fixed_differs(buf_view(&text), &new), "user");
    char *line = strstr(buf_cstr(&text), "\nuser ");
    memcpy(line, "\nusex ", 6);
    assert_null(config_fixed_differs(buf_view(&text), &new));
    assert_null(config_fixed_differs(STR(""), &new));
    buf_free(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fixed_key_is_named),
        cmocka_unit_test(numbers_may_change),
        cmocka_unit_test(what_was_written_tells_every_key),
        cmocka_unit_test(no_value_is_written_in_clear),
        cmocka_unit_test(keys_of_one_side_count_as_the_same),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
