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

static void work_out_months(int64_t *starts)
{
    for (int i = 0; i <= MONTHS_COUNT; i++) {
        struct tm first = {
            .tm_year = MONTHS_FIRST_YEAR - 1900, .tm_mon = i, .tm_mday = 1, .tm_isdst = -1};
        starts[i] = (int64_t)mktime(&first) * 1000;
    }
}

static int32_t offset_at(int64_t seconds)
{
    struct tm local;
    time_t time = (time_t)seconds;
    return localtime_r(&time, &local) ? (int32_t)local.tm_gmtoff : 0;
}

/* The second that a change between the two begins with; there is one at most. */
static int64_t find_change(int64_t before, int64_t after)
{
    int32_t offset = offset_at(before);
    while (after - before > 1) {
        int64_t middle = before + (after - before) / 2;
        if (offset_at(middle) == offset)
            before = middle;
        else
            after = middle;
    }
    return after;
}

/* No zone changes more than once a day. */
static void work_out_offsets(const int64_t *starts, struct arena *arena,
                             struct zone_offsets *offsets)
{
    enum { DAY_S = 86400, MOST = 1024 };
    struct offset_change *changes = arena_alloc(arena, MOST * sizeof *changes);
    int64_t first = starts[0] / 1000, last = starts[MONTHS_COUNT] / 1000;
    changes[0] = (struct offset_change){first * 1000, offset_at(first)};
    size_t count = 1;
    for (int64_t day = first; day < last && count < MOST; day += DAY_S) {
        if (offset_at(day) == offset_at(day + DAY_S))
            continue;
        int64_t second = find_change(day, day + DAY_S);
        changes[count++] = (struct offset_change){second * 1000, offset_at(second)};
    }
    *offsets = (struct zone_offsets){changes, count};
}

static void set_zone(const char *name)
{
    if (name)
        setenv("TZ", name, 1);
    else
        unsetenv("TZ");
    tzset();
}

bool zone_read(const char *name, struct arena *arena, struct zone *zone, struct error *error)
{
    *zone = (struct zone){0};
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
    work_out_months(starts);
    work_out_offsets(starts, arena, &zone->offsets);
    set_zone(before);
    free(before);
    zone->months.starts = starts;
    return true;
}
