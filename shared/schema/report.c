#include "shared/schema/report.h"

#include "shared/base/json_text.h"
#include "shared/schema/cell.h"

#include <stdarg.h>
#include <stdio.h>

enum { SHOWN_MAX = 60 }; /* bytes of a value */

void pointer_add(struct buf *out, const char *name)
{
    buf_putc(out, '/');
    for (const char *c = name; *c; c++) {
        if (*c == '~' || *c == '/')
            buf_puts(out, *c == '~' ? "~0" : "~1");
        else
            buf_putc(out, *c);
    }
}

static void write_place(struct buf *out, const struct place *place)
{
    if (!place)
        return;
    write_place(out, place->up);
    if (place->name)
        pointer_add(out, place->name);
    else
        buf_printf(out, "/%zu", place->index);
}

static void write_way(struct buf *out, const struct way *way)
{
    if (!way)
        return;
    write_way(out, way->up);
    pointer_add(out, way->keyword);
    if (way->name)
        pointer_add(out, way->name);
    else if (way->index != NO_INDEX)
        buf_printf(out, "/%zu", way->index);
}

static const char *keep(struct schema_errors *errors, struct buf *text)
{
    const char *kept = arena_copy(&errors->arena, buf_view(text)).at;
    buf_free(text);
    return kept ? kept : "";
}

void report(struct schema_errors *errors, const struct place *place, const struct way *way,
            const char *format, ...)
{
    char message[512];
    struct buf instance = {0}, schema = {0};
    va_list args;
    if (errors->count == SCHEMA_ERRORS_MAX) {
        errors->more = true;
        return;
    }
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    write_place(&instance, place);
    write_way(&schema, way);
    errors->at[errors->count++] = (struct schema_error){
        .instance_path = keep(errors, &instance),
        .schema_path = keep(errors, &schema),
        .keyword = way ? way->keyword : "",
        .message = arena_strdup(&errors->arena, message),
    };
}

void report_again(struct schema_errors *errors, const struct schema_error *error)
{
    if (errors->count == SCHEMA_ERRORS_MAX) {
        errors->more = true;
        return;
    }
    errors->at[errors->count++] = (struct schema_error){
        .instance_path = arena_strdup(&errors->arena, error->instance_path),
        .schema_path = arena_strdup(&errors->arena, error->schema_path),
        .keyword = error->keyword, /* the schema's */
        .message = arena_strdup(&errors->arena, error->message),
    };
}

static void write_cell(struct buf *out, const struct cell *cell);

static void write_member(struct buf *out, const struct member *member)
{
    json_write_string(out, (struct str){member->name.text, member->name.len});
    buf_putc(out, ':');
    write_cell(out, &member->value);
}

/* So much of it as is shown. */
static void write_cells(struct buf *out, const struct cell *cell)
{
    bool is_object = cell->type == TYPE_OBJECT;
    buf_putc(out, is_object ? '{' : '[');
    for (uint32_t i = 0; i < cell->count && out->len <= SHOWN_MAX; i++) {
        if (i > 0)
            buf_putc(out, ',');
        if (is_object)
            write_member(out, &cell->members[i]);
        else
            write_cell(out, &cell->elements[i]);
    }
    buf_putc(out, is_object ? '}' : ']');
}

static void write_cell(struct buf *out, const struct cell *cell)
{
    if (cell->type & (TYPE_OBJECT | TYPE_ARRAY))
        write_cells(out, cell);
    else if (cell->type == TYPE_STRING)
        json_write_string(out, (struct str){cell->text, cell->count});
    else if (cell->is_small)
        buf_i64(out, cell->integer);
    else if (cell->type & (TYPE_INTEGER | TYPE_NUMBER))
        buf_puts(out, cell->source);
    else
        buf_puts(out, cell->type == TYPE_NULL ? "null" : cell->truth ? "true" : "false");
}

const char *report_value(struct schema_errors *errors, const struct cell *value)
{
    struct buf text = {0};
    if (errors->hide_values)
        return "…";
    write_cell(&text, value);
    if (text.len > SHOWN_MAX) {
        text.len = SHOWN_MAX;
        while (text.len > 0 && ((unsigned char)text.data[text.len] & 0xC0) == 0x80)
            text.len--;
        buf_puts(&text, "…");
    }
    return keep(errors, &text);
}

void schema_errors_free(struct schema_errors *errors)
{
    arena_free(&errors->arena);
    *errors = (struct schema_errors){0};
}
