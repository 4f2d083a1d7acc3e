/* The client tokens as workers look them up: memory that the master fills, that workers map and
 * that is sealed, so that no process can ever get to write it but the one that made it.
 *
 * Each generation has a table of its own. Tokens come, change and go while workers read: an entry
 * is complete before it can be found, never changes afterwards but for its end, and its memory is
 * not used again, so a pointer to one is good as long as the table. */
#pragma once

#include "shared/base/error.h"
#include "shared/config.h"

#include <stdatomic.h>

struct token_table;

/* A token that may be used. What it belongs to stands there by its name, so that it means the same
 * under each configuration. */
struct token_entry {
    uint8_t hash[SHA256_BYTES];
    struct uuid project; /* with `has_project` */
    int64_t expires_wall_ms;
    uint32_t account; /* its counters */
    _Atomic bool gone;
    bool has_project;
    bool all_endpoints;
    uint8_t scopes; /* enum token_scope bits */
    uint32_t endpoints_count;
    char texts[]; /* its name, then the slugs of its endpoints, NUL-terminated each */
};

/* Has `tokens`, and room for as many changes again, at least thousands. */
struct token_table *token_table_new(const struct config_token *tokens, size_t count,
                                    struct error *error) __attribute__((warn_unused_result));
/* Children keep theirs. The caller's pointer becomes NULL. */
void token_table_free(struct token_table **table);

/* The master's alone, as are the next two. The token with this hash is this one from now on; an
 * inactive one is dropped. False when there is no room: what was known before still is. */
bool token_table_put(struct token_table *table, const struct config_token *token)
    __attribute__((warn_unused_result));
/* No token has this hash any more. Needs no room. */
void token_table_drop(struct token_table *table, const uint8_t hash[SHA256_BYTES]);
/* Calls `visit` for each token that is known. */
void token_table_each(const struct token_table *table,
                      void (*visit)(void *context, const struct token_entry *entry), void *context);

/* NULL when there is none. Takes the same time for each hash with the same first bytes. */
const struct token_entry *token_find(const struct token_table *table,
                                     const uint8_t hash[SHA256_BYTES]);
static inline struct str token_name(const struct token_entry *entry)
{
    return str_of(entry->texts);
}
/* Whether the token, of the endpoint's project, may call it. */
bool token_allows(const struct token_entry *entry, const struct config_endpoint *endpoint);
