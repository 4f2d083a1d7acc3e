/* YAML text as a tree whose nodes remember where they stood, so that mistakes can be pointed at and
 * files edited in place. One document, no tags, duplicate keys refused; aliases share the node they
 * name and count in full against the limit. */
#pragma once

#include "shared/base/arena.h"

enum { YAML_TREE_MAX_NODES = 100000, YAML_TREE_MAX_DEPTH = 64, YAML_TREE_MAX_ANCHORS = 1000 };

struct yaml_mark {
    unsigned line, column; /* from 1, columns in characters; line 0 = the file as a whole */
};

enum yaml_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };
enum yaml_style { STYLE_PLAIN, STYLE_QUOTED, STYLE_BLOCK };

/* What a scalar looks like: only plain ones can be other than a string. */
enum yaml_class { CLASS_STRING, CLASS_NULL, CLASS_BOOL, CLASS_NUMBER };

struct yaml_node {
    enum yaml_kind kind;
    enum yaml_style style; /* of a scalar */
    struct yaml_mark mark;
    size_t begin, end; /* bytes in the text; the end is exact for plain and quoted scalars alone */
    struct str text;   /* of a scalar, NUL-terminated, without a NUL inside */
    struct yaml_entry *entries;
    size_t count;
    size_t expanded; /* nodes in it with every alias written out */
};

struct yaml_entry {
    const struct yaml_node *key; /* NULL in a list */
    const struct yaml_node *value;
    bool alias; /* the value stands elsewhere in the text */
};

/* Called for each mistake. */
typedef void yaml_tree_complain(void *context, struct yaml_mark mark, const char *message);

/* The root, in memory of `arena`; an empty text is a null scalar. NULL when the text cannot be read
 * as a whole. There may be complaints with a tree, too (duplicate keys, tags, a second document).
 */
const struct yaml_node *yaml_tree_read(struct str text, struct arena *arena,
                                       yaml_tree_complain *complain, void *context)
    __attribute__((warn_unused_result));

enum yaml_class yaml_node_class(const struct yaml_node *node);
bool yaml_node_is_null(const struct yaml_node *node);
/* The value of `key` in a mapping; NULL when there is none or `map` is no mapping. */
const struct yaml_node *yaml_node_get(const struct yaml_node *map, const char *key);
const struct yaml_entry *yaml_node_entry(const struct yaml_node *map, const char *key);
/* "a mapping", "a list", "null", "the text \"…\"" without the text when `hide`: for messages. */
const char *yaml_node_shown(const struct yaml_node *node, struct arena *arena, bool hide);
/* Text in quotes, without control characters, cut when long. */
const char *yaml_shown(struct str text, struct arena *arena);
