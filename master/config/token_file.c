#include "master/config/token_file.h"

#include "master/config/yaml_edit.h"

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

static bool edit(const struct token_draft *token, const struct yaml_edit *edits, size_t count,
                 struct buf *text)
{
    const struct config_file *file = token->section.file;
    return yaml_edit(file->text, file->root, edits, count, text);
}

bool token_file_revoke(const struct token_draft *token, struct buf *text, struct error *error)
{
    const struct yaml_edit edits[] = {{token->section.node, "active", "false"}};
    return edit(token, edits, 1, text) ||
           error_set(error, "%.300s cannot be edited safely: set active: false there by hand",
                     token->section.file->path);
}

bool token_file_rotate(const struct token_draft *token, const char *fresh, struct buf *text,
                       struct error *error)
{
    char hash[HASH_TEXT_SIZE], prefix[TOKEN_PREFIX_LEN + 1];
    const struct yaml_node *map = token->section.node;
    snprintf(prefix, sizeof prefix, "%.*s", TOKEN_PREFIX_LEN, fresh);
    const struct yaml_edit edits[] = {{map, "hash", hash_text(fresh, hash)},
                                      {map, "prefix", prefix}};
    return edit(token, edits, 2, text) ||
           error_set(error, "%.300s cannot be edited safely: make another token instead",
                     token->section.file->path);
}
