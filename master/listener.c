#include "master/listener.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

static socklen_t address_size(const union socket_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

static int open_socket(const union socket_address *address, int backlog)
{
    int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    bool done = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) == 0;
    if (done && address->any.sa_family == AF_INET6)
        done = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on) == 0;
    if (done)
        done = bind(fd, &address->any, address_size(address)) == 0 && listen(fd, backlog) == 0;
    if (done)
        return fd;
    int reason = errno;
    close(fd);
    errno = reason;
    return -1;
}

static void log_address(const union socket_address *address)
{
    char text[INET6_ADDRSTRLEN];
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof text);
        log_info("listening on [%s]:%u", text, ntohs(address->v6.sin6_port));
    } else {
        inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof text);
        log_info("listening on %s:%u", text, ntohs(address->v4.sin_port));
    }
}

/* Another process of ours or of somebody else that has the address must be an error, though
 * SO_REUSEPORT would share it silently: one probe without it. */
static bool address_is_free(const union socket_address *address)
{
    int on = 1;
    int fd = socket(address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (address->any.sa_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    bool is_free = bind(fd, &address->any, address_size(address)) == 0;
    int reason = errno;
    close(fd);
    errno = reason;
    return is_free;
}

static bool open_address(struct listeners *listeners, unsigned index,
                         const struct config_listen *listen_on, int backlog, struct error *error)
{
    union socket_address address = listen_on->address;
    if (!address_is_free(&address))
        return error_errno(error, errno, "cannot listen on %s", listen_on->text);
    for (unsigned worker = 0; worker < listeners->workers; worker++) {
        int fd = open_socket(&address, backlog);
        if (fd < 0)
            return error_errno(error, errno, "cannot listen on %s", listen_on->text);
        listeners->sockets[worker * listeners->addresses + index] = fd;
        /* With port 0 the first socket chooses for all. */
        socklen_t size = sizeof address;
        if (worker == 0 && getsockname(fd, &address.any, &size) != 0)
            return error_errno(error, errno, "cannot read the address of %s", listen_on->text);
    }
    log_address(&address);
    return true;
}

bool listeners_open(struct listeners *listeners, const struct config *config, struct error *error)
{
    listeners->workers = (unsigned)config->workers;
    listeners->addresses = (unsigned)config->listens_count;
    size_t count = (size_t)listeners->workers * listeners->addresses;
    listeners->sockets = xmalloc(count * sizeof *listeners->sockets);
    for (size_t i = 0; i < count; i++)
        listeners->sockets[i] = -1;
    for (unsigned i = 0; i < listeners->addresses; i++)
        if (!open_address(listeners, i, &config->listens[i], (int)config->http.backlog, error)) {
            listeners_close(listeners);
            return false;
        }
    return true;
}

const int *listeners_of(const struct listeners *listeners, unsigned worker)
{
    return listeners->sockets + (size_t)worker * listeners->addresses;
}

void listeners_keep(const struct listeners *listeners, unsigned worker)
{
    for (unsigned i = 0; i < listeners->workers * listeners->addresses; i++)
        if (i / listeners->addresses != worker && listeners->sockets[i] >= 0)
            close(listeners->sockets[i]);
}

void listeners_close(struct listeners *listeners)
{
    if (listeners->addresses > 0)
        listeners_keep(listeners, UINT_MAX);
    free(listeners->sockets);
    *listeners = (struct listeners){0};
}
