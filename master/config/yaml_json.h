/* YAML that stands for JSON: parameters, schemas. */
#pragma once

#include "master/config/yaml_tree.h"
#include "shared/base/buf.h"

/* Appends the value as compact JSON. False for what JSON can't say, such as the number 1.: `*wrong`
 * is the node, and `out` has half of it. */
bool yaml_json_write(const struct yaml_node *node, struct buf *out, const struct yaml_node **wrong)
    __attribute__((warn_unused_result));
