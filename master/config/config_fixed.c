#include "master/config/config_fixed.h"

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

const char *config_fixed_difference(const struct config *old, const struct config *new)
{
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        const char *before = *(char *const *)((const char *)old + fixed[i].offset);
        const char *after = *(char *const *)((const char *)new + fixed[i].offset);
        if (!str_eq(str_of(before), str_of(after)))
            return fixed[i].path;
    }
    return NULL;
}
