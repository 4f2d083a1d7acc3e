#include "master/config/secret.h"

#include "master/config/sealed.h"
#include "shared/base/xalloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* --- variables --- */

/* What was taken out of the environment, for as long as the process lives. */
static struct taken_variable {
    struct taken_variable *next;
    char *name;
    const char *value; /* in `taken_values` */
} * taken_variables;
static struct secret_memory *taken_values;

static struct taken_variable *taken_before(const char *name)
{
    struct taken_variable *variable = taken_variables;
    while (variable && strcmp(variable->name, name) != 0)
        variable = variable->next;
    return variable;
}

static char *copy_into(struct secret_memory *memory, const char *value)
{
    size_t size = strlen(value) + 1;
    char *copy = secret_memory_take(memory, size);
    if (copy)
        memcpy(copy, value, size);
    return copy;
}

static struct secret_memory *values(void)
{
    if (!taken_values)
        taken_values = secret_memory_new(SECRETS_READER);
    return taken_values;
}

/* `copy` lies in `values()`. */
static const char *remember(const char *name, const char *copy)
{
    struct taken_variable *variable = taken_before(name);
    secret_memory_lock(taken_values);
    if (!variable) {
        variable = xcalloc(1, sizeof *variable);
        variable->name = xstrdup(name);
        variable->next = taken_variables;
        taken_variables = variable;
    }
    return variable->value = copy;
}

/* Moves the value; what is left in the environment is the empty text. */
static const char *take_variable(const char *name, char *value)
{
    const char *copy = copy_into(values(), value);
    if (!copy)
        return NULL;
    sodium_memzero(value, strlen(value));
    return remember(name, copy);
}

static bool open_env(const char *name, struct secret_memory *memory, const char **secret,
                     struct error *error)
{
    char *value = getenv(name);
    const struct taken_variable *before = taken_before(name);
    const char *found = NULL;
    if (value && strlen(value) > SECRET_MAX_BYTES)
        return error_set(error, "the environment variable %.100s is too large: %d KiB at most",
                         name, SECRET_MAX_BYTES >> 10);
    if (value && *value)
        found = take_variable(name, value);
    else if (before && value)
        found = before->value;
    else
        return error_set(error, "the environment variable %.100s is %s", name,
                         value ? "empty" : "not set");
    *secret = found ? copy_into(memory, found) : NULL;
    return *secret || error_set(error, "there is no room for more secrets");
}

void secret_restore_environment(void)
{
    for (const struct taken_variable *at = taken_variables; at; at = at->next)
        setenv(at->name, at->value, 1);
}

/* --- files --- */

/* Exactly what the file holds, NUL-terminated. */
static bool read_into(int fd, size_t size, struct secret_memory *memory, char **text,
                      struct error *error)
{
    size_t len = 0;
    ssize_t got = 1;
    *text = secret_memory_take(memory, size + 1);
    if (!*text)
        return error_set(error, "cannot be read: there is no room for more secrets");
    while (len < size && got != 0) {
        got = read(fd, *text + len, size - len);
        if (got < 0 && errno != EINTR)
            break;
        len += got > 0 ? (size_t)got : 0;
    }
    int reason = errno;
    if (len > 0 && (*text)[len - 1] == '\n')
        (*text)[--len] = '\0';
    if (got >= 0 && !memchr(*text, '\0', len)) {
        secret_memory_shrink(memory, *text, len + 1);
        return true;
    }
    secret_memory_shrink(memory, *text, 0);
    return got < 0 ? error_errno(error, reason, "cannot be read") : error_set(error, "holds a NUL");
}

static bool read_secret(const char *path, struct secret_memory *memory, char **text,
                        struct error *error)
{
    struct stat status;
    bool good;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_errno(error, errno, "cannot be read");
    if (fstat(fd, &status) != 0)
        good = error_errno(error, errno, "cannot be read");
    else if (!S_ISREG(status.st_mode))
        good = error_set(error, "is not a regular file");
    else if (status.st_size > SECRET_MAX_BYTES)
        good = error_set(error, "is too large: %d KiB at most", SECRET_MAX_BYTES >> 10);
    else
        good = read_into(fd, (size_t)status.st_size, memory, text, error);
    close(fd);
    return good;
}

static bool open_file(const char *path, const char *directory, struct secret_memory *memory,
                      const char **secret, struct error *error)
{
    char full[PATH_MAX];
    struct error reason;
    char *text = NULL;
    bool relative = path[0] != '/';
    snprintf(full, sizeof full, "%s%s%s", relative ? directory : "", relative ? "/" : "", path);
    if (!read_secret(full, memory, &text, &reason))
        return error_set(error, "the file %.200s %.200s", full, reason.message);
    *secret = text;
    return true;
}

/* --- sealed texts --- */

static const char key_variable[] = "PROMPTGATE_SECRET_KEY";

/* The file's text as it is now, remembered; NULL with errno's number when it can't be read. */
static const char *read_keys(const char *folder, int *reason, struct error *error)
{
    char path[PATH_MAX];
    const struct taken_variable *before = taken_before(key_variable);
    char *text;
    struct error why;
    snprintf(path, sizeof path, "%s/" SEALING_KEY_FILE, folder);
    *reason = access(path, R_OK) == 0 ? 0 : errno;
    if (*reason != 0) {
        error_errno(error, *reason, "%.300s cannot be read", path);
        return NULL;
    }
    if (!read_secret(path, values(), &text, &why)) {
        error_set(error, "%.300s %.200s", path, why.message);
        return NULL;
    }
    setenv(key_variable, "", 1); /* as it is when its value was taken */
    if (!before || strcmp(before->value, text) != 0)
        return remember(key_variable, text);
    secret_memory_shrink(values(), text, 0);
    return before->value;
}

static const char *keys_from_variable(void)
{
    char *value = getenv(key_variable);
    const struct taken_variable *before = taken_before(key_variable);
    if (value && *value)
        return take_variable(key_variable, value);
    return before && value ? before->value : NULL;
}

const char *secret_sealing_keys(const char *directory, struct error *error)
{
    const char *folders[] = {getenv("CREDENTIALS_DIRECTORY"), directory};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        int reason = ENOENT;
        const char *keys = folders[i] ? read_keys(folders[i], &reason, error) : NULL;
        if (keys)
            return keys;
        if (reason == 0)
            return NULL; /* it is there, and is no such file */
    }
    return keys_from_variable();
}

static bool open_sealed(const char *source, const char *directory, struct secret_memory *memory,
                        const char **secret, struct error *error)
{
    struct error why;
    const char *keys = secret_sealing_keys(directory, &why);
    if (!keys)
        return error_set(error, "it is sealed, and cannot be opened: %.400s", why.message);
    return sealed_open(source, keys, memory, secret, error);
}

/* RFC 9110 section 5.5. */
static bool check_key(const char *secret, struct error *error)
{
    if (!*secret)
        return error_set(error, "the key is empty");
    for (; *secret; secret++)
        if ((unsigned char)*secret <= 0x20 || (unsigned char)*secret >= 0x7F)
            return error_set(error, "the key holds a space, line break or other character that a "
                                    "key cannot have");
    return true;
}

static bool check_line(const char *secret, struct error *error)
{
    if (!*secret)
        return error_set(error, "the text is empty");
    for (; *secret; secret++)
        if ((unsigned char)*secret < 0x20 || *secret == 0x7F)
            return error_set(error, "the text holds a line break or other control character");
    return true;
}

bool secret_check(const char *secret, enum secret_kind kind, struct error *error)
{
    if (kind == SECRET_TEXT)
        return *secret || error_set(error, "the text is empty");
    return (kind == SECRET_KEY ? check_key : check_line)(secret, error);
}

bool secret_open(const char *source, enum secret_kind kind, const char *directory,
                 struct secret_memory *memory, const char **secret, bool *plain,
                 struct error *error)
{
    *plain = false;
    bool good = true;
    if (strncmp(source, "env:", 4) == 0)
        good = open_env(source + 4, memory, secret, error);
    else if (strncmp(source, "file:", 5) == 0)
        good = open_file(source + 5, directory, memory, secret, error);
    else if (sealed_is(source))
        good = open_sealed(source, directory, memory, secret, error);
    else {
        *plain = true;
        *secret = source;
    }
    return good && secret_check(*secret, kind, error);
}
