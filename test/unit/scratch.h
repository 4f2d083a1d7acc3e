/* A directory for one test's files; removed with what is in it. */
#pragma once

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SCRATCH_PATH = 512 };

static inline char *scratch_make(char directory[SCRATCH_PATH])
{
    const char *base = getenv("TMPDIR");
    snprintf(directory, SCRATCH_PATH, "%s/promptgate-test-XXXXXX", base ? base : "/tmp");
    return mkdtemp(directory);
}

static inline const char *scratch_path(const char *directory, const char *name,
                                       char path[SCRATCH_PATH])
{
    snprintf(path, SCRATCH_PATH, "%.250s/%.250s", directory, name);
    return path;
}

static inline void scratch_remove(const char *directory)
{
    DIR *stream = opendir(directory);
    struct dirent *entry;
    char path[SCRATCH_PATH];
    while (stream && (entry = readdir(stream))) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (entry->d_type == DT_DIR)
            scratch_remove(scratch_path(directory, entry->d_name, path));
        else
            unlink(scratch_path(directory, entry->d_name, path));
    }
    if (stream)
        closedir(stream);
    rmdir(directory);
}
