#include "master/control.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

enum {
    REQUEST_MAX_BYTES = 32 + CONTROL_ARGUMENT_MAX,
    PACKET_BYTES = 16 * 1024, /* well below what a socket's buffer takes at once */
    ASK_WITHIN_MS = 5000,
    TAKE_WITHIN_MS = 10000, /* without any progress */
};

static const struct {
    const char *name;
    bool has_argument;
} verbs[] = {
    [CONTROL_RELOAD] = {"reload", false},   [CONTROL_STOP] = {"stop", false},
    [CONTROL_UPGRADE] = {"upgrade", false}, [CONTROL_STATUS] = {"status", false},
    [CONTROL_TOKENS] = {"tokens", true},
};
enum { VERBS = sizeof verbs / sizeof *verbs };

void control_init(struct control *control)
{
    *control = (struct control){.socket = {.fd = -1}};
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        control->clients[i].fd = -1;
}

bool control_open(struct control *control, const char *runtime_dir, control_ask_fn *ask,
                  void *context, struct error *error)
{
    char path[PATH_MAX];
    struct socket_file file;
    snprintf(path, sizeof path, "%s/control", runtime_dir);
    if (!socket_file_open(&file, path, SOCK_SEQPACKET, 0600, error)) {
        control_init(control);
        return false;
    }
    control_adopt(control, &file, ask, context);
    if (control_begin(control, error))
        return true;
    socket_file_close(&control->socket);
    return false;
}

void control_adopt(struct control *control, const struct socket_file *file, control_ask_fn *ask,
                   void *context)
{
    control_init(control);
    control->ask = ask;
    control->context = context;
    control->socket = *file;
}

/* The credentials of who listens last are what those who connect see as the master's. */
bool control_begin(struct control *control, struct error *error)
{
    control->listening = listen(control->socket.fd, CONTROL_CLIENTS_MAX) == 0;
    return control->listening ||
           error_errno(error, errno, "cannot listen at %s", control->socket.path);
}

void control_leave(struct control *control)
{
    control->listening = false;
    socket_file_leave(&control->socket);
}

/* --- clients --- */

static void drop(struct control_client *client)
{
    close(client->fd);
    buf_free(&client->rest);
    *client = (struct control_client){.fd = -1};
}

/* As much as the socket takes now; drops the client when all is sent or it is gone. */
static void send_rest(struct control_client *client)
{
    while (client->rest.len > 0) {
        size_t len = client->rest.len < PACKET_BYTES ? client->rest.len : PACKET_BYTES;
        ssize_t sent = send(client->fd, client->rest.data, len, MSG_NOSIGNAL);
        if (sent < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == EINTR))
            return;
        if (sent < 0)
            break;
        buf_consume(&client->rest, (size_t)sent);
        client->deadline_ms = clock_now_ms() + TAKE_WITHIN_MS;
    }
    drop(client);
}

static void give_answer(struct control_client *client, const char *first, struct str text)
{
    client->answered = true;
    client->deadline_ms = clock_now_ms() + TAKE_WITHIN_MS;
    buf_puts(&client->rest, first);
    buf_str(&client->rest, text);
    send_rest(client);
}

static void answer_request(struct control *control, uint64_t request, const char *first,
                           struct str text)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &control->clients[i];
        if (client->fd >= 0 && client->request == request && client->asked && !client->answered) {
            give_answer(client, first, text);
            return;
        }
    }
}

void control_answer(struct control *control, uint64_t request, bool good, struct str text)
{
    answer_request(control, request, good ? "ok\n" : "failed\n", text);
}

void control_refer(struct control *control, uint64_t request)
{
    answer_request(control, request, "again\n", STR(""));
}

/* False when that is no request. */
static bool hand_over(const struct control *control, uint64_t request, struct str text)
{
    char argument[CONTROL_ARGUMENT_MAX + 1] = "";
    struct str name = str_split(&text, ' ');
    if (text.len > CONTROL_ARGUMENT_MAX)
        return false;
    if (text.at)
        memcpy(argument, text.at, text.len);
    for (int verb = 0; verb < VERBS; verb++)
        if (str_eq(name, str_of(verbs[verb].name)) &&
            (verbs[verb].has_argument ? text.len > 0 : !text.at)) {
            control->ask(control->context, request, (enum control_verb)verb, argument);
            return true;
        }
    return false;
}

static void take_request(struct control *control, struct control_client *client)
{
    char text[REQUEST_MAX_BYTES];
    ssize_t len = recv(client->fd, text, sizeof text, MSG_TRUNC);
    if (len < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (len <= 0 || client->asked) {
        /* It left, or says more than one thing. */
        drop(client);
        return;
    }
    struct str said = {text, (size_t)len < sizeof text ? (size_t)len : sizeof text};
    client->asked = true;
    client->deadline_ms = INT64_MAX;
    if (!client->welcome) {
        give_answer(client, "failed\n", STR("only root and the gateway's own user may ask\n"));
        return;
    }
    if (!hand_over(control, client->request, said))
        give_answer(client, "failed\n", STR("this master does not know that request\n"));
}

static bool may_ask(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

static struct control_client *free_place(struct control *control)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].fd < 0)
            return &control->clients[i];
    return NULL;
}

static void accept_clients(struct control *control)
{
    struct control_client *client;
    while ((client = free_place(control))) {
        int fd = accept4(control->socket.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0)
            return;
        client->fd = fd;
        client->request = ++control->last_request;
        client->deadline_ms = clock_now_ms() + ASK_WITHIN_MS;
        client->welcome = may_ask(fd);
    }
}

/* --- the loop's side --- */

size_t control_descriptors(const struct control *control, struct pollfd *descriptors)
{
    size_t count = 0;
    bool room = false;
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        const struct control_client *client = &control->clients[i];
        if (client->fd < 0)
            room = true;
        else
            descriptors[count++] = (struct pollfd){
                .fd = client->fd, .events = client->rest.len > 0 ? POLLOUT : POLLIN};
    }
    if (room && control->listening)
        descriptors[count++] = (struct pollfd){.fd = control->socket.fd, .events = POLLIN};
    return count;
}

static struct control_client *client_of(struct control *control, int fd)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].fd == fd)
            return &control->clients[i];
    return NULL;
}

static void drop_late(struct control *control)
{
    int64_t now_ms = clock_now_ms();
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++) {
        struct control_client *client = &control->clients[i];
        if (client->fd >= 0 && now_ms >= client->deadline_ms) {
            log_debug("a client of the control socket is dropped: it takes too long");
            drop(client);
        }
    }
}

void control_handle(struct control *control, const struct pollfd *descriptors, size_t count)
{
    bool waiting = false;
    for (size_t i = 0; i < count; i++) {
        struct control_client *client =
            descriptors[i].revents ? client_of(control, descriptors[i].fd) : NULL;
        if (client && client->rest.len > 0)
            send_rest(client);
        else if (client)
            take_request(control, client);
        else if (descriptors[i].fd == control->socket.fd && descriptors[i].revents)
            waiting = true;
    }
    drop_late(control);
    /* Last, for a new client may get the descriptor's number of one that was just dropped. */
    if (waiting)
        accept_clients(control);
}

void control_close_inherited(struct control *control)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].fd >= 0)
            drop(&control->clients[i]);
    control_leave(control);
}

void control_close(struct control *control)
{
    for (size_t i = 0; i < CONTROL_CLIENTS_MAX; i++)
        if (control->clients[i].fd >= 0 && control->clients[i].rest.len > 0)
            send_rest(&control->clients[i]);
    socket_file_close(&control->socket);
    control_close_inherited(control);
}
