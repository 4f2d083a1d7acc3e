/* Which sockets a worker accepts from, as the master's table says. */
#include "worker/acceptor.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { SOCKETS = 4, GENERATION = 3 };

static struct {
    uv_loop_t loop;
    struct shm_header header;
    struct counters counters;
    struct config config;
    struct worker_socket sockets[SOCKETS];
    struct worker_setup setup;
    struct acceptor *acceptor;
    unsigned accepted;
} test;

/* A worker has its acceptor to its end. */
struct acceptor *kept[16];
unsigned kept_count;

static int tcp_socket(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

/* Each socket has a port of its own here, so that a test knows where a connection goes. */
static int set_up(void **state)
{
    (void)state;
    memset(&test, 0, sizeof test);
    uv_loop_init(&test.loop);
    test.counters.header = &test.header;
    test.config.http.backlog = 16;
    for (unsigned i = 0; i < SOCKETS; i++)
        test.sockets[i] = (struct worker_socket){.fd = tcp_socket(), .number = i};
    test.setup = (struct worker_setup){
        .config = &test.config,
        .counters = &test.counters,
        .index = 1,
        .count = 2,
        .generation = GENERATION,
        .sockets = test.sockets,
        .sockets_count = SOCKETS,
    };
    for (unsigned i = 0; i < SOCKETS; i++)
        test.header.socket_owners[i] = (int32_t)(i % 2);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    acceptor_stop(test.acceptor);
    uv_run(&test.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&test.loop), 0);
    for (unsigned i = 0; i < SOCKETS; i++)
        close(test.sockets[i].fd);
    return 0;
}

static void free_client(uv_handle_t *client)
{
    free(client);
}

static void on_accepted(void *context, uv_stream_t *listener, const struct worker_socket *socket)
{
    (void)socket;
    uv_tcp_t *client = malloc(sizeof *client);
    assert_ptr_equal(context, &test);
    uv_tcp_init(&test.loop, client);
    assert_int_equal(uv_accept(listener, (uv_stream_t *)client), 0);
    uv_close((uv_handle_t *)client, free_client);
    test.accepted++;
}

static void begin(void)
{
    test.acceptor = acceptor_new(&test.loop, &test.setup, on_accepted, &test);
    assert_non_null(test.acceptor);
    kept[kept_count++] = test.acceptor;
}

static void turn(void)
{
    for (int i = 0; i < 20; i++)
        uv_run(&test.loop, UV_RUN_NOWAIT);
}

static bool listens(unsigned i)
{
    int value = -1;
    socklen_t size = sizeof value;
    assert_int_equal(getsockopt(test.sockets[i].fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &size), 0);
    return value == 1;
}

/* One letter a socket: 'a' a connection to it is accepted, 'w' it waits, '-' it is refused. */
static const char *where(void)
{
    static char letters[SOCKETS + 1];
    for (unsigned i = 0; i < SOCKETS; i++) {
        struct sockaddr_in address;
        socklen_t size = sizeof address;
        unsigned before = test.accepted;
        assert_int_equal(getsockname(test.sockets[i].fd, (struct sockaddr *)&address, &size), 0);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool connected = connect(fd, (struct sockaddr *)&address, size) == 0;
        turn();
        letters[i] = (char)(test.accepted > before ? 'a' : connected ? 'w' : '-');
        close(fd);
    }
    return letters;
}

static void its_own_at_once(void **state)
{
    (void)state;
    atomic_store(&test.header.serving_generation, GENERATION);
    begin();
    assert_string_equal(where(), "-a-a");
    acceptor_follow_owners(test.acceptor);
    assert_string_equal(where(), "-a-a");
}

/* Before its generation serves nothing even listens: should it fail, no client has come to it. */
static void nothing_before_its_generation_serves(void **state)
{
    (void)state;
    atomic_store(&test.header.serving_generation, GENERATION - 1);
    begin();
    acceptor_follow_owners(test.acceptor);
    for (unsigned i = 0; i < SOCKETS; i++)
        assert_false(listens(i));
    assert_string_equal(where(), "----");
    atomic_store(&test.header.serving_generation, GENERATION);
    acceptor_follow_owners(test.acceptor);
    assert_string_equal(where(), "-a-a");
}

static void a_neighbours_and_back(void **state)
{
    (void)state;
    atomic_store(&test.header.serving_generation, GENERATION);
    begin();
    atomic_store(&test.header.socket_owners[2], 1);
    acceptor_follow_owners(test.acceptor);
    assert_string_equal(where(), "-aaa");
    /* What is given up goes on listening: the owner takes what waits there. */
    atomic_store(&test.header.socket_owners[2], 0);
    acceptor_follow_owners(test.acceptor);
    assert_string_equal(where(), "-awa");
    atomic_store(&test.header.socket_owners[2], 1);
    acceptor_follow_owners(test.acceptor);
    unsigned before = test.accepted;
    turn();
    assert_int_equal(test.accepted, before + 1); /* it had waited */
    assert_string_equal(where(), "-aaa");
}

/* The table of a newer generation has other indexes. */
static void another_generations_table_is_not_followed(void **state)
{
    (void)state;
    atomic_store(&test.header.serving_generation, GENERATION);
    begin();
    atomic_store(&test.header.serving_generation, GENERATION + 1);
    for (unsigned i = 0; i < SOCKETS; i++)
        atomic_store(&test.header.socket_owners[i], 5);
    acceptor_follow_owners(test.acceptor);
    assert_string_equal(where(), "-a-a");
}

static void stopped_is_stopped(void **state)
{
    (void)state;
    atomic_store(&test.header.serving_generation, GENERATION);
    begin();
    acceptor_stop(test.acceptor);
    acceptor_follow_owners(test.acceptor);
    assert_string_equal(where(), "-w-w"); /* for the next generation */
    assert_int_equal(test.accepted, 0);
}

/* A UNIX address has one socket, from which all accept. */
static void shared_ones_are_everybodys(void **state)
{
    (void)state;
    test.sockets[0].shared = true;
    atomic_store(&test.header.serving_generation, GENERATION);
    begin();
    assert_string_equal(where(), "aa-a");
    acceptor_follow_owners(test.acceptor);
    assert_string_equal(where(), "aa-a");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(its_own_at_once),       TEST(nothing_before_its_generation_serves),
        TEST(a_neighbours_and_back), TEST(another_generations_table_is_not_followed),
        TEST(stopped_is_stopped),    TEST(shared_ones_are_everybodys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
