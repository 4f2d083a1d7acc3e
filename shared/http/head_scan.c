#include "shared/http/head_scan.h"

#include "shared/base/str.h"
#include "shared/base/xalloc.h"

#include <stdlib.h>
#include <string.h>

enum {
    VALUE = 1, /* field-content, RFC 9110 5.5: obs-text and HTAB, no other control */
    TOKEN = 2, /* tchar, RFC 9110 5.6.2 */
    PATH = 4,  /* pchar and '/', RFC 3986 3.3 */
    QUERY = 8, /* RFC 3986 3.4, and what browsers leave unescaped there */
    HOST = 16, /* RFC 3986 3.2.2; no comma, so that two joined hosts are refused */
    EVERYWHERE = VALUE | TOKEN | PATH | QUERY | HOST,
};

static const uint8_t classes[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = EVERYWHERE,
    ['"'] = VALUE,
    ['#'] = VALUE | TOKEN,
    ['$' ... '\''] = EVERYWHERE,
    ['(' ... ')'] = VALUE | PATH | QUERY | HOST,
    ['*' ... '+'] = EVERYWHERE,
    [','] = VALUE | PATH | QUERY,
    ['-' ... '.'] = EVERYWHERE,
    ['/'] = VALUE | PATH | QUERY,
    ['0' ... '9'] = EVERYWHERE,
    [':' ... ';'] = VALUE | PATH | QUERY | HOST,
    ['<'] = VALUE,
    ['='] = VALUE | PATH | QUERY | HOST,
    ['>'] = VALUE,
    ['?'] = VALUE | QUERY,
    ['@'] = VALUE | PATH | QUERY,
    ['A' ... 'Z'] = EVERYWHERE,
    ['['] = VALUE | QUERY | HOST,
    ['\\'] = VALUE,
    [']'] = VALUE | QUERY | HOST,
    ['^'] = VALUE | TOKEN | QUERY,
    ['_'] = EVERYWHERE,
    ['`'] = VALUE | TOKEN | QUERY,
    ['a' ... 'z'] = EVERYWHERE,
    ['{'] = VALUE | QUERY,
    ['|'] = VALUE | TOKEN | QUERY,
    ['}'] = VALUE | QUERY,
    ['~'] = EVERYWHERE,
    [0x80 ... 0xFF] = VALUE,
};

/* How many bytes from the front are of the class. */
static size_t span(struct str s, unsigned class)
{
    size_t i = 0;
    while (i < s.len && (classes[(uint8_t)s.at[i]] & class))
        i++;
    return i;
}

static bool refuse(struct head_scan *scan, const char *detail)
{
    scan->detail = detail;
    return false;
}

/* Escapes that decode to what separates or ends a path are read in two ways by two servers. */
static bool check_escapes(struct head_scan *scan, struct str path)
{
    for (size_t i = 0; i < path.len; i++) {
        if (path.at[i] != '%')
            continue;
        int high = i + 2 < path.len ? hex_digit(path.at[i + 1]) : -1;
        int low = i + 2 < path.len ? hex_digit(path.at[i + 2]) : -1;
        if (high < 0 || low < 0)
            return refuse(scan, "The path has a '%' that is not followed by two hex digits.");
        int byte = high * 16 + low;
        if (byte == '/' || byte == '\\')
            return refuse(scan, "The path has an encoded slash.");
        if (byte < ' ' || byte == 0x7F)
            return refuse(scan, "The path has an encoded control character.");
        i += 2;
    }
    return true;
}

/* origin-form alone (RFC 9112 3.2.1): this is no proxy, and a second host would contradict Host. */
static bool check_target(struct head_scan *scan, struct str target)
{
    if (target.len == 0 || target.at[0] != '/')
        return refuse(scan, "The request target must be a path that starts with '/'.");
    struct str path = {target.at, span(target, PATH)};
    struct str query = {target.at + path.len, target.len - path.len};
    if (query.len > 0 && (query.at[0] != '?' || span(query, QUERY) != query.len))
        return refuse(scan, "The request target has a character that a URL may not hold.");
    scan->path_len = path.len;
    return check_escapes(scan, path);
}

static bool check_version(struct head_scan *scan, struct str version)
{
    if (str_eq(version, STR("HTTP/1.1")))
        scan->minor_version = 1;
    else if (str_eq(version, STR("HTTP/1.0")))
        scan->minor_version = 0;
    else
        return refuse(scan, "The request line must end in HTTP/1.1 or HTTP/1.0.");
    return true;
}

/* method SP request-target SP HTTP-version, single spaces (RFC 9112 3). */
static bool read_request_line(struct head_scan *scan, const char *bytes, struct str line)
{
    struct str rest = line;
    struct str method = {line.at, span(line, TOKEN)};
    if (method.len == 0 || method.len == line.len || line.at[method.len] != ' ')
        return refuse(scan, "The request line must start with a method and one space.");
    /* The target of CONNECT is no path (RFC 9110 9.3.6). */
    if (str_eq(method, STR("CONNECT")))
        return refuse(scan, "CONNECT is not served here.");
    rest.at += method.len + 1;
    rest.len -= method.len + 1;
    struct str target = str_split(&rest, ' ');
    if (!rest.at)
        return refuse(scan, "The request line must be a method, a target and a version.");
    if (!check_target(scan, target) || !check_version(scan, rest))
        return false;
    scan->method = (struct head_slice){(uint32_t)(method.at - bytes), (uint32_t)method.len};
    scan->target = (struct head_slice){(uint32_t)(target.at - bytes), (uint32_t)target.len};
    scan->has_request_line = true;
    return true;
}

static bool read_host(struct head_scan *scan, struct str value)
{
    if (scan->has_host)
        return refuse(scan, "The Host header is repeated.");
    if (span(value, HOST) != value.len)
        return refuse(scan, "The Host header is not a host with an optional port.");
    scan->has_host = true;
    return true;
}

static bool read_content_length(struct head_scan *scan, struct str value)
{
    enum { MAX_DIGITS = 18 }; /* whatever 18 digits say fits into 63 bits */
    unsigned long long length = 0;
    if (scan->has_length)
        return refuse(scan, "The Content-Length header is repeated.");
    if (value.len > MAX_DIGITS || !str_to_u64(value, &length))
        return refuse(scan, "The Content-Length header must be one number of at most 18 digits.");
    scan->has_length = true;
    scan->content_length = length;
    return true;
}

static bool read_transfer_encoding(struct head_scan *scan, struct str value)
{
    if (scan->chunked)
        return refuse(scan, "The Transfer-Encoding header is repeated.");
    if (!str_eq_nocase(value, STR("chunked")))
        return refuse(scan, "The Transfer-Encoding header must be exactly 'chunked'.");
    scan->chunked = true;
    return true;
}

static bool read_expect(struct head_scan *scan, struct str value)
{
    if (!str_eq_nocase(value, STR("100-continue")))
        return refuse(scan, "The Expect header asks for something else than 100-continue.");
    scan->expects_continue = true;
    return true;
}

static bool read_connection(struct head_scan *scan, struct str value)
{
    while (value.at) {
        struct str option = str_trim(str_split(&value, ','));
        if (str_eq_nocase(option, STR("close")))
            scan->asks_close = true;
        else if (str_eq_nocase(option, STR("keep-alive")))
            scan->asks_keep_alive = true;
    }
    return true;
}

/* What the fields say about the connection and the body's length. */
static bool read_known_field(struct head_scan *scan, struct str name, struct str value)
{
    switch (name.len) {
    case sizeof "host" - 1:
        return str_eq_nocase(name, STR("host")) ? read_host(scan, value) : true;
    case sizeof "expect" - 1:
        return str_eq_nocase(name, STR("expect")) ? read_expect(scan, value) : true;
    case sizeof "connection" - 1:
        return str_eq_nocase(name, STR("connection")) ? read_connection(scan, value) : true;
    case sizeof "content-length" - 1:
        return str_eq_nocase(name, STR("content-length")) ? read_content_length(scan, value) : true;
    case sizeof "transfer-encoding" - 1:
        return str_eq_nocase(name, STR("transfer-encoding")) ? read_transfer_encoding(scan, value)
                                                             : true;
    default:
        return true;
    }
}

static void add_field(struct head_scan *scan, const char *bytes, struct str name, struct str value)
{
    if (scan->fields_count == scan->fields_cap) {
        scan->fields_cap = scan->fields_cap ? scan->fields_cap * 2 : 8;
        scan->fields = xrealloc(scan->fields, scan->fields_cap * sizeof *scan->fields);
    }
    scan->fields[scan->fields_count++] = (struct head_field){
        {(uint32_t)(name.at - bytes), (uint32_t)name.len},
        {(uint32_t)(value.at - bytes), (uint32_t)value.len},
    };
}

/* field-name ":" OWS field-value OWS (RFC 9112 5), no white space before the colon (5.1), no
 * continuation lines (5.2). */
static bool read_field_line(struct head_scan *scan, const char *bytes, struct str line)
{
    if (line.at[0] == ' ' || line.at[0] == '\t')
        return refuse(scan, "A header line starts with white space.");
    struct str name = {line.at, span(line, TOKEN)};
    if (name.len == 0 || name.len == line.len || line.at[name.len] != ':')
        return refuse(scan, "A header line must start with a name and a colon.");
    struct str value = {name.at + name.len + 1, line.len - name.len - 1};
    if (span(value, VALUE) != value.len)
        return refuse(scan, "A header has a control character in its value.");
    value = str_trim(value);
    add_field(scan, bytes, name, value);
    return read_known_field(scan, name, value);
}

static bool check_whole(struct head_scan *scan)
{
    if (!scan->has_request_line)
        return refuse(scan, "The request line is missing.");
    if (scan->minor_version == 1 && !scan->has_host)
        return refuse(scan, "The Host header is missing.");
    if (scan->chunked && scan->has_length)
        return refuse(scan, "Content-Length and Transfer-Encoding exclude each other.");
    if (scan->chunked && scan->minor_version == 0)
        return refuse(scan, "HTTP/1.0 knows no Transfer-Encoding.");
    return true;
}

static enum head_verdict too_large(struct head_scan *scan, const char *detail)
{
    scan->detail = detail;
    return HEAD_TOO_LARGE;
}

/* One line without its CRLF. */
static enum head_verdict read_line(struct head_scan *scan, const char *bytes, struct str line)
{
    bool good;
    if (line.len == 0) {
        /* RFC 9112 2.2: one empty line before the request line is ignored. */
        if (!scan->has_request_line && !scan->skipped_empty_line) {
            scan->skipped_empty_line = true;
            return HEAD_INCOMPLETE;
        }
        return check_whole(scan) ? HEAD_COMPLETE : HEAD_REFUSED;
    }
    if (!scan->has_request_line)
        good = read_request_line(scan, bytes, line);
    else if (scan->fields_count == HEAD_MAX_FIELDS)
        return too_large(scan, "The request has more than 100 headers.");
    else
        good = read_field_line(scan, bytes, line);
    return good ? HEAD_INCOMPLETE : HEAD_REFUSED;
}

/* What can't become a request, like the first bytes of TLS, is not waited for. */
static enum head_verdict check_unfinished(struct head_scan *scan, const char *bytes, size_t len)
{
    bool first = scan->line_at < len && !scan->has_request_line;
    uint8_t byte = first ? (uint8_t)bytes[scan->line_at] : 0;
    if (first && byte != '\r' && !(classes[byte] & TOKEN)) {
        scan->detail = "The request line must start with a method and one space.";
        return HEAD_REFUSED;
    }
    if (len >= scan->max_bytes)
        return too_large(scan, "The request line and headers are too long.");
    return HEAD_INCOMPLETE;
}

enum head_verdict head_scan(struct head_scan *scan, const char *bytes, size_t len)
{
    const char *end;
    while (scan->searched < len &&
           (end = memchr(bytes + scan->searched, '\n', len - scan->searched))) {
        struct str line = {bytes + scan->line_at, (size_t)(end - bytes) - scan->line_at};
        scan->line_at = scan->searched = (size_t)(end - bytes) + 1;
        if (scan->line_at > scan->max_bytes)
            return too_large(scan, "The request line and headers are too long.");
        if (line.len == 0 || line.at[line.len - 1] != '\r') {
            scan->detail = "A line of the head ends in a bare line feed.";
            return HEAD_REFUSED;
        }
        line.len--;
        enum head_verdict verdict = read_line(scan, bytes, line);
        scan->len = scan->line_at;
        if (verdict != HEAD_INCOMPLETE)
            return verdict;
    }
    scan->searched = len;
    return check_unfinished(scan, bytes, len);
}

void head_scan_reset(struct head_scan *scan)
{
    *scan = (struct head_scan){
        .max_bytes = scan->max_bytes,
        .fields = scan->fields,
        .fields_cap = scan->fields_cap,
    };
}

void head_scan_free(struct head_scan *scan)
{
    free(scan->fields);
    *scan = (struct head_scan){.max_bytes = scan->max_bytes};
}
