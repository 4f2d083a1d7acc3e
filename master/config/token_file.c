#include "master/config/token_file.h"

#include <sodium.h>

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

void token_file_text(const struct token_request *request, const char *token, struct buf *text)
{
    uint8_t digest[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1];
    sha256(str_of(token), digest);
    sodium_bin2hex(hex, sizeof hex, digest, sizeof digest);
    if (request->project) {
        buf_puts(text, "project: ");
        write_quoted(text, request->project);
        buf_putc(text, '\n');
    }
    buf_printf(text, "hash: sha256:%s\nprefix: %.*s\n", hex, TOKEN_PREFIX_LEN, token);
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

/* Whether `b` is `a` but for `active`, which is false in `b`. */
static bool is_revoked_copy(const struct yaml_node *a, const struct yaml_node *b)
{
    const struct yaml_node *active = yaml_node_get(b, "active");
    size_t skipped_a = yaml_node_get(a, "active") != NULL;
    if (!active || !str_eq(active->text, STR("false")) || yaml_node_class(active) != CLASS_BOOL ||
        a->count - skipped_a != b->count - 1)
        return false;
    for (size_t i = 0; i < a->count; i++) {
        const struct yaml_entry *entry = &a->entries[i];
        if (str_eq(entry->key->text, STR("active")))
            continue;
        const struct yaml_node *other = yaml_node_get(b, entry->key->text.at);
        if (!other || !same_tree(entry->value, other))
            return false;
    }
    return true;
}

/* Whether the edited text says the same as the file but for the one token. */
static bool edit_holds(const struct token_draft *token, struct str text)
{
    struct arena arena = {0};
    bool complained = false, good;
    const struct yaml_node *before = token->section.file->root;
    const struct yaml_node *after = yaml_tree_read(text, &arena, ignore_complaint, &complained);
    if (!after || complained || after->kind != before->kind)
        good = false;
    else if (before->kind == NODE_MAP)
        good = is_revoked_copy(before, after);
    else {
        good = before->count == after->count;
        for (size_t i = 0; good && i < before->count; i++) {
            const struct yaml_node *a = before->entries[i].value, *b = after->entries[i].value;
            good = a == token->section.node ? is_revoked_copy(a, b) : same_tree(a, b);
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

/* `active: false` goes before the first key: as a line of its own with that key's indentation, or
 * as a member of braces. */
static void insert_active(struct str text, const struct yaml_node *map, struct buf *out)
{
    const struct yaml_node *first = map->entries[0].key;
    bool flow = text.at[map->begin] == '{';
    struct buf line = {0};
    buf_puts(&line, flow ? "active: false, " : "active: false\n");
    for (unsigned i = 1; !flow && i < first->mark.column; i++)
        buf_putc(&line, ' ');
    replace(text, first->begin, first->begin, buf_cstr(&line), out);
    buf_free(&line);
}

bool token_file_revoke(const struct token_draft *token, struct buf *text, struct error *error)
{
    struct str source = token->section.file->text;
    const struct yaml_node *map = token->section.node;
    const struct yaml_entry *active = yaml_node_entry(map, "active");
    if (active)
        replace(source, active->value->begin, active->value->end, "false", text);
    else
        insert_active(source, map, text);
    if (edit_holds(token, buf_view(text)))
        return true;
    return error_set(error, "%.300s cannot be edited safely: set active: false there by hand",
                     token->section.file->path);
}
