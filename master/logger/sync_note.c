#include "master/logger/sync_note.h"

#ifdef PROMPTGATE_STEPS
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NAME_BYTES = 256, TEXT_BYTES = 24 };

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
void sync_note_put(int directory, const char *name, uint64_t size)
{
    char path[NAME_BYTES], text[TEXT_BYTES];
    if (!wanted())
        return;
    int len = snprintf(text, sizeof text, "%020" PRIu64 "\n", size);
    int fd = openat(directory, note_name(name, path), O_WRONLY | O_CREAT | O_CLOEXEC, 0640);
    if (fd < 0 || pwrite(fd, text, (size_t)len, 0) != len)
        abort();
    close(fd);
}

void sync_note_drop(int directory, const char *name)
{
    char path[NAME_BYTES];
    if (wanted())
        unlinkat(directory, note_name(name, path), 0);
}
#endif
