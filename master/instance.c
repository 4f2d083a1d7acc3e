#include "master/instance.h"

#include "shared/base/clock.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    LOOK_MS = 20,           /* between two looks at the lock */
    KILLED_WAIT_MS = 10000, /* for killed processes to be gone */
    LINE_BYTES = 128,
};

static size_t read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t len = fd < 0 ? 0 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[len > 0 ? len : 0] = '\0';
    return len > 0 ? (size_t)len : 0;
}

uint64_t process_start_time(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    read_file(path, text, sizeof text);
    /* The name stands in parentheses and may hold anything, those too. */
    const char *rest = strrchr(text, ')');
    char state;
    unsigned long long started;
    if (!rest || sscanf(rest,
                        ") %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                        "%*d %*d %*d %llu",
                        &state, &started) != 2)
        return 0;
    return state == 'Z' || state == 'X' ? 0 : started;
}

/* --- who the lock's file says the master is --- */

struct holder {
    int pid; /* 0 = it says nothing that holds in this boot */
    unsigned long long started;
};

static void boot_id(char id[40])
{
    read_file("/proc/sys/kernel/random/boot_id", id, 40);
    id[strcspn(id, "\n")] = '\0';
}

static struct holder read_holder(int fd)
{
    char text[LINE_BYTES + 1], boot[40], ours[40];
    struct holder holder = {0};
    ssize_t len = pread(fd, text, LINE_BYTES, 0);
    text[len > 0 ? len : 0] = '\0';
    boot_id(ours);
    if (sscanf(text, "%d %llu %39s", &holder.pid, &holder.started, boot) != 3 ||
        strcmp(boot, ours) != 0 || holder.pid <= 0)
        return (struct holder){0};
    return holder;
}

/* A process that /proc hides from us (hidepid) counts as the one meant: better to refuse than to
 * kill a living gateway. */
static bool is_living(const struct holder *holder)
{
    if (holder->pid == 0)
        return false;
    uint64_t started = process_start_time(holder->pid);
    if (started != 0)
        return started == holder->started;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/stat", holder->pid);
    return access(path, F_OK) != 0 && (kill(holder->pid, 0) == 0 || errno == EPERM);
}

/* Of one length whatever it says, so that a reader sees the old line or the new one. */
static bool write_holder(int fd, struct error *error)
{
    char text[LINE_BYTES + 1], line[LINE_BYTES], boot[40];
    boot_id(boot);
    snprintf(line, sizeof line, "%d %llu %s", (int)getpid(),
             (unsigned long long)process_start_time(getpid()), *boot ? boot : "-");
    snprintf(text, sizeof text, "%-*s\n", LINE_BYTES - 1, line);
    if (pwrite(fd, text, LINE_BYTES, 0) == LINE_BYTES && ftruncate(fd, LINE_BYTES) == 0)
        return true;
    return error_errno(error, errno, "cannot write the lock's file");
}

bool instance_sign(const struct instance *instance, struct error *error)
{
    return write_holder(instance->fd, error);
}

/* --- the lock --- */

/* The file that was locked may have been removed meanwhile: then it guards nothing. */
static bool is_still_at(int fd, const char *path)
{
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

enum lock { LOCK_TAKEN, LOCK_HELD, LOCK_FAILED };

/* `*fd` is the opened file unless it failed. */
static enum lock try_lock(const char *path, int *fd, struct error *error)
{
    for (;;) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
        if (*fd < 0) {
            error_errno(error, errno, "cannot open %s", path);
            return LOCK_FAILED;
        }
        STEP(lock_opened);
        if (flock(*fd, LOCK_EX | LOCK_NB) == 0) {
            if (is_still_at(*fd, path))
                return LOCK_TAKEN;
            close(*fd);
            continue;
        }
        if (errno == EWOULDBLOCK)
            return LOCK_HELD;
        error_errno(error, errno, "cannot lock %s", path);
        close(*fd);
        return LOCK_FAILED;
    }
}

static bool is_told_to_stop(void)
{
    sigset_t pending;
    return sigpending(&pending) == 0 &&
           (sigismember(&pending, SIGTERM) || sigismember(&pending, SIGINT));
}

/* As try_lock, until it is free, a living master turns out to hold it, or `until_ms`. */
static enum lock wait_for_lock(const char *path, int64_t until_ms, int *fd, struct error *error)
{
    static const struct timespec pause = {.tv_nsec = LOOK_MS * 1000000};
    for (;;) {
        enum lock lock = try_lock(path, fd, error);
        if (lock != LOCK_HELD)
            return lock;
        struct holder holder = read_holder(*fd);
        close(*fd);
        if (is_living(&holder)) {
            error_set(error, "already running (pid %d)", holder.pid);
            return LOCK_FAILED;
        }
        if (is_told_to_stop()) {
            error_set(error, "told to stop before the processes of an earlier master were gone");
            return LOCK_FAILED;
        }
        if (clock_now_ms() >= until_ms)
            return LOCK_HELD;
        nanosleep(&pause, NULL);
    }
}

/* --- orphans --- */

/* The descriptor is taken first: if the start time then fits, it can only be that process. */
bool process_kill(const struct instance_process *process)
{
    if (process->pid <= 1 || process->pid == getpid())
        return false;
    int pidfd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (pidfd < 0)
        return false;
    uint64_t started = process_start_time(process->pid);
    bool meant = started != 0 && started == process->started;
    if (meant && syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) != 0) {
        log_error("cannot kill process %d of an earlier master: %s", (int)process->pid,
                  strerror(errno));
        meant = false;
    }
    close(pidfd);
    return meant;
}

static void kill_all(const struct instance_process *orphans, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (process_kill(&orphans[i]))
            log_warning("killed process %d, which an earlier master left behind",
                        (int)orphans[i].pid);
}

static enum lock take(const char *path, int64_t wait_ms, const struct instance_process *orphans,
                      size_t count, int *fd, struct error *error)
{
    enum lock lock = wait_for_lock(path, clock_now_ms(), fd, error);
    if (lock != LOCK_HELD)
        return lock;
    log_warning("processes of an earlier master still live: they have %lld ms to end",
                (long long)wait_ms);
    lock = wait_for_lock(path, clock_now_ms() + wait_ms, fd, error);
    if (lock != LOCK_HELD)
        return lock;
    STEP(orphans_outstayed);
    kill_all(orphans, count);
    STEP(orphans_killed);
    return wait_for_lock(path, clock_now_ms() + KILLED_WAIT_MS, fd, error);
}

bool instance_take(struct instance *instance, const char *runtime_dir, int64_t wait_ms,
                   const struct instance_process *orphans, size_t orphans_count,
                   struct error *error)
{
    char path[PATH_MAX];
    instance->fd = -1;
    if (snprintf(path, sizeof path, "%s/lock", runtime_dir) >= (int)sizeof path)
        return error_set(error, "the path %s is too long", runtime_dir);
    int fd;
    enum lock lock = take(path, wait_ms, orphans, orphans_count, &fd, error);
    if (lock == LOCK_FAILED)
        return false;
    if (lock == LOCK_HELD)
        return error_set(
            error, "a process of an earlier master still holds %s and could not be killed", path);
    STEP(lock_taken);
    if (!write_holder(fd, error)) {
        close(fd);
        return false;
    }
    STEP(lock_signed);
    instance->fd = fd;
    return true;
}

void instance_release(struct instance *instance)
{
    if (instance->fd >= 0)
        close(instance->fd);
    instance->fd = -1;
}
