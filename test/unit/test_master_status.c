#include "master/cli/status_view.h"
#include "master/config/runtime_dir.h"
#include "master/status.h"
#include "shared/base/json.h"
#include "test/unit/config_folder.h"

static void write_example(struct buf *out)
{
    static const char *const listens[] = {"127.0.0.1:8080", "unix:/run/\"http\""};
    static const struct status_process processes[] = {
        {.role = "logger",
         .index = -1,
         .slot = -1,
         .pid = 11,
         .state = "ready",
         .heartbeat_ms = -1},
        {.role = "worker",
         .slot = 3,
         .pid = 12,
         .generation = 2,
         .state = "draining",
         .heartbeat_ms = 150,
         .requests = 1234567,
         .in_flight = 4},
        {.role = "worker",
         .index = 1,
         .slot = -1,
         .generation = 2,
         .state = "starting",
         .heartbeat_ms = -1},
    };
    const struct status status = {
        .state = "serving",
        .pid = 10,
        .started_wall_ms = 1000,
        .config = "/etc/promptgate",
        .generation = 2,
        .generations = 1,
        .listens = listens,
        .listens_count = 2,
        .logged_rows = 99,
        .processes = processes,
        .processes_count = 3,
    };
    status_write(out, &status);
}

static void status_is_json(void **state)
{
    (void)state;
    struct buf out = {0};
    write_example(&out);
    assert_string_equal(
        buf_cstr(&out),
        "{\"state\":\"serving\",\"version\":\"" PROMPTGATE_VERSION "\",\"pid\":10,"
        "\"started\":\"1970-01-01T00:00:01.000Z\",\"config\":\"/etc/promptgate\",\"generation\":2,"
        "\"generations\":1,\"logged_rows\":99,"
        "\"listen\":[\"127.0.0.1:8080\",\"unix:/run/\\\"http\\\"\"],\"processes\":["
        "{\"role\":\"logger\",\"index\":null,\"slot\":null,\"pid\":11,\"generation\":null,"
        "\"state\":\"ready\",\"heartbeat_ms\":null,\"requests\":0,\"in_flight\":0},"
        "{\"role\":\"worker\",\"index\":0,\"slot\":3,\"pid\":12,\"generation\":2,"
        "\"state\":\"draining\",\"heartbeat_ms\":150,\"requests\":1234567,\"in_flight\":4},"
        "{\"role\":\"worker\",\"index\":1,\"slot\":null,\"pid\":null,\"generation\":2,"
        "\"state\":\"starting\",\"heartbeat_ms\":null,\"requests\":0,\"in_flight\":0}]}\n");
    buf_free(&out);
    const struct status empty = {.state = "starting", .pid = 1};
    struct json_object *value = NULL;
    struct error error;
    status_write(&out, &empty);
    assert_true(json_read(buf_view(&out), &value, &error));
    json_object_put(value);
    buf_free(&out);
}

static void people_see_lines_and_a_table(void **state)
{
    (void)state;
    struct buf out = {0}, view = {0};
    struct error error;
    write_example(&out);
    assert_true(status_view(buf_view(&out), &view, &error));
    assert_string_equal(
        buf_cstr(&view),
        "state        serving\n"
        "version      " PROMPTGATE_VERSION "\n"
        "pid          10\n"
        "started      1970-01-01T00:00:01.000Z\n"
        "config       /etc/promptgate\n"
        "generation   2\n"
        "generations  1\n"
        "logged_rows  99\n"
        "listen       127.0.0.1:8080, unix:/run/\"http\"\n"
        "\n"
        "processes:\n"
        "ROLE    INDEX  SLOT  PID  GENERATION  STATE     HEARTBEAT_MS  REQUESTS  IN_FLIGHT\n"
        "logger  -      -     11   -           ready     -             0         0\n"
        "worker  0      3     12   2           draining  150           1234567   4\n"
        "worker  1      -     -    2           starting  -             0         0\n");
    buf_free(&out);
    buf_free(&view);
}

static void assert_view(const char *json, const char *expected)
{
    struct buf view = {0};
    struct error error;
    assert_true(status_view(str_of(json), &view, &error));
    assert_string_equal(buf_cstr(&view), expected);
    buf_free(&view);
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
        cmocka_unit_test(status_is_json),
        cmocka_unit_test(people_see_lines_and_a_table),
        cmocka_unit_test(what_a_newer_master_tells_is_shown),
        cmocka_unit_test_setup_teardown(the_runtime_directory_is_found_in_broken_files,
                                        folder_setup, folder_teardown),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
