#include "shared/base/json.h"

#include "shared/base/json_check.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"

#include <float.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* --- reading --- */

struct builder {
    struct json_object *root;
    struct json_object *open[JSON_MAX_DEPTH];
    int depth;
    struct buf key; /* of the member whose value comes next, NUL-terminated */
    struct buf raw;
};

static void must(bool done)
{
    if (done)
        return;
    log_error("out of memory");
    _exit(1);
}

/* Gives the value to the innermost open container, which owns it from then on. */
static void attach(struct builder *b, struct json_object *value)
{
    struct json_object *parent = b->depth ? b->open[b->depth - 1] : NULL;
    if (!parent)
        b->root = value;
    else if (json_object_is_type(parent, json_type_array))
        must(json_object_array_add(parent, value) == 0);
    else
        must(json_object_object_add_ex(parent, b->key.data, value, JSON_C_OBJECT_ADD_KEY_IS_NEW) ==
             0);
}

static void attach_new(struct builder *b, struct json_object *value)
{
    must(value != NULL);
    attach(b, value);
}

static void enter(struct builder *b, struct json_object *container)
{
    attach_new(b, container);
    b->open[b->depth++] = container;
}

static void object_begin(void *context)
{
    enter(context, json_object_new_object());
}

/* json-c starts each object with room for 16 members (640 bytes): a stranger's million empty ones
 * would take most of a gigabyte. The 0.66 is json-c's own limit for the load of a table. */
static void object_end(void *context)
{
    struct builder *b = context;
    struct lh_table *table = json_object_get_object(b->open[--b->depth]);
    int size = 1;
    while (table->count >= size * 0.66)
        size *= 2;
    if (size < table->size)
        must(lh_table_resize(table, size) == 0);
}

static void array_begin(void *context)
{
    enter(context, json_object_new_array_ext(4));
}

static void array_end(void *context)
{
    struct builder *b = context;
    must(json_object_array_shrink(b->open[--b->depth], 0) == 0);
}

static void set_key(void *context, struct str text)
{
    struct builder *b = context;
    buf_clear(&b->key);
    buf_str(&b->key, text);
    buf_cstr(&b->key);
}

static const char *raw_text(struct builder *b, struct str raw)
{
    buf_clear(&b->raw);
    buf_str(&b->raw, raw);
    return buf_cstr(&b->raw);
}

static void add_string(void *context, struct str text, struct str raw, bool lossy)
{
    struct builder *b = context;
    struct json_object *value = json_object_new_string_len(text.at, (int)text.len);
    must(value != NULL);
    if (lossy)
        json_object_set_serializer(value, json_object_userdata_to_json_string,
                                   xstrdup(raw_text(b, raw)), json_object_free_userdata);
    attach(b, value);
}

/* An integer that int64 or uint64 holds, else NULL. Minus zero is none: an integer loses its sign.
 */
static struct json_object *integer_of(struct str raw)
{
    bool negative = raw.at[0] == '-';
    struct str magnitude = negative ? (struct str){raw.at + 1, raw.len - 1} : raw;
    unsigned long long value;
    if (!str_to_u64(magnitude, &value) || (negative && value == 0))
        return NULL;
    if (value <= INT64_MAX)
        return json_object_new_int64(negative ? -(int64_t)value : (int64_t)value);
    if (negative)
        return value - 1 == INT64_MAX ? json_object_new_int64(INT64_MIN) : NULL;
    return json_object_new_uint64(value);
}

static void add_number(void *context, struct str raw)
{
    struct builder *b = context;
    struct json_object *value = integer_of(raw);
    if (!value) {
        const char *source = raw_text(b, raw);
        value = json_object_new_double_s(strtod(source, NULL), source);
    }
    attach_new(b, value);
}

static void add_literal(void *context, char which)
{
    if (which == 'n')
        attach(context, NULL);
    else
        attach_new(context, json_object_new_boolean(which == 't'));
}

static const struct json_visitor build = {
    .object_begin = object_begin,
    .object_end = object_end,
    .array_begin = array_begin,
    .array_end = array_end,
    .key = set_key,
    .string = add_string,
    .number = add_number,
    .literal = add_literal,
};

bool json_read(struct str text, struct json_object **value, struct error *error)
{
    struct builder b = {0};
    *value = NULL;
    if (text.len > INT_MAX)
        return error_set(error, "JSON text beyond 2 GiB");
    bool ok = json_check(text, &build, &b, error);
    buf_free(&b.key);
    buf_free(&b.raw);
    if (!ok) {
        json_object_put(b.root);
        return false;
    }
    *value = b.root;
    return true;
}

/* --- writing --- */

/* A container that is being written: what comes next of it. */
struct level {
    struct json_object *container;
    size_t written;
    struct lh_entry *member;
};

struct writer {
    struct buf *out;
    struct level *levels;
    size_t depth, cap;
};

static void write_source(struct buf *out, struct json_object *value)
{
    size_t len = 0;
    const char *text = json_object_to_json_string_length(value, JSON_C_TO_STRING_PLAIN, &len);
    must(text != NULL);
    buf_append(out, text, len);
}

static void write_int(struct buf *out, struct json_object *value)
{
    uint64_t magnitude = json_object_get_uint64(value); /* 0 when negative */
    if (magnitude > INT64_MAX)
        buf_u64(out, magnitude);
    else
        buf_i64(out, json_object_get_int64(value));
}

static void write_scalar(struct buf *out, struct json_object *value)
{
    if (json_object_get_userdata(value))
        write_source(out, value);
    else if (json_object_is_type(value, json_type_string))
        json_write_string(out, json_text(value));
    else if (json_object_is_type(value, json_type_int))
        write_int(out, value);
    else if (json_object_is_type(value, json_type_double))
        json_write_double(out, json_object_get_double(value));
    else
        buf_puts(out, !value ? "null" : json_object_get_boolean(value) ? "true" : "false");
}

static void push_level(struct writer *w, struct json_object *container, struct lh_entry *first)
{
    if (w->depth == w->cap) {
        w->cap = w->cap ? w->cap * 2 : 16;
        w->levels = xrealloc(w->levels, w->cap * sizeof *w->levels);
    }
    w->levels[w->depth++] = (struct level){container, 0, first};
}

static void write_value(struct writer *w, struct json_object *value)
{
    if (json_object_is_type(value, json_type_object)) {
        buf_putc(w->out, '{');
        push_level(w, value, json_object_get_object(value)->head);
    } else if (json_object_is_type(value, json_type_array)) {
        buf_putc(w->out, '[');
        push_level(w, value, NULL);
    } else {
        write_scalar(w->out, value);
    }
}

static void write_next_member(struct writer *w, struct level *top)
{
    struct lh_entry *member = top->member;
    if (!member) {
        buf_putc(w->out, '}');
        w->depth--;
        return;
    }
    if (top->written++)
        buf_putc(w->out, ',');
    top->member = member->next;
    json_write_string(w->out, str_of(lh_entry_k(member)));
    buf_putc(w->out, ':');
    write_value(w, lh_entry_v(member));
}

static void write_next_element(struct writer *w, struct level *top)
{
    if (top->written == json_object_array_length(top->container)) {
        buf_putc(w->out, ']');
        w->depth--;
        return;
    }
    if (top->written)
        buf_putc(w->out, ',');
    write_value(w, json_object_array_get_idx(top->container, top->written++));
}

void json_write(struct buf *out, struct json_object *value)
{
    struct writer w = {.out = out};
    write_value(&w, value);
    while (w.depth) {
        struct level *top = &w.levels[w.depth - 1];
        if (json_object_is_type(top->container, json_type_object))
            write_next_member(&w, top);
        else
            write_next_element(&w, top);
    }
    free(w.levels);
}

/* --- looking --- */

struct json_object *json_member(struct json_object *object, const char *name, bool *present)
{
    struct json_object *value = NULL;
    bool found = json_object_is_type(object, json_type_object) &&
                 json_object_object_get_ex(object, name, &value);
    if (present)
        *present = found;
    return value;
}

struct str json_text(struct json_object *value)
{
    if (!json_object_is_type(value, json_type_string))
        return STR_ABSENT;
    return (struct str){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
}

int64_t json_int_or(struct json_object *value, int64_t otherwise)
{
    if (json_object_is_type(value, json_type_int))
        return json_object_get_uint64(value) > INT64_MAX ? otherwise : json_object_get_int64(value);
    if (!json_object_is_type(value, json_type_double))
        return otherwise;
    double number = json_object_get_double(value);
    if (!(number >= -0x1p63 && number < 0x1p63))
        return otherwise;
    int64_t whole = (int64_t)number;
    return (double)whole == number ? whole : otherwise;
}
