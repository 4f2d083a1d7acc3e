/* What makes a segment durable. For the test of power cuts, in builds with PROMPTGATE_STEPS and
 * with PROMPTGATE_POWERCUT in the environment, it is noted beside the segment: a file .NAME.synced
 * holds how much of it the last fdatasync has seen. A segment without one has no durable name. */
#pragma once

#include <unistd.h>

#ifdef PROMPTGATE_STEPS
/* fsync(directory), for the name of a new segment. */
int sync_name(int directory, const char *name);
/* fdatasync(fd) of the segment. */
int sync_bytes(int directory, const char *name, int fd);
/* The segment has got another name; or none: `to` is NULL. */
void sync_note_move(int directory, const char *from, const char *to);
#else
static inline int sync_name(int directory, const char *name)
{
    (void)name;
    return fsync(directory);
}

static inline int sync_bytes(int directory, const char *name, int fd)
{
    (void)directory;
    (void)name;
    return fdatasync(fd);
}

static inline void sync_note_move(int directory, const char *from, const char *to)
{
    (void)directory;
    (void)from;
    (void)to;
}
#endif
