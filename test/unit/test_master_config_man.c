#include "master/config/keys.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

static const char page_path[] = "man/promptgate.yaml.5";

/* ".It Cm http.max_body No : size, 1..1GiB, default 10MiB" */
static void heading(const struct config_key *key, char *line, size_t size)
{
    const char *limits = key_limits_shown(key), *standard = key_standard_shown(key);
    bool plain_map = key->type == VALUE_MAP || key->type == VALUE_LIST;
    snprintf(line, size, ".It Cm %s No : %s%s%s%s%s", key->path, value_type_name(key->type),
             *limits ? ", " : "", limits,
             key->required                ? ", required"
             : *standard                  ? ", default "
             : key->standard || plain_map ? ""
                                          : ", none by default",
             standard);
}

/* Each key has its heading in the page, in the order of the table, and the page has no others. */
static void the_page_names_every_key(void **state)
{
    (void)state;
    FILE *page = fopen(page_path, "r");
    assert_non_null(page);
    char line[512], wanted[512];
    size_t next = 0;
    while (fgets(line, sizeof line, page)) {
        line[strcspn(line, "\n")] = '\0';
        if (strncmp(line, ".It Cm ", 7) != 0)
            continue;
        if (next == KEYS_COUNT)
            fail_msg("%s has a key too many: %s", page_path, line);
        heading(&config_keys[next++], wanted, sizeof wanted);
        assert_string_equal(line, wanted);
    }
    fclose(page);
    if (next < KEYS_COUNT) {
        heading(&config_keys[next], wanted, sizeof wanted);
        fail_msg("%s ends before: %s", page_path, wanted);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_page_names_every_key)};
    return cmocka_run_group_tests_name("promptgate.yaml.5", tests, NULL, NULL);
}
