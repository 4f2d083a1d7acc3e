#include "master/notify.h"
#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <time.h>

#include <cmocka.h>

/* A service manager: a datagram socket that keeps what it is told. */
struct manager {
    char directory[SCRATCH_PATH];
    int fd;
    struct notify notify;
    char text[1024];
};

static int64_t now_us;

static int64_t set_now_us(void)
{
    return now_us;
}

static int64_t set_wall_ms(void)
{
    return 0;
}

static void bind_manager(struct manager *m, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    bool abstract = path[0] == '@';
    memcpy(address.sun_path, path, len);
    if (abstract)
        address.sun_path[0] = '\0';
    m->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (abstract ? 0 : 1));
    assert_int_equal(bind(m->fd, (struct sockaddr *)&address, size), 0);
    setenv("NOTIFY_SOCKET", path, 1);
}

static int setup(void **state)
{
    struct manager *m = calloc(1, sizeof *m);
    char path[SCRATCH_PATH];
    *state = m;
    m->fd = m->notify.fd = -1;
    if (!scratch_make(m->directory))
        return -1;
    bind_manager(m, scratch_path(m->directory, "notify", path));
    return 0;
}

static int teardown(void **state)
{
    struct manager *m = *state;
    clock_set_source(NULL);
    notify_close(&m->notify);
    close(m->fd);
    scratch_remove(m->directory);
    free(m);
    return 0;
}

/* The next datagram; NULL when none waits. */
static const char *told(struct manager *m)
{
    ssize_t len = recv(m->fd, m->text, sizeof m->text - 1, 0);
    if (len < 0)
        return NULL;
    m->text[len] = '\0';
    return m->text;
}

static void each_state_is_told(void **state)
{
    struct manager *m = *state;
    notify_open(&m->notify);
    notify_ready(&m->notify, "2 workers");
    assert_string_equal(told(m), "READY=1\nSTATUS=2 workers");
    notify_stopping(&m->notify, "draining");
    assert_string_equal(told(m), "STOPPING=1\nSTATUS=draining");
    notify_status(&m->notify, "waits\nREADY=1");
    assert_string_equal(told(m), "STATUS=waits READY=1");
    notify_main_pid(&m->notify, 42);
    assert_string_equal(told(m), "MAINPID=42");
    assert_null(told(m));
}

static void a_reload_says_when_it_began(void **state)
{
    struct manager *m = *state;
    struct timespec before, after;
    unsigned long long us;
    int end = 0;
    notify_open(&m->notify);
    clock_gettime(CLOCK_MONOTONIC, &before);
    notify_reloading(&m->notify, "reading");
    clock_gettime(CLOCK_MONOTONIC, &after);
    const char *text = told(m);
    assert_int_equal(sscanf(text, "RELOADING=1\nMONOTONIC_USEC=%llu\nSTATUS=reading%n", &us, &end),
                     1);
    assert_int_equal(text[end], '\0');
    assert_true(us >= (unsigned long long)before.tv_sec * 1000000 +
                          (unsigned long long)before.tv_nsec / 1000);
    assert_true(us <= (unsigned long long)after.tv_sec * 1000000 +
                          (unsigned long long)after.tv_nsec / 1000);
}

static void an_abstract_address_is_reached(void **state)
{
    struct manager *m = *state;
    char name[64];
    close(m->fd);
    snprintf(name, sizeof name, "@promptgate-test-%d", (int)getpid());
    bind_manager(m, name);
    notify_open(&m->notify);
    notify_status(&m->notify, "here");
    assert_string_equal(told(m), "STATUS=here");
}

static void the_environment_is_cleared(void **state)
{
    struct manager *m = *state;
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", "1", 1);
    notify_open(&m->notify);
    assert_null(getenv("NOTIFY_SOCKET"));
    assert_null(getenv("WATCHDOG_USEC"));
    assert_null(getenv("WATCHDOG_PID"));
}

static void the_watchdog_is_fed_in_time(void **state)
{
    static const struct clock_source source = {set_now_us, set_wall_ms};
    struct manager *m = *state;
    char pid[32];
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("WATCHDOG_USEC", "3000000", 1);
    setenv("WATCHDOG_PID", pid, 1);
    now_us = 1000000;
    clock_set_source(&source);
    notify_open(&m->notify);
    assert_int_equal(m->notify.watchdog_ms, 3000);
    notify_feed(&m->notify);
    assert_string_equal(told(m), "WATCHDOG=1");
    now_us += 999000;
    notify_feed(&m->notify);
    assert_null(told(m));
    now_us += 1000;
    notify_feed(&m->notify);
    assert_string_equal(told(m), "WATCHDOG=1");
}

static void assert_no_watchdog(struct manager *m, const char *time_us, const char *pid)
{
    char path[SCRATCH_PATH];
    notify_close(&m->notify);
    setenv("NOTIFY_SOCKET", scratch_path(m->directory, "notify", path), 1);
    setenv("WATCHDOG_USEC", time_us, 1);
    if (pid)
        setenv("WATCHDOG_PID", pid, 1);
    notify_open(&m->notify);
    assert_int_equal(m->notify.watchdog_ms, 0);
    notify_feed(&m->notify);
    assert_null(told(m));
}

static void another_process_watchdog_is_left_alone(void **state)
{
    struct manager *m = *state;
    assert_no_watchdog(m, "3000000", "1");
    assert_no_watchdog(m, "3000000", "x");
    assert_no_watchdog(m, "soon", NULL);
}

static void without_a_manager_nothing_happens(void **state)
{
    static const char *const useless[] = {"", "relative", "vsock:2:9", "/", "@"};
    struct manager *m = *state;
    char longest[200];
    memset(longest, 'x', sizeof longest - 1);
    longest[0] = '/';
    longest[sizeof longest - 1] = '\0';
    unsetenv("NOTIFY_SOCKET");
    notify_open(&m->notify);
    assert_int_equal(m->notify.fd, -1);
    notify_ready(&m->notify, "nobody hears");
    for (size_t i = 0; i < sizeof useless / sizeof *useless; i++) {
        setenv("NOTIFY_SOCKET", useless[i], 1);
        notify_open(&m->notify);
        assert_int_equal(m->notify.fd, -1);
    }
    setenv("NOTIFY_SOCKET", longest, 1);
    notify_open(&m->notify);
    assert_int_equal(m->notify.fd, -1);
    assert_null(told(m));
}

/* A full queue must not hold the master up: each call comes back. */
static void a_manager_that_does_not_read_is_not_waited_for(void **state)
{
    struct manager *m = *state;
    notify_open(&m->notify);
    for (int i = 0; i < 2000; i++)
        notify_status(&m->notify, "again");
    assert_string_equal(told(m), "STATUS=again");
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(each_state_is_told),
        TEST(a_reload_says_when_it_began),
        TEST(an_abstract_address_is_reached),
        TEST(the_environment_is_cleared),
        TEST(the_watchdog_is_fed_in_time),
        TEST(another_process_watchdog_is_left_alone),
        TEST(without_a_manager_nothing_happens),
        TEST(a_manager_that_does_not_read_is_not_waited_for),
    };
    return cmocka_run_group_tests_name("notify", tests, NULL, NULL);
}
