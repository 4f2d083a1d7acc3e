#include "shared/counters/shm.h"

#include "shared/base/clock.h"
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

enum { TABLE_BYTES = SHM_REQUESTS_PER_SLOT * sizeof(struct shm_request) };

/* Whole pages, for they are allocated one by one. */
static size_t tables_offset(unsigned workers)
{
    enum { PAGE = 4096 };
    size_t end = sizeof(struct shm_header) + workers * sizeof(struct shm_worker);
    return (end + PAGE - 1) / PAGE * PAGE;
}

static size_t accounts_offset(unsigned workers)
{
    return tables_offset(workers) + (size_t)workers * TABLE_BYTES;
}

static size_t size_for(unsigned workers, uint32_t accounts)
{
    return accounts_offset(workers) + accounts * sizeof(struct shm_account);
}

/* What is mapped beyond the file's end appears in all processes when the file grows. */
enum { SPARE_ACCOUNTS = 65536 };

static void place(struct counters *counters, void *memory, size_t size, size_t mapped)
{
    counters->header = memory;
    unsigned workers = counters->header->workers;
    counters->workers = (struct shm_worker *)((char *)memory + sizeof(struct shm_header));
    counters->requests = (struct shm_request *)((char *)memory + tables_offset(workers));
    counters->accounts = (struct shm_account *)((char *)memory + accounts_offset(workers));
    counters->size_bytes = size;
    counters->mapped_bytes = mapped;
}

static bool map_file(struct counters *counters, int fd, size_t size, int protection,
                     const char *path, struct error *error)
{
    size_t mapped = size + SPARE_ACCOUNTS * sizeof(struct shm_account);
    void *memory = mmap(NULL, mapped, protection, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        return error_errno(error, errno, "cannot map %s", path);
    place(counters, memory, size, mapped);
    return true;
}

/* How much of the file is in use, 0 when it isn't one of ours. It may be longer: a master that was
 * killed while it made room. */
static size_t used_bytes(const struct shm_header *header, size_t file_size)
{
    char boot_id[40];
    read_boot_id(boot_id);
    size_t size = size_for(header->workers, atomic_load(&header->accounts));
    bool fits = memcmp(header->magic, shm_magic, sizeof shm_magic) == 0 &&
                header->layout == SHM_LAYOUT && file_size >= size &&
                memcmp(header->boot_id, boot_id, sizeof boot_id) == 0;
    return fits ? size : 0;
}

static size_t size_in_use(int fd)
{
    struct shm_header header;
    struct stat status;
    if (fstat(fd, &status) != 0 || pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return 0;
    return used_bytes(&header, (size_t)status.st_size);
}

static bool allocate(int fd, size_t from, size_t to, struct error *error)
{
    int failure = to > from ? posix_fallocate(fd, (off_t)from, (off_t)(to - from)) : 0;
    return failure == 0 ||
           error_errno(error, failure, "cannot allocate %zu bytes for the counters file",
                       to - from);
}

/* What an earlier file with fewer slots holds; nobody else uses either of them. */
static bool carry_over(struct counters *to, const struct counters *from, struct error *error)
{
    unsigned workers = to->header->workers, before = from->header->workers;
    size_t accounts = atomic_load(&from->header->accounts);
    memcpy((void *)to->header, (const void *)from->header, sizeof *to->header);
    to->header->workers = workers;
    memcpy((void *)to->accounts, (const void *)from->accounts, accounts * sizeof *to->accounts);
    memcpy((void *)to->workers, (const void *)from->workers, before * sizeof *to->workers);
    for (unsigned i = 0; i < before; i++) {
        if (!atomic_exchange(&to->workers[i].has_table, 0))
            continue;
        if (!counters_allot_table(to, i, error))
            return false;
        memcpy((void *)counters_requests(to, i), (const void *)counters_requests(from, i),
               atomic_load(&from->workers[i].entries) * sizeof *to->requests);
    }
    return true;
}

static bool fill(struct counters *counters, int fd, unsigned workers, const struct counters *old,
                 const char *path, struct error *error)
{
    struct shm_header header = {.layout = SHM_LAYOUT, .workers = workers};
    uint32_t accounts = old->header ? atomic_load(&old->header->accounts) : 0;
    size_t size = size_for(workers, accounts);
    memcpy(header.magic, shm_magic, sizeof shm_magic);
    read_boot_id(header.boot_id);
    header.clock_offset_us = clock_wall_ms() * 1000 - clock_now_us();
    if (ftruncate(fd, (off_t)size) != 0)
        return error_errno(error, errno, "cannot set the size of %s", path);
    if (!allocate(fd, 0, tables_offset(workers), error) ||
        !allocate(fd, accounts_offset(workers), size, error))
        return false;
    STEP(counters_allocated);
    if (pwrite(fd, &header, sizeof header, 0) != (ssize_t)sizeof header)
        return error_errno(error, errno, "cannot write %s", path);
    STEP(counters_header_written);
    if (!map_file(counters, fd, size, PROT_READ | PROT_WRITE, path, error))
        return false;
    atomic_store(&counters->header->accounts, accounts);
    atomic_store(&counters->header->cold, 1);
    if (old->header && !carry_over(counters, old, error))
        return false;
    STEP(counters_carried_over);
    return true;
}

static void let_go(struct counters *counters)
{
    if (counters->header)
        munmap(counters->header, counters->mapped_bytes);
    if (counters->fd >= 0)
        close(counters->fd);
    *counters = (struct counters){.fd = -1};
}

/* A new file in the old one's place: who still has that one mapped (a worker that outlived its
 * master) goes on with it, where cutting it would be SIGBUS. */
static bool make_anew(struct counters *counters, const char *path, unsigned workers,
                      const struct counters *old, struct error *error)
{
    char fresh[PATH_MAX];
    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh)
        return error_set(error, "the path %s is too long", path);
    counters->fd = open(fresh, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (counters->fd < 0)
        return error_errno(error, errno, "cannot open %s", fresh);
    bool done = fill(counters, counters->fd, workers, old, fresh, error);
    if (done && rename(fresh, path) != 0)
        done = error_errno(error, errno, "cannot rename %s", fresh);
    STEP(counters_renamed);
    if (!done) {
        unlink(fresh);
        let_go(counters);
    }
    return done;
}

bool counters_create(struct counters *counters, const char *path, unsigned workers,
                     struct error *error)
{
    struct counters old = {.fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK)};
    *counters = (struct counters){.fd = -1};
    if (old.fd < 0 && errno != ENOENT)
        return error_errno(error, errno, "cannot open %s", path);
    size_t size = old.fd >= 0 ? size_in_use(old.fd) : 0;
    bool done = size == 0 || map_file(&old, old.fd, size, PROT_READ | PROT_WRITE, path, error);
    if (done && size > 0 && old.header->workers >= workers) {
        *counters = old;
        return true;
    }
    done = done && make_anew(counters, path, workers, &old, error);
    let_go(&old);
    return done;
}

bool counters_join(struct counters *counters, int fd, struct error *error)
{
    size_t size = size_in_use(fd);
    *counters = (struct counters){.fd = fd};
    return size > 0 ? map_file(counters, fd, size, PROT_READ | PROT_WRITE, "the counters", error)
                    : error_set(error, "the counters file has another layout: restart needed");
}

bool counters_open(struct counters *counters, const char *path, struct error *error)
{
    *counters = (struct counters){.fd = -1};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return error_errno(error, errno, "cannot open %s", path);
    size_t size = size_in_use(fd);
    bool done = size > 0
                    ? map_file(counters, fd, size, PROT_READ, path, error)
                    : error_set(error, "%s is not a counters file of this version and boot", path);
    close(fd);
    return done;
}

bool counters_allot_table(struct counters *counters, unsigned slot, struct error *error)
{
    size_t at = tables_offset(counters->header->workers) + (size_t)slot * TABLE_BYTES;
    if (atomic_load(&counters->workers[slot].has_table))
        return true;
    if (!allocate(counters->fd, at, at + TABLE_BYTES, error))
        return false;
    STEP(counters_table_allocated);
    atomic_store(&counters->workers[slot].has_table, 1);
    STEP(counters_table_allotted);
    return true;
}

static bool map_more(struct counters *counters, size_t size, struct error *error)
{
    size_t mapped = size + SPARE_ACCOUNTS * sizeof(struct shm_account);
    void *memory = mremap(counters->header, counters->mapped_bytes, mapped, MREMAP_MAYMOVE);
    if (memory == MAP_FAILED)
        return error_errno(error, errno, "cannot map %zu bytes of the counters file", size);
    place(counters, memory, counters->size_bytes, mapped);
    return true;
}

bool counters_grow(struct counters *counters, uint32_t accounts, struct error *error)
{
    size_t size = size_for(counters->header->workers, accounts);
    if (size <= counters->size_bytes)
        return true;
    if (!allocate(counters->fd, counters->size_bytes, size, error))
        return false;
    STEP(counters_room_allocated);
    if (size > counters->mapped_bytes && !map_more(counters, size, error))
        return false;
    counters->size_bytes = size;
    atomic_store(&counters->header->accounts, accounts);
    STEP(counters_grown);
    return true;
}

bool counters_look_again(struct counters *counters, struct error *error)
{
    size_t size = size_for(counters->header->workers, atomic_load(&counters->header->accounts));
    if (size > counters->mapped_bytes && !map_more(counters, size, error))
        return false;
    counters->size_bytes = size;
    return true;
}

uint32_t counters_accounts_mapped(const struct counters *counters)
{
    size_t bytes = counters->mapped_bytes - accounts_offset(counters->header->workers);
    return (uint32_t)(bytes / sizeof(struct shm_account));
}

bool counters_parent_is_second(const void *counters)
{
    int64_t master = atomic_load(&((const struct counters *)counters)->header->master_pid);
    return master != 0 && master != getppid();
}

void counters_in_child(struct counters *counters)
{
    if (counters->fd >= 0)
        close(counters->fd);
    counters->fd = -1;
}

/* All zero is a closed one, too, and descriptor 0 not its own. */
void counters_close(struct counters *counters)
{
    if (counters->header)
        let_go(counters);
}
