#include "master/control.h"
#include "master/control_client.h"
#include "shared/base/clock.h"
#include "test/unit/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/wait.h>

#include <cmocka.h>

enum { NOBODY = 65534 };

/* A master that notes what it is asked, and answers when the test says so. */
struct master {
    char directory[SCRATCH_PATH], path[SCRATCH_PATH];
    struct control control;
    uint64_t request;
    unsigned asked[CONTROL_TOKENS + 1]; /* the last verb */
    char argument[80];
    struct str at_once; /* the answer from within the call; absent = later */
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

static void ask(void *context, uint64_t request, enum control_verb verb, const char *argument)
{
    struct master *m = context;
    m->asked[verb]++;
    snprintf(m->argument, sizeof m->argument, "%s", argument);
    m->request = request;
    if (m->at_once.at)
        control_answer(&m->control, request, true, m->at_once);
}

static int setup(void **state)
{
    static const struct clock_source source = {set_now_us, set_wall_ms};
    struct master *m = calloc(1, sizeof *m);
    struct error error;
    *state = m;
    control_init(&m->control);
    now_us = 1000000;
    clock_set_source(&source);
    if (!scratch_make(m->directory))
        return -1;
    scratch_path(m->directory, "control", m->path);
    return control_open(&m->control, m->directory, ask, m, &error) ? 0 : -1;
}

static int teardown(void **state)
{
    struct master *m = *state;
    control_close(&m->control);
    clock_set_source(NULL);
    scratch_remove(m->directory);
    free(m);
    return 0;
}

/* One turn of the master's loop. */
static int turn(struct master *m)
{
    struct pollfd descriptors[CONTROL_DESCRIPTORS_MAX];
    size_t count = control_descriptors(&m->control, descriptors);
    assert_true(count <= CONTROL_DESCRIPTORS_MAX);
    int found = poll(descriptors, count, 0);
    control_handle(&m->control, descriptors, count);
    return found;
}

static int client_open(struct master *m)
{
    struct sockaddr_un address;
    struct error error;
    assert_true(socket_file_address(m->path, &address, &error));
    int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static int client_ask(struct master *m, const char *request)
{
    int fd = client_open(m);
    assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
    turn(m);
    turn(m);
    return fd;
}

/* Everything up to the end of the connection. */
static const char *client_end(struct master *m, int fd)
{
    static char text[1 << 20];
    size_t len = 0;
    for (;;) {
        turn(m);
        ssize_t got = recv(fd, text + len, sizeof text - len - 1, 0);
        if (got <= 0) {
            assert_int_equal(got, 0);
            break;
        }
        len += (size_t)got;
    }
    text[len] = '\0';
    close(fd);
    return text;
}

static bool client_waits(int fd)
{
    char byte;
    return recv(fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

static void a_request_is_answered_at_once_or_later(void **state)
{
    struct master *m = *state;
    m->at_once = STR("{\"pid\":1}\n");
    assert_string_equal(client_end(m, client_ask(m, "status")), "ok\n{\"pid\":1}\n");
    m->at_once = STR_ABSENT;
    int fd = client_ask(m, "reload");
    for (int i = 0; i < 10; i++) {
        now_us += 60 * 1000000;
        turn(m);
    }
    assert_true(client_waits(fd));
    control_answer(&m->control, m->request, false, STR("x.yaml:1:1: wrong\n"));
    control_answer(&m->control, m->request, true, STR("too late"));
    assert_string_equal(client_end(m, fd), "failed\nx.yaml:1:1: wrong\n");
    assert_int_equal(m->asked[CONTROL_STATUS], 1);
    assert_int_equal(m->asked[CONTROL_RELOAD], 1);
    assert_int_equal(m->asked[CONTROL_STOP], 0);
}

static void what_is_unknown_is_refused(void **state)
{
    static const char *const unknown[] = {"halt",     "reload ",  "reloa",  "RELOAD",
                                          "reload\n", "reload x", "tokens", "tokens "};
    struct master *m = *state;
    char longest[500];
    memset(longest, 'r', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_true(strncmp(client_end(m, client_ask(m, unknown[i])), "failed\n", 7) == 0);
    assert_true(strncmp(client_end(m, client_ask(m, longest)), "failed\n", 7) == 0);
    char argument[8 + CONTROL_ARGUMENT_MAX + 1] = "tokens ";
    memset(argument + 7, 'a', CONTROL_ARGUMENT_MAX + 1);
    assert_true(strncmp(client_end(m, client_ask(m, argument)), "failed\n", 7) == 0);
    for (size_t i = 0; i < sizeof m->asked / sizeof *m->asked; i++)
        assert_int_equal(m->asked[i], 0);
}

/* Another master listens at the same socket from now on: who waits is referred to it. */
static void the_socket_becomes_another_masters(void **state)
{
    struct master *m = *state;
    struct master other = {.at_once = STR("by the other")};
    struct socket_file file = m->control.socket;
    struct error error;
    int waits = client_ask(m, "upgrade"), referred = client_ask(m, "reload");
    uint64_t reload = m->request;
    assert_int_equal(m->asked[CONTROL_UPGRADE], 1);
    file.fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 0);
    control_leave(&m->control);
    control_adopt(&other.control, &file, ask, &other);
    assert_true(control_begin(&other.control, &error));
    strcpy(other.path, m->path);
    assert_string_equal(client_end(&other, client_ask(&other, "status")), "ok\nby the other");
    control_refer(&m->control, reload);
    assert_string_equal(client_end(m, referred), "again\n");
    control_answer(&m->control, reload - 1, true, STR("done"));
    assert_string_equal(client_end(m, waits), "ok\ndone");
    control_close(&m->control); /* the file stays */
    assert_int_equal(access(m->path, F_OK), 0);
    control_close(&other.control);
    assert_int_not_equal(access(m->path, F_OK), 0);
}

static void a_request_may_have_an_argument(void **state)
{
    struct master *m = *state;
    m->at_once = STR("taken");
    char argument[8 + CONTROL_ARGUMENT_MAX] = "tokens ";
    memset(argument + 7, 'a', CONTROL_ARGUMENT_MAX);
    assert_string_equal(client_end(m, client_ask(m, argument)), "ok\ntaken");
    assert_string_equal(m->argument, argument + 7);
    assert_string_equal(client_end(m, client_ask(m, "tokens web")), "ok\ntaken");
    assert_string_equal(m->argument, "web");
    assert_string_equal(client_end(m, client_ask(m, "status")), "ok\ntaken");
    assert_string_equal(m->argument, "");
}

/* Larger than what the socket holds: goes on as the client reads, and the loop sleeps between. */
static void a_long_answer_goes_in_parts(void **state)
{
    struct master *m = *state;
    size_t len = 900000;
    char *text = malloc(len);
    for (size_t i = 0; i < len; i++)
        text[i] = (char)('a' + i % 23);
    int fd = client_ask(m, "status");
    control_answer(&m->control, m->request, true, (struct str){text, len});
    turn(m);
    assert_int_equal(turn(m), 0);
    const char *got = client_end(m, fd);
    assert_int_equal(strlen(got), len + 3);
    assert_memory_equal(got + 3, text, len);
    free(text);
}

static void a_client_that_left_is_forgotten(void **state)
{
    struct master *m = *state;
    struct pollfd descriptors[CONTROL_DESCRIPTORS_MAX];
    int fd = client_ask(m, "stop");
    uint64_t gone = m->request;
    close(fd);
    turn(m);
    assert_int_equal(control_descriptors(&m->control, descriptors), 1);
    int next = client_ask(m, "reload");
    control_answer(&m->control, gone, true, STR("for the first"));
    assert_true(client_waits(next));
    control_answer(&m->control, m->request, true, STR("for the second"));
    assert_string_equal(client_end(m, next), "ok\nfor the second");
}

static void who_says_nothing_or_takes_nothing_is_dropped(void **state)
{
    struct master *m = *state;
    struct pollfd descriptors[CONTROL_DESCRIPTORS_MAX];
    size_t len = 900000;
    char *text = calloc(1, len);
    int silent = client_open(m), full = client_ask(m, "status");
    control_answer(&m->control, m->request, true, (struct str){text, len});
    free(text);
    turn(m);
    assert_int_equal(control_descriptors(&m->control, descriptors), 3);
    now_us += 5100 * 1000;
    turn(m);
    assert_int_equal(control_descriptors(&m->control, descriptors), 2);
    now_us += 5100 * 1000;
    turn(m);
    assert_int_equal(control_descriptors(&m->control, descriptors), 1);
    close(silent);
    close(full);
}

static void who_says_two_things_is_dropped(void **state)
{
    struct master *m = *state;
    struct pollfd descriptors[CONTROL_DESCRIPTORS_MAX];
    int fd = client_ask(m, "reload");
    assert_int_equal(send(fd, "stop", 4, 0), 4);
    turn(m);
    assert_int_equal(m->asked[CONTROL_STOP], 0);
    assert_int_equal(control_descriptors(&m->control, descriptors), 1);
    close(fd);
}

/* More wait in the socket's queue; no turn is spent on them until there is room. */
static void clients_are_bounded(void **state)
{
    struct master *m = *state;
    int fds[CONTROL_CLIENTS_MAX];
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        fds[i] = client_ask(m, "reload");
    assert_int_equal(m->asked[CONTROL_RELOAD], CONTROL_CLIENTS_MAX);
    int waiting = client_ask(m, "status");
    assert_int_equal(turn(m), 0);
    assert_int_equal(m->asked[CONTROL_STATUS], 0);
    close(fds[3]);
    turn(m);
    turn(m);
    turn(m);
    assert_int_equal(m->asked[CONTROL_STATUS], 1);
    for (int i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (i != 3)
            close(fds[i]);
    close(waiting);
}

static void only_the_own_user_and_root_are_heard(void **state)
{
    struct master *m = *state;
    struct stat status;
    assert_int_equal(stat(m->path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    if (geteuid() != 0) {
        print_message("needs root to be somebody else: only the file's mode was looked at\n");
        return;
    }
    chmod(m->directory, 0755);
    chmod(m->path, 0666);
    m->at_once = STR("told");
    pid_t child = fork();
    if (child == 0) {
        /* The peer of a connection is who connected, whatever it becomes. */
        struct sockaddr_un address;
        struct error error;
        char text[256];
        bool good = setresuid(NOBODY, NOBODY, NOBODY) == 0 &&
                    socket_file_address(m->path, &address, &error);
        int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
        good = good && connect(fd, (struct sockaddr *)&address, sizeof address) == 0 &&
               send(fd, "status", 6, 0) == 6;
        ssize_t got = good ? recv(fd, text, sizeof text, 0) : -1;
        _exit(got > 7 && memcmp(text, "failed\n", 7) == 0 ? 0 : 1);
    }
    int ended = 0, wait_status = -1;
    while (ended == 0) {
        turn(m);
        ended = waitpid(child, &wait_status, WNOHANG);
    }
    assert_int_equal(wait_status, 0);
    assert_int_equal(m->asked[CONTROL_STATUS], 0);
}

/* A child's closing takes nothing from the master. */
static void a_child_closes_its_copies_alone(void **state)
{
    struct master *m = *state;
    int wait_status;
    int fd = client_ask(m, "status");
    pid_t child = fork();
    if (child == 0) {
        control_close_inherited(&m->control);
        _exit(m->control.socket.fd == -1 ? 0 : 1);
    }
    waitpid(child, &wait_status, 0);
    assert_int_equal(wait_status, 0);
    assert_int_equal(access(m->path, F_OK), 0);
    control_answer(&m->control, m->request, true, STR("still here"));
    assert_string_equal(client_end(m, fd), "ok\nstill here");
}

/* --- the socket's file --- */

static void a_stale_file_is_replaced(void **state)
{
    struct master *m = *state;
    struct control second;
    struct error error;
    /* The master died: nobody listens, the file stays. */
    close(m->control.socket.fd);
    m->control.socket.fd = -1;
    assert_int_equal(access(m->path, F_OK), 0);
    assert_true(control_open(&second, m->directory, ask, m, &error));
    control_close(&second);
    assert_int_equal(access(m->path, F_OK), -1);
}

static void a_living_one_and_a_foreign_file_are_refused(void **state)
{
    struct master *m = *state;
    struct control second;
    struct error error;
    assert_false(control_open(&second, m->directory, ask, m, &error));
    assert_non_null(strstr(error.message, "another process listens at"));
    m->at_once = STR("first");
    assert_string_equal(client_end(m, client_ask(m, "status")), "ok\nfirst");
    control_close(&m->control);
    close(open(m->path, O_CREAT | O_WRONLY, 0600));
    assert_false(control_open(&second, m->directory, ask, m, &error));
    assert_non_null(strstr(error.message, "is no socket"));
    assert_int_equal(access(m->path, F_OK), 0);
    unlink(m->path);
    assert_int_equal(symlink("elsewhere", m->path), 0);
    assert_false(control_open(&second, m->directory, ask, m, &error));
    unlink(m->path);
}

/* What took our file's place is not ours to remove. */
static void closing_removes_the_own_file_alone(void **state)
{
    struct master *m = *state;
    unlink(m->path);
    close(open(m->path, O_CREAT | O_WRONLY, 0600));
    control_close(&m->control);
    assert_int_equal(access(m->path, F_OK), 0);
    unlink(m->path);
}

static void a_path_that_is_too_long_is_told(void **state)
{
    (void)state;
    struct control control;
    struct error error;
    char directory[200];
    memset(directory, 'd', sizeof directory - 1);
    directory[0] = '/';
    directory[sizeof directory - 1] = '\0';
    assert_false(control_open(&control, directory, ask, NULL, &error));
    assert_non_null(strstr(error.message, "too long for a socket: 107 bytes at most"));
}

/* --- the command line's side --- */

/* The other end in a process of its own: asks, and says what it got. */
static pid_t ask_in_child(struct master *m, const char *request, bool until_gone,
                          enum control_result expected, const char *answer)
{
    pid_t child = fork();
    if (child != 0)
        return child;
    struct buf text = {0};
    struct error error = {""};
    clock_set_source(NULL);
    enum control_result result = control_ask(m->directory, request, until_gone, &text, &error);
    bool told = result == CONTROL_OK || result == CONTROL_REFUSED;
    bool good = result == expected && strcmp(told ? buf_cstr(&text) : error.message, answer) == 0;
    if (!good)
        fprintf(stderr, "result %d, text \"%s\", error \"%s\"\n", result, buf_cstr(&text),
                error.message);
    _exit(good ? 0 : 1);
}

static int turn_until_end(struct master *m, pid_t child)
{
    int wait_status = -1;
    while (waitpid(child, &wait_status, WNOHANG) == 0)
        turn(m);
    return wait_status;
}

static void the_client_gets_the_whole_answer(void **state)
{
    struct master *m = *state;
    static char text[300000];
    memset(text, 'z', sizeof text - 1);
    m->at_once = str_of(text);
    pid_t child = ask_in_child(m, "status", false, CONTROL_OK, text);
    assert_int_equal(turn_until_end(m, child), 0);
    child = ask_in_child(m, "hello", false, CONTROL_REFUSED,
                         "this master does not know that request\n");
    assert_int_equal(turn_until_end(m, child), 0);
}

static void the_client_is_told_when_no_master_is_there(void **state)
{
    struct master *m = *state;
    char expected[SCRATCH_PATH + 64];
    int wait_status;
    snprintf(expected, sizeof expected, "no gateway is running: nobody listens at %s", m->path);
    close(m->control.socket.fd);
    m->control.socket.fd = -1;
    for (int i = 0; i < 2; i++) {
        pid_t child = ask_in_child(m, "stop", true, CONTROL_NO_MASTER, expected);
        waitpid(child, &wait_status, 0);
        assert_int_equal(wait_status, 0);
        unlink(m->path);
    }
}

static void the_client_is_told_when_the_master_goes_away(void **state)
{
    struct master *m = *state;
    int wait_status;
    pid_t child =
        ask_in_child(m, "reload", false, CONTROL_BROKEN, "the gateway went away without an answer");
    while (m->asked[CONTROL_RELOAD] == 0)
        turn(m);
    control_close(&m->control);
    waitpid(child, &wait_status, 0);
    assert_int_equal(wait_status, 0);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_request_is_answered_at_once_or_later),
        TEST(what_is_unknown_is_refused),
        TEST(the_socket_becomes_another_masters),
        TEST(a_request_may_have_an_argument),
        TEST(a_long_answer_goes_in_parts),
        TEST(a_client_that_left_is_forgotten),
        TEST(who_says_nothing_or_takes_nothing_is_dropped),
        TEST(who_says_two_things_is_dropped),
        TEST(clients_are_bounded),
        TEST(only_the_own_user_and_root_are_heard),
        TEST(a_child_closes_its_copies_alone),
        TEST(a_stale_file_is_replaced),
        TEST(a_living_one_and_a_foreign_file_are_refused),
        TEST(closing_removes_the_own_file_alone),
        cmocka_unit_test(a_path_that_is_too_long_is_told),
        TEST(the_client_gets_the_whole_answer),
        TEST(the_client_is_told_when_no_master_is_there),
        TEST(the_client_is_told_when_the_master_goes_away),
    };
    return cmocka_run_group_tests_name("control", tests, NULL, NULL);
}
