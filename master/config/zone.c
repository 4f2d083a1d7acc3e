#include "master/config/zone.h"

#include "shared/base/str.h"
#include "shared/base/xalloc.h"

#include <ctype.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* Parts of letters, digits, -, _ and +, so that no name leads out of the folder. */
static bool name_valid(const char *name)
{
    if (!isalpha((unsigned char)name[0]))
        return false;
    for (const char *at = name; *at; at++) {
        bool separator = *at == '/' && isalnum((unsigned char)at[1]);
        if (!isalnum((unsigned char)*at) && !strchr("-_+", *at) && !separator)
            return false;
    }
    return true;
}

/* The C library takes a zone that it can't read as UTC, and says nothing. */
static bool file_valid(const char *name)
{
    char path[PATH_MAX], magic[4] = "";
    const char *folder = getenv("TZDIR");
    int len = snprintf(path, sizeof path, "%s/%s", folder ? folder : "/usr/share/zoneinfo", name);
    if (len < 0 || (size_t)len >= sizeof path)
        return false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool valid = fd >= 0 && read(fd, magic, sizeof magic) == (ssize_t)sizeof magic &&
                 memcmp(magic, "TZif", sizeof magic) == 0;
    if (fd >= 0)
        close(fd);
    return valid;
}

static void work_out(int64_t *starts)
{
    for (int i = 0; i <= MONTHS_COUNT; i++) {
        struct tm first = {
            .tm_year = MONTHS_FIRST_YEAR - 1900, .tm_mon = i, .tm_mday = 1, .tm_isdst = -1};
        starts[i] = (int64_t)mktime(&first) * 1000;
    }
}

static void set_zone(const char *name)
{
    if (name)
        setenv("TZ", name, 1);
    else
        unsetenv("TZ");
    tzset();
}

bool zone_months(const char *name, struct arena *arena, struct months *months, struct error *error)
{
    *months = (struct months){0};
    if (strcmp(name, "UTC") == 0)
        return true;
    if (!name_valid(name) || !file_valid(name))
        return error_set(error,
                         "must be a time zone that this host knows, such as UTC or "
                         "Europe/Berlin (a file of /usr/share/zoneinfo), not \"%s\"",
                         name);
    int64_t *starts = arena_alloc(arena, (MONTHS_COUNT + 1) * sizeof *starts);
    const char *now = getenv("TZ");
    char *before = now ? xstrdup(now) : NULL;
    set_zone(name);
    work_out(starts);
    set_zone(before);
    free(before);
    months->starts = starts;
    return true;
}
