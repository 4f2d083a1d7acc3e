/* Token files as text: new ones, and old ones edited in place so that comments and layout stay. */
#pragma once

#include "master/config/drafts.h"
#include "shared/base/buf.h"

enum { TOKEN_RANDOM_BYTES = 32, TOKEN_TEXT_SIZE = 64, TOKEN_PREFIX_LEN = 12 };

/* A fresh token, "pg_live_" and 43 characters of base64url, NUL-terminated. */
void token_generate(char text[TOKEN_TEXT_SIZE]);

struct token_request {
    const char *project; /* NULL = none */
    unsigned scopes;
    const char *const *endpoints; /* slugs */
    size_t endpoints_count;       /* 0 = every endpoint */
    const char *expires;          /* RFC 3339; NULL = never */
};

/* The file of a token: its hash and prefix, never the token itself. */
void token_file_text(const struct token_request *request, const char *token, struct buf *text);
/* The text of `token`'s file with another token's hash and prefix for it and nothing else changed;
 * false as below. */
bool token_file_rotate(const struct token_draft *token, const char *fresh, struct buf *text,
                       struct error *error) __attribute__((warn_unused_result));
/* The text of `token`'s file with `active: false` for it and nothing else changed; false when the
 * text is laid out in a way that only a person should edit. */
bool token_file_revoke(const struct token_draft *token, struct buf *text, struct error *error)
    __attribute__((warn_unused_result));
