/* The schema's numbered steps, embedded from sql/DRIVER/NNNN_name.sql at build time. */
#pragma once

#include "shared/base/error.h"

#include <stddef.h>

struct migration {
    const char *driver;
    int number;
    const char *name; /* the file's */
    const char *sql;
};

/* Steps are run only while `held` is false, or none was given: a master that may still be given up
 * must not leave a schema that the one before it does not know. Called in whatever thread has the
 * store. */
void migrations_hold_while(bool (*held)(const void *context), const void *context);

/* Sorted by driver, then number. */
extern const struct migration migrations[];
extern const size_t migrations_count;

/* The first step of `driver` above `number`; NULL when there is none. */
const struct migration *migrations_after(const char *driver, int number);
/* The number of the newest step; 0 when there is none. */
int migrations_newest(const char *driver);
enum schema_state {
    SCHEMA_GOOD,    /* up to date, or about to be */
    SCHEMA_HELD,    /* behind, and no step may be run now */
    SCHEMA_TOO_NEW, /* ahead of what this program knows */
};

/* Of a store at step `number`; with a sentence unless it is good. */
enum schema_state migrations_look(const char *driver, int number, struct error *error)
    __attribute__((warn_unused_result));
