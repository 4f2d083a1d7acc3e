/* Binds one mapping of a file to the draft of its section by the table of keys: unknown and missing
 * keys, types, ranges, defaults. */
#pragma once

#include "master/config/keys.h"
#include "master/config/problems.h"

/* What every reader needs: memory that lives as long as the configuration, memory that is gone when
 * the load ends, and where to complain. */
struct reading {
    struct arena *lasting, *scratch;
    struct problems *problems;
    const char *directory;               /* as the caller gave it */
    bool only_looks;                     /* what is sealed may stay closed */
    struct secret_memory *secrets;       /* where keys are opened; NULL where none are */
    struct secret_memory *store_secrets; /* and where what leads to the store is */
    const struct config_files *schemas;  /* schemas/, for endpoints' schemas; NULL = none */
    struct config_schema *compiled;      /* of them, to be given back */
};

/* Where a draft came from. First member of every draft. */
struct section {
    enum key_section id;
    const struct config_file *file;
    const char *path;                       /* of the mapping in its file, "" for the root */
    struct yaml_mark mark;                  /* where a missing key is reported */
    const struct yaml_node *node;           /* NULL when the file could not be read */
    const struct yaml_node *at[KEYS_COUNT]; /* values as written; NULL when absent */
    bool bad[KEYS_COUNT];                   /* reported already */
};

/* Fills the draft that begins with `section` (id, file, path, mark and node set) from its mapping.
 * False when there is no mapping to read: the draft holds the defaults, every key counts as bad,
 * and nothing is left to report. */
bool section_read(struct reading *reading, struct section *section);
/* "endpoints.summarize.model" */
const char *section_key_path(struct reading *reading, const struct section *section,
                             const char *key);
/* Reports a mistake in the value of a key, once: marks the key bad. */
void section_error(struct reading *reading, struct section *section, enum key_id key,
                   const char *format, ...) __attribute__((format(printf, 4, 5)));
/* Reports what should be looked at, and is no mistake. */
void section_warning(struct reading *reading, const struct section *section, enum key_id key,
                     const char *what);
/* Reports that a key has to be there, and is not. */
void section_missing(struct reading *reading, struct section *section, enum key_id key);
/* The nearest of `count` names to a mistyped one; NULL when none is near. */
const char *nearest_name(const char *const *names, size_t count, struct str given);
