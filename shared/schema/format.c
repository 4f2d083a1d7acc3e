#include "shared/schema/format.h"

#include "shared/schema/pattern.h"

#include <arpa/inet.h>
#include <string.h>

struct format {
    const char *name;
    enum schema_draft from;
    bool (*fits)(struct str text);
};

/* --- pieces --- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static struct str behind(struct str text, size_t count)
{
    return (struct str){text.at + count, text.len - count};
}

/* So many digits at the front, a number of at most `most`; taken off. */
static bool take_number(struct str *text, size_t digits, int most, int *number)
{
    *number = 0;
    if (text->len < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (!is_digit(text->at[i]))
            return false;
        *number = *number * 10 + (text->at[i] - '0');
    }
    *text = behind(*text, digits);
    return *number <= most;
}

static bool take_char(struct str *text, const char *of)
{
    if (text->len == 0 || !strchr(of, text->at[0]) || text->at[0] == '\0')
        return false;
    *text = behind(*text, 1);
    return true;
}

/* --- dates and times (RFC 3339) --- */

static int days_of(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

static bool take_date(struct str *text)
{
    int year, month, day;
    return take_number(text, 4, 9999, &year) && take_char(text, "-") &&
           take_number(text, 2, 12, &month) && month > 0 && take_char(text, "-") &&
           take_number(text, 2, 31, &day) && day > 0 && day <= days_of(year, month);
}

/* A leap second is one at 23:59:60 in UTC. */
static bool take_time(struct str *text)
{
    int hour, minute, second, zone_hour = 0, zone_minute = 0, sign = 0;
    if (!take_number(text, 2, 23, &hour) || !take_char(text, ":") ||
        !take_number(text, 2, 59, &minute) || !take_char(text, ":") ||
        !take_number(text, 2, 60, &second))
        return false;
    if (take_char(text, ".")) {
        if (text->len == 0 || !is_digit(text->at[0]))
            return false;
        while (text->len > 0 && is_digit(text->at[0]))
            *text = behind(*text, 1);
    }
    if (!take_char(text, "zZ")) {
        sign = text->len > 0 && text->at[0] == '-' ? 1 : -1;
        if (!take_char(text, "+-") || !take_number(text, 2, 23, &zone_hour) ||
            !take_char(text, ":") || !take_number(text, 2, 59, &zone_minute))
            return false;
    }
    int utc = hour * 60 + minute + sign * (zone_hour * 60 + zone_minute);
    return second < 60 || (utc + 2 * 1440) % 1440 == 1439;
}

static bool is_date(struct str text)
{
    return take_date(&text) && text.len == 0;
}

static bool is_time(struct str text)
{
    return take_time(&text) && text.len == 0;
}

static bool is_date_time(struct str text)
{
    return take_date(&text) && take_char(&text, "tT") && take_time(&text) && text.len == 0;
}

/* Units of a part in their order, each at most once and behind a number. False when there are none
 * where one has to be, or gaps. */
static bool take_units(struct str *text, const char *units)
{
    bool any = false;
    const char *next = units;
    while (text->len > 0 && is_digit(text->at[0])) {
        while (text->len > 0 && is_digit(text->at[0]))
            *text = behind(*text, 1);
        const char *unit = text->len > 0 && text->at[0] ? strchr(next, text->at[0]) : NULL;
        if (!unit || (any && unit != next))
            return false;
        next = unit + 1;
        *text = behind(*text, 1);
        any = true;
    }
    return any;
}

static bool is_duration(struct str text)
{
    if (!take_char(&text, "P"))
        return false;
    if (text.len > 1 && text.at[text.len - 1] == 'W')
        return take_units(&text, "W") && text.len == 0;
    bool dated = text.len > 0 && text.at[0] != 'T';
    if (dated && !take_units(&text, "YMD"))
        return false;
    if (text.len == 0)
        return dated;
    return take_char(&text, "T") && take_units(&text, "HMS") && text.len == 0;
}

/* --- names of hosts --- */

static bool is_label(struct str label)
{
    if (label.len == 0 || label.len > 63 || label.at[0] == '-' || label.at[label.len - 1] == '-')
        return false;
    for (size_t i = 0; i < label.len; i++)
        if (!is_letter(label.at[i]) && !is_digit(label.at[i]) && label.at[i] != '-')
            return false;
    return true;
}

static bool is_hostname(struct str text)
{
    struct str rest = text;
    if (text.len == 0 || text.len > 253)
        return false;
    while (rest.at)
        if (!is_label(str_split(&rest, '.')))
            return false;
    return true;
}

static bool is_address(struct str text, int family)
{
    char copy[64];
    unsigned char address[16];
    if (text.len == 0 || text.len >= sizeof copy || memchr(text.at, '\0', text.len))
        return false;
    memcpy(copy, text.at, text.len);
    copy[text.len] = '\0';
    return inet_pton(family, copy, address) == 1;
}

static bool is_ipv4(struct str text)
{
    return is_address(text, AF_INET);
}

static bool is_ipv6(struct str text)
{
    return is_address(text, AF_INET6);
}

static bool is_email(struct str text)
{
    const char *at = text.len ? memrchr(text.at, '@', text.len) : NULL;
    if (!at)
        return false;
    struct str local = {text.at, (size_t)(at - text.at)}, host = behind(text, local.len + 1);
    if (host.len > 2 && host.at[0] == '[' && host.at[host.len - 1] == ']') {
        struct str literal = {host.at + 1, host.len - 2};
        bool v6 = str_starts_nocase(literal, STR("IPv6:"));
        if (!(v6 ? is_ipv6(behind(literal, 5)) : is_ipv4(literal)))
            return false;
    } else if (!is_hostname(host)) {
        return false;
    }
    if (local.len > 2 && local.at[0] == '"' && local.at[local.len - 1] == '"')
        return true;
    struct str rest = local;
    while (rest.at) {
        struct str atom = str_split(&rest, '.');
        if (atom.len == 0)
            return false;
        for (size_t i = 0; i < atom.len; i++)
            if (!is_letter(atom.at[i]) && !is_digit(atom.at[i]) &&
                !strchr("!#$%&'*+-/=?^_`{|}~", atom.at[i]))
                return false;
    }
    return true;
}

/* --- URIs (RFC 3986) --- */

static bool is_uri_text(struct str text, const char *more, bool international)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '%' && i + 2 < text.len && is_hex(text.at[i + 1]) && is_hex(text.at[i + 2])) {
            i += 2;
            continue;
        }
        if ((unsigned char)c >= 0x80
                ? !international
                : !is_letter(c) && !is_digit(c) &&
                      (c == '\0' || (!strchr("-._~!$&'()*+,;=:@", c) && !strchr(more, c))))
            return false;
    }
    return true;
}

static bool is_authority(struct str text, bool international)
{
    const char *at = text.len ? memchr(text.at, '@', text.len) : NULL;
    struct str host = text;
    if (at) {
        struct str user = {text.at, (size_t)(at - text.at)};
        if (!is_uri_text(user, "", international))
            return false;
        host = behind(text, user.len + 1);
    }
    if (host.len > 0 && host.at[0] == '[') {
        const char *end = memchr(host.at, ']', host.len);
        struct str inside = {host.at + 1, end ? (size_t)(end - host.at) - 1 : 0};
        if (!end || !(is_ipv6(inside) || (inside.len > 0 && inside.at[0] == 'v')))
            return false;
        host = behind(host, inside.len + 2);
    }
    const char *colon = host.len ? memrchr(host.at, ':', host.len) : NULL;
    struct str port = colon ? behind(host, (size_t)(colon - host.at) + 1) : STR("");
    for (size_t i = 0; i < port.len; i++)
        if (!is_digit(port.at[i]))
            return false;
    struct str name = {host.at, colon ? (size_t)(colon - host.at) : host.len};
    return !memchr(name.at ? name.at : "", '@', name.len) && is_uri_text(name, "", international);
}

static bool has_scheme(struct str *text)
{
    size_t len = 0;
    while (len < text->len &&
           (is_letter(text->at[len]) ||
            (len > 0 && (is_digit(text->at[len]) || strchr("+-.", text->at[len])))))
        len++;
    if (len == 0 || len == text->len || text->at[len] != ':')
        return false;
    *text = behind(*text, len + 1);
    return true;
}

static bool is_reference(struct str text, bool absolute, bool international)
{
    struct str rest = text, fragment, query;
    bool scheme = has_scheme(&rest);
    if (absolute && !scheme)
        return false;
    struct str before = str_split(&rest, '#');
    fragment = rest;
    query = before;
    struct str path = str_split(&query, '?');
    if (str_starts(path, STR("//"))) {
        path = behind(path, 2);
        size_t len = 0;
        while (len < path.len && path.at[len] != '/')
            len++;
        if (!is_authority((struct str){path.at, len}, international))
            return false;
        path = behind(path, len);
    }
    struct str first = path;
    first = str_split(&first, '/');
    if (!scheme && first.len > 0 && memchr(first.at, ':', first.len))
        return false;
    return is_uri_text(path, "/", international) && is_uri_text(query, "/?", international) &&
           is_uri_text(fragment, "/?", international);
}

static bool is_uri(struct str text)
{
    return is_reference(text, true, false);
}

static bool is_uri_reference(struct str text)
{
    return is_reference(text, false, false);
}

static bool is_iri(struct str text)
{
    return is_reference(text, true, true);
}

static bool is_iri_reference(struct str text)
{
    return is_reference(text, false, true);
}

static bool is_uri_template(struct str text)
{
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        if (c == '{' ? inside : c == '}' ? !inside : false)
            return false;
        if (c == '{' && i + 1 < text.len && text.at[i + 1] == '}')
            return false;
        inside = c == '{' || (inside && c != '}');
        if ((unsigned char)c <= 0x20 || (!inside && strchr("\"<>\\^`|", c)))
            return false;
    }
    return !inside;
}

/* --- the rest --- */

static bool is_uuid(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text.at[i] != '-' : !is_hex(text.at[i]))
            return false;
    }
    return text.len == 36;
}

static bool is_json_pointer(struct str text)
{
    if (text.len > 0 && text.at[0] != '/')
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.at[i] == '~' &&
            (i + 1 == text.len || (text.at[i + 1] != '0' && text.at[i + 1] != '1')))
            return false;
    return true;
}

static bool is_relative_json_pointer(struct str text)
{
    size_t digits = 0;
    while (digits < text.len && is_digit(text.at[digits]))
        digits++;
    if (digits == 0 || (digits > 1 && text.at[0] == '0'))
        return false;
    struct str rest = behind(text, digits);
    return str_eq(rest, STR("#")) || is_json_pointer(rest);
}

static bool is_regex(struct str text)
{
    struct arena arena = {0};
    struct pattern *pattern;
    struct error error;
    size_t offset;
    bool valid = pattern_compile_javascript(text, &arena, &pattern, &offset, &error);
    if (valid)
        pattern_free(pattern);
    arena_free(&arena);
    return valid;
}

static const struct format formats[] = {
    {"date-time", SCHEMA_4, is_date_time},
    {"email", SCHEMA_4, is_email},
    {"hostname", SCHEMA_4, is_hostname},
    {"ipv4", SCHEMA_4, is_ipv4},
    {"ipv6", SCHEMA_4, is_ipv6},
    {"uri", SCHEMA_4, is_uri},
    {"uri-reference", SCHEMA_6, is_uri_reference},
    {"uri-template", SCHEMA_6, is_uri_template},
    {"json-pointer", SCHEMA_6, is_json_pointer},
    {"date", SCHEMA_7, is_date},
    {"time", SCHEMA_7, is_time},
    {"iri", SCHEMA_7, is_iri},
    {"iri-reference", SCHEMA_7, is_iri_reference},
    {"regex", SCHEMA_7, is_regex},
    {"relative-json-pointer", SCHEMA_7, is_relative_json_pointer},
    {"duration", SCHEMA_2019_09, is_duration},
    {"uuid", SCHEMA_2019_09, is_uuid},
};

const struct format *format_named(struct str name, enum schema_draft draft)
{
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++)
        if (str_eq(name, str_of(formats[i].name)) && draft >= formats[i].from)
            return &formats[i];
    return NULL;
}

bool format_fits(const struct format *format, struct str text)
{
    return format->fits(text);
}
