#include "master/logger/sync_note.h"

#ifdef PROMPTGATE_STEPS
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { NAME_BYTES = 256, TEXT_BYTES = 32 };

static bool wanted(void)
{
    return getenv("PROMPTGATE_POWERCUT") != NULL;
}

static const char *note_name(const char *name, char text[NAME_BYTES])
{
    snprintf(text, NAME_BYTES, ".%s.synced", name);
    return text;
}

/* One write of a fixed length over what was there: no stop can cut it. */
static void put(int directory, const char *name, int flags, long long size)
{
    char path[NAME_BYTES], text[TEXT_BYTES];
    int len = snprintf(text, sizeof text, "%020lld\n", size);
    int fd = openat(directory, note_name(name, path), O_WRONLY | O_CLOEXEC | flags, 0640);
    if (fd < 0 && (!(flags & O_CREAT) || errno == EEXIST))
        return; /* bytes alone give no name; a name says nothing of bytes */
    if (fd < 0 || pwrite(fd, text, (size_t)len, 0) != len)
        abort();
    close(fd);
}

int sync_name(int directory, const char *name)
{
    int failed = fsync(directory);
    if (!failed && wanted())
        put(directory, name, O_CREAT | O_EXCL, 0);
    return failed;
}

int sync_bytes(int directory, const char *name, int fd)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        abort();
    int failed = fdatasync(fd);
    if (!failed && wanted())
        put(directory, name, 0, status.st_size);
    return failed;
}

void sync_note_move(int directory, const char *from, const char *to)
{
    char before[NAME_BYTES], after[NAME_BYTES];
    if (!wanted())
        return;
    if (to)
        renameat(directory, note_name(from, before), directory, note_name(to, after));
    else
        unlinkat(directory, note_name(from, before), 0);
}
#endif
