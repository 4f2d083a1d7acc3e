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

/* --- tables: the first row's members are the columns --- */

static void append_cell(struct buf *out, struct json_object *value, size_t width)
{
    size_t from = out->len;
    append_value(out, value);
    while (out->len < from + width + 2)
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

static void append_heading(struct buf *out, struct json_object *rows)
{
    json_object_object_foreach(json_object_array_get_idx(rows, 0), column, ignored)
    {
        (void)ignored;
        size_t from = out->len, width = width_of(rows, column);
        for (const char *c = column; *c; c++)
            buf_putc(out, (char)toupper((unsigned char)*c));
        while (out->len < from + width + 2)
            buf_putc(out, ' ');
    }
    end_line(out);
}

static void append_table(struct buf *out, const char *name, struct json_object *rows)
{
    buf_printf(out, "\n%s:\n", name);
    append_heading(out, rows);
    for (size_t i = 0; i < json_object_array_length(rows); i++) {
        struct json_object *row = json_object_array_get_idx(rows, i);
        json_object_object_foreach(json_object_array_get_idx(rows, 0), column, ignored)
        {
            (void)ignored;
            append_cell(out, json_member(row, column, NULL), width_of(rows, column));
        }
        end_line(out);
    }
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
        if (is_table(rows))
            append_table(out, table, rows);
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
