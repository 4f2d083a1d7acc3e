#include "shared/base/json_check.h"

#include "shared/base/buf.h"
#include "shared/base/xalloc.h"

#include <sodium.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Up to this many keys an object's new key is compared with each earlier one. */
enum { FEW_KEYS = 8 };

/* Where a key's unescaped text is: an offset into the source, or, from the source's length on, an
 * offset into `reader.unescaped_keys`. Offsets, for that buffer moves as it grows. */
struct key {
    size_t at, len;
};

/* A slot of an object's hash table: index + 1 of a key, 0 = empty. */
struct key_slot {
    uint32_t index_plus_one, hash;
};

/* The keys of one open object. Objects nest, so all keys live on one stack: those of an inner
 * object are gone before the outer one gets its next. */
struct key_set {
    size_t first_key;
    size_t first_unescaped;
    struct key_slot *slots; /* NULL while the keys are few */
    size_t slot_count;      /* a power of two */
};

struct reader {
    struct str source;
    const char *at, *end;
    int depth;
    const struct json_visitor *visitor;
    void *context;
    struct error *error;
    struct key *keys;
    size_t key_count, key_cap;
    struct buf unescaped_keys;
    struct buf unescaped_value;
};

struct text {
    struct str raw;  /* with its quotes */
    struct str body; /* between the quotes */
    bool escaped, lossy, nul;
};

static const struct json_visitor nobody;

#define TELL(reader, what, ...)                                                                    \
    do {                                                                                           \
        if ((reader)->visitor->what)                                                               \
            (reader)->visitor->what((reader)->context, ##__VA_ARGS__);                             \
    } while (0)

static bool read_value(struct reader *r);

/* Columns count characters. The bytes before `where` were found to be UTF-8. */
static bool fail(struct reader *r, const char *where, const char *what)
{
    size_t line = 1, column = 1;
    for (const char *at = r->source.at; at < where; at++) {
        if (*at == '\n') {
            line++;
            column = 1;
        } else if ((*at & 0xC0) != 0x80) {
            column++;
        }
    }
    size_t offset = (size_t)(where - r->source.at);
    return error_set(r->error, "%s at byte %zu (line %zu, column %zu)", what, offset, line, column);
}

static bool fail_byte(struct reader *r, const char *expected)
{
    char what[96];
    if (r->at == r->end)
        snprintf(what, sizeof what, "the text ends where %s is expected", expected);
    else if (*r->at > ' ' && *r->at < 0x7F)
        snprintf(what, sizeof what, "'%c' where %s is expected", *r->at, expected);
    else
        snprintf(what, sizeof what, "byte 0x%02X where %s is expected", (unsigned char)*r->at,
                 expected);
    return fail(r, r->at, what);
}

static void skip_space(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\n' || *r->at == '\t' || *r->at == '\r'))
        r->at++;
}

static bool take(struct reader *r, char c)
{
    if (r->at == r->end || *r->at != c)
        return false;
    r->at++;
    return true;
}

/* --- strings --- */

/* The four digits at `at`, or -1. */
static int hex4(const char *at, const char *end)
{
    int value = 0;
    if (end - at < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex_digit(at[i]);
        if (digit < 0)
            return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool is_high_surrogate(int unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool is_low_surrogate(int unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* The code point of the \u escape whose digits begin at `at`, a pair joined; -1 for a lone
 * surrogate. `*used` are the bytes from `at` on. */
static int escaped_point(const char *at, const char *end, size_t *used)
{
    int unit = hex4(at, end);
    *used = 4;
    if (is_low_surrogate(unit))
        return -1;
    if (!is_high_surrogate(unit))
        return unit;
    if (end - at < 10 || at[4] != '\\' || at[5] != 'u')
        return -1;
    int low = hex4(at + 6, end);
    if (!is_low_surrogate(low))
        return -1;
    *used = 10;
    return 0x10000 + (unit - 0xD800) * 0x400 + (low - 0xDC00);
}

static bool check_escape(struct reader *r, struct text *text)
{
    const char *backslash = r->at++;
    text->escaped = true;
    if (r->at == r->end)
        return fail_byte(r, "an escape");
    char which = *r->at++;
    if (which != 'u')
        return strchr("\"\\/bfnrt", which) && which ? true : fail(r, backslash, "unknown escape");
    if (hex4(r->at, r->end) < 0)
        return fail(r, backslash, "\\u without four hexadecimal digits");
    size_t used;
    int point = escaped_point(r->at, r->end, &used);
    text->lossy |= point < 0;
    text->nul |= point == 0;
    r->at += used;
    return true;
}

static bool is_plain(char c)
{
    return (unsigned char)c >= 0x20 && (unsigned char)c < 0x80 && c != '"' && c != '\\';
}

static bool check_character(struct reader *r)
{
    if ((unsigned char)*r->at < 0x20)
        return fail(r, r->at, "an unescaped control character");
    size_t len = utf8_sequence(r->at, (size_t)(r->end - r->at));
    if (len == 0)
        return fail(r, r->at, "bytes that are not UTF-8");
    r->at += len;
    return true;
}

/* Checks the string at `at` (its quote was seen) and moves behind it. */
static bool scan_string(struct reader *r, struct text *text)
{
    const char *start = r->at++;
    *text = (struct text){0};
    for (;;) {
        while (r->at < r->end && is_plain(*r->at))
            r->at++;
        if (r->at == r->end || *r->at == '"')
            break;
        if (!(*r->at == '\\' ? check_escape(r, text) : check_character(r)))
            return false;
    }
    if (!take(r, '"'))
        return fail(r, start, "a string without its closing quote");
    text->raw = (struct str){start, (size_t)(r->at - start)};
    text->body = (struct str){start + 1, text->raw.len - 2};
    return true;
}

static size_t utf8_put(char *to, int point)
{
    if (point < 0x80) {
        to[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        to[0] = (char)(0xC0 | (point >> 6));
        to[1] = (char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        to[0] = (char)(0xE0 | (point >> 12));
        to[1] = (char)(0x80 | ((point >> 6) & 0x3F));
        to[2] = (char)(0x80 | (point & 0x3F));
        return 3;
    }
    to[0] = (char)(0xF0 | (point >> 18));
    to[1] = (char)(0x80 | ((point >> 12) & 0x3F));
    to[2] = (char)(0x80 | ((point >> 6) & 0x3F));
    to[3] = (char)(0x80 | (point & 0x3F));
    return 4;
}

static char plain_escape(char which)
{
    switch (which) {
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    default:
        return which;
    }
}

/* Appends what a checked string body stands for; it never gets longer than the body. */
static void unescape(struct str body, struct buf *out)
{
    const char *at = body.at, *end = body.at + body.len;
    char *to = buf_reserve(out, body.len), *start = to;
    while (at < end) {
        if (*at != '\\') {
            *to++ = *at++;
        } else if (at[1] != 'u') {
            *to++ = plain_escape(at[1]);
            at += 2;
        } else {
            size_t used;
            int point = escaped_point(at + 2, end, &used);
            to += utf8_put(to, point < 0 ? 0xFFFD : point);
            at += 2 + used;
        }
    }
    out->len += (size_t)(to - start);
}

static bool read_string(struct reader *r)
{
    struct text text;
    if (!scan_string(r, &text))
        return false;
    if (!r->visitor->string)
        return true;
    struct str value = text.body;
    if (text.escaped) {
        buf_clear(&r->unescaped_value);
        unescape(text.body, &r->unescaped_value);
        value = buf_view(&r->unescaped_value);
    }
    r->visitor->string(r->context, value, text.raw, text.lossy);
    return true;
}

/* --- keys --- */

static struct str key_text(const struct reader *r, const struct key *key)
{
    if (key->at < r->source.len)
        return (struct str){r->source.at + key->at, key->len};
    return (struct str){r->unescaped_keys.data + (key->at - r->source.len), key->len};
}

/* Keyed, so that nobody outside can make keys that share slots. */
static uint32_t key_hash(struct str key)
{
    static unsigned char secret[crypto_shorthash_KEYBYTES];
    static bool have_secret;
    if (!have_secret) {
        randombytes_buf(secret, sizeof secret);
        have_secret = true;
    }
    uint32_t hash[crypto_shorthash_BYTES / sizeof(uint32_t)];
    crypto_shorthash((unsigned char *)hash, (const unsigned char *)key.at, key.len, secret);
    return hash[0];
}

static void place(struct key_set *set, uint32_t hash, size_t index)
{
    size_t slot = hash & (set->slot_count - 1);
    while (set->slots[slot].index_plus_one)
        slot = (slot + 1) & (set->slot_count - 1);
    set->slots[slot] = (struct key_slot){(uint32_t)index + 1, hash};
}

static void grow_table(struct reader *r, struct key_set *set)
{
    struct key_set old = *set;
    set->slot_count = old.slots ? old.slot_count * 2 : FEW_KEYS * 4;
    set->slots = xcalloc(set->slot_count, sizeof *set->slots);
    for (size_t i = 0; i < old.slot_count; i++)
        if (old.slots[i].index_plus_one)
            place(set, old.slots[i].hash, old.slots[i].index_plus_one - 1);
    for (size_t i = set->first_key; !old.slots && i < r->key_count; i++)
        place(set, key_hash(key_text(r, &r->keys[i])), i - set->first_key);
    free(old.slots);
}

static bool known_among_few(const struct reader *r, const struct key_set *set, struct str key)
{
    for (size_t i = set->first_key; i < r->key_count; i++)
        if (str_eq(key_text(r, &r->keys[i]), key))
            return true;
    return false;
}

static bool known_in_table(const struct reader *r, const struct key_set *set, struct str key,
                           uint32_t hash)
{
    size_t slot = hash & (set->slot_count - 1);
    for (; set->slots[slot].index_plus_one; slot = (slot + 1) & (set->slot_count - 1)) {
        const struct key *other = &r->keys[set->first_key + set->slots[slot].index_plus_one - 1];
        if (set->slots[slot].hash == hash && str_eq(key_text(r, other), key))
            return true;
    }
    return false;
}

static void push_key(struct reader *r, struct key key)
{
    if (r->key_count == r->key_cap) {
        r->key_cap = r->key_cap ? r->key_cap * 2 : 32;
        r->keys = xrealloc(r->keys, r->key_cap * sizeof *r->keys);
    }
    r->keys[r->key_count++] = key;
}

/* Takes the key into the set; false when it is there already. */
static bool remember_key(struct reader *r, struct key_set *set, struct key key)
{
    struct str text = key_text(r, &key);
    size_t index = r->key_count - set->first_key;
    if (index < FEW_KEYS) {
        if (known_among_few(r, set, text))
            return false;
        push_key(r, key);
        return true;
    }
    if (!set->slots || index * 2 >= set->slot_count)
        grow_table(r, set);
    uint32_t hash = key_hash(text);
    if (known_in_table(r, set, text, hash))
        return false;
    push_key(r, key);
    place(set, hash, index);
    return true;
}

static bool read_key(struct reader *r, struct key_set *set)
{
    struct text text;
    if (r->at == r->end || *r->at != '"')
        return fail_byte(r, "a key in quotes");
    if (!scan_string(r, &text))
        return false;
    if (text.nul)
        return fail(r, text.raw.at, "a NUL character in a key");
    if (text.lossy)
        return fail(r, text.raw.at, "a lone surrogate in a key");
    struct key key = {(size_t)(text.body.at - r->source.at), text.body.len};
    if (text.escaped) {
        size_t before = r->unescaped_keys.len;
        unescape(text.body, &r->unescaped_keys);
        key = (struct key){r->source.len + before, r->unescaped_keys.len - before};
    }
    if (!remember_key(r, set, key))
        return fail(r, text.raw.at, "a key that this object has already");
    TELL(r, key, key_text(r, &key));
    return true;
}

/* --- numbers and literals --- */

static bool digits(struct reader *r)
{
    const char *start = r->at;
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
    return r->at > start;
}

static bool read_number(struct reader *r)
{
    const char *start = r->at;
    take(r, '-');
    if (take(r, '0')) {
        if (r->at < r->end && *r->at >= '0' && *r->at <= '9')
            return fail(r, start, "a number with a leading zero");
    } else if (!digits(r)) {
        return fail_byte(r, "a digit");
    }
    if (take(r, '.') && !digits(r))
        return fail_byte(r, "a digit");
    if (take(r, 'e') || take(r, 'E')) {
        if (!take(r, '+'))
            take(r, '-');
        if (!digits(r))
            return fail_byte(r, "a digit");
    }
    TELL(r, number, (struct str){start, (size_t)(r->at - start)});
    return true;
}

static bool read_literal(struct reader *r, struct str literal)
{
    if (!str_starts((struct str){r->at, (size_t)(r->end - r->at)}, literal))
        return fail_byte(r, "a value");
    r->at += literal.len;
    TELL(r, literal, literal.at[0]);
    return true;
}

/* --- objects and arrays --- */

static bool descend(struct reader *r)
{
    if (r->depth == JSON_MAX_DEPTH)
        return fail(r, r->at, "nesting beyond 64 levels");
    r->depth++;
    r->at++;
    return true;
}

static bool read_member(struct reader *r, struct key_set *set)
{
    skip_space(r);
    if (!read_key(r, set))
        return false;
    skip_space(r);
    if (!take(r, ':'))
        return fail_byte(r, "':'");
    return read_value(r);
}

static bool read_members(struct reader *r, struct key_set *set)
{
    skip_space(r);
    if (take(r, '}'))
        return true;
    do {
        if (!read_member(r, set))
            return false;
        skip_space(r);
    } while (take(r, ','));
    return take(r, '}') ? true : fail_byte(r, "',' or '}'");
}

static bool read_object(struct reader *r)
{
    struct key_set set = {.first_key = r->key_count, .first_unescaped = r->unescaped_keys.len};
    if (!descend(r))
        return false;
    TELL(r, object_begin);
    bool ok = read_members(r, &set);
    free(set.slots);
    r->key_count = set.first_key;
    r->unescaped_keys.len = set.first_unescaped;
    if (!ok)
        return false;
    r->depth--;
    TELL(r, object_end);
    return true;
}

static bool read_elements(struct reader *r)
{
    skip_space(r);
    if (take(r, ']'))
        return true;
    do {
        if (!read_value(r))
            return false;
        skip_space(r);
    } while (take(r, ','));
    return take(r, ']') ? true : fail_byte(r, "',' or ']'");
}

static bool read_array(struct reader *r)
{
    if (!descend(r))
        return false;
    TELL(r, array_begin);
    if (!read_elements(r))
        return false;
    r->depth--;
    TELL(r, array_end);
    return true;
}

/* Recursive by way of objects and arrays, JSON_MAX_DEPTH deep at most. */
static bool read_value(struct reader *r)
{
    skip_space(r);
    switch (r->at < r->end ? *r->at : '\0') {
    case '{':
        return read_object(r);
    case '[':
        return read_array(r);
    case '"':
        return read_string(r);
    case 't':
        return read_literal(r, STR("true"));
    case 'f':
        return read_literal(r, STR("false"));
    case 'n':
        return read_literal(r, STR("null"));
    case '-':
    case '0' ... '9':
        return read_number(r);
    default:
        return fail_byte(r, "a value");
    }
}

static bool read_document(struct reader *r)
{
    if (str_starts(r->source, STR("\xEF\xBB\xBF")))
        return fail(r, r->at, "a byte order mark");
    if (!read_value(r))
        return false;
    skip_space(r);
    return r->at == r->end ? true : fail_byte(r, "the end");
}

bool json_check(struct str text, const struct json_visitor *visitor, void *context,
                struct error *error)
{
    if (!text.at)
        text = STR("");
    struct reader r = {.source = text,
                       .at = text.at,
                       .end = text.at + text.len,
                       .visitor = visitor ? visitor : &nobody,
                       .context = context,
                       .error = error};
    bool ok = read_document(&r);
    free(r.keys);
    buf_free(&r.unescaped_keys);
    buf_free(&r.unescaped_value);
    return ok;
}
