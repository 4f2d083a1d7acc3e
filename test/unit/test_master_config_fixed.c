/* Which keys a running gateway refuses to change: exactly those that keys.def calls so. */
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_fixed_key_is_named),
        cmocka_unit_test(numbers_may_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
