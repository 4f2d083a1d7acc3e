/* The documents that a schema is made of: which URI, anchor or pointer is which subschema, and by
 * which draft it is read. */
#pragma once

#include "shared/schema/program.h"

/* Vocabularies of 2019-09 and later. Older drafts have all that there were. */
enum {
    VOCABULARY_APPLICATOR = 1,
    VOCABULARY_UNEVALUATED = 2,
    VOCABULARY_VALIDATION = 4,
};

struct document {
    struct str uri;
    struct json_object *root;
    struct document *next;
};

struct owner; /* of a subschema: its resource */

struct index {
    struct arena *arena;
    const struct schema_options *options;
    struct resource *resources;
    struct document *documents;
    struct owner **owners; /* by the subschema's address */
    size_t owners_size, owners_count;
    char *problem; /* NULL = none; in the arena */
};

/* Takes a document in; by `draft`, unless it names another one itself. NULL with a problem. */
struct resource *index_add(struct index *index, struct json_object *document, struct str uri,
                           enum schema_draft draft);
/* The resource that a subschema belongs to; NULL when it is none that was found. */
struct resource *index_owner(const struct index *index, struct json_object *schema);
/* Where a subschema's node is noted, by whom it belongs to if that isn't known; NULL for null. */
struct node **index_node(struct index *index, struct json_object *schema,
                         struct resource *resource);
/* The subschema that a reference in `from` leads to; false with a problem. */
bool index_find(struct index *index, const struct resource *from, struct str reference,
                struct json_object **schema, struct resource **owner);
/* An anchor of a resource; NULL when it has none of that name. */
struct anchor *index_anchor(const struct resource *resource, struct str name);
