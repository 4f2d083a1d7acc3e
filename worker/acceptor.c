#include "worker/acceptor.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"
#include "shared/http/listening.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

/* Descriptors that no client gets: they are for the connections to providers of those clients that
 * are here already. A quarter of the limit where that is less. */
enum { RESERVE_MAX = 256, ROOM_TO_BEGIN = 16 };

struct acceptor {
    uv_loop_t *loop;
    const struct worker_setup *setup;
    uv_stream_t **handles; /* by the place of their socket; NULL = not accepting */
    void (*accepted)(void *context, uv_stream_t *listener, const struct worker_socket *socket);
    void *context;
    int descriptors; /* how many there may be when a client is accepted */
    bool resting;    /* there are more: clients wait in the kernel's queues */
    bool stopped;
};

static void end(struct acceptor *acceptor, size_t place)
{
    http_listen_end(acceptor->handles[place]);
    acceptor->handles[place] = NULL;
}

static void end_all(struct acceptor *acceptor)
{
    for (size_t i = 0; i < acceptor->setup->sockets_count; i++)
        if (acceptor->handles[i])
            end(acceptor, i);
}

/* --- the limit of descriptors --- */

static void look_up_limit(struct acceptor *acceptor)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        limit.rlim_cur = INT_MAX;
    rlim_t quarter = limit.rlim_cur / 4;
    acceptor->descriptors = (int)(limit.rlim_cur - (quarter < RESERVE_MAX ? quarter : RESERVE_MAX));
}

/* Whether so many are free: the kernel gives the lowest number first. */
static bool has_room(const struct acceptor *acceptor, int count)
{
    int taken[ROOM_TO_BEGIN];
    int got = 0;
    bool found = true;
    for (; got < count && found; got++) {
        taken[got] = fcntl(acceptor->setup->lifeline, F_DUPFD_CLOEXEC, 0);
        found = taken[got] >= 0 && taken[got] < acceptor->descriptors;
    }
    while (got-- > 0)
        if (taken[got] >= 0)
            close(taken[got]);
    return found;
}

static void rest(struct acceptor *acceptor, const char *why)
{
    log_warning("%s: new connections wait", why);
    acceptor->resting = true;
    end_all(acceptor);
}

/* Where one were enough, it would begin and end with every client. */
static bool rests_on(struct acceptor *acceptor)
{
    look_up_limit(acceptor);
    if (acceptor->resting && has_room(acceptor, ROOM_TO_BEGIN)) {
        acceptor->resting = false;
        log_info("connections are accepted again");
    }
    return acceptor->resting;
}

/* --- accepting --- */

static const struct worker_socket *socket_of(const struct acceptor *acceptor,
                                             const uv_stream_t *listener)
{
    size_t place = 0;
    while (acceptor->handles[place] != listener)
        place++;
    return &acceptor->setup->sockets[place];
}

static void on_connection(uv_stream_t *listener, int status)
{
    struct acceptor *acceptor = listener->data;
    if (status < 0) {
        rest(acceptor, uv_strerror(status));
        return;
    }
    acceptor->accepted(acceptor->context, listener, socket_of(acceptor, listener));
    if (!has_room(acceptor, 1))
        rest(acceptor, "nearly all descriptors are in use");
}

/* The socket itself stays open in this process: the loop gets a copy of its descriptor, so that it
 * can be given up and taken again. */
static bool begin(struct acceptor *acceptor, size_t place)
{
    int fd = fcntl(acceptor->setup->sockets[place].fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0) {
        log_error("cannot accept connections: %s", strerror(errno));
        return false;
    }
    int failure;
    int backlog = (int)acceptor->setup->config->http.backlog;
    acceptor->handles[place] =
        http_listen(acceptor->loop, fd, backlog, on_connection, acceptor, &failure);
    if (!acceptor->handles[place])
        log_error("cannot accept connections: %s", uv_strerror(failure));
    return acceptor->handles[place] != NULL;
}

struct acceptor *acceptor_new(uv_loop_t *loop, const struct worker_setup *setup,
                              void (*accepted)(void *context, uv_stream_t *listener,
                                               const struct worker_socket *socket),
                              void *context)
{
    struct acceptor *acceptor = xcalloc(1, sizeof *acceptor);
    acceptor->loop = loop;
    acceptor->setup = setup;
    acceptor->accepted = accepted;
    acceptor->context = context;
    acceptor->handles = xcalloc(setup->sockets_count, sizeof(uv_stream_t *));
    look_up_limit(acceptor);
    bool serving = atomic_load(&setup->counters->header->serving_generation) == setup->generation;
    for (size_t i = 0; i < setup->sockets_count && serving; i++) {
        const struct worker_socket *socket = &setup->sockets[i];
        bool mine = socket->shared || socket->number % setup->count == setup->index;
        if (mine && !begin(acceptor, i))
            return NULL;
    }
    return acceptor;
}

void acceptor_follow_owners(struct acceptor *acceptor)
{
    const struct worker_setup *setup = acceptor->setup;
    const struct shm_header *header = setup->counters->header;
    if (acceptor->stopped || atomic_load(&header->serving_generation) != setup->generation ||
        rests_on(acceptor))
        return;
    for (size_t i = 0; i < setup->sockets_count; i++) {
        int owner = atomic_load(&header->socket_owners[setup->sockets[i].number]);
        bool mine = setup->sockets[i].shared || owner == (int)setup->index;
        if (mine && !acceptor->handles[i])
            begin(acceptor, i);
        else if (!mine && acceptor->handles[i])
            end(acceptor, i);
    }
}

void acceptor_stop(struct acceptor *acceptor)
{
    acceptor->stopped = true;
    end_all(acceptor);
}
