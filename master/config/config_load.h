/* Reads a configuration directory into a `struct config`. Every mistake is reported, not only the
 * first. */
#pragma once

#include "shared/config.h"

#include <stdio.h>

struct config_problem {
    struct config_problem *next;
    bool warning;
    char *text; /* "file:line:column: path: what is wrong, and what would be right"; a warning's
                   path has "warning: " before it */
};

/* What a load found, in the order of files and lines. All zero is empty. */
struct config_report {
    struct config_problem *first, *last;
    unsigned errors, warnings;
    struct arena arena;
};

/* All files of a configuration directory, read into memory once. */
struct config_source;

/* Never NULL: what could not be read is reported by config_parse. */
struct config_source *config_source_fetch(const char *directory);
/* Parses the bytes that were fetched (keys of `env:` and `file:` are opened here). May be called
 * again, also in a child: the same bytes give the same answer. NULL as config_load. */
struct config *config_parse(struct config_source *source, struct config_report *report)
    __attribute__((warn_unused_result));
void config_source_free(struct config_source **source);

/* Both at once. NULL when there is any error; warnings alone don't hinder. Give it back with
 * config_free. */
struct config *config_load(const char *directory, struct config_report *report)
    __attribute__((warn_unused_result));
/* The same for commands that call nobody: keys of credentials that are sealed stay closed (NULL)
 * where secret.key is not to be read, with a warning. */
struct config *config_load_look(const char *directory, struct config_report *report)
    __attribute__((warn_unused_result));
/* The same from promptgate.yaml alone, without credentials, projects and tokens: for commands that
 * need the store. They may run where the keys cannot be opened. */
struct config *config_load_service(const char *directory, struct config_report *report)
    __attribute__((warn_unused_result));
/* One line for each problem. */
void config_report_print(const struct config_report *report, FILE *out);
/* What is wrong first, without warnings; lives as long as the report. */
const char *config_report_first_error(const struct config_report *report);
void config_report_free(struct config_report *report);
