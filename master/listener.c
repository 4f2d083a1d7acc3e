#include "master/listener.h"

#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static socklen_t address_size(const union socket_address *address)
{
    return address->any.sa_family == AF_INET6 ? sizeof address->v6 : sizeof address->v4;
}

static int bind_socket(const union socket_address *address)
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
        done = bind(fd, &address->any, address_size(address)) == 0;
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

/* Fills places `from`.. of the listener's sockets; on failure none of them is left open. */
static bool bind_sockets(struct listener *listener, unsigned from, unsigned to, struct error *error)
{
    for (unsigned i = from; i < to; i++) {
        listener->sockets[i] = bind_socket(&listener->address);
        socklen_t size = sizeof listener->address;
        /* With port 0 the first socket chooses for all. */
        if (listener->sockets[i] >= 0 &&
            getsockname(listener->sockets[i], &listener->address.any, &size) == 0)
            continue;
        error_errno(error, errno, "cannot listen on %s", listener->text);
        for (unsigned j = from; j <= i; j++)
            if (listener->sockets[j] >= 0)
                close(listener->sockets[j]);
        return false;
    }
    return true;
}

static void close_sockets(const struct listener *listener, unsigned from, unsigned to)
{
    for (unsigned i = from; i < to; i++)
        close(listener->sockets[i]);
}

static void free_listener(struct listener *listener)
{
    free(listener->sockets);
    free(listener->text);
}

static struct listener *find(const struct listeners *listeners, const char *text)
{
    for (unsigned i = 0; i < listeners->count; i++)
        if (strcmp(listeners->at[i].text, text) == 0)
            return &listeners->at[i];
    return NULL;
}

static bool add_address(struct listeners *listeners, const struct config_listen *wanted,
                        unsigned sockets, struct error *error)
{
    struct listener listener = {.address = wanted->address};
    if (!address_is_free(&listener.address))
        return error_errno(error, errno, "cannot listen on %s", wanted->text);
    listener.text = xstrdup(wanted->text);
    listener.sockets = xcalloc(sockets, sizeof *listener.sockets);
    if (!bind_sockets(&listener, 0, sockets, error)) {
        free_listener(&listener);
        return false;
    }
    listeners->at = xrealloc(listeners->at, (listeners->count + 1) * sizeof *listeners->at);
    listeners->at[listeners->count++] = listener;
    return true;
}

static bool add_addresses(struct listeners *listeners, const struct config *config,
                          unsigned sockets, struct error *error)
{
    unsigned before = listeners->count;
    for (size_t i = 0; i < config->listens_count; i++) {
        if (find(listeners, config->listens[i].text) ||
            add_address(listeners, &config->listens[i], sockets, error))
            continue;
        while (listeners->count > before) {
            struct listener *added = &listeners->at[--listeners->count];
            close_sockets(added, 0, sockets);
            free_listener(added);
        }
        return false;
    }
    return true;
}

/* More sockets for the addresses that were there before. */
static bool add_sockets(struct listeners *listeners, unsigned sockets, struct error *error)
{
    unsigned done = 0;
    for (; done < listeners->count; done++) {
        struct listener *listener = &listeners->at[done];
        listener->sockets = xrealloc(listener->sockets, sockets * sizeof *listener->sockets);
        if (!bind_sockets(listener, listeners->sockets, sockets, error))
            break;
    }
    if (done == listeners->count) {
        listeners->sockets = sockets;
        return true;
    }
    while (done-- > 0)
        close_sockets(&listeners->at[done], listeners->sockets, sockets);
    return false;
}

bool listeners_adjust(struct listeners *listeners, const struct config *config, struct error *error)
{
    unsigned before = listeners->count;
    unsigned sockets = (unsigned)config->workers;
    if (sockets < listeners->sockets)
        sockets = listeners->sockets;
    if (sockets > listeners->sockets && !add_sockets(listeners, sockets, error))
        return false;
    if (!add_addresses(listeners, config, sockets, error))
        return false;
    for (unsigned i = before; i < listeners->count; i++)
        log_address(&listeners->at[i].address);
    for (unsigned i = 0; i < listeners->count; i++)
        listeners->at[i].wanted = false;
    for (size_t i = 0; i < config->listens_count; i++)
        find(listeners, config->listens[i].text)->wanted = true;
    return true;
}

void listeners_drop_unwanted(struct listeners *listeners)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->at[i];
        if (listener->wanted) {
            listeners->at[kept++] = *listener;
            continue;
        }
        log_info("no longer listening on %s", listener->text);
        close_sockets(listener, 0, listeners->sockets);
        free_listener(listener);
    }
    listeners->count = kept;
}

void listeners_close(struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        close_sockets(&listeners->at[i], 0, listeners->sockets);
        free_listener(&listeners->at[i]);
    }
    free(listeners->at);
    *listeners = (struct listeners){0};
}
