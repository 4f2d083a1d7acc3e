/* What is found wrong while a configuration is read, gathered in any order and handed out in the
 * order of files and lines. Texts live in `arena`. */
#pragma once

#include "master/config/config_file.h"
#include "master/config/config_load.h"

enum { PROBLEMS_SHOWN_MAX = 200 };

struct problem {
    unsigned file_order, sequence;
    struct yaml_mark mark;
    bool warning;
    char *text;
};

struct problems {
    struct arena *arena;
    struct problem *items;
    size_t count, capacity;
    unsigned errors;
};

/* `mark` {0, 0} is the file as a whole; `path` is the key's, "" for none. */
void problem_error(struct problems *problems, const struct config_file *file, struct yaml_mark mark,
                   const char *path, const char *format, ...) __attribute__((format(printf, 5, 6)));
void problem_warning(struct problems *problems, const struct config_file *file,
                     struct yaml_mark mark, const char *path, const char *format, ...)
    __attribute__((format(printf, 5, 6)));
/* Copies them into `report`, sorted; behind the first PROBLEMS_SHOWN_MAX stands how many more. */
void problems_finish(struct problems *problems, struct config_report *report);
void problems_free(struct problems *problems);
