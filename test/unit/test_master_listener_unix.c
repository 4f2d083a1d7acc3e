#include "master/listener_unix.h"
#include "test/unit/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct place {
    char directory[SCRATCH_PATH], path[SCRATCH_PATH], text[SCRATCH_PATH + 8];
    struct config_listen address;
    struct socket_file file;
};

static int setup(void **state)
{
    struct place *place = calloc(1, sizeof *place);
    *state = place;
    place->file.fd = -1;
    if (!scratch_make(place->directory))
        return -1;
    scratch_path(place->directory, "http", place->path);
    snprintf(place->text, sizeof place->text, "unix:%s", place->path);
    place->address.text = place->text;
    place->address.address.local.sun_family = AF_UNIX;
    strcpy(place->address.address.local.sun_path, place->path);
    return 0;
}

static int teardown(void **state)
{
    struct place *place = *state;
    listener_unix_close(&place->file);
    scratch_remove(place->directory);
    free(place);
    return 0;
}

static bool can_connect(const struct place *place)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool done = connect(fd, &place->address.address.any, sizeof place->address.address.local) == 0;
    close(fd);
    return done;
}

static void owner_and_group_may_connect(void **state)
{
    struct place *place = *state;
    struct error error;
    struct stat status;
    mode_t before = umask(0077);
    assert_true(listener_unix_open(&place->address, 16, &place->file, &error));
    assert_int_equal(umask(before), 0077);
    assert_int_equal(stat(place->path, &status), 0);
    assert_true(S_ISSOCK(status.st_mode));
    assert_int_equal(status.st_mode & 0777, 0660);
    assert_true(fcntl(place->file.fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(place->file.fd, F_GETFD) & FD_CLOEXEC);
    assert_true(can_connect(place));
    listener_unix_close(&place->file);
    assert_int_equal(access(place->path, F_OK), -1);
}

static void a_stale_socket_is_replaced(void **state)
{
    struct place *place = *state;
    struct error error;
    assert_true(listener_unix_open(&place->address, 16, &place->file, &error));
    close(place->file.fd);
    assert_false(can_connect(place));
    assert_true(listener_unix_open(&place->address, 16, &place->file, &error));
    assert_true(can_connect(place));
}

static void what_is_in_use_or_foreign_stays(void **state)
{
    struct place *place = *state;
    struct socket_file second;
    struct error error;
    char expected[SCRATCH_PATH * 3];
    assert_true(listener_unix_open(&place->address, 16, &place->file, &error));
    assert_false(listener_unix_open(&place->address, 16, &second, &error));
    snprintf(expected, sizeof expected, "cannot listen on unix:%s: another process listens at %s",
             place->path, place->path);
    assert_string_equal(error.message, expected);
    assert_int_equal(second.fd, -1);
    assert_true(can_connect(place));
    listener_unix_close(&place->file);
    close(open(place->path, O_CREAT | O_WRONLY, 0600));
    assert_false(listener_unix_open(&place->address, 16, &second, &error));
    assert_non_null(strstr(error.message, "is no socket"));
    assert_int_equal(access(place->path, F_OK), 0);
}

static void a_missing_directory_is_told(void **state)
{
    struct place *place = *state;
    struct error error;
    snprintf(place->address.address.local.sun_path, 100, "%.60s/none/http", place->directory);
    assert_false(listener_unix_open(&place->address, 16, &place->file, &error));
    assert_non_null(strstr(error.message, "No such file or directory"));
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(owner_and_group_may_connect),
        TEST(a_stale_socket_is_replaced),
        TEST(what_is_in_use_or_foreign_stays),
        TEST(a_missing_directory_is_told),
    };
    return cmocka_run_group_tests_name("listener_unix", tests, NULL, NULL);
}
