#include "master/cli/status_view.h"

#include "shared/base/json.h"

#include <ctype.h>

/* A text as it is, null as "-", anything else as JSON; a terminal must not be told what to do. */
static void append_value(struct buf *out, struct json_object *value)
{
    size_t from = out->len;
    struct str text = json_text(value);
    if (text.at)
        buf_str(out, text);
    else if (!value)
        buf_putc(out, '-');
    else
        json_write(out, value);
    for (size_t i = from; i < out->len; i++)
        if (iscntrl((unsigned char)out->data[i]))
            out->data[i] = ' ';
}

static bool is_table(struct json_object *value)
{
    return json_object_is_type(value, json_type_array) && json_object_array_length(value) > 0 &&
           json_object_is_type(json_object_array_get_idx(value, 0), json_type_object);
}

static void append_list(struct buf *out, struct json_object *list)
{
    for (size_t i = 0; i < json_object_array_length(list); i++) {
        buf_puts(out, i ? ", " : "");
        append_value(out, json_object_array_get_idx(list, i));
    }
}

static void end_line(struct buf *out)
{
    while (out->data[out->len - 1] == ' ')
        out->len--;
    buf_putc(out, '\n');
}

static void append_line(struct buf *out, const char *name, struct json_object *value)
{
    buf_printf(out, "%-12s ", name);
    if (json_object_is_type(value, json_type_array))
        append_list(out, value);
    else
        append_value(out, value);
    end_line(out);
}

/* --- tables: the first row's members are the columns, but for lists: those follow as tables --- */

static void append_padded(struct buf *out, struct str text, size_t width)
{
    buf_str(out, text);
    for (size_t i = text.len; i < width + 2; i++)
        buf_putc(out, ' ');
}

static size_t width_of(struct json_object *rows, const char *column)
{
    struct buf cell = {0};
    size_t width = strlen(column);
    for (size_t i = 0; i < json_object_array_length(rows); i++) {
        buf_clear(&cell);
        append_value(&cell, json_member(json_object_array_get_idx(rows, i), column, NULL));
        width = cell.len > width ? cell.len : width;
    }
    buf_free(&cell);
    return width;
}

/* `row` NULL is the heading. */
static void append_row(struct buf *out, struct json_object *rows, struct json_object *row)
{
    struct buf cell = {0};
    json_object_object_foreach(json_object_array_get_idx(rows, 0), column, first)
    {
        if (json_object_is_type(first, json_type_array))
            continue;
        buf_clear(&cell);
        if (row)
            append_value(&cell, json_member(row, column, NULL));
        else
            for (const char *c = column; *c; c++)
                buf_putc(&cell, (char)toupper((unsigned char)*c));
        append_padded(out, buf_view(&cell), width_of(rows, column));
    }
    buf_free(&cell);
    end_line(out);
}

/* Rows in rows go no deeper than this: the answer is a stranger's as far as this code knows. */
enum { DEPTH_MAX = 4 };

static void append_table(struct buf *out, struct json_object *rows, int depth);

/* Under the name of the list and the row's first member, which tells it from others. */
static void append_inner_tables(struct buf *out, struct json_object *row, int depth)
{
    const char *key = NULL;
    struct json_object *id = NULL;
    if (!json_object_is_type(row, json_type_object) || depth == DEPTH_MAX)
        return;
    json_object_object_foreach(row, name, value)
    {
        if (!key) {
            key = name;
            id = value;
        }
        if (!is_table(value))
            continue;
        buf_printf(out, "\n%s of %s ", name, key);
        append_value(out, id);
        buf_puts(out, ":\n");
        append_table(out, value, depth);
    }
}

static void append_table(struct buf *out, struct json_object *rows, int depth)
{
    append_row(out, rows, NULL);
    for (size_t i = 0; i < json_object_array_length(rows); i++)
        append_row(out, rows, json_object_array_get_idx(rows, i));
    for (size_t i = 0; i < json_object_array_length(rows); i++)
        append_inner_tables(out, json_object_array_get_idx(rows, i), depth + 1);
}

static void append_all(struct buf *out, struct json_object *status)
{
    json_object_object_foreach(status, line, value)
    {
        if (!is_table(value))
            append_line(out, line, value);
    }
    json_object_object_foreach(status, table, rows)
    {
        if (!is_table(rows))
            continue;
        buf_printf(out, "\n%s:\n", table);
        append_table(out, rows, 0);
    }
}

bool status_view(struct str json, struct buf *out, struct error *error)
{
    struct json_object *status = NULL;
    if (!json_read(json, &status, error))
        return false;
    bool good = json_object_is_type(status, json_type_object);
    if (good)
        append_all(out, status);
    else
        error_set(error, "it is no object");
    json_object_put(status);
    return good;
}
