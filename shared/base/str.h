/* A slice of bytes that somebody else owns: not NUL-terminated, may hold NUL. `at` is NULL for
 * "absent", which is different from an empty slice. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct str {
    const char *at;
    size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_ABSENT ((struct str){NULL, 0})
/* For printf's "%.*s". */
#define STR_ARG(s) (int)(s).len, (s).at

static inline struct str str_of(const char *text)
{
    return text ? (struct str){text, strlen(text)} : STR_ABSENT;
}

static inline bool str_eq(struct str a, struct str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.at, b.at, a.len) == 0);
}

static inline bool str_starts(struct str s, struct str prefix)
{
    return s.len >= prefix.len && memcmp(s.at, prefix.at, prefix.len) == 0;
}

/* ASCII letters alone are folded; the locale plays no part. */
bool str_eq_nocase(struct str a, struct str b);
bool str_starts_nocase(struct str s, struct str prefix);
/* Without spaces and tabs at both ends. */
struct str str_trim(struct str s);
/* Without JSON's white space at both ends: spaces, tabs and line ends. */
struct str str_trim_lines(struct str s);
/* Cuts `*rest` at the first `separator`; returns what stood before it and moves `*rest` behind it.
 * Without one: all of it, and `*rest` becomes absent. */
struct str str_split(struct str *rest, char separator);
/* Decimal digits alone, no sign, no overflow. */
bool str_to_u64(struct str s, unsigned long long *value) __attribute__((warn_unused_result));
/* The value of a hexadecimal digit of either case, -1 of anything else. */
int hex_digit(char c);

/* Length of the well-formed UTF-8 sequence at `at` (1..4), 0 when there is none (RFC 3629). */
size_t utf8_sequence(const char *at, size_t len);
/* At most `max` bytes from the front, cut before a UTF-8 sequence rather than in it. */
struct str str_cut(struct str s, size_t max);
/* Edit distance of two short names, for "did you mean"; `limit` and above are reported as `limit`.
 */
size_t str_distance(struct str a, struct str b, size_t limit);
