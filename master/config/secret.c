#include "master/config/secret.h"

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

/* Moves the value; what is left in the environment is the empty text. */
static const char *take_variable(const char *name, char *value)
{
    if (!taken_values)
        taken_values = secret_memory_new(SECRETS_READER);
    const char *copy = copy_into(taken_values, value);
    if (!copy)
        return NULL;
    sodium_memzero(value, strlen(value));
    secret_memory_lock(taken_values);
    struct taken_variable *variable = taken_before(name);
    if (!variable) {
        variable = xcalloc(1, sizeof *variable);
        variable->name = xstrdup(name);
        variable->next = taken_variables;
        taken_variables = variable;
    }
    return variable->value = copy;
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
    else if (strncmp(source, "sealed:", 7) == 0)
        good = error_set(error, "sealed keys are not supported: use env:NAME or file:PATH");
    else {
        *plain = true;
        *secret = source;
    }
    if (!good)
        return false;
    if (kind == SECRET_TEXT)
        return **secret || error_set(error, "the text is empty");
    return (kind == SECRET_KEY ? check_key : check_line)(*secret, error);
}
