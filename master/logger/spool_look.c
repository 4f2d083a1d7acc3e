#include "master/logger/spool_look.h"

#include "shared/base/uuid.h"
#include "shared/record/frame.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static const char ending[] = ".seg";

/* A segment's name ends in its UUID. */
static bool segment_id(const char *name, struct uuid *id)
{
    size_t len = strlen(name), tail = UUID_TEXT_LEN + sizeof ending - 1;
    return len > tail && strcmp(name + len - (sizeof ending - 1), ending) == 0 &&
           uuid_parse((struct str){name + len - tail, UUID_TEXT_LEN}, id);
}

static uint64_t committed_of(const char *name, const struct spool_committed_to *offsets,
                             size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(offsets[i].segment, name) == 0)
            return offsets[i].committed;
    return 0;
}

/* The time of the request whose record is at `at`, else that of the segment. */
static int64_t time_at(int fd, uint64_t at, struct uuid id)
{
    char head[FRAME_HEAD];
    ssize_t got = pread(fd, head, sizeof head, (off_t)at);
    if (got > 0)
        (void)frame_request_id((struct str){head, (size_t)got}, &id);
    return uuid_wall_ms(&id);
}

static void add_segment(int fd, uint64_t committed, const struct uuid *id,
                        struct spool_depth *depth)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return;
    depth->segments++;
    if ((uint64_t)status.st_size <= committed)
        return;
    depth->pending_bytes += (uint64_t)status.st_size - committed;
    int64_t time = time_at(fd, committed, *id);
    if (!depth->oldest_wall_ms || time < depth->oldest_wall_ms)
        depth->oldest_wall_ms = time;
}

bool spool_look(const char *directory, const struct spool_committed_to *offsets,
                size_t offsets_count, struct spool_depth *depth, struct error *error)
{
    *depth = (struct spool_depth){0};
    DIR *stream = opendir(directory);
    if (!stream)
        return errno == ENOENT || error_errno(error, errno, "can't read %s", directory);
    const struct dirent *entry;
    while ((entry = readdir(stream))) {
        struct uuid id;
        int fd = segment_id(entry->d_name, &id)
                     ? openat(dirfd(stream), entry->d_name, O_RDONLY | O_CLOEXEC)
                     : -1;
        if (fd < 0)
            continue;
        add_segment(fd, committed_of(entry->d_name, offsets, offsets_count), &id, depth);
        close(fd);
    }
    closedir(stream);
    return true;
}
