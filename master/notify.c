#include "master/notify.h"

#include "shared/base/buf.h"
#include "shared/base/clock.h"
#include "shared/base/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* A leading "@" stands for the NUL of an abstract address, which has no NUL at its end. */
static bool parse_address(struct notify *notify, struct str path)
{
    struct sockaddr_un *address = &notify->address;
    bool abstract = path.len > 0 && path.at[0] == '@';
    if (path.len < 2 || path.len >= sizeof address->sun_path || (path.at[0] != '/' && !abstract))
        return false;
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(address->sun_path, path.at, path.len);
    if (abstract)
        address->sun_path[0] = '\0';
    notify->address_len =
        (socklen_t)(offsetof(struct sockaddr_un, sun_path) + path.len + (abstract ? 0 : 1));
    return true;
}

static int64_t watchdog_from(const char *time_us, const char *pid)
{
    unsigned long long us, whose;
    if (!time_us || !str_to_u64(str_of(time_us), &us) || us / 1000 > INT64_MAX)
        return 0;
    if (pid && (!str_to_u64(str_of(pid), &whose) || whose != (unsigned long long)getpid()))
        return 0;
    return (int64_t)(us / 1000);
}

void notify_open(struct notify *notify)
{
    *notify = (struct notify){.fd = -1};
    const char *path = getenv("NOTIFY_SOCKET");
    if (path && *path) {
        if (parse_address(notify, str_of(path)))
            notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (notify->fd < 0)
            log_warning("the service manager cannot be told anything: NOTIFY_SOCKET=%.100s", path);
    }
    if (notify->fd >= 0)
        notify->watchdog_ms = watchdog_from(getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID"));
    unsetenv("NOTIFY_SOCKET");
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
}

void notify_restore_environment(const struct notify *notify)
{
    size_t start = offsetof(struct sockaddr_un, sun_path);
    char path[sizeof notify->address.sun_path + 1] = "", text[24];
    if (notify->fd < 0)
        return;
    memcpy(path, notify->address.sun_path, notify->address_len - start);
    if (path[0] == '\0')
        path[0] = '@';
    setenv("NOTIFY_SOCKET", path, 1);
    snprintf(text, sizeof text, "%lld", (long long)notify->watchdog_ms * 1000);
    if (notify->watchdog_ms > 0)
        setenv("WATCHDOG_USEC", text, 1);
}

void notify_close(struct notify *notify)
{
    if (notify->fd >= 0)
        close(notify->fd);
    notify->fd = -1;
}

static void send_text(const struct notify *notify, struct buf *text)
{
    if (notify->fd >= 0 &&
        sendto(notify->fd, text->data, text->len, MSG_NOSIGNAL,
               (const struct sockaddr *)&notify->address, notify->address_len) < 0)
        log_debug("the service manager was not told: %s", strerror(errno));
    buf_free(text);
}

/* A line break would begin another assignment. */
static void append_status(struct buf *text, const char *status)
{
    buf_puts(text, "STATUS=");
    for (; *status; status++)
        buf_putc(text, *status == '\n' ? ' ' : *status);
}

void notify_ready(const struct notify *notify, const char *status)
{
    struct buf text = {0};
    buf_puts(&text, "READY=1\n");
    append_status(&text, status);
    send_text(notify, &text);
}

/* The protocol names CLOCK_MONOTONIC, whatever clock this process goes by. */
static uint64_t monotonic_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

void notify_reloading(const struct notify *notify, const char *status)
{
    struct buf text = {0};
    buf_puts(&text, "RELOADING=1\nMONOTONIC_USEC=");
    buf_u64(&text, monotonic_us());
    buf_putc(&text, '\n');
    append_status(&text, status);
    send_text(notify, &text);
}

void notify_stopping(const struct notify *notify, const char *status)
{
    struct buf text = {0};
    buf_puts(&text, "STOPPING=1\n");
    append_status(&text, status);
    send_text(notify, &text);
}

void notify_status(const struct notify *notify, const char *status)
{
    struct buf text = {0};
    append_status(&text, status);
    send_text(notify, &text);
}

void notify_main_pid(const struct notify *notify, pid_t pid)
{
    struct buf text = {0};
    buf_puts(&text, "MAINPID=");
    buf_i64(&text, pid);
    send_text(notify, &text);
}

void notify_feed(struct notify *notify)
{
    int64_t now_ms = clock_now_ms();
    if (notify->watchdog_ms == 0 ||
        (notify->fed_ms != 0 && now_ms - notify->fed_ms < notify->watchdog_ms / 3))
        return;
    struct buf text = {0};
    buf_puts(&text, "WATCHDOG=1");
    send_text(notify, &text);
    notify->fed_ms = now_ms;
}
