#include "master/config/yaml_json.h"

#include "shared/base/json_check.h"
#include "shared/base/json_text.h"

static bool write_scalar(const struct yaml_node *node, struct buf *out,
                         const struct yaml_node **wrong)
{
    struct error unused;
    switch (yaml_node_class(node)) {
    case CLASS_STRING:
        json_write_string(out, node->text);
        return true;
    case CLASS_NULL:
        buf_puts(out, "null");
        return true;
    case CLASS_BOOL:
        buf_str(out, node->text);
        return true;
    default:
        *wrong = node;
        buf_str(out, node->text);
        return json_check(node->text, NULL, NULL, &unused);
    }
}

bool yaml_json_write(const struct yaml_node *node, struct buf *out, const struct yaml_node **wrong)
{
    bool list = node->kind == NODE_LIST;
    if (node->kind == NODE_SCALAR)
        return write_scalar(node, out, wrong);
    buf_putc(out, list ? '[' : '{');
    for (size_t i = 0; i < node->count; i++) {
        if (i > 0)
            buf_putc(out, ',');
        if (!list) {
            json_write_string(out, node->entries[i].key->text);
            buf_putc(out, ':');
        }
        if (!yaml_json_write(node->entries[i].value, out, wrong))
            return false;
    }
    buf_putc(out, list ? ']' : '}');
    return true;
}
