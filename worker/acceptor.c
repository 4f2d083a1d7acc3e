#include "worker/acceptor.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"
#include "shared/http/listening.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct acceptor {
    uv_loop_t *loop;
    const struct worker_setup *setup;
    uv_stream_t **handles; /* by the place of their socket; NULL = not accepting */
    void (*accepted)(void *context, uv_stream_t *listener);
    void *context;
    bool stopped;
};

static void on_connection(uv_stream_t *listener, int status)
{
    struct acceptor *acceptor = listener->data;
    if (status < 0)
        log_warning("a connection could not be accepted: %s", uv_strerror(status));
    else
        acceptor->accepted(acceptor->context, listener);
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

static void end(struct acceptor *acceptor, size_t place)
{
    http_listen_end(acceptor->handles[place]);
    acceptor->handles[place] = NULL;
}

struct acceptor *acceptor_new(uv_loop_t *loop, const struct worker_setup *setup,
                              void (*accepted)(void *context, uv_stream_t *listener), void *context)
{
    struct acceptor *acceptor = xcalloc(1, sizeof *acceptor);
    acceptor->loop = loop;
    acceptor->setup = setup;
    acceptor->accepted = accepted;
    acceptor->context = context;
    acceptor->handles = xcalloc(setup->sockets_count, sizeof(uv_stream_t *));
    for (size_t i = 0; i < setup->sockets_count; i++) {
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
    if (acceptor->stopped || atomic_load(&header->serving_generation) != setup->generation)
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
    for (size_t i = 0; i < acceptor->setup->sockets_count; i++)
        if (acceptor->handles[i])
            end(acceptor, i);
}
