/* YAML files edited in place, so that comments, order and layout stay. */
#pragma once

#include "master/config/yaml_tree.h"
#include "shared/base/buf.h"

enum { YAML_EDITS_MAX = 1024 };

/* A key's value becomes another one. */
struct yaml_edit {
    const struct yaml_node *map; /* with at least one key; where this one is not there yet it comes
                                    before the first */
    const char *key;
    const char *value; /* a scalar that reads as it is written: no quotes, no escapes */
};

/* Appends `text`, whose tree is `root`, with all edits done. False when the layout is such that
 * only a person should edit it: the result was read again, and something else than the edits was
 * different. */
bool yaml_edit(struct str text, const struct yaml_node *root, const struct yaml_edit *edits,
               size_t count, struct buf *out) __attribute__((warn_unused_result));
