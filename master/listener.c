#include "master/listener.h"

#include "master/listener_unix.h"
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

void listener_write_address(const struct listener *listener, struct buf *out)
{
    const union socket_address *address = &listener->address;
    char text[INET6_ADDRSTRLEN];
    if (address->any.sa_family == AF_INET6) {
        inet_ntop(AF_INET6, &address->v6.sin6_addr, text, sizeof text);
        buf_printf(out, "[%s]:%u", text, ntohs(address->v6.sin6_port));
    } else if (address->any.sa_family == AF_INET) {
        inet_ntop(AF_INET, &address->v4.sin_addr, text, sizeof text);
        buf_printf(out, "%s:%u", text, ntohs(address->v4.sin_port));
    } else {
        buf_puts(out, listener->text);
    }
}

static void log_address(const struct listener *listener)
{
    struct buf text = {0};
    listener_write_address(listener, &text);
    log_info("listening on %s", buf_cstr(&text));
    buf_free(&text);
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

static bool is_local(const struct listener *listener)
{
    return listener->address.any.sa_family == AF_UNIX;
}

void listener_close_inherited(const struct listener *listener)
{
    for (unsigned i = 0; i < listener->count; i++)
        close(listener->sockets[i]);
}

static void forget(struct listener *listener)
{
    free(listener->sockets);
    free(listener->text);
}

/* In the master: with a UNIX address goes its file. */
static void drop(struct listener *listener)
{
    if (is_local(listener))
        listener_unix_close(&listener->file);
    else
        listener_close_inherited(listener);
    forget(listener);
}

static struct listener *find(const struct listeners *listeners, const char *text)
{
    for (unsigned i = 0; i < listeners->count; i++)
        if (strcmp(listeners->at[i].text, text) == 0)
            return &listeners->at[i];
    return NULL;
}

static bool open_local(struct listener *listener, const struct config_listen *wanted, int backlog,
                       struct error *error)
{
    if (!listener_unix_open(wanted, backlog, &listener->file, error))
        return false;
    listener->sockets = xcalloc(1, sizeof *listener->sockets);
    listener->sockets[0] = listener->file.fd;
    listener->count = 1;
    return true;
}

static bool open_tcp(struct listener *listener, unsigned sockets, struct error *error)
{
    if (!address_is_free(&listener->address))
        return error_errno(error, errno, "cannot listen on %s", listener->text);
    listener->sockets = xcalloc(sockets, sizeof *listener->sockets);
    if (!bind_sockets(listener, 0, sockets, error))
        return false;
    listener->count = sockets;
    log_address(listener);
    return true;
}

static bool add_address(struct listeners *listeners, const struct config_listen *wanted,
                        int backlog, struct error *error)
{
    struct listener listener = {.address = wanted->address, .text = xstrdup(wanted->text)};
    bool open = is_local(&listener) ? open_local(&listener, wanted, backlog, error)
                                    : open_tcp(&listener, listeners->sockets, error);
    if (!open) {
        free(listener.sockets);
        free(listener.text);
        return false;
    }
    listeners->at = xrealloc(listeners->at, (listeners->count + 1) * sizeof *listeners->at);
    listeners->at[listeners->count++] = listener;
    return true;
}

static bool add_addresses(struct listeners *listeners, const struct config *config,
                          struct error *error)
{
    unsigned before = listeners->count;
    for (size_t i = 0; i < config->listens_count; i++) {
        const struct config_listen *wanted = &config->listens[i];
        if (find(listeners, wanted->text) ||
            add_address(listeners, wanted, (int)config->http.backlog, error))
            continue;
        while (listeners->count > before)
            drop(&listeners->at[--listeners->count]);
        return false;
    }
    return true;
}

/* More sockets for the TCP addresses that were there before. */
static bool add_sockets(struct listeners *listeners, unsigned sockets, struct error *error)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->at[i];
        if (is_local(listener) || listener->count >= sockets)
            continue;
        listener->sockets = xrealloc(listener->sockets, sockets * sizeof *listener->sockets);
        if (!bind_sockets(listener, listener->count, sockets, error))
            return false;
        listener->count = sockets;
    }
    listeners->sockets = sockets;
    return true;
}

bool listeners_adjust(struct listeners *listeners, const struct config *config, struct error *error)
{
    unsigned sockets = (unsigned)config->workers;
    if (sockets > listeners->sockets && !add_sockets(listeners, sockets, error))
        return false;
    return add_addresses(listeners, config, error);
}

size_t listener_place(const struct listener *listener, const struct config *config)
{
    size_t i = 0;
    while (i < config->listens_count && strcmp(config->listens[i].text, listener->text) != 0)
        i++;
    return i;
}

bool listener_is_wanted(const struct listener *listener, const struct config *config)
{
    return listener_place(listener, config) < config->listens_count;
}

void listeners_begin(const struct listeners *listeners, const struct config *config)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        const struct listener *listener = &listeners->at[i];
        if (!listener_is_wanted(listener, config))
            continue;
        for (unsigned j = 0; j < listener->count; j++)
            if (listen(listener->sockets[j], (int)config->http.backlog) != 0)
                log_error("cannot listen on %s: %s", listener->text, strerror(errno));
    }
}

/* Ends the listening itself, whoever else has the socket. */
static void stop_listening(const struct listener *listener)
{
    for (unsigned i = 0; i < listener->count; i++)
        shutdown(listener->sockets[i], SHUT_RDWR);
}

void listeners_drop_unwanted(struct listeners *listeners, const struct config *config)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < listeners->count; i++) {
        struct listener *listener = &listeners->at[i];
        if (listener_is_wanted(listener, config)) {
            listeners->at[kept++] = *listener;
            continue;
        }
        log_info("no longer listening on %s", listener->text);
        stop_listening(listener);
        drop(listener);
    }
    listeners->count = kept;
}

void listeners_refuse(const struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++)
        stop_listening(&listeners->at[i]);
}

void listeners_close(struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++)
        drop(&listeners->at[i]);
    free(listeners->at);
    *listeners = (struct listeners){0};
}

void listeners_leave(struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++) {
        listener_close_inherited(&listeners->at[i]);
        forget(&listeners->at[i]);
    }
    free(listeners->at);
    *listeners = (struct listeners){0};
}

void listeners_close_inherited(const struct listeners *listeners)
{
    for (unsigned i = 0; i < listeners->count; i++)
        listener_close_inherited(&listeners->at[i]);
}
