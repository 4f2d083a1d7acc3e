#include "master/config/secret.h"

#include "master/config/config_file.h"

#include <sodium.h>
#include <stdlib.h>

static bool open_env(const char *name, struct arena *arena, const char **secret,
                     struct error *error)
{
    const char *value = getenv(name);
    if (!value || !*value)
        return error_set(error, "the environment variable %.100s is %s", name,
                         value ? "empty" : "not set");
    *secret = arena_strdup(arena, value);
    return true;
}

static bool open_file(const char *path, const char *directory, struct arena *arena,
                      const char **secret, struct error *error)
{
    struct arena scratch = {0};
    const char *full = path[0] == '/' ? path : arena_printf(&scratch, "%s/%s", directory, path);
    struct str bytes = STR("");
    struct error reason;
    bool good = config_file_bytes(full, SECRET_MAX_BYTES, &scratch, &bytes, &reason);
    struct str kept = bytes;
    if (kept.len > 0 && kept.at[kept.len - 1] == '\n')
        kept.len--;
    if (!good)
        error_set(error, "the file %.200s %.200s", full, reason.message);
    else if (memchr(kept.at, '\0', kept.len))
        good = error_set(error, "the file %.200s holds a NUL", full);
    else
        *secret = arena_copy(arena, kept).at;
    if (bytes.len > 0)
        sodium_memzero((char *)(uintptr_t)bytes.at, bytes.len);
    arena_free(&scratch);
    return good;
}

/* What an HTTP header can carry (RFC 9110 section 5.5), and no space. */
static bool check_bytes(const char *secret, struct error *error)
{
    if (!*secret)
        return error_set(error, "the key is empty");
    for (; *secret; secret++)
        if ((unsigned char)*secret <= 0x20 || (unsigned char)*secret >= 0x7F)
            return error_set(error, "the key holds a space, line break or other character that a "
                                    "key cannot have");
    return true;
}

bool secret_open(const char *source, const char *directory, struct arena *arena,
                 const char **secret, bool *plain, struct error *error)
{
    *plain = false;
    bool good = true;
    if (strncmp(source, "env:", 4) == 0)
        good = open_env(source + 4, arena, secret, error);
    else if (strncmp(source, "file:", 5) == 0)
        good = open_file(source + 5, directory, arena, secret, error);
    else if (strncmp(source, "sealed:", 7) == 0)
        good = error_set(error, "sealed keys are not supported: use env:NAME or file:PATH");
    else {
        *plain = true;
        *secret = source;
    }
    return good && check_bytes(*secret, error);
}
