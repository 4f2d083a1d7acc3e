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

/* Sorted by driver, then number. */
extern const struct migration migrations[];
extern const size_t migrations_count;

/* The first step of `driver` above `number`; NULL when there is none. */
const struct migration *migrations_after(const char *driver, int number);
/* The number of the newest step; 0 when there is none. */
int migrations_newest(const char *driver);
/* False, with a sentence, when a store at step `number` is newer than this program knows. */
bool migrations_known(const char *driver, int number, struct error *error)
    __attribute__((warn_unused_result));
