/* Connections over UNIX sockets. */
#include "shared/http/listening.h"
#include "test/unit/http_loopback.h"
#include "test/unit/scratch.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/un.h>

struct local {
    struct loopback *loopback; /* its TCP listener stays unused */
    char directory[SCRATCH_PATH];
    struct sockaddr_un address;
    uv_stream_t *listener;
};

static const char *seen_ip;

static void note_ip(void *context, struct http_connection *connection, struct http_request *request)
{
    seen_ip = strcmp(request->client_ip, "unix") == 0 ? "unix" : "another";
    loopback_head(context, connection, request);
}

static const struct http_events noting_events = {note_ip,       loopback_body, loopback_refused,
                                                 loopback_gone, loopback_idle, loopback_writable};

static int setup(void **state)
{
    struct local *local = calloc(1, sizeof *local);
    char path[SCRATCH_PATH];
    int error;
    *state = local;
    if (!scratch_make(local->directory))
        return -1;
    local->address.sun_family = AF_UNIX;
    snprintf(local->address.sun_path, sizeof local->address.sun_path, "%.100s",
             scratch_path(local->directory, "http", path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(fd, (struct sockaddr *)&local->address, sizeof local->address) != 0)
        return -1;
    local->loopback = loopback_start(&calm_limits);
    local->loopback->server.events = &noting_events;
    local->listener =
        http_listen(&local->loopback->loop, fd, 16, loopback_accept, local->loopback, &error);
    return local->listener ? 0 : -1;
}

static int teardown(void **state)
{
    struct local *local = *state;
    http_listen_end(local->listener);
    loopback_stop(local->loopback);
    scratch_remove(local->directory);
    free(local);
    return 0;
}

static struct client local_client(struct local *local)
{
    struct client c = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    assert_int_equal(connect(c.fd, (struct sockaddr *)&local->address, sizeof local->address), 0);
    fcntl(c.fd, F_SETFL, O_NONBLOCK);
    return c;
}

static void requests_are_answered(void **state)
{
    struct local *local = *state;
    struct loopback *l = local->loopback;
    struct client c = local_client(local);
    client_send(l, &c, "GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    client_expect(l, &c, "/a ");
    assert_string_equal(seen_ip, "unix");
    client_send(l, &c, "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi");
    client_expect(l, &c, "/b hi");
    assert_string_equal(loopback_events(l), "head GET /a;body 0;head POST /b;body 2;");
    client_close(&c);
    turn_until(l, l->server.connections_count == 0);
}

/* An answer larger than the socket's buffer goes as the client reads. */
static void long_answers_are_whole(void **state)
{
    struct local *local = *state;
    struct loopback *l = local->loopback;
    size_t len = 3 << 20;
    char *text = malloc(len);
    memset(text, 'z', len);
    l->answer = (struct str){text, len};
    struct client c = local_client(local);
    client_send(l, &c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    turn_until(l, client_ended(l, &c));
    assert_true(c.got.len > len);
    assert_memory_equal(c.got.data + c.got.len - len, text, len);
    assert_int_equal(c.error, 0);
    client_close(&c);
    free(text);
}

/* There is no reset on such a socket: the connection ends all the same. */
static void a_client_that_reads_nothing_is_cut(void **state)
{
    struct local *local = *state;
    struct loopback *l = local->loopback;
    size_t len = 3 << 20;
    char *text = calloc(1, len);
    l->answer = (struct str){text, len};
    l->server.limits.write_timeout_ms = 50;
    struct client c = local_client(local);
    client_send(l, &c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(l, strstr(loopback_events(l), "body 0;"));
    turn_until(l, l->server.connections_count == 0);
    client_close(&c);
    free(text);
}

static void a_client_that_leaves_is_seen(void **state)
{
    struct local *local = *state;
    struct loopback *l = local->loopback;
    l->hold_answer = true;
    struct client c = local_client(local);
    client_send(l, &c, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
    turn_until(l, strstr(loopback_events(l), "body 0;"));
    client_close(&c);
    turn_until(l, strstr(loopback_events(l), "gone /slow;"));
    turn_until(l, l->server.connections_count == 0);
}

/* Two loops' worth of acceptors on one descriptor, as workers have it: each connection is served
 * once, and one that stops leaves the rest to the other. */
static void several_accept_from_one_descriptor(void **state)
{
    struct local *local = *state;
    struct loopback *l = local->loopback;
    struct client clients[20];
    uv_os_fd_t fd;
    int error;
    assert_int_equal(uv_fileno((uv_handle_t *)local->listener, &fd), 0);
    uv_stream_t *second =
        http_listen(&l->loop, fcntl(fd, F_DUPFD_CLOEXEC, 0), 16, loopback_accept, l, &error);
    assert_non_null(second);
    for (int i = 0; i < 20; i++) {
        if (i == 10)
            http_listen_end(second);
        clients[i] = local_client(local);
        client_send(l, &clients[i], "GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        client_expect(l, &clients[i], "200 OK");
    }
    assert_int_equal(l->server.connections_count, 20);
    for (int i = 0; i < 20; i++)
        client_close(&clients[i]);
    turn_until(l, l->server.connections_count == 0);
}

static void what_is_no_socket_is_refused(void **state)
{
    struct local *local = *state;
    int error = 0, ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_null(
        http_listen(&local->loopback->loop, ends[0], 16, loopback_accept, local->loopback, &error));
    assert_true(error < 0);
    close(ends[1]);
}

int main(void)
{
#define TEST(function) cmocka_unit_test_setup_teardown(function, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(requests_are_answered),
        TEST(long_answers_are_whole),
        TEST(a_client_that_reads_nothing_is_cut),
        TEST(a_client_that_leaves_is_seen),
        TEST(several_accept_from_one_descriptor),
        TEST(what_is_no_socket_is_refused),
    };
    return cmocka_run_group_tests_name("http_local", tests, NULL, NULL);
}
