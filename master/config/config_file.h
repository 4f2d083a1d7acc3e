/* One file of the configuration directory, read into memory and turned into a tree. */
#pragma once

#include "master/config/yaml_tree.h"
#include "shared/base/error.h"

enum { CONFIG_FILE_MAX_BYTES = 4 << 20 };

struct problems;

struct config_file {
    const char *path; /* as shown: the directory as given, "/" and the rest */
    const char *name; /* NAME of NAME.yaml */
    unsigned order;   /* of its problems among those of other files */
    struct str text;
    const char *unreadable;       /* why `text` could not be fetched; NULL when it was */
    const struct yaml_node *root; /* NULL when the file could not be read or parsed */
};

struct config_files {
    struct config_file *at;
    size_t count;
    struct config_file folder; /* path, order and why it is unreadable */
};

/* Reads a regular file of at most `max_bytes` into memory of `arena`. */
bool config_file_bytes(const char *path, size_t max_bytes, struct arena *arena, struct str *bytes,
                       struct error *error) __attribute__((warn_unused_result));

/* Fetching reads bytes into memory of `arena`; parsing makes trees of them, in another arena if
 * need be, and reports what hinders either. */
void config_file_fetch(struct config_file *file, struct arena *arena);
void config_file_parse(struct config_file *file, struct arena *arena, struct problems *problems);
/* Every NAME with that ending of `directory`/`folder`, sorted by name, numbered from `*order` on. A
 * missing folder is an empty one. */
struct config_files config_folder_fetch(const char *directory, const char *folder,
                                        const char *ending, unsigned *order, struct arena *arena);
void config_folder_parse(struct config_files *files, struct arena *arena,
                         struct problems *problems);
/* [a-z0-9][a-z0-9_-]*, at most 64 bytes. */
bool config_name_valid(struct str name);
