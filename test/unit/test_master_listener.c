#include "master/listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORKERS = 3 };

struct listen_test {
    struct config config;
    struct config_listen listens[3];
    struct listeners listeners;
    struct error error;
};

static int set_up(void **state)
{
    struct listen_test *test = calloc(1, sizeof *test);
    test->config.listens = test->listens;
    test->config.workers = WORKERS;
    test->config.http.backlog = 16;
    *state = test;
    return 0;
}

static int tear_down(void **state)
{
    struct listen_test *test = *state;
    listeners_close(&test->listeners);
    free(test);
    return 0;
}

static void listen_on_v4(struct listen_test *test, in_port_t port)
{
    struct config_listen *added = &test->listens[test->config.listens_count++];
    added->text = "127.0.0.1:PORT";
    added->address.v4 = (struct sockaddr_in){.sin_family = AF_INET,
                                             .sin_port = htons(port),
                                             .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
}

static void listen_on_v6(struct listen_test *test, in_port_t port, struct in6_addr address)
{
    struct config_listen *added = &test->listens[test->config.listens_count++];
    added->text = "[ADDRESS]:PORT";
    added->address.v6 = (struct sockaddr_in6){
        .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = address};
}

static void open_all(struct listen_test *test)
{
    if (!listeners_adjust(&test->listeners, &test->config, &test->error))
        fail_msg("%s", test->error.message);
}

static int socket_at(const struct listen_test *test, unsigned worker, unsigned address)
{
    return test->listeners.at[address].sockets[worker];
}

/* As workers do when they begin to accept. */
static void listen_all(const struct listen_test *test)
{
    for (unsigned i = 0; i < test->listeners.count; i++)
        for (unsigned j = 0; j < test->listeners.at[i].count; j++)
            assert_int_equal(listen(test->listeners.at[i].sockets[j], 16), 0);
}

static in_port_t port_of(int fd)
{
    union socket_address address;
    socklen_t len = sizeof address;
    assert_int_equal(getsockname(fd, &address.any, &len), 0);
    return ntohs(address.any.sa_family == AF_INET6 ? address.v6.sin6_port : address.v4.sin_port);
}

static bool is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

static int option(int fd, int level, int name)
{
    int value = -1;
    socklen_t len = sizeof value;
    assert_int_equal(getsockopt(fd, level, name, &value, &len), 0);
    return value;
}

/* True when a connection to the port comes through. */
static bool connects(int family, in_port_t port)
{
    union socket_address address = {0};
    socklen_t len = family == AF_INET6 ? sizeof address.v6 : sizeof address.v4;
    address.any.sa_family = (sa_family_t)family;
    if (family == AF_INET6)
        address.v6 = (struct sockaddr_in6){
            .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    else
        address.v4 = (struct sockaddr_in){.sin_family = AF_INET,
                                          .sin_port = htons(port),
                                          .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool done = connect(fd, &address.any, len) == 0;
    close(fd);
    return done;
}

static bool have_v6(void)
{
    struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool have = fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (fd >= 0)
        close(fd);
    return have;
}

static void one_socket_for_each_worker(void **state)
{
    struct listen_test *test = *state;
    listen_on_v4(test, 0);
    open_all(test);
    assert_int_equal(test->listeners.sockets, WORKERS);
    assert_int_equal(test->listeners.count, 1);
    for (unsigned i = 0; i < WORKERS; i++) {
        int fd = socket_at(test, i, 0);
        assert_int_equal(option(fd, SOL_SOCKET, SO_ACCEPTCONN), 0); /* not before a worker does */
        assert_int_equal(option(fd, SOL_SOCKET, SO_REUSEPORT), 1);
        assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
        for (unsigned k = 0; k < i; k++)
            assert_int_not_equal(fd, socket_at(test, k, 0));
    }
}

/* With port 0 the first socket chooses for all. */
static void port_0_is_one_port(void **state)
{
    struct listen_test *test = *state;
    listen_on_v4(test, 0);
    listen_on_v4(test, 0);
    test->listens[1].text = "127.0.0.1:OTHER";
    open_all(test);
    for (unsigned address = 0; address < 2; address++) {
        in_port_t port = port_of(socket_at(test, 0, address));
        assert_int_not_equal(port, 0);
        for (unsigned i = 1; i < WORKERS; i++)
            assert_int_equal(port_of(socket_at(test, i, address)), port);
    }
    assert_int_not_equal(port_of(socket_at(test, 0, 0)), port_of(socket_at(test, 0, 1)));
}

/* The kernel spreads connections over the sockets: each of many is in one queue. */
static void connections_reach_the_sockets(void **state)
{
    struct listen_test *test = *state;
    listen_on_v4(test, 0);
    open_all(test);
    listen_all(test);
    in_port_t port = port_of(socket_at(test, 0, 0));
    unsigned accepted = 0;
    for (unsigned i = 0; i < 20; i++)
        assert_true(connects(AF_INET, port));
    for (unsigned i = 0; i < WORKERS; i++)
        for (int fd; (fd = accept(socket_at(test, i, 0), NULL, NULL)) >= 0; accepted++)
            close(fd);
    assert_int_equal(accepted, 20);
}

/* SO_REUSEPORT alone would share it silently. */
static void a_taken_address_is_an_error(void **state)
{
    struct listen_test *test = *state;
    struct listeners second = {0};
    listen_on_v4(test, 0);
    open_all(test);
    listen_all(test);
    in_port_t port = port_of(socket_at(test, 0, 0));
    test->config.listens_count = 0;
    listen_on_v4(test, port);
    assert_false(listeners_adjust(&second, &test->config, &test->error));
    assert_string_equal(test->error.message,
                        "cannot listen on 127.0.0.1:PORT: Address already in use");
    assert_int_equal(second.count, 0);
    listeners_close(&second);
    assert_true(connects(AF_INET, port)); /* the first ones are as they were */
    listeners_close(&test->listeners);
    open_all(test); /* and when they are gone the address is free */
    assert_int_equal(port_of(socket_at(test, WORKERS - 1, 0)), port);
}

static void an_address_of_somebody_else_is_an_error(void **state)
{
    struct listen_test *test = *state;
    listen_on_v4(test, 0);
    test->listens[0].address.v4.sin_addr.s_addr = htonl(0xC0000201); /* 192.0.2.1, RFC 5737 */
    assert_false(listeners_adjust(&test->listeners, &test->config, &test->error));
    assert_non_null(strstr(test->error.message, "Cannot assign requested address"));
}

static void address_of_version_6(void **state)
{
    struct listen_test *test = *state;
    if (!have_v6())
        skip();
    listen_on_v6(test, 0, (struct in6_addr)IN6ADDR_LOOPBACK_INIT);
    open_all(test);
    listen_all(test);
    in_port_t port = port_of(socket_at(test, 0, 0));
    for (unsigned i = 1; i < WORKERS; i++)
        assert_int_equal(port_of(socket_at(test, i, 0)), port);
    assert_true(connects(AF_INET6, port));
    assert_false(connects(AF_INET, port));
}

/* [::] does not take 0.0.0.0's connections: both can be listed with one port. */
static void both_versions_on_one_port(void **state)
{
    struct listen_test *test = *state;
    if (!have_v6())
        skip();
    listen_on_v6(test, 0, (struct in6_addr)IN6ADDR_ANY_INIT);
    open_all(test);
    in_port_t port = port_of(socket_at(test, 0, 0));
    assert_int_equal(option(socket_at(test, 1, 0), IPPROTO_IPV6, IPV6_V6ONLY), 1);
    assert_false(connects(AF_INET, port));
    listeners_close(&test->listeners);
    test->config.listens_count = 0;
    listen_on_v6(test, port, (struct in6_addr)IN6ADDR_ANY_INIT);
    listen_on_v4(test, port);
    open_all(test);
    listen_all(test);
    assert_true(connects(AF_INET, port));
    assert_true(connects(AF_INET6, port));
}

/* More workers by reload: more sockets, and those that were there stay. */
static void sockets_grow(void **state)
{
    struct listen_test *test = *state;
    int before[WORKERS];
    listen_on_v4(test, 0);
    open_all(test);
    for (unsigned i = 0; i < WORKERS; i++)
        before[i] = socket_at(test, i, 0);
    test->config.workers = WORKERS + 2;
    open_all(test);
    assert_int_equal(test->listeners.sockets, WORKERS + 2);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(socket_at(test, i, 0), before[i]);
    assert_int_equal(port_of(socket_at(test, WORKERS + 1, 0)), port_of(before[0]));
    test->config.workers = 1;
    open_all(test);
    assert_int_equal(test->listeners.sockets, WORKERS + 2);
}

static void addresses_come_and_go(void **state)
{
    struct listen_test *test = *state;
    listen_on_v4(test, 0);
    open_all(test);
    listen_all(test);
    int first = socket_at(test, 0, 0), workers_copy = dup(first);
    in_port_t port = port_of(first);
    struct config before = test->config;
    struct config_listen listen_before = test->listens[0];
    before.listens = &listen_before;
    test->config.listens_count = 0;
    listen_on_v4(test, 0);
    test->listens[0].text = "127.0.0.1:OTHER";
    open_all(test);
    assert_int_equal(test->listeners.count, 2);
    assert_true(listener_is_wanted(&test->listeners.at[0], &before));
    assert_false(listener_is_wanted(&test->listeners.at[0], &test->config));
    assert_true(listener_is_wanted(&test->listeners.at[1], &test->config));
    assert_true(connects(AF_INET, port)); /* somebody may still accept there */
    listeners_drop_unwanted(&test->listeners, &test->config);
    assert_int_equal(test->listeners.count, 1);
    assert_false(is_open(first));
    assert_false(connects(AF_INET, port)); /* though a worker has it, nobody waits there in vain */
    assert_string_equal(test->listeners.at[0].text, "127.0.0.1:OTHER");
    close(workers_copy);
}

/* Nobody is let in before there is somebody to serve them, nor when the last has left. */
static void clients_are_let_in_and_refused(void **state)
{
    struct listen_test *test = *state;
    static const struct config nothing;
    listen_on_v4(test, 0);
    test->config.http.backlog = 16;
    open_all(test);
    in_port_t port = port_of(socket_at(test, 0, 0));
    assert_false(connects(AF_INET, port));
    listeners_begin(&test->listeners, &nothing);
    assert_false(connects(AF_INET, port));
    listeners_begin(&test->listeners, &test->config);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(option(socket_at(test, i, 0), SOL_SOCKET, SO_ACCEPTCONN), 1);
    assert_true(connects(AF_INET, port));
    listeners_refuse(&test->listeners);
    assert_false(connects(AF_INET, port));
    assert_true(is_open(socket_at(test, 0, 0)));
}

/* An address that was given up can be had again while leaving workers still hold its sockets. */
static void an_address_comes_back(void **state)
{
    struct listen_test *test = *state;
    static const struct config nothing;
    int copies[WORKERS];
    listen_on_v4(test, 0);
    open_all(test);
    listen_all(test);
    in_port_t port = port_of(socket_at(test, 0, 0));
    for (unsigned i = 0; i < WORKERS; i++)
        copies[i] = dup(socket_at(test, i, 0));
    listeners_drop_unwanted(&test->listeners, &nothing);
    assert_int_equal(test->listeners.count, 0);
    test->config.listens_count = 0;
    listen_on_v4(test, port);
    open_all(test);
    listen_all(test);
    assert_int_equal(port_of(socket_at(test, 0, 0)), port);
    assert_true(connects(AF_INET, port));
    for (unsigned i = 0; i < WORKERS; i++)
        close(copies[i]);
}

static void failure_changes_no_address(void **state)
{
    struct listen_test *test = *state;
    int before[WORKERS];
    listen_on_v4(test, 0);
    open_all(test);
    listen_all(test);
    for (unsigned i = 0; i < WORKERS; i++)
        before[i] = socket_at(test, i, 0);
    in_port_t port = port_of(before[0]);
    listen_on_v4(test, 0);
    test->listens[1].text = "127.0.0.1:OTHER";
    listen_on_v4(test, 0);
    test->listens[2].text = "192.0.2.1:0";
    test->listens[2].address.v4.sin_addr.s_addr = htonl(0xC0000201);
    test->config.workers = WORKERS + 2;
    assert_false(listeners_adjust(&test->listeners, &test->config, &test->error));
    assert_int_equal(test->listeners.count, 1);
    assert_string_equal(test->listeners.at[0].text, "127.0.0.1:PORT");
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(socket_at(test, i, 0), before[i]);
    /* What was made for more workers does not listen: no connection goes there. */
    for (unsigned i = 0; i < 20; i++)
        assert_true(connects(AF_INET, port));
    unsigned accepted = 0;
    for (unsigned i = 0; i < WORKERS; i++)
        for (int fd; (fd = accept(before[i], NULL, NULL)) >= 0; accepted++)
            close(fd);
    assert_int_equal(accepted, 20);
}

static void unix_address_has_one_socket(void **state)
{
    struct listen_test *test = *state;
    char path[] = "/tmp/promptgate-test-listener.XXXXXX";
    assert_true(mkdtemp(path) != NULL);
    struct config_listen *added = &test->listens[test->config.listens_count++];
    added->text = "unix:PATH";
    added->address.local = (struct sockaddr_un){.sun_family = AF_UNIX};
    snprintf(added->address.local.sun_path, sizeof added->address.local.sun_path, "%s/s", path);
    open_all(test);
    assert_int_equal(test->listeners.at[0].count, 1);
    assert_int_equal(option(socket_at(test, 0, 0), SOL_SOCKET, SO_ACCEPTCONN), 1);
    listeners_close(&test->listeners);
    assert_int_equal(access(added->address.local.sun_path, F_OK), -1);
    assert_int_equal(rmdir(path), 0);
}

static void all_are_closed(void **state)
{
    struct listen_test *test = *state;
    int fds[WORKERS];
    listen_on_v4(test, 0);
    open_all(test);
    for (unsigned i = 0; i < WORKERS; i++)
        fds[i] = socket_at(test, i, 0);
    listeners_close(&test->listeners);
    for (unsigned i = 0; i < WORKERS; i++)
        assert_false(is_open(fds[i]));
    assert_null(test->listeners.at);
    listeners_close(&test->listeners); /* once more does no harm */
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(one_socket_for_each_worker),
        TEST(port_0_is_one_port),
        TEST(connections_reach_the_sockets),
        TEST(a_taken_address_is_an_error),
        TEST(an_address_of_somebody_else_is_an_error),
        TEST(address_of_version_6),
        TEST(both_versions_on_one_port),
        TEST(sockets_grow),
        TEST(addresses_come_and_go),
        TEST(clients_are_let_in_and_refused),
        TEST(an_address_comes_back),
        TEST(failure_changes_no_address),
        TEST(unix_address_has_one_socket),
        TEST(all_are_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
