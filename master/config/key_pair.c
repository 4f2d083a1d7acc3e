#include "master/config/key_pair.h"

#include "master/config/config_file.h"
#include "master/config/file_write.h"
#include "master/config/problems.h"
#include "master/config/secret.h"
#include "master/config/yaml_edit.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

int key_pair_lock(const char *directory, struct error *error)
{
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd >= 0 && flock(fd, LOCK_EX) == 0)
        return fd;
    error_errno(error, errno, "%.300s", directory);
    if (fd >= 0)
        close(fd);
    return -1;
}

static void path_of(const char *directory, const char *name, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/%s", directory, name);
}

static bool is_there(const char *directory, const char *name)
{
    char path[PATH_MAX];
    path_of(directory, name, path);
    return faccessat(AT_FDCWD, path, F_OK, AT_EACCESS | AT_SYMLINK_NOFOLLOW) == 0;
}

static void wipe(struct buf *text)
{
    sodium_memzero(text->data, text->cap);
    buf_free(text);
}

/* The secret half comes first: without the other nobody seals for it. */
static bool make_both(const char *directory, struct error *error)
{
    char key_path[PATH_MAX], public_path[PATH_MAX];
    struct buf public_text = {0}, secret_text = {0};
    bool exists;
    path_of(directory, SEALING_KEY_FILE, key_path);
    path_of(directory, SEALING_PUBLIC_FILE, public_path);
    sealing_new_pair(&public_text, &secret_text);
    bool good = file_create(key_path, buf_view(&secret_text), FILE_OF_OWNER, &exists, error) &&
                file_create(public_path, buf_view(&public_text), FILE_OF_ALL, &exists, error);
    buf_free(&public_text);
    wipe(&secret_text);
    return good;
}

static bool write_public(const char *directory, const struct sealing_public *key,
                         struct error *error)
{
    char path[PATH_MAX];
    struct buf text = {0};
    bool exists;
    path_of(directory, SEALING_PUBLIC_FILE, path);
    sealing_public_write(key, &text);
    bool good = is_there(directory, SEALING_PUBLIC_FILE)
                    ? file_replace(path, buf_view(&text), error)
                    : file_create(path, buf_view(&text), FILE_OF_ALL, &exists, error);
    buf_free(&text);
    return good;
}

bool key_pair_make(const char *directory, enum key_pair_made *made, struct error *error)
{
    struct sealing_public key;
    struct error why;
    const char *keys = secret_sealing_keys(directory, &why);
    bool has_public = is_there(directory, SEALING_PUBLIC_FILE);
    *made = KEY_PAIR_THERE;
    if (!keys && is_there(directory, SEALING_KEY_FILE))
        return error_set(error, "%.400s", why.message);
    if (!keys && has_public)
        return error_set(error,
                         "%.300s has " SEALING_PUBLIC_FILE " and no " SEALING_KEY_FILE
                         ": what is sealed needs the key that belongs to it; without it "
                         "remove " SEALING_PUBLIC_FILE
                         " for a new pair, and add the credentials again",
                         directory);
    if (has_public)
        return key_pair_public(directory, &key, error);
    *made = keys ? KEY_PAIR_COMPLETED : KEY_PAIR_MADE;
    return keys ? sealing_public_of(keys, &key, error) && write_public(directory, &key, error)
                : make_both(directory, error);
}

/* --- the public half --- */

static bool read_public(const char *directory, struct sealing_public *key, struct error *error)
{
    char path[PATH_MAX];
    struct arena arena = {0};
    struct str text;
    struct error why;
    path_of(directory, SEALING_PUBLIC_FILE, path);
    bool good =
        config_file_bytes(path, 4096, &arena, &text, &why) && sealing_read_public(text, key, &why);
    arena_free(&arena);
    return good || error_set(error, "%.300s: %.300s", path, why.message);
}

bool key_pair_public(const char *directory, struct sealing_public *key, struct error *error)
{
    struct sealing_public other;
    struct error why;
    if (!is_there(directory, SEALING_PUBLIC_FILE))
        return error_set(error,
                         "there is no %.300s/" SEALING_PUBLIC_FILE
                         " to seal with: `promptgate credential init` makes a pair of keys",
                         directory);
    if (!read_public(directory, key, error))
        return false;
    const char *keys = secret_sealing_keys(directory, &why);
    if (!keys)
        return true;
    if (!sealing_public_of(keys, &other, error))
        return false;
    return sealing_public_equal(key, &other) ||
           error_set(error,
                     "%.300s/" SEALING_PUBLIC_FILE " and " SEALING_KEY_FILE
                     " are not of one pair: `promptgate credential reseal` mends that",
                     directory);
}

/* --- another pair --- */

struct change {
    const char *directory, *keys; /* the text of secret.key: the new key is the first */
    struct sealing_public public_key;
    struct secret_memory *opened;
    struct arena *arena;
    struct yaml_edit edits[YAML_EDITS_MAX];
    size_t count;
    unsigned resealed;
    struct error *error;
};

static bool replace_key_file(const char *directory, struct str text, struct error *error)
{
    char path[PATH_MAX];
    path_of(directory, SEALING_KEY_FILE, path);
    return file_replace(path, text, error);
}

/* The new key before all others, unless there is one from a change that did not end. */
static bool begin_change(const char *directory, struct error *error)
{
    struct error why;
    const char *keys = secret_sealing_keys(directory, &why);
    if (!keys)
        return error_set(error, "%.400s (`promptgate credential init` makes a pair of keys)",
                         why.message);
    if (!is_there(directory, SEALING_KEY_FILE))
        return error_set(error, "%.300s has no " SEALING_KEY_FILE " that could be changed",
                         directory);
    size_t count = sealing_count(keys);
    if (count != 1)
        return count > 1 || error_set(error, SEALING_KEY_FILE " holds no key");
    struct buf public_text = {0}, secret_text = {0};
    sealing_new_pair(&public_text, &secret_text);
    buf_puts(&secret_text, keys);
    bool good = replace_key_file(directory, buf_view(&secret_text), error);
    buf_free(&public_text);
    wipe(&secret_text);
    return good;
}

static bool seal_anew(struct change *change, const struct yaml_node *map,
                      const struct yaml_entry *entry)
{
    const char *secret;
    struct buf text = {0};
    if (change->count == YAML_EDITS_MAX)
        return error_set(change->error, "holds too many sealed texts");
    if (!sealed_open(entry->value->text.at, change->keys, change->opened, &secret, change->error))
        return false;
    sealed_write(&change->public_key, str_of(secret), &text);
    change->edits[change->count++] =
        (struct yaml_edit){map, entry->key->text.at, arena_copy(change->arena, buf_view(&text)).at};
    buf_free(&text);
    return true;
}

static bool plan_node(struct change *change, const struct yaml_node *node)
{
    for (size_t i = 0; i < node->count; i++) {
        const struct yaml_entry *entry = &node->entries[i];
        bool sealed = entry->key && entry->value->kind == NODE_SCALAR && entry->value->text.at &&
                      sealed_is(entry->value->text.at);
        if (sealed ? !seal_anew(change, node, entry) : !plan_node(change, entry->value))
            return false;
    }
    return true;
}

static bool reseal_file(struct change *change, const struct config_file *file)
{
    struct buf text = {0};
    struct error why;
    if (!file->root)
        return error_set(change->error, "%.300s cannot be read: mend it first (`promptgate check`)",
                         file->path);
    change->count = 0;
    if (!plan_node(change, file->root)) {
        why = *change->error;
        return error_set(change->error, "%.300s: %.300s", file->path, why.message);
    }
    if (change->count == 0)
        return true;
    bool good = yaml_edit(file->text, file->root, change->edits, change->count, &text) ||
                error_set(change->error,
                          "%.300s cannot be edited safely: write each sealed text as a plain value",
                          file->path);
    good = good && file_replace(file->path, buf_view(&text), change->error);
    change->resealed += good ? (unsigned)change->count : 0;
    buf_free(&text);
    return good;
}

static bool reseal_files(struct change *change)
{
    struct problems problems = {.arena = change->arena};
    struct config_file main = {
        .path = arena_printf(change->arena, "%s/promptgate.yaml", change->directory),
        .name = "promptgate"};
    unsigned order = 1;
    struct config_files files =
        config_folder_fetch(change->directory, "credentials.d", ".yaml", &order, change->arena);
    config_file_fetch(&main, change->arena);
    config_file_parse(&main, change->arena, &problems);
    config_folder_parse(&files, change->arena, &problems);
    bool good = !main.text.at || reseal_file(change, &main);
    for (size_t i = 0; good && i < files.count; i++)
        good = reseal_file(change, &files.at[i]);
    problems_free(&problems);
    return good;
}

/* Nothing needs the old keys any more. */
static bool end_change(const struct change *change)
{
    struct buf text = {0};
    const char *end = strchr(change->keys, '\n');
    buf_reserve(&text, strlen(change->keys) + 2); /* growing would leave a copy behind */
    buf_append(&text, change->keys, end ? (size_t)(end - change->keys) : strlen(change->keys));
    buf_putc(&text, '\n');
    bool good = replace_key_file(change->directory, buf_view(&text), change->error);
    wipe(&text);
    return good;
}

bool key_pair_change(const char *directory, unsigned *resealed, struct error *error)
{
    struct arena arena = {0};
    struct change change = {.directory = directory, .arena = &arena, .error = error};
    if (!begin_change(directory, error) || !(change.keys = secret_sealing_keys(directory, error)))
        return false;
    change.opened = secret_memory_new(SECRETS_NOBODY);
    bool good = sealing_public_of(change.keys, &change.public_key, error) &&
                write_public(directory, &change.public_key, error) && reseal_files(&change) &&
                end_change(&change);
    *resealed = change.resealed;
    secret_memory_free(&change.opened);
    arena_free(&arena);
    return good;
}
