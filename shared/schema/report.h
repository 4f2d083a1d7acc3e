/* What is wrong, in words. Private to this folder. */
#pragma once

#include "shared/base/buf.h"
#include "shared/schema/schema.h"

/* Where in the instance: a member of `name`, else the element `index`. */
struct place {
    const struct place *up;
    const char *name;
    size_t index;
};

/* The way through the schema: a keyword, and the name or number behind it. */
struct way {
    const struct way *up;
    const char *keyword;
    const char *name; /* NULL = `index`, if that isn't NO_INDEX */
    size_t index;
};

#define NO_INDEX ((size_t)-1)

/* The last step of `way` is the keyword that failed. */
void report(struct schema_errors *errors, const struct place *place, const struct way *way,
            const char *format, ...) __attribute__((format(printf, 4, 5)));
/* An error that another list has. */
void report_again(struct schema_errors *errors, const struct schema_error *error);
/* A name behind a pointer. */
void pointer_add(struct buf *pointer, const char *name);
/* The value as JSON, cut, or "…" where values are hidden. In the errors' arena. */
const char *report_value(struct schema_errors *errors, const struct cell *value);
