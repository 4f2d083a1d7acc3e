#include "master/logger/rejected.h"

#include "shared/base/clock.h"
#include "shared/base/hash.h"
#include "shared/base/json.h"
#include "shared/base/log.h"
#include "shared/base/step.h"
#include "shared/base/xalloc.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NAME_BYTES = 64 };

static char *path_in(const char *state_dir)
{
    struct buf path = {0};
    buf_printf(&path, "%s/rejected", state_dir);
    char *copy = xstrdup(buf_cstr(&path));
    buf_free(&path);
    return copy;
}

uint64_t rejected_count(const char *state_dir)
{
    char *path = path_in(state_dir);
    DIR *stream = opendir(path);
    const struct dirent *entry;
    uint64_t count = 0;
    while (stream && (entry = readdir(stream)))
        count += entry->d_name[0] != '.';
    if (stream)
        closedir(stream);
    free(path);
    return count;
}

void rejected_init(struct rejected *rejected, const char *state_dir)
{
    rejected->path = path_in(state_dir);
    rejected->count = rejected_count(state_dir);
}

void rejected_free(struct rejected *rejected)
{
    free(rejected->path);
    rejected->path = NULL;
}

/* --- one file, whole or not at all --- */

static bool write_all(int fd, struct str bytes)
{
    while (bytes.len > 0) {
        ssize_t written = write(fd, bytes.at, bytes.len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return false;
        bytes.at += written;
        bytes.len -= (size_t)written;
    }
    return true;
}

static bool write_new(int directory, const char *name, struct str bytes)
{
    int fd = openat(directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return false;
    bool done = write_all(fd, bytes) && fsync(fd) == 0;
    int failed = errno;
    close(fd);
    errno = failed;
    return done;
}

static bool put_in(int directory, const char *name, struct str bytes)
{
    char fresh[NAME_BYTES + 8];
    snprintf(fresh, sizeof fresh, ".%s.new", name);
    bool done = write_new(directory, fresh, bytes);
    STEP(rejected_written);
    done = done && renameat(directory, fresh, directory, name) == 0;
    STEP(rejected_renamed);
    done = done && fsync(directory) == 0;
    int failed = errno;
    if (!done)
        unlinkat(directory, fresh, 0);
    errno = failed;
    return done;
}

static bool sync_parent(int directory)
{
    int parent = openat(directory, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool done = parent >= 0 && fsync(parent) == 0;
    int failed = errno;
    if (parent >= 0)
        close(parent);
    errno = failed;
    return done;
}

static bool put(struct rejected *rejected, const char *name, struct str bytes, struct error *error)
{
    bool made = mkdir(rejected->path, 0750) == 0;
    int directory = -1;
    if (made || errno == EEXIST)
        directory = open(rejected->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return error_errno(error, errno, "can't open %s", rejected->path);
    STEP(rejected_folder_made);
    bool known = faccessat(directory, name, F_OK, 0) == 0;
    bool done = (!made || sync_parent(directory)) && put_in(directory, name, bytes);
    int failed = errno;
    close(directory);
    if (!done)
        return error_errno(error, failed, "can't write %s/%s", rejected->path, name);
    rejected->count += !known;
    return true;
}

/* --- what is in it --- */

static void append_column(struct buf *out, const struct record *row, size_t index)
{
    const struct record_column *column = &record_columns[index];
    const char *field = (const char *)row + column->offset;
    char text[UUID_TEXT_LEN + 1];
    buf_printf(out, "%s\"%s\":", index ? "," : "", column->name);
    if (column->kind == RECORD_KIND_UUID) {
        json_write_string(out, str_of(uuid_format((const struct uuid *)field, text)));
        return;
    }
    if (column->kind == RECORD_KIND_TEXT) {
        json_write_string_or_null(out, *(const struct str *)field);
        return;
    }
    int64_t value = *(const int64_t *)field;
    if (value == RECORD_NULL)
        buf_puts(out, "null");
    else if (column->kind == RECORD_KIND_TIME)
        json_write_string(out, str_of(clock_rfc3339(value, text)));
    else if (column->kind == RECORD_KIND_BOOL)
        buf_puts(out, value ? "true" : "false");
    else
        buf_i64(out, value);
}

bool rejected_row(struct rejected *rejected, const struct record *row, const char *reason,
                  struct error *error)
{
    struct buf json = {0};
    char now[CLOCK_RFC3339_SIZE], id[UUID_TEXT_LEN + 1], name[NAME_BYTES];
    buf_printf(&json, "{\"rejected_at\":\"%s\",\"reason\":", clock_rfc3339(clock_wall_ms(), now));
    json_write_string(&json, str_of(reason));
    buf_puts(&json, ",\"row\":{");
    for (size_t i = 0; i < record_columns_count; i++)
        append_column(&json, row, i);
    buf_puts(&json, "}}\n");
    snprintf(name, sizeof name, "%s.json", uuid_format(&row->request_id, id));
    bool done = put(rejected, name, buf_view(&json), error);
    buf_free(&json);
    if (done)
        log_error("the store refuses the row of request %s, which is in %s/%s now: %s", id,
                  rejected->path, name, reason);
    return done;
}

bool rejected_bytes(struct rejected *rejected, struct str bytes, const char *reason,
                    struct error *error)
{
    uint8_t digest[SHA256_BYTES];
    char name[NAME_BYTES];
    sha256(bytes, digest);
    for (int i = 0; i < SHA256_BYTES / 2; i++)
        snprintf(name + 2 * (size_t)i, 3, "%02x", digest[i]);
    snprintf(name + SHA256_BYTES, sizeof name - SHA256_BYTES, ".bin");
    if (!put(rejected, name, bytes, error))
        return false;
    log_error("a record of %zu bytes is whole but can't be read, and is in %s/%s now: %s",
              bytes.len, rejected->path, name, reason);
    return true;
}
