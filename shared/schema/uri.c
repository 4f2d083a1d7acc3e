#include "shared/schema/uri.h"

#include "shared/base/buf.h"

#include <string.h>

struct parts {
    struct str scheme, authority, path, query;
    bool has_scheme, has_authority, has_query;
};

static bool is_scheme(struct str text)
{
    if (text.len == 0)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && (i == 0 || !((c >= '0' && c <= '9') || c == '+' || c == '-' || c == '.')))
            return false;
    }
    return true;
}

static struct str behind(struct str text, size_t offset)
{
    return (struct str){text.at + offset, text.len - offset};
}

static size_t until(struct str text, const char *stops)
{
    size_t len = 0;
    while (len < text.len && !strchr(stops, text.at[len]))
        len++;
    return len;
}

/* Without a fragment. */
static struct parts take_apart(struct str text)
{
    struct parts parts = {0};
    size_t len = until(text, ":/?");
    if (len < text.len && text.at[len] == ':' && is_scheme((struct str){text.at, len})) {
        parts.has_scheme = true;
        parts.scheme = (struct str){text.at, len};
        text = behind(text, len + 1);
    }
    if (str_starts(text, STR("//"))) {
        text = behind(text, 2);
        len = until(text, "/?");
        parts.has_authority = true;
        parts.authority = (struct str){text.at, len};
        text = behind(text, len);
    }
    len = until(text, "?");
    parts.path = (struct str){text.at, len};
    if (len < text.len) {
        parts.has_query = true;
        parts.query = behind(text, len + 1);
    }
    return parts;
}

static void drop_last_segment(struct buf *out, size_t floor)
{
    while (out->len > floor && out->data[out->len - 1] != '/')
        out->len--;
    if (out->len > floor)
        out->len--;
}

/* RFC 3986 5.2.4. */
static void write_without_dots(struct str path, struct buf *out)
{
    size_t floor = out->len;
    while (path.len > 0) {
        size_t skip = path.at[0] == '/';
        size_t len = skip + until(behind(path, skip), "/");
        struct str segment = {path.at + skip, len - skip};
        bool last = len == path.len;
        if (str_eq(segment, STR("."))) {
            if (last)
                buf_putc(out, '/');
        } else if (str_eq(segment, STR(".."))) {
            drop_last_segment(out, floor);
            if (last)
                buf_putc(out, '/');
        } else {
            buf_str(out, (struct str){path.at, len});
        }
        path = behind(path, len);
    }
}

static void write_merged(const struct parts *base, struct str path, struct buf *out)
{
    struct buf merged = {0};
    size_t slash = base->path.len;
    while (slash > 0 && base->path.at[slash - 1] != '/')
        slash--;
    if (base->has_authority && base->path.len == 0)
        buf_putc(&merged, '/');
    else
        buf_str(&merged, (struct str){base->path.at, slash});
    buf_str(&merged, path);
    write_without_dots(buf_view(&merged), out);
    buf_free(&merged);
}

static void write_path(const struct parts *base, const struct parts *given, struct buf *out)
{
    bool own = given->has_scheme || given->has_authority;
    if (own && given->path.len > 0 && given->path.at[0] == '/')
        write_without_dots(given->path, out);
    else if (own)
        buf_str(out, given->path);
    else if (given->path.len == 0)
        buf_str(out, base->path);
    else if (given->path.at[0] == '/')
        write_without_dots(given->path, out);
    else
        write_merged(base, given->path, out);
}

struct str uri_resolve(struct str base, struct str reference, struct str *fragment,
                       struct arena *arena)
{
    struct buf out = {0};
    size_t len = until(reference, "#");
    *fragment = len < reference.len ? behind(reference, len + 1) : STR_ABSENT;
    const struct parts from = take_apart((struct str){base.at, until(base, "#")});
    const struct parts given = take_apart((struct str){reference.at, len});
    const struct parts *scheme = given.has_scheme ? &given : &from;
    const struct parts *authority = given.has_scheme || given.has_authority ? &given : &from;
    if (scheme->has_scheme) {
        buf_str(&out, scheme->scheme);
        buf_putc(&out, ':');
    }
    if (authority->has_authority) {
        buf_puts(&out, "//");
        buf_str(&out, authority->authority);
    }
    write_path(&from, &given, &out);
    bool keeps_query = authority == &from && given.path.len == 0 && !given.has_query;
    const struct parts *query = keeps_query ? &from : &given;
    if (query->has_query) {
        buf_putc(&out, '?');
        buf_str(&out, query->query);
    }
    struct str resolved = arena_copy(arena, (struct str){out.data ? out.data : "", out.len});
    buf_free(&out);
    return resolved;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

struct str uri_decode(struct str text, struct arena *arena)
{
    char *out = arena_alloc(arena, text.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < text.len; i++) {
        bool encoded = text.at[i] == '%' && i + 2 < text.len && digit(text.at[i + 1]) >= 0 &&
                       digit(text.at[i + 2]) >= 0;
        out[len++] =
            encoded ? (char)(digit(text.at[i + 1]) * 16 + digit(text.at[i + 2])) : text.at[i];
        i += encoded ? 2 : 0;
    }
    out[len] = '\0';
    return (struct str){out, len};
}
