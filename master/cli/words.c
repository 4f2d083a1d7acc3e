#include "master/cli/words.h"

#include "master/cli/table.h"
#include "shared/base/json.h"

static void write_indent(struct buf *out, int depth)
{
    for (int i = 0; i < depth; i++)
        buf_puts(out, "  ");
}

static void write_value(struct json_object *value, int depth, struct buf *out);

/* Several lines stand below their name. */
static void write_text(struct str text, int depth, struct buf *out)
{
    struct str rest = text;
    bool several = memchr(text.at, '\n', text.len);
    buf_puts(out, several ? " |\n" : text.len ? " " : "");
    while (rest.at) {
        struct buf line = {0};
        buf_str(&line, str_split(&rest, '\n'));
        cli_clean_line(&line);
        if (several)
            write_indent(out, depth + 1);
        buf_str(out, buf_view(&line));
        buf_putc(out, '\n');
        buf_free(&line);
    }
}

static void write_members(struct json_object *object, int depth, bool in_list, struct buf *out)
{
    json_object_object_foreach(object, name, value)
    {
        if (!in_list)
            write_indent(out, depth);
        in_list = false;
        buf_printf(out, "%s:", name);
        write_value(value, depth, out);
    }
}

static void write_elements(struct json_object *list, int depth, struct buf *out)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        struct json_object *one = json_object_array_get_idx(list, i);
        write_indent(out, depth + 1);
        buf_putc(out, '-');
        if (json_object_is_type(one, json_type_object)) {
            buf_putc(out, ' ');
            write_members(one, depth + 2, true, out);
        } else {
            write_value(one, depth + 1, out);
        }
    }
}

static void write_value(struct json_object *value, int depth, struct buf *out)
{
    if (json_object_is_type(value, json_type_string)) {
        write_text(json_text(value), depth, out);
    } else if (json_object_is_type(value, json_type_object)) {
        buf_putc(out, '\n');
        write_members(value, depth + 1, false, out);
    } else if (json_object_is_type(value, json_type_array)) {
        buf_puts(out, json_object_array_length(value) > 0 ? "\n" : " none\n");
        write_elements(value, depth, out);
    } else if (json_object_is_type(value, json_type_boolean)) {
        buf_puts(out, json_object_get_boolean(value) ? " yes\n" : " no\n");
    } else {
        buf_printf(out, " %s\n", value ? json_object_get_string(value) : "none");
    }
}

void cli_write_words(struct json_object *object, struct buf *out)
{
    write_members(object, 0, false, out);
}
