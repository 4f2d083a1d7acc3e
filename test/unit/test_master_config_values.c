#include "master/config/base_url.h"
#include "master/config/drafts.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static bool parse(enum value_type type, const char *limits, const char *text, union value *value)
{
    return value_parse(type, limits, str_of(text), value);
}

static void assert_whole(enum value_type type, const char *text, int64_t expected)
{
    union value value;
    assert_true(parse(type, "", text, &value));
    assert_int_equal(value.number, expected);
}

static void assert_refused(enum value_type type, const char *limits, const char *text)
{
    union value value;
    if (parse(type, limits, text, &value))
        fail_msg("%s \"%s\" was taken", value_type_name(type), text);
}

static void sizes_and_durations_have_units(void **state)
{
    (void)state;
    assert_whole(VALUE_SIZE, "0", 0);
    assert_whole(VALUE_SIZE, "1024", 1024);
    assert_whole(VALUE_SIZE, "10MiB", 10 << 20);
    assert_whole(VALUE_SIZE, "3GiB", (int64_t)3 << 30);
    assert_whole(VALUE_SIZE, "16KiB", 16384);
    assert_whole(VALUE_DURATION, "200ms", 200);
    assert_whole(VALUE_DURATION, "75s", 75000);
    assert_whole(VALUE_DURATION, "2m", 120000);
    assert_whole(VALUE_DURATION, "1h", 3600000);
    assert_whole(VALUE_DURATION, "90d", 7776000000);
    static const char *const sizes[] = {
        "",       "MiB", "1MB",  "1 MiB",         "-1",
        "1.5MiB", "01",  "1mib", "8589934592GiB", "9223372036854775808"};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        assert_refused(VALUE_SIZE, "", sizes[i]);
    static const char *const times[] = {"30", "0", "1 s", "1min", "-1s", "1h30m", "S", "1S"};
    for (size_t i = 0; i < sizeof times / sizeof *times; i++)
        assert_refused(VALUE_DURATION, "", times[i]);
}

static void limits_include_their_ends(void **state)
{
    (void)state;
    union value value;
    assert_true(parse(VALUE_SIZE, "1KiB..1MiB", "1024", &value));
    assert_true(parse(VALUE_SIZE, "1KiB..1MiB", "1MiB", &value));
    assert_refused(VALUE_SIZE, "1KiB..1MiB", "1023");
    assert_refused(VALUE_SIZE, "1KiB..1MiB", "1048577");
    assert_refused(VALUE_INT, "1..256", "0");
    assert_refused(VALUE_INT, "1..256", "257");
    assert_true(parse(VALUE_NUMBER, "0..2", "2", &value));
    assert_true(parse(VALUE_NUMBER, "0..2", "0.25", &value));
    assert_true(value.decimal == 0.25);
    assert_refused(VALUE_NUMBER, "0..2", "2.001");
    assert_refused(VALUE_NUMBER, "0..2", "-0.1");
    assert_refused(VALUE_NUMBER, "0..2", "nan");
    assert_refused(VALUE_NUMBER, "", "1e3");
    assert_true(parse(VALUE_TEXT, "1..3", "abc", &value));
    assert_refused(VALUE_TEXT, "1..3", "abcd");
    assert_refused(VALUE_TEXT, "1..3", "");
    assert_whole(VALUE_COUNT, "auto", 0);
    assert_refused(VALUE_COUNT, "1..256", "0");
}

static void times_are_rfc_3339(void **state)
{
    (void)state;
    assert_whole(VALUE_TIME, "1970-01-01T00:00:00Z", 0);
    assert_whole(VALUE_TIME, "2027-06-30T00:00:00Z", 1814313600000);
    assert_whole(VALUE_TIME, "2027-06-30T02:00:00.5+02:00", 1814313600500);
    assert_whole(VALUE_TIME, "2027-06-29t22:30:00.123456-01:30", 1814313600123);
    assert_whole(VALUE_TIME, "2024-02-29T23:59:60Z", 1709251200000);
    static const char *const wrong[] = {"2027-06-30",
                                        "2027-06-30T00:00:00",
                                        "2027-06-30 00:00:00Z",
                                        "2027-13-01T00:00:00Z",
                                        "2027-02-29T00:00:00Z",
                                        "2027-06-31T00:00:00Z",
                                        "2027-06-00T00:00:00Z",
                                        "2027-06-30T24:00:00Z",
                                        "2027-06-30T00:60:00Z",
                                        "2027-06-30T00:00:61Z",
                                        "2027-06-30T00:00:00.Z",
                                        "2027-06-30T00:00:00Z ",
                                        "2027-06-30T00:00:00+2:00",
                                        "tomorrow",
                                        ""};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_refused(VALUE_TIME, "", wrong[i]);
}

static void hashes_are_64_digits(void **state)
{
    (void)state;
    char text[] = "sha256:00ff00ff00ff00ff00ff00ff00ff00ff00FF00FF00ff00ff00ff00ff00ff0aA1";
    union value value;
    assert_true(parse(VALUE_HASH, "", text, &value));
    assert_int_equal(value.hash.bytes[1], 0xFF);
    assert_int_equal(value.hash.bytes[31], 0xA1);
    assert_refused(VALUE_HASH, "", text + 1);
    text[10] = 'g';
    assert_refused(VALUE_HASH, "", text);
    text[10] = '0';
    text[sizeof text - 2] = '\0';
    assert_refused(VALUE_HASH, "", text);
}

static void choices_are_counted_from_zero(void **state)
{
    (void)state;
    union value value;
    assert_true(parse(VALUE_ENUM, "|a|b", "b", &value));
    assert_int_equal(value.choice, 1);
    assert_true(parse(VALUE_ENUM, "a|b", "a", &value));
    assert_int_equal(value.choice, 0);
    assert_refused(VALUE_ENUM, "a|b", "");
    assert_refused(VALUE_ENUM, "a|b", "a|b");
    assert_null(value_choice("a|b", 2).at);
    /* The enums of config.h stand in the order of the table. */
    const struct config_key *level = &config_keys[SERVICE_log_level];
    assert_true(str_eq(value_choice(level->limits, LOG_WARNING), STR("warning")));
    const struct config_key *format = &config_keys[SERVICE_log_format];
    assert_true(str_eq(value_choice(format->limits, LOG_JSON), STR("json")));
    const struct config_key *provider = &config_keys[CREDENTIAL_provider];
    for (int i = 0; i < PROVIDER_COUNT; i++)
        assert_true(
            str_eq(value_choice(provider->limits, i), str_of(provider_name((enum provider_id)i))));
}

static void slugs_and_names(void **state)
{
    (void)state;
    char longest[65];
    memset(longest, 'a', 64);
    longest[64] = '\0';
    assert_false(slug_valid(str_of(longest)));
    assert_true(slug_valid(str_of(longest + 1)));
    assert_true(slug_valid(STR("0-a")));
    static const char *const wrong[] = {"",     "-a",     "a-",    "A",  "a_b",     "a.b",
                                        "chat", "models", "usage", "v1", "\xC3\xA9"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        assert_false(slug_valid(str_of(wrong[i])));
    assert_true(config_name_valid(STR("open_ai-2")));
    assert_false(config_name_valid(STR("_a")));
    assert_false(config_name_valid(STR("a/b")));
    assert_false(config_name_valid(STR("")));
}

static bool url_good(const char *url, bool allow_http, const char *kept)
{
    struct str result;
    struct error error;
    if (!base_url_check(str_of(url), allow_http, &result, &error))
        return false;
    assert_true(str_eq(result, str_of(kept)));
    return true;
}

static void base_urls_keep_the_key_safe(void **state)
{
    (void)state;
    assert_true(url_good("https://api.example.com/v1/", false, "https://api.example.com/v1"));
    assert_true(url_good("https://h:8443///", false, "https://h:8443"));
    assert_true(url_good("http://127.0.0.1:99/v1", false, "http://127.0.0.1:99/v1"));
    assert_true(url_good("http://127.9.9.9", false, "http://127.9.9.9"));
    assert_true(url_good("http://localhost:1/", false, "http://localhost:1"));
    assert_true(url_good("http://[::1]:80", false, "http://[::1]:80"));
    assert_true(url_good("http://10.0.0.1", true, "http://10.0.0.1"));
    static const char *const wrong[] = {"http://10.0.0.1",
                                        "http://localhost.example.com",
                                        "http://127.0.0.1.example.com",
                                        "http://127.0.0.1@evil.de",
                                        "ftp://a",
                                        "https://",
                                        "https:///v1",
                                        "https://a b",
                                        "https://a?x=1",
                                        "https://a#x",
                                        "https://u:p@a",
                                        "https://a:0",
                                        "https://a:65536",
                                        "https://a:",
                                        "https://[::1",
                                        "https://[x]/",
                                        "https://a\n",
                                        "http://[::ffff:10.0.0.1]"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (url_good(wrong[i], false, ""))
            fail_msg("%s was taken", wrong[i]);
}

/* Each row of the table must fit its type, its field and its own limits. */
static void the_table_of_keys_is_sound(void **state)
{
    (void)state;
    for (size_t i = 0; i < KEYS_COUNT; i++) {
        const struct config_key *key = &config_keys[i];
        union value value;
        const char *dots = strstr(key->limits, "..");
        bool computed = !key->standard || key->standard[0] == '=';
        bool node = key->type == VALUE_LIST || key->type == VALUE_ADDRESSES;
        if (key->size != value_type_size(key->type))
            fail_msg("%s lands in a field of another type", key->path);
        if (key->required && key->standard)
            fail_msg("%s is required and has a default", key->path);
        if (!computed && !node && !parse(key->type, key->limits, key->standard, &value))
            fail_msg("%s: the default is out of its limits", key->path);
        if (dots && key->type != VALUE_TEXT && !parse(key->type, key->limits, dots + 2, &value))
            fail_msg("%s: the limits make no sense", key->path);
        assert_true(strlen(key->help) > 10);
        for (size_t j = 0; j < i; j++)
            if (config_keys[j].section == key->section)
                assert_string_not_equal(config_keys[j].path, key->path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_and_durations_have_units),
        cmocka_unit_test(limits_include_their_ends),
        cmocka_unit_test(times_are_rfc_3339),
        cmocka_unit_test(hashes_are_64_digits),
        cmocka_unit_test(choices_are_counted_from_zero),
        cmocka_unit_test(slugs_and_names),
        cmocka_unit_test(base_urls_keep_the_key_safe),
        cmocka_unit_test(the_table_of_keys_is_sound),
    };
    return cmocka_run_group_tests_name("values", tests, NULL, NULL);
}
