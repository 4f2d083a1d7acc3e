#include "master/config/config_file.h"

#include "master/config/problems.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool read_all(int fd, size_t size, struct arena *arena, struct str *bytes,
                     struct error *error)
{
    char *at = arena_alloc(arena, size + 1);
    size_t len = 0;
    while (len < size) {
        ssize_t got = read(fd, at + len, size - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return error_errno(error, errno, "cannot be read");
        if (got == 0)
            break;
        len += (size_t)got;
    }
    *bytes = (struct str){at, len};
    return true;
}

bool config_file_bytes(const char *path, size_t max_bytes, struct arena *arena, struct str *bytes,
                       struct error *error)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return error_errno(error, errno, "cannot be read");
    struct stat status;
    bool good;
    if (fstat(fd, &status) != 0)
        good = error_errno(error, errno, "cannot be read");
    else if (!S_ISREG(status.st_mode))
        good = error_set(error, "is not a regular file");
    else if ((size_t)status.st_size > max_bytes)
        good = error_set(error, "is too large: %zu KiB at most", max_bytes >> 10);
    else
        good = read_all(fd, (size_t)status.st_size, arena, bytes, error);
    close(fd);
    return good;
}

struct complaint {
    const struct config_file *file;
    struct problems *problems;
};

static void complain(void *context, struct yaml_mark mark, const char *message)
{
    struct complaint *complaint = context;
    problem_error(complaint->problems, complaint->file, mark, "", "%s", message);
}

void config_file_fetch(struct config_file *file, struct arena *arena)
{
    struct error error;
    if (!config_file_bytes(file->path, CONFIG_FILE_MAX_BYTES, arena, &file->text, &error))
        file->unreadable = arena_strdup(arena, error.message);
}

void config_file_parse(struct config_file *file, struct arena *arena, struct problems *problems)
{
    struct complaint complaint = {file, problems};
    if (file->unreadable)
        problem_error(problems, file, (struct yaml_mark){0, 0}, "", "%s", file->unreadable);
    else
        file->root = yaml_tree_read(file->text, arena, complain, &complaint);
}

bool config_name_valid(struct str name)
{
    if (name.len == 0 || name.len > 64 || name.at[0] == '_' || name.at[0] == '-')
        return false;
    for (size_t i = 0; i < name.len; i++) {
        char c = name.at[i];
        bool good = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
        if (!good)
            return false;
    }
    return true;
}

static bool ends_with(const char *name, const char *ending)
{
    size_t len = strlen(name), ending_len = strlen(ending);
    return name[0] != '.' && len > ending_len && strcmp(name + len - ending_len, ending) == 0;
}

static int compare_names(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

struct config_files config_folder_fetch(const char *directory, const char *folder,
                                        const char *ending, unsigned *order, struct arena *arena)
{
    struct config_files files = {0};
    const char *path = arena_printf(arena, "%s/%s", directory, folder);
    struct dirent **found;
    int count = scandir(path, &found, NULL, compare_names);
    files.folder = (struct config_file){.path = path, .order = (*order)++};
    if (count < 0) {
        if (errno != ENOENT)
            files.folder.unreadable = arena_printf(arena, "cannot be read: %s", strerror(errno));
        return files;
    }
    files.at = arena_alloc(arena, (size_t)count * sizeof *files.at);
    for (int i = 0; i < count; i++) {
        const char *entry = found[i]->d_name;
        if (ends_with(entry, ending)) {
            struct config_file *file = &files.at[files.count++];
            struct str name = {entry, strlen(entry) - strlen(ending)};
            file->path = arena_printf(arena, "%s/%s", path, entry);
            file->name = arena_copy(arena, name).at;
            file->order = (*order)++;
            config_file_fetch(file, arena);
        }
        free(found[i]);
    }
    free(found);
    return files;
}

static void parse_entry(struct config_file *file, struct arena *arena, struct problems *problems)
{
    if (!config_name_valid(str_of(file->name)))
        problem_error(problems, file, (struct yaml_mark){0, 0}, "",
                      "the name before .yaml must be lower-case letters, digits, - and _, begin "
                      "with a letter or digit, and be at most 64 long");
    config_file_parse(file, arena, problems);
}

void config_folder_parse(struct config_files *files, struct arena *arena, struct problems *problems)
{
    if (files->folder.unreadable)
        problem_error(problems, &files->folder, (struct yaml_mark){0, 0}, "", "%s",
                      files->folder.unreadable);
    for (size_t i = 0; i < files->count; i++)
        parse_entry(&files->at[i], arena, problems);
}
