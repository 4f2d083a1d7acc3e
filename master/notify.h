/* Tells the service manager how the gateway is: sd_notify(3)'s protocol, datagrams of KEY=VALUE
 * lines to the socket that NOTIFY_SOCKET names. Without one every call does nothing. A datagram
 * that can't be delivered is never waited for. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/un.h>

struct notify {
    int fd; /* -1 = nobody wants to know */
    struct sockaddr_un address;
    socklen_t address_len;
    int64_t watchdog_ms; /* feed it within this; 0 = no watchdog */
    int64_t fed_ms;      /* monotonic: when it was fed last */
};

/* Takes NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID out of the environment. A watchdog that is
 * another process's, and an address that isn't one, count as none; the latter is logged. */
void notify_open(struct notify *notify);
void notify_close(struct notify *notify);

/* In a child that is about to exec the service's next main process: what notify_open took. */
void notify_restore_environment(const struct notify *notify);

/* READY=1, also after a reload has ended. */
void notify_ready(const struct notify *notify, const char *status);
/* RELOADING=1 with the time it began. */
void notify_reloading(const struct notify *notify, const char *status);
void notify_stopping(const struct notify *notify, const char *status);
/* STATUS=: one line for `systemctl status`. */
void notify_status(const struct notify *notify, const char *status);
/* MAINPID=: another process is the service from now on. */
void notify_main_pid(const struct notify *notify, pid_t pid);
/* WATCHDOG=1, when a third of its time has passed since it was fed; call it at every turn at which
 * all is well. */
void notify_feed(struct notify *notify);
