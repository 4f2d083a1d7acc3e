#include "shared/schema/report.h"

#include "shared/base/json.h"

#include <stdarg.h>
#include <stdio.h>

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

const char *report_value(struct schema_errors *errors, struct json_object *value)
{
    enum { SHOWN_MAX = 60 };
    struct buf text = {0};
    if (errors->hide_values)
        return "…";
    json_write(&text, value);
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
