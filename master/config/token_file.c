#include "master/config/token_file.h"

#include <sodium.h>
#include <stdio.h>

void token_generate(char text[TOKEN_TEXT_SIZE])
{
    uint8_t random[TOKEN_RANDOM_BYTES];
    size_t prefix = strlen("pg_live_");
    randombytes_buf(random, sizeof random);
    memcpy(text, "pg_live_", prefix);
    sodium_bin2base64(text + prefix, TOKEN_TEXT_SIZE - prefix, random, sizeof random,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    sodium_memzero(random, sizeof random);
}

static void write_scopes(unsigned scopes, struct buf *text)
{
    const char *name, *separator = "";
    buf_puts(text, "scopes: [");
    for (unsigned i = 0; (name = token_scope_name(i)); i++)
        if (scopes & token_scope_named(str_of(name))) {
            buf_printf(text, "%s%s", separator, name);
            separator = ", ";
        }
    buf_puts(text, "]\n");
}

/* In quotes: "null", "true" and "123" are names and slugs, too. */
static void write_quoted(struct buf *text, const char *value)
{
    buf_printf(text, "\"%s\"", value);
}

enum { HASH_TEXT_SIZE = sizeof "sha256:" + 2 * SHA256_BYTES };

static const char *hash_text(const char *token, char text[HASH_TEXT_SIZE])
{
    uint8_t digest[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    sha256(str_of(token), digest);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    snprintf(text, HASH_TEXT_SIZE, "sha256:%s", hex);
    return text;
}

void token_file_text(const struct token_request *request, const char *token, struct buf *text)
{
    char hash[HASH_TEXT_SIZE];
    if (request->project) {
        buf_puts(text, "project: ");
        write_quoted(text, request->project);
        buf_putc(text, '\n');
    }
    buf_printf(text, "hash: %s\nprefix: %.*s\n", hash_text(token, hash), TOKEN_PREFIX_LEN, token);
    write_scopes(request->scopes, text);
    for (size_t i = 0; i < request->endpoints_count; i++) {
        buf_puts(text, i ? ", " : "endpoints: [");
        write_quoted(text, request->endpoints[i]);
    }
    if (request->endpoints_count)
        buf_puts(text, "]\n");
    buf_puts(text, "active: true\n");
    if (request->expires)
        buf_printf(text, "expires: \"%s\"\n", request->expires);
}

static void ignore_complaint(void *context, struct yaml_mark mark, const char *message)
{
    (void)mark, (void)message;
    *(bool *)context = true;
}

static bool same_tree(const struct yaml_node *a, const struct yaml_node *b)
{
    if (a->kind != b->kind || a->count != b->count || !str_eq(a->text, b->text) ||
        yaml_node_class(a) != yaml_node_class(b))
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct yaml_entry *x = &a->entries[i], *y = &b->entries[i];
        if ((x->key && !str_eq(x->key->text, y->key->text)) || !same_tree(x->value, y->value))
            return false;
    }
    return true;
}

/* What an edit is to change: keys of a token, and the values that they get. */
struct edit {
    const char *keys[2], *values[2];
    size_t count;
};

static const char *value_after(const struct edit *edit, struct str key)
{
    for (size_t i = 0; i < edit->count; i++)
        if (str_eq(str_of(edit->keys[i]), key))
            return edit->values[i];
    return NULL;
}

/* Whether `b` is `a` but for the edited keys, which have their new values in `b`. */
static bool is_edited_copy(const struct edit *edit, const struct yaml_node *a,
                           const struct yaml_node *b)
{
    size_t added = 0;
    for (size_t i = 0; i < edit->count; i++) {
        const struct yaml_node *value = yaml_node_get(b, edit->keys[i]);
        if (!value || !str_eq(value->text, str_of(edit->values[i])))
            return false;
        added += !yaml_node_get(a, edit->keys[i]);
    }
    if (b->kind != NODE_MAP || a->count + added != b->count)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct yaml_entry *entry = &a->entries[i];
        const struct yaml_node *other = yaml_node_get(b, entry->key->text.at);
        if (!other || (!value_after(edit, entry->key->text) && !same_tree(entry->value, other)))
            return false;
    }
    return true;
}

/* Whether the edited text says the same as the file but for the one token. */
static bool edit_holds(const struct edit *edit, const struct token_draft *token, struct str text)
{
    struct arena arena = {0};
    bool complained = false, good;
    const struct yaml_node *before = token->section.file->root;
    const struct yaml_node *after = yaml_tree_read(text, &arena, ignore_complaint, &complained);
    if (!after || complained || after->kind != before->kind)
        good = false;
    else if (before->kind == NODE_MAP)
        good = is_edited_copy(edit, before, after);
    else {
        good = before->count == after->count;
        for (size_t i = 0; good && i < before->count; i++) {
            const struct yaml_node *a = before->entries[i].value, *b = after->entries[i].value;
            good = a == token->section.node ? is_edited_copy(edit, a, b) : same_tree(a, b);
        }
    }
    arena_free(&arena);
    return good;
}

static void replace(struct str text, size_t begin, size_t end, const char *with, struct buf *out)
{
    buf_append(out, text.at, begin);
    buf_puts(out, with);
    buf_append(out, text.at + end, text.len - end);
}

/* A key that is not there goes before the first one: as a line of its own with that key's
 * indentation, or as a member of braces. */
static void insert(struct str text, const struct yaml_node *map, const char *key, const char *value,
                   struct buf *out)
{
    const struct yaml_node *first = map->entries[0].key;
    bool flow = text.at[map->begin] == '{';
    struct buf line = {0};
    buf_printf(&line, "%s: %s%s", key, value, flow ? ", " : "\n");
    for (unsigned i = 1; !flow && i < first->mark.column; i++)
        buf_putc(&line, ' ');
    replace(text, first->begin, first->begin, buf_cstr(&line), out);
    buf_free(&line);
}

static void set(struct str text, const struct yaml_node *map, const char *key, const char *value,
                struct buf *out)
{
    const struct yaml_entry *entry = yaml_node_entry(map, key);
    if (entry)
        replace(text, entry->value->begin, entry->value->end, value, out);
    else
        insert(text, map, key, value, out);
}

bool token_file_revoke(const struct token_draft *token, struct buf *text, struct error *error)
{
    const struct edit edit = {{"active"}, {"false"}, 1};
    set(token->section.file->text, token->section.node, "active", "false", text);
    if (edit_holds(&edit, token, buf_view(text)))
        return true;
    return error_set(error, "%.300s cannot be edited safely: set active: false there by hand",
                     token->section.file->path);
}

/* The later of the two is changed first, so that the earlier one's place stays. */
bool token_file_rotate(const struct token_draft *token, const char *fresh, struct buf *text,
                       struct error *error)
{
    char hash[HASH_TEXT_SIZE], prefix[TOKEN_PREFIX_LEN + 1];
    const struct yaml_node *map = token->section.node;
    const struct yaml_node *old_hash = yaml_node_get(map, "hash");
    const struct yaml_node *old_prefix = yaml_node_get(map, "prefix");
    snprintf(prefix, sizeof prefix, "%.*s", TOKEN_PREFIX_LEN, fresh);
    const struct edit edit = {{"hash", "prefix"}, {hash_text(fresh, hash), prefix}, 2};
    bool hash_last = !old_prefix || old_hash->begin > old_prefix->begin;
    struct buf first = {0};
    set(token->section.file->text, map, edit.keys[!hash_last], edit.values[!hash_last], &first);
    set(buf_view(&first), map, edit.keys[hash_last], edit.values[hash_last], text);
    buf_free(&first);
    if (edit_holds(&edit, token, buf_view(text)))
        return true;
    return error_set(error, "%.300s cannot be edited safely: make another token instead",
                     token->section.file->path);
}
