#include "shared/base/json_text.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The letter of a two-character escape, or 0. */
static char short_escape(char c)
{
    switch (c) {
    case '"':
    case '\\':
        return c;
    case '\b':
        return 'b';
    case '\f':
        return 'f';
    case '\n':
        return 'n';
    case '\r':
        return 'r';
    case '\t':
        return 't';
    default:
        return 0;
    }
}

static void write_special(struct buf *out, char c)
{
    char letter = short_escape(c);
    if (letter) {
        buf_putc(out, '\\');
        buf_putc(out, letter);
    } else if ((unsigned char)c < 0x20) {
        buf_printf(out, "\\u%04x", (unsigned char)c);
    } else {
        buf_puts(out, "\xEF\xBF\xBD");
    }
}

/* The length of what stands at `at` and can be written as it is: one character or nothing. */
static size_t plain_length(const char *at, size_t len)
{
    unsigned char c = (unsigned char)*at;
    if (c < 0x20 || c == '"' || c == '\\')
        return 0;
    return c < 0x80 ? 1 : utf8_sequence(at, len);
}

void json_write_string(struct buf *out, struct str text)
{
    buf_putc(out, '"');
    size_t start = 0, at = 0;
    while (at < text.len) {
        size_t plain = plain_length(text.at + at, text.len - at);
        if (plain) {
            at += plain;
            continue;
        }
        buf_append(out, text.at + start, at - start);
        write_special(out, text.at[at]);
        start = ++at;
    }
    if (start < at)
        buf_append(out, text.at + start, at - start);
    buf_putc(out, '"');
}

void json_write_string_or_null(struct buf *out, struct str text)
{
    if (text.at)
        json_write_string(out, text);
    else
        buf_puts(out, "null");
}

/* 15 digits survive the way through any normal double; below those, fewer may be enough. */
void json_write_double(struct buf *out, double value)
{
    char text[32];
    if (!isfinite(value)) {
        buf_puts(out, "null");
        return;
    }
    for (int digits = fabs(value) < DBL_MIN ? 1 : DBL_DIG; digits <= DBL_DECIMAL_DIG; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtod(text, NULL) == value)
            break;
    }
    buf_puts(out, text);
}
