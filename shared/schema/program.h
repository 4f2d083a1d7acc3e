/* What a schema is compiled into: a node for each subschema that something leads to. Private to
 * this folder. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/str.h"
#include "shared/schema/cell.h"
#include "shared/schema/pattern.h"
#include "shared/schema/schema.h"

struct node;

/* A schema with a URI of its own. */
struct resource {
    struct str uri; /* without fragment */
    struct json_object *root;
    enum schema_draft draft;
    unsigned vocabularies; /* bits of index.h */
    bool asserts_formats;
    bool recursive_anchor;
    struct node *root_node; /* of one with a recursive anchor */
    struct anchor *anchors;
    struct resource *next;
};

struct anchor {
    struct str name;
    struct json_object *schema;
    bool dynamic;
    struct node *node; /* of a dynamic one, once it is compiled */
    struct anchor *next;
};

struct node_list {
    struct node **at;
    size_t count;
};

/* Names that `properties` and `required` have, in a table by their hash. */
struct name_entry {
    struct name name;  /* without text: free */
    struct node *node; /* of `properties`; may be NULL */
    bool required;
    const struct name_entry *next; /* in the schema's order; NULL behind the last */
};

struct name_table {
    struct name_entry *at;
    uint32_t mask;
    const struct name_entry *first;
    uint32_t required;
};

struct pattern_entry {
    const struct pattern *pattern;
    const char *source;
    struct node *node;
};

struct dependency {
    struct name name;
    struct name *required;
    size_t required_count;
    struct node *schema; /* NULL = `required` */
    const char *keyword;
};

enum { NO_LIMIT = -1 };

struct object_rules {
    struct name_table names;
    bool has_names;
    struct pattern_entry *patterns;
    size_t patterns_count;
    struct node *additional, *property_names;
    struct dependency *dependencies;
    size_t dependencies_count;
    struct name *required;
    size_t required_count;
    int64_t min, max;
};

struct array_rules {
    struct node_list prefix;
    struct node *items; /* of those behind the prefix */
    const char *items_keyword;
    bool items_listed; /* `prefix` is the keyword `items` */
    struct node *contains;
    int64_t min_contains, max_contains;
    int64_t min, max;
    bool unique;
    bool contains_evaluates;
};

struct string_rules {
    int64_t min, max;
    const struct pattern *pattern;
    const char *pattern_source;
};

struct number_rules {
    bool is_range; /* for small integers all of it is these two */
    int64_t least, most;
    const struct cell *minimum, *maximum, *above, *below, *multiple_of; /* NULL = none */
};

struct format;

/* What quick.c takes a node for: the first that fits. */
enum node_kind {
    NODE_SLOW,      /* none of what follows */
    NODE_QUICK,     /* has no keyword that quick.c has not */
    NODE_TYPES,     /* nothing but types */
    NODE_TEXT,      /* types, and how long a string may be */
    NODE_RANGE,     /* types, and a range of small integers */
    NODE_CHOICE,    /* types, and an enum */
    NODE_SCALAR,    /* nothing in it has a schema of its own */
    NODE_OBJECT,    /* types, and an object's rules */
    NODE_ARRAY,     /* types, and an array's rules */
    NODE_REFERENCE, /* nothing but a reference */
};

struct node {
    enum node_kind kind;
    struct resource *resource;
    struct json_object *source;
    bool never;           /* `false` */
    bool has_applicators; /* for the same value, but for a reference */
    bool is_simple;       /* nothing but what the type's rules say: no applicator in place */
    bool dots_count;      /* 1.0 is no integer */
    unsigned types;       /* TYPE_ALL = whatever */
    unsigned plain;       /* those of which nothing more is asked */
    struct object_rules *object;
    struct array_rules *array;
    struct string_rules *string;
    struct number_rules *number;
    const struct cell *constant; /* NULL = none */
    const struct cell *choices;  /* enum's array; NULL = none */
    const struct format *format;
    const char *format_name;
    struct node *reference;
    const char *reference_keyword;
    struct str dynamic_anchor; /* of a $dynamicRef whose target has one; absent = none */
    bool recursive;            /* a $recursiveRef whose target has an anchor */
    struct node_list all_of, any_of, one_of;
    struct node * not, *condition, *then, *otherwise;
    struct node *unevaluated_items, *unevaluated_properties;
    bool tracks; /* it needs to know what others have evaluated */
};

struct kept_pattern {
    struct pattern *pattern;
    struct kept_pattern *next;
};

struct schema {
    struct arena arena;
    struct node *root;
    struct document *documents;
    struct kept_pattern *patterns;
};
