#include "shared/base/str.h"

#include <limits.h>
#include <stdint.h>

static char fold(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool str_starts_nocase(struct str s, struct str prefix)
{
    if (s.len < prefix.len)
        return false;
    for (size_t i = 0; i < prefix.len; i++)
        if (fold(s.at[i]) != fold(prefix.at[i]))
            return false;
    return true;
}

bool str_eq_nocase(struct str a, struct str b)
{
    return a.len == b.len && str_starts_nocase(a, b);
}

static struct str trim(struct str s, const char *space)
{
    while (s.len > 0 && *s.at && strchr(space, *s.at)) {
        s.at++;
        s.len--;
    }
    while (s.len > 0 && s.at[s.len - 1] && strchr(space, s.at[s.len - 1]))
        s.len--;
    return s;
}

struct str str_trim(struct str s)
{
    return trim(s, " \t");
}

struct str str_trim_lines(struct str s)
{
    return trim(s, " \t\r\n");
}

struct str str_split(struct str *rest, char separator)
{
    struct str head = *rest;
    const char *cut = rest->len ? memchr(rest->at, separator, rest->len) : NULL;
    if (!cut) {
        *rest = STR_ABSENT;
        return head;
    }
    head.len = (size_t)(cut - head.at);
    rest->at = cut + 1;
    rest->len -= head.len + 1;
    return head;
}

bool str_to_u64(struct str s, unsigned long long *value)
{
    unsigned long long sum = 0;
    if (s.len == 0)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.at[i] < '0' || s.at[i] > '9')
            return false;
        unsigned digit = (unsigned)(s.at[i] - '0');
        if (sum > (ULLONG_MAX - digit) / 10)
            return false;
        sum = sum * 10 + digit;
    }
    *value = sum;
    return true;
}

int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = fold(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool continues(const unsigned char *at, size_t len, size_t index)
{
    return index < len && (at[index] & 0xC0) == 0x80;
}

size_t utf8_sequence(const char *text, size_t len)
{
    const unsigned char *at = (const unsigned char *)text;
    if (len == 0)
        return 0;
    if (at[0] < 0x80)
        return 1;
    if (at[0] >= 0xC2 && at[0] <= 0xDF)
        return continues(at, len, 1) ? 2 : 0;
    if (at[0] >= 0xE0 && at[0] <= 0xEF) {
        if (!continues(at, len, 1) || !continues(at, len, 2))
            return 0;
        bool overlong = at[0] == 0xE0 && at[1] < 0xA0;
        bool surrogate = at[0] == 0xED && at[1] > 0x9F;
        return overlong || surrogate ? 0 : 3;
    }
    if (at[0] >= 0xF0 && at[0] <= 0xF4) {
        if (!continues(at, len, 1) || !continues(at, len, 2) || !continues(at, len, 3))
            return 0;
        bool overlong = at[0] == 0xF0 && at[1] < 0x90;
        bool beyond = at[0] == 0xF4 && at[1] > 0x8F;
        return overlong || beyond ? 0 : 4;
    }
    return 0;
}

struct str str_cut(struct str s, size_t max)
{
    if (s.len <= max)
        return s;
    while (max > 0 && ((unsigned char)s.at[max] & 0xC0) == 0x80)
        max--;
    return (struct str){s.at, max};
}

size_t str_distance(struct str a, struct str b, size_t limit)
{
    size_t row[64];
    if (a.len >= 64 || b.len >= 64)
        return limit;
    for (size_t j = 0; j <= b.len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a.len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b.len; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a.at[i - 1] != b.at[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[b.len] < limit ? row[b.len] : limit;
}
