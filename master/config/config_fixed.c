#include "master/config/config_fixed.h"

#include "shared/base/hash.h"

#include <sodium.h>
#include <stddef.h>

static const struct {
    const char *path;
    size_t offset; /* of a text in struct config */
} fixed[] = {
    {"state_dir", offsetof(struct config, state_dir)},
    {"runtime_dir", offsetof(struct config, runtime_dir)},
    {"timezone", offsetof(struct config, timezone)},
    {"user", offsetof(struct config, user)},
    {"group", offsetof(struct config, group)},
    {"store.driver", offsetof(struct config, store.driver)},
    {"store.path", offsetof(struct config, store.path)},
    {"store.sessions_path", offsetof(struct config, sessions_path)},
    {"store.dsn", offsetof(struct config, store.dsn)},
};

static const char *value_of(const struct config *config, size_t i)
{
    return *(char *const *)((const char *)config + fixed[i].offset);
}

const char *config_fixed_difference(const struct config *old, const struct config *new)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        if (!str_eq(str_of(value_of(old, i)), str_of(value_of(new, i))))
            return fixed[i].path;
    return NULL;
}

/* Of "KEY HASH"; a value that is not set has another hash than an empty one. */
static void write_line(const struct config *config, size_t i, struct buf *text)
{
    uint8_t digest[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    const char *value = value_of(config, i);
    sha256(str_of(value), digest);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    buf_printf(text, "%s %s\n", fixed[i].path, value ? hex : "-");
}

void config_fixed_write(const struct config *config, struct buf *text)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        write_line(config, i, text);
}

/* Absent when the writer did not know the key. */
static struct str line_of(struct str written, const char *path)
{
    while (written.at) {
        struct str line = str_split(&written, '\n'), rest = line;
        if (str_eq(str_split(&rest, ' '), str_of(path)))
            return line;
    }
    return STR_ABSENT;
}

const char *config_fixed_differs(struct str written, const struct config *new)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        struct buf ours = {0};
        write_line(new, i, &ours);
        struct str before = line_of(written, fixed[i].path), now = buf_view(&ours);
        now.len--; /* the line's end */
        bool same = !before.at || str_eq(before, now);
        buf_free(&ours);
        if (!same)
            return fixed[i].path;
    }
    return NULL;
}
