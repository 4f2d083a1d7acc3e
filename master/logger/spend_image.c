#include "master/logger/spend_image.h"

#include "shared/base/hash.h"
#include "shared/base/step.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char image_magic[8] = "pgspend";

struct head {
    char magic[8];
    uint32_t version, count;
};

struct item {
    uint64_t key; /* of the account */
    int64_t nano_usd;
    uint32_t month, unused;
};

enum { VERSION = 1 };

/* --- writing --- */

void spend_image_take(const struct counters *counters, struct buf *image)
{
    struct head head = {.version = VERSION};
    uint32_t accounts = atomic_load(&counters->header->accounts);
    uint32_t mapped = counters_accounts_mapped(counters);
    if (accounts > mapped)
        accounts = mapped; /* the next logger sees the others */
    memcpy(head.magic, image_magic, sizeof head.magic);
    buf_clear(image);
    buf_append(image, &head, sizeof head);
    for (uint32_t i = 0; i < accounts; i++) {
        const struct shm_account *account = &counters->accounts[i];
        uint32_t month = spend_latest_month(&account->spend);
        struct item item = {.key = atomic_load(&account->key),
                            .nano_usd = spend_amount(&account->spend, month),
                            .month = month};
        if (item.key == 0 || item.nano_usd <= 0)
            continue;
        buf_append(image, &item, sizeof item);
        head.count++;
    }
    memcpy(image->data, &head, sizeof head);
    uint32_t crc = crc32c(0, image->data, image->len);
    buf_append(image, &crc, sizeof crc);
}

static bool write_all(int fd, const struct buf *image)
{
    for (size_t at = 0; at < image->len;) {
        ssize_t written = write(fd, image->data + at, image->len - at);
        if (written < 0 && errno != EINTR)
            return false;
        at += written > 0 ? (size_t)written : 0;
    }
    return true;
}

bool spend_image_write(const char *state_dir, const struct buf *image, struct error *error)
{
    char path[PATH_MAX], fresh[PATH_MAX];
    snprintf(path, sizeof path, "%s/spend", state_dir);
    if (snprintf(fresh, sizeof fresh, "%s/spend.new", state_dir) >= (int)sizeof fresh)
        return error_set(error, "state_dir: the path is too long");
    int fd = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0)
        return error_errno(error, errno, "cannot open %s", fresh);
    bool good = write_all(fd, image) && fdatasync(fd) == 0;
    if (!good)
        error_errno(error, errno, "cannot write %s", fresh);
    close(fd);
    STEP(image_written);
    if (good && rename(fresh, path) != 0)
        good = error_errno(error, errno, "cannot rename %s", fresh);
    STEP(image_replaced);
    return good;
}

/* --- reading --- */

static bool read_image(int fd, struct buf *image, struct error *error)
{
    for (;;) {
        ssize_t got = read(fd, buf_reserve(image, 65536), 65536);
        if (got < 0 && errno != EINTR)
            return error_errno(error, errno, "cannot be read");
        if (got == 0)
            return true;
        image->len += got > 0 ? (size_t)got : 0;
    }
}

/* The items, when all of it is as it was written. */
static const struct item *items_of(const struct buf *image, uint32_t *count)
{
    struct head head;
    uint32_t crc;
    if (image->len < sizeof head + sizeof crc)
        return NULL;
    memcpy(&head, image->data, sizeof head);
    memcpy(&crc, image->data + image->len - sizeof crc, sizeof crc);
    size_t items = image->len - sizeof head - sizeof crc;
    if (memcmp(head.magic, image_magic, sizeof head.magic) != 0 || head.version != VERSION ||
        items != head.count * sizeof(struct item) ||
        crc32c(0, image->data, image->len - sizeof crc) != crc)
        return NULL;
    *count = head.count;
    return (const struct item *)(image->data + sizeof head);
}

static int compare_items(const void *a, const void *b)
{
    uint64_t left = ((const struct item *)a)->key, right = ((const struct item *)b)->key;
    return (left > right) - (left < right);
}

static void raise_all(struct counters *counters, const struct item *from, uint32_t count)
{
    struct item *items = calloc(count + 1, sizeof *items);
    if (!items)
        abort();
    memcpy(items, from, count * sizeof *items);
    qsort(items, count, sizeof *items, compare_items);
    for (uint32_t i = 0; i < atomic_load(&counters->header->accounts); i++) {
        struct shm_account *account = &counters->accounts[i];
        const struct item wanted = {.key = atomic_load(&account->key)};
        const struct item *item =
            wanted.key ? bsearch(&wanted, items, count, sizeof *items, compare_items) : NULL;
        if (item)
            spend_raise(&account->spend, item->month, item->nano_usd);
    }
    free(items);
}

bool spend_image_restore(const char *state_dir, struct counters *counters, struct error *error)
{
    char path[PATH_MAX];
    struct buf image = {0};
    uint32_t count;
    snprintf(path, sizeof path, "%s/spend", state_dir);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return true;
    if (fd < 0)
        return error_errno(error, errno, "cannot open %s", path);
    bool good = read_image(fd, &image, error);
    close(fd);
    const struct item *items = good ? items_of(&image, &count) : NULL;
    if (items)
        raise_all(counters, items, count);
    else if (good)
        error_set(error, "%s is damaged", path);
    buf_free(&image);
    return items != NULL;
}
