#include "master/config/yaml_edit.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>

/* --- what the result says --- */

struct comparison {
    const struct yaml_edit *edits;
    size_t count;
};

static const char *value_after(const struct comparison *how, const struct yaml_node *map,
                               struct str key)
{
    for (size_t i = 0; i < how->count; i++)
        if (how->edits[i].map == map && str_eq(str_of(how->edits[i].key), key))
            return how->edits[i].value;
    return NULL;
}

static bool same(const struct comparison *how, const struct yaml_node *a,
                 const struct yaml_node *b);

static bool same_map(const struct comparison *how, const struct yaml_node *a,
                     const struct yaml_node *b)
{
    size_t added = 0;
    for (size_t i = 0; i < how->count; i++) {
        const struct yaml_edit *edit = &how->edits[i];
        if (edit->map != a)
            continue;
        const struct yaml_node *value = yaml_node_get(b, edit->key);
        if (!value || value->kind != NODE_SCALAR || !str_eq(value->text, str_of(edit->value)))
            return false;
        added += !yaml_node_get(a, edit->key);
    }
    if (a->count + added != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct yaml_entry *entry = &a->entries[i];
        const struct yaml_node *other = yaml_node_get(b, entry->key->text.at);
        if (!other || (!value_after(how, a, entry->key->text) && !same(how, entry->value, other)))
            return false;
    }
    return true;
}

/* Whether `b` is `a` with the edits done. */
static bool same(const struct comparison *how, const struct yaml_node *a, const struct yaml_node *b)
{
    if (a->kind != b->kind)
        return false;
    if (a->kind == NODE_MAP)
        return same_map(how, a, b);
    if (a->count != b->count || !str_eq(a->text, b->text) ||
        yaml_node_class(a) != yaml_node_class(b))
        return false;
    for (size_t i = 0; i < a->count; i++)
        if (!same(how, a->entries[i].value, b->entries[i].value))
            return false;
    return true;
}

static void note_complaint(void *context, struct yaml_mark mark, const char *message)
{
    (void)mark, (void)message;
    *(bool *)context = true;
}

static bool says_the_edits(const struct comparison *how, const struct yaml_node *root,
                           struct str text)
{
    struct arena arena = {0};
    bool complained = false;
    const struct yaml_node *after = yaml_tree_read(text, &arena, note_complaint, &complained);
    bool good = after && !complained && same(how, root, after);
    arena_free(&arena);
    return good;
}

/* --- the result --- */

struct splice {
    size_t begin, end;
    struct buf with;
};

/* A key that is not there goes before the first one: as a line of its own with that key's
 * indentation, or as a member of braces. */
static void plan_insertion(struct str text, const struct yaml_edit *edit, struct splice *splice)
{
    const struct yaml_node *first = edit->map->entries[0].key;
    bool flow = text.at[edit->map->begin] == '{';
    splice->begin = splice->end = first->begin;
    buf_printf(&splice->with, "%s: %s%s", edit->key, edit->value, flow ? ", " : "\n");
    for (unsigned i = 1; !flow && i < first->mark.column; i++)
        buf_putc(&splice->with, ' ');
}

static void plan(struct str text, const struct yaml_edit *edit, struct splice *splice)
{
    const struct yaml_entry *entry = yaml_node_entry(edit->map, edit->key);
    if (!entry) {
        plan_insertion(text, edit, splice);
        return;
    }
    splice->begin = entry->value->begin;
    splice->end = entry->value->end;
    if (splice->begin > 0 && text.at[splice->begin - 1] == ':')
        buf_putc(&splice->with, ' '); /* there was no value */
    buf_puts(&splice->with, edit->value);
}

static int by_place(const void *a, const void *b)
{
    const struct splice *x = a, *y = b;
    return x->begin < y->begin ? -1 : x->begin > y->begin;
}

static void put_together(struct str text, struct splice *splices, size_t count, struct buf *out)
{
    size_t at = 0;
    qsort(splices, count, sizeof *splices, by_place);
    for (size_t i = 0; i < count; i++) {
        if (splices[i].begin < at || splices[i].end > text.len)
            continue; /* the same value by two names: the comparison will tell */
        buf_append(out, text.at + at, splices[i].begin - at);
        buf_str(out, buf_view(&splices[i].with));
        at = splices[i].end;
    }
    buf_append(out, text.at + at, text.len - at);
}

bool yaml_edit(struct str text, const struct yaml_node *root, const struct yaml_edit *edits,
               size_t count, struct buf *out)
{
    if (count > YAML_EDITS_MAX)
        return false;
    const struct comparison how = {edits, count};
    struct splice *splices = xcalloc(count + 1, sizeof *splices);
    size_t begun = out->len;
    for (size_t i = 0; i < count; i++)
        plan(text, &edits[i], &splices[i]);
    put_together(text, splices, count, out);
    for (size_t i = 0; i < count; i++)
        buf_free(&splices[i].with);
    free(splices);
    return says_the_edits(&how, root, (struct str){out->data + begun, out->len - begun});
}
