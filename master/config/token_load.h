/* The tokens of one file of tokens.d, read again while a configuration is in use. */
#pragma once

#include "master/config/config_load.h"
#include "shared/token_table.h"

/* A file's bytes, and what they say once they are parsed. All zero is none. */
struct token_source {
    struct arena arena;
    char *name; /* NAME of tokens.d/NAME.yaml */
    const char *path;
    struct str text;
    const char *unreadable;      /* why it is; NULL when it isn't */
    bool missing;                /* it is not there: it says that there are no tokens */
    struct config_token *tokens; /* sorted by hash */
    size_t count;
};

/* Reads the file of the configuration in `directory` into memory. The name is a valid one. */
void token_source_fetch(struct token_source *source, const char *directory, const char *name);
/* Parses it: `tokens` with pointers into `config`, whose other tokens are `known`. False when
 * anything is wrong; then the report says what. */
bool token_source_parse(struct token_source *source, const struct config *config,
                        const struct token_table *known, struct config_report *report)
    __attribute__((warn_unused_result));
bool token_source_has(const struct token_source *source, const uint8_t hash[SHA256_BYTES]);
void token_source_free(struct token_source *source);
/* Whether the token called so stands in the file called so. */
bool token_is_of_file(struct str token, const char *file);
