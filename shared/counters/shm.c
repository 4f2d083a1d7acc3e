#include "shared/counters/shm.h"

#include "shared/base/step.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const char shm_magic[8] = "pgcount";

/* The kernel's id of this boot: a file from before a reboot holds pids and clocks that mean
 * nothing any more. Empty where /proc is missing. */
static void read_boot_id(char id[40])
{
    memset(id, 0, 40);
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t got = read(fd, id, 36);
    if (got != 36)
        memset(id, 0, 40);
    close(fd);
}

static size_t size_for(unsigned workers)
{
    return sizeof(struct shm_header) + workers * sizeof(struct shm_worker);
}

static bool map_file(struct counters *counters, int fd, size_t size, int protection,
                     const char *path, struct error *error)
{
    void *memory = mmap(NULL, size, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return error_errno(error, errno, "cannot map %s", path);
    counters->header = memory;
    counters->workers = (struct shm_worker *)((char *)memory + sizeof(struct shm_header));
    counters->size_bytes = size;
    return true;
}

static bool header_fits(const struct shm_header *header, size_t size)
{
    char boot_id[40];
    read_boot_id(boot_id);
    return memcmp(header->magic, shm_magic, sizeof shm_magic) == 0 &&
           header->layout == SHM_LAYOUT && header->size_bytes == size &&
           size == size_for(header->workers) &&
           memcmp(header->boot_id, boot_id, sizeof boot_id) == 0;
}

static bool holds_our_header(int fd, size_t size)
{
    struct shm_header header;
    struct stat status;
    return fstat(fd, &status) == 0 && (size_t)status.st_size == size &&
           pread(fd, &header, sizeof header, 0) == (ssize_t)sizeof header &&
           header_fits(&header, size);
}

/* Every page is allocated before it is mapped: a write to a hole on a full disk is SIGBUS. */
static bool fill(int fd, size_t size, unsigned workers, const char *path, struct error *error)
{
    struct shm_header header = {.layout = SHM_LAYOUT, .workers = workers, .size_bytes = size};
    memcpy(header.magic, shm_magic, sizeof shm_magic);
    read_boot_id(header.boot_id);
    int failure = posix_fallocate(fd, 0, (off_t)size);
    if (failure != 0)
        return error_errno(error, failure, "cannot allocate %zu bytes for %s", size, path);
    STEP(counters_allocated);
    if (pwrite(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return error_errno(error, errno, "cannot write %s", path);
    return true;
}

/* A new file in the old one's place: who still has that one mapped (a worker that outlived its
 * master) goes on with it, where cutting it would be SIGBUS. */
static bool make_anew(struct counters *counters, const char *path, unsigned workers,
                      struct error *error)
{
    char fresh[PATH_MAX];
    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
        return error_set(error, "the path %s is too long", path);
    int fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return error_errno(error, errno, "cannot open %s", fresh);
    size_t size = size_for(workers);
    bool done = fill(fd, size, workers, fresh, error);
    STEP(counters_filled);
    if (done && rename(fresh, path) != 0)
        done = error_errno(error, errno, "cannot rename %s", fresh);
    if (!done)
        unlink(fresh);
    STEP(counters_renamed);
    done = done && map_file(counters, fd, size, PROT_READ | PROT_WRITE, path, error);
    close(fd);
    return done;
}

bool counters_create(struct counters *counters, const char *path, unsigned workers,
                     struct error *error)
{
    size_t size = size_for(workers);
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 && errno != ENOENT)
        return error_errno(error, errno, "cannot open %s", path);
    bool done = fd >= 0 && holds_our_header(fd, size)
                    ? map_file(counters, fd, size, PROT_READ | PROT_WRITE, path, error)
                    : make_anew(counters, path, workers, error);
    if (fd >= 0)
        close(fd);
    return done;
}

bool counters_open(struct counters *counters, const char *path, struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(error, errno, "cannot open %s", path);
    struct stat status;
    bool done = fstat(fd, &status) == 0 && status.st_size > 0;
    size_t size = done ? (size_t)status.st_size : 0;
    if (!done || !holds_our_header(fd, size))
        done = error_set(error, "%s is not a counters file of this version and boot", path);
    else
        done = map_file(counters, fd, size, PROT_READ, path, error);
    close(fd);
    return done;
}

void counters_close(struct counters *counters)
{
    if (counters->header)
        munmap(counters->header, counters->size_bytes);
    *counters = (struct counters){0};
}
