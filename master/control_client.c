#include "master/control_client.h"

#include "master/socket_file.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, GONE_WAIT_MS = 10000 };

static enum control_result broken(struct error *error, const char *what)
{
    error_errno(error, errno, "%s", what);
    return CONTROL_BROKEN;
}

static enum control_result connect_to(const char *path, int *fd, struct error *error)
{
    struct sockaddr_un address;
    if (!socket_file_address(path, &address, error))
        return CONTROL_BROKEN;
    *fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (*fd < 0)
        return broken(error, "cannot make a socket");
    if (connect(*fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return CONTROL_OK;
    int reason = errno;
    close(*fd);
    if (reason == ENOENT || reason == ECONNREFUSED) {
        error_set(error, "no gateway is running: nobody listens at %s", path);
        return CONTROL_NO_MASTER;
    }
    error_errno(error, reason, "cannot connect to %s", path);
    return CONTROL_BROKEN;
}

/* False when the connection breaks. */
static bool read_all(int fd, struct buf *text)
{
    for (;;) {
        ssize_t got = recv(fd, buf_reserve(text, READ_BYTES), READ_BYTES, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got == 0;
        text->len += (size_t)got;
    }
}

static enum control_result read_answer(int fd, struct buf *answer, struct error *error)
{
    bool whole = read_all(fd, answer);
    struct str rest = buf_view(answer), first = str_split(&rest, '\n');
    bool good = str_eq(first, STR("ok"));
    if (whole && str_eq(first, STR("again")))
        return CONTROL_AGAIN;
    if (!whole || (!good && !str_eq(first, STR("failed")))) {
        error_set(error, "the gateway went away without an answer");
        return CONTROL_BROKEN;
    }
    buf_consume(answer, answer->len - (rest.at ? rest.len : 0));
    return good ? CONTROL_OK : CONTROL_REFUSED;
}

/* The credentials of a connection are those of the process that listens: the master. */
static int open_master(int fd)
{
    struct ucred master;
    socklen_t size = sizeof master;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &master, &size) != 0)
        return -1;
    return (int)syscall(SYS_pidfd_open, master.pid, 0);
}

static enum control_result converse(int fd, const char *request, bool until_gone,
                                    struct buf *answer, struct error *error)
{
    int master = until_gone ? open_master(fd) : -1;
    enum control_result result;
    if (send(fd, request, strlen(request), MSG_NOSIGNAL) < 0)
        result = broken(error, "cannot ask the gateway");
    else
        result = read_answer(fd, answer, error);
    if (master >= 0) {
        struct pollfd end = {.fd = master, .events = POLLIN};
        if (result == CONTROL_OK)
            poll(&end, 1, GONE_WAIT_MS);
        close(master);
    }
    return result;
}

static enum control_result ask_once(const char *path, const char *request, bool until_gone,
                                    struct buf *answer, struct error *error)
{
    int fd;
    buf_clear(answer);
    enum control_result result = connect_to(path, &fd, error);
    if (result != CONTROL_OK)
        return result;
    result = converse(fd, request, until_gone, answer, error);
    close(fd);
    return result;
}

enum control_result control_ask(const char *runtime_dir, const char *request, bool until_gone,
                                struct buf *answer, struct error *error)
{
    char path[PATH_MAX];
    enum control_result result;
    snprintf(path, sizeof path, "%s/control", runtime_dir);
    do
        result = ask_once(path, request, until_gone, answer, error);
    while (result == CONTROL_AGAIN);
    return result;
}
