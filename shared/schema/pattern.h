/* Regular expressions of configurations and JSON Schemas: Perl's (PCRE2), over UTF-8, found
 * anywhere in a text unless they are anchored. A match costs a bounded amount of work, whatever the
 * text. */
#pragma once

#include "shared/base/arena.h"
#include "shared/base/error.h"

struct pattern;

enum pattern_verdict {
    PATTERN_MATCHES,
    PATTERN_DIFFERS,
    PATTERN_TOO_COSTLY, /* given up */
};

/* Compiles into memory of `arena`. On failure the error says what is wrong, and `*offset` is the
 * byte of `source` where. */
bool pattern_compile(struct str source, struct arena *arena, struct pattern **result,
                     size_t *offset, struct error *error) __attribute__((warn_unused_result));
/* The same in JavaScript's syntax, as far as PCRE2 has it, and made into machine code where the
 * system lets it: give that back with pattern_free. */
bool pattern_compile_javascript(struct str source, struct arena *arena, struct pattern **result,
                                size_t *offset, struct error *error)
    __attribute__((warn_unused_result));
void pattern_free(struct pattern *pattern);
/* `text` is valid UTF-8. One thread at a time. */
enum pattern_verdict pattern_match(const struct pattern *pattern, struct str text);
