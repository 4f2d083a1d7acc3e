/* JSON Schema, drafts 4, 6, 7, 2019-09 and 2020-12: a schema is compiled once and then run without
 * allocation, as long as the instance is valid. Source: json-schema.org.
 *
 * Instances come from json-c values as json_read makes them: numbers carry their source text, so
 * that comparisons and multipleOf are exact. References lead into the schema itself, to the
 * metaschemas, which are built in, and to what the caller's loader gives; nothing is fetched. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/str.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

enum schema_draft { SCHEMA_4, SCHEMA_6, SCHEMA_7, SCHEMA_2019_09, SCHEMA_2020_12 };

/* The document at this URI (without fragment), the caller of it releases it; NULL when there is
 * none. */
typedef struct json_object *schema_load_fn(void *context, struct str uri);

struct schema_options {
    enum schema_draft draft; /* of schemas without $schema */
    bool assert_formats;     /* else a format says something, and nothing follows */
    schema_load_fn *load;    /* NULL = no other documents */
    void *context;
};

struct schema;

/* Where a schema is wrong. */
struct schema_fault {
    char pointer[256]; /* into the document (RFC 6901), cut where it has to be */
    char message[256];
};

/* NULL when the schema is no schema, or leads nowhere: `fault` says why. `document` is kept, by a
 * reference of its own; `uri` is where it stands, "" for nowhere. */
struct schema *schema_compile(struct json_object *document, struct str uri,
                              const struct schema_options *options, struct schema_fault *fault)
    __attribute__((warn_unused_result));
/* The caller's pointer becomes NULL. */
void schema_free(struct schema **schema);

enum { SCHEMA_ERRORS_MAX = 20 };

struct schema_error {
    const char *instance_path; /* RFC 6901 */
    const char *schema_path;   /* of the keyword: the way that was gone, through references */
    const char *keyword;
    const char *message; /* a sentence without its subject: "must be a string, not a number" */
};

/* All zero at first; texts live in its arena. */
struct schema_errors {
    struct arena arena;
    struct schema_error at[SCHEMA_ERRORS_MAX];
    size_t count;
    bool more;        /* than these */
    bool hide_values; /* no message shows a value of the instance's */
};

/* A value to be validated, as often as you like. */
struct cell;

/* Lives as long as the value and the arena. */
const struct cell *schema_instance(struct json_object *value, struct arena *arena);
/* Whether the instance is valid. `errors` may be NULL; then the first one ends it. */
bool schema_validate(const struct schema *schema, const struct cell *instance,
                     struct schema_errors *errors);
void schema_errors_free(struct schema_errors *errors);
