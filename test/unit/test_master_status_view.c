#include "master/cli/status_view.h"
#include "master/config/runtime_dir.h"
#include "test/unit/config_folder.h"

static void assert_view(const char *json, const char *expected)
{
    struct buf view = {0};
    struct error error;
    assert_true(status_view(str_of(json), &view, &error));
    assert_string_equal(buf_cstr(&view), expected);
    buf_free(&view);
}

static void people_see_lines_and_tables(void **state)
{
    (void)state;
    assert_view(
        "{\"version\":\"0.1.0\",\"pid\":10,\"stopping\":false,\"listening\":[\"a:1\",\"unix:/b\"],"
        "\"generations\":["
        "{\"number\":1,\"state\":\"retiring\",\"workers\":[]},"
        "{\"number\":2,\"state\":\"serving\",\"workers\":["
        "{\"index\":0,\"pid\":12,\"ready\":true,\"requests\":1234567},"
        "{\"index\":1,\"pid\":null,\"ready\":false,\"requests\":0}]}]}",
        "version      0.1.0\n"
        "pid          10\n"
        "stopping     false\n"
        "listening    a:1, unix:/b\n"
        "\n"
        "generations:\n"
        "NUMBER  STATE\n"
        "1       retiring\n"
        "2       serving\n"
        "\n"
        "workers of number 2:\n"
        "INDEX  PID  READY  REQUESTS\n"
        "0      12   true   1234567\n"
        "1      -    false  0\n");
}

static void what_a_newer_master_tells_is_shown(void **state)
{
    (void)state;
    struct buf view = {0};
    struct error error;
    assert_view("{\"new\":{\"a\":1},\"list\":[],\"rows\":[{\"b\":1},{\"c\":2},3]}",
                "new          {\"a\":1}\nlist\n\nrows:\nB\n1\n-\n-\n");
    assert_view("{\"state\":\"a\\u001b[2Jb\\nc\"}", "state        a [2Jb c\n");
    assert_false(status_view(STR("[1]"), &view, &error));
    assert_false(status_view(STR("{"), &view, &error));
    assert_false(status_view(STR(""), &view, &error));
    buf_free(&view);
}

/* --- where a running gateway is found --- */

static void assert_runtime_dir(struct config_folder *folder, const char *text, const char *expected)
{
    struct buf path = {0};
    buf_puts(&path, "what was there before");
    folder_write(folder, "promptgate.yaml", text);
    config_find_runtime_dir(folder->path, &path);
    assert_string_equal(buf_cstr(&path), expected);
    buf_free(&path);
}

static void the_runtime_directory_is_found_in_broken_files(void **state)
{
    struct config_folder *folder = *state;
    assert_runtime_dir(folder, "runtime_dir: /run/a\n", "/run/a");
    assert_runtime_dir(folder, "{ runtime_dir: /run/a }\n", "/run/a");
    assert_runtime_dir(folder, "workers: many\nruntime_dir: /run/b # here\n", "/run/b");
    assert_runtime_dir(folder, "runtime_dir: \"/run/c d\"\nlisten: [\n", "/run/c d");
    assert_runtime_dir(folder, "x: [\nruntime_dir:   '/run/e'  \n", "/run/e");
    assert_runtime_dir(folder, "x: [\nruntime_dir: /run/f\r\n", "/run/f");
    assert_runtime_dir(folder, "", "/run/promptgate");
    assert_runtime_dir(folder, "x: [\n", "/run/promptgate");
    assert_runtime_dir(folder, "x: [\nruntime_dir: relative\n", "/run/promptgate");
    assert_runtime_dir(folder, "x: [\nruntime_dir:", "/run/promptgate");
    assert_runtime_dir(folder, "x: [\n# runtime_dir: /run/g\n", "/run/promptgate");
    unlink(folder_path(folder, "promptgate.yaml"));
    struct buf path = {0};
    config_find_runtime_dir(folder->path, &path);
    assert_string_equal(buf_cstr(&path), "/run/promptgate");
    buf_free(&path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(people_see_lines_and_tables),
        cmocka_unit_test(what_a_newer_master_tells_is_shown),
        cmocka_unit_test_setup_teardown(the_runtime_directory_is_found_in_broken_files,
                                        folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests_name("status_view", tests, NULL, NULL);
}
