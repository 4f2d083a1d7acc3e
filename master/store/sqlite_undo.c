#include "master/store/sqlite_undo.h"

#ifdef PROMPTGATE_STEPS
#include "shared/base/str.h"
#include "shared/base/xalloc.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* PATH.undo holds, for each change of PATH since its last sync, what was there before: this head,
 * then `len` bytes. Whoever applies them from the last to the first has the file as it was at its
 * sync. A change is made after its entry is whole, so it doesn't matter where the process stops. */
struct undo_head {
    uint64_t size; /* the file's, before */
    uint64_t at;
    uint64_t len; /* of the bytes that follow: as many as the file had there */
};

struct undo_file {
    sqlite3_file base;
    sqlite3_file *real;
    int log; /* -1: not a file that a power cut matters to */
};

static sqlite3_vfs undo_vfs, *real_vfs;

static struct undo_file *undo_of(sqlite3_file *file)
{
    return (struct undo_file *)file;
}

static sqlite3_file *real_of(sqlite3_file *file)
{
    return undo_of(file)->real;
}

/* What stands between `at` and `end` goes into the log. */
static void note_change(sqlite3_file *file, sqlite3_int64 at, sqlite3_int64 end)
{
    struct undo_file *undo = undo_of(file);
    sqlite3_int64 size = 0;
    if (undo->log < 0 || undo->real->pMethods->xFileSize(undo->real, &size) != SQLITE_OK)
        return;
    end = end < size ? end : size;
    struct undo_head head = {(uint64_t)size, (uint64_t)at, at < end ? (uint64_t)(end - at) : 0};
    char *entry = xmalloc(sizeof head + head.len);
    memcpy(entry, &head, sizeof head);
    if (head.len && undo->real->pMethods->xRead(undo->real, entry + sizeof head, (int)head.len,
                                                at) != SQLITE_OK)
        abort();
    ssize_t all = (ssize_t)(sizeof head + head.len);
    if (write(undo->log, entry, (size_t)all) != all)
        abort();
    free(entry);
}

static int undo_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    note_change(file, at, at + len);
    return real_of(file)->pMethods->xWrite(real_of(file), bytes, len, at);
}

static int undo_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    note_change(file, size, INT64_MAX);
    return real_of(file)->pMethods->xTruncate(real_of(file), size);
}

static int undo_sync(sqlite3_file *file, int flags)
{
    int code = real_of(file)->pMethods->xSync(real_of(file), flags);
    if (code == SQLITE_OK && undo_of(file)->log >= 0 && ftruncate(undo_of(file)->log, 0) != 0)
        abort();
    return code;
}

static int undo_close(sqlite3_file *file)
{
    if (undo_of(file)->log >= 0)
        close(undo_of(file)->log);
    int code = real_of(file)->pMethods->xClose(real_of(file));
    free(real_of(file));
    return code;
}

/* --- all else goes through as it is --- */

static int undo_read(sqlite3_file *file, void *bytes, int len, sqlite3_int64 at)
{
    return real_of(file)->pMethods->xRead(real_of(file), bytes, len, at);
}

static int undo_file_size(sqlite3_file *file, sqlite3_int64 *size)
{
    return real_of(file)->pMethods->xFileSize(real_of(file), size);
}

static int undo_lock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xLock(real_of(file), level);
}

static int undo_unlock(sqlite3_file *file, int level)
{
    return real_of(file)->pMethods->xUnlock(real_of(file), level);
}

static int undo_check_lock(sqlite3_file *file, int *held)
{
    return real_of(file)->pMethods->xCheckReservedLock(real_of(file), held);
}

/* Growing the file ahead of its writes is no change that the log would know of. */
static int undo_control(sqlite3_file *file, int operation, void *argument)
{
    if (operation == SQLITE_FCNTL_SIZE_HINT || operation == SQLITE_FCNTL_CHUNK_SIZE)
        return SQLITE_OK;
    return real_of(file)->pMethods->xFileControl(real_of(file), operation, argument);
}

static int undo_sector_size(sqlite3_file *file)
{
    return real_of(file)->pMethods->xSectorSize(real_of(file));
}

static int undo_characteristics(sqlite3_file *file)
{
    return real_of(file)->pMethods->xDeviceCharacteristics(real_of(file));
}

static int undo_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **at)
{
    return real_of(file)->pMethods->xShmMap(real_of(file), page, size, extend, at);
}

static int undo_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    return real_of(file)->pMethods->xShmLock(real_of(file), offset, count, flags);
}

static void undo_shm_barrier(sqlite3_file *file)
{
    real_of(file)->pMethods->xShmBarrier(real_of(file));
}

static int undo_shm_unmap(sqlite3_file *file, int remove_it)
{
    return real_of(file)->pMethods->xShmUnmap(real_of(file), remove_it);
}

static const sqlite3_io_methods undo_methods = {
    .iVersion = 2, /* without xFetch: nothing is read or written through a mapping */
    .xClose = undo_close,
    .xRead = undo_read,
    .xWrite = undo_write,
    .xTruncate = undo_truncate,
    .xSync = undo_sync,
    .xFileSize = undo_file_size,
    .xLock = undo_lock,
    .xUnlock = undo_unlock,
    .xCheckReservedLock = undo_check_lock,
    .xFileControl = undo_control,
    .xSectorSize = undo_sector_size,
    .xDeviceCharacteristics = undo_characteristics,
    .xShmMap = undo_shm_map,
    .xShmLock = undo_shm_lock,
    .xShmBarrier = undo_shm_barrier,
    .xShmUnmap = undo_shm_unmap,
};

static char *log_path(const char *path)
{
    char *text = sqlite3_mprintf("%s.undo", path);
    if (!text)
        abort();
    return text;
}

/* A kill may have cut the last entry; what it was for was never done. */
static void drop_torn_entry(int log)
{
    struct undo_head head;
    struct stat status;
    off_t at = 0;
    if (fstat(log, &status) != 0)
        abort();
    while (pread(log, &head, sizeof head, at) == (ssize_t)sizeof head &&
           at + (off_t)(sizeof head + head.len) <= status.st_size)
        at += (off_t)(sizeof head + head.len);
    if (at < status.st_size && ftruncate(log, at) != 0)
        abort();
}

/* Kept when it is there: an earlier process's changes are no more durable because it is gone. */
static int open_log(const char *path, int flags)
{
    if (!path || !(flags & (SQLITE_OPEN_MAIN_DB | SQLITE_OPEN_WAL)))
        return -1;
    char *text = log_path(path);
    int log = open(text, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    sqlite3_free(text);
    if (log < 0)
        abort();
    drop_torn_entry(log);
    return log;
}

static int undo_open(sqlite3_vfs *vfs, const char *path, sqlite3_file *file, int flags,
                     int *flags_out)
{
    (void)vfs;
    struct undo_file *undo = undo_of(file);
    undo->base.pMethods = NULL;
    undo->real = xcalloc(1, (size_t)real_vfs->szOsFile);
    int code = real_vfs->xOpen(real_vfs, path, undo->real, flags, flags_out);
    if (code != SQLITE_OK) {
        free(undo->real);
        return code;
    }
    undo->log = open_log(path, flags);
    undo->base.pMethods = &undo_methods;
    return SQLITE_OK;
}

static int undo_delete(sqlite3_vfs *vfs, const char *path, int sync_directory)
{
    (void)vfs;
    int code = real_vfs->xDelete(real_vfs, path, sync_directory);
    char *text = log_path(path);
    unlink(text);
    sqlite3_free(text);
    return code;
}

const char *sqlite_undo_vfs(void)
{
    if (!getenv("PROMPTGATE_POWERCUT"))
        return NULL;
    if (!real_vfs) {
        real_vfs = sqlite3_vfs_find(NULL);
        undo_vfs = *real_vfs;
        undo_vfs.zName = "undo";
        undo_vfs.szOsFile = sizeof(struct undo_file);
        undo_vfs.pNext = NULL;
        undo_vfs.xOpen = undo_open;
        undo_vfs.xDelete = undo_delete;
        sqlite3_vfs_register(&undo_vfs, 0);
    }
    return undo_vfs.zName;
}
#endif
