#include "shared/http/request_parser.h"

#include "shared/base/xalloc.h"

#include <stdlib.h>

enum { KEEP_BYTES = 16 * 1024 };

static enum request_verdict refuse(struct request_parser *parser, enum api_error reason,
                                   const char *detail)
{
    parser->reason = reason;
    parser->detail = detail;
    return REQUEST_REFUSED;
}

static struct request_parser *parser_of(llhttp_t *second)
{
    return second->data;
}

static int on_head(llhttp_t *second)
{
    parser_of(second)->second_saw_head = true;
    /* No other protocol is spoken here, so an Upgrade header means nothing. */
    second->upgrade = 0;
    return 0;
}

static int on_body(llhttp_t *second, const char *at, size_t len)
{
    buf_append(&parser_of(second)->body, at, len);
    return 0;
}

static int on_end(llhttp_t *second)
{
    parser_of(second)->second_saw_end = true;
    return 0;
}

static const llhttp_settings_t settings = {
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_end,
};

void request_parser_begin(struct request_parser *parser, int64_t began_us)
{
    head_scan_reset(&parser->scan);
    parser->chunks = (struct chunk_scan){.max_bytes = parser->max_body};
    parser->request = (struct http_request){
        .began_us = began_us,
        .client_ip = parser->request.client_ip,
    };
    parser->keep_alive = parser->expects_continue = parser->whole = false;
    parser->second_saw_head = parser->second_saw_end = false;
    buf_clear(&parser->head);
    buf_clear(&parser->body);
    llhttp_init(&parser->second, HTTP_REQUEST, &settings);
    parser->second.data = parser;
}

static bool second_agrees_on_head(struct request_parser *parser, struct str head)
{
    const struct head_scan *scan = &parser->scan;
    const llhttp_t *second = &parser->second;
    if (llhttp_execute(&parser->second, head.at, head.len) != HPE_OK || !parser->second_saw_head)
        return false;
    return second->http_minor == scan->minor_version &&
           scan->chunked == ((second->flags & F_CHUNKED) != 0) &&
           scan->content_length == second->content_length &&
           parser->second_saw_end == (!scan->chunked && scan->content_length == 0);
}

static struct str slice(const struct request_parser *parser, struct head_slice slice)
{
    return (struct str){parser->head.data + slice.at, slice.len};
}

static void lower(struct buf *head, struct head_slice name)
{
    char *at = head->data + name.at;
    for (size_t i = 0; i < name.len; i++)
        if (at[i] >= 'A' && at[i] <= 'Z')
            at[i] = (char)(at[i] | 0x20);
}

static void set_headers(struct request_parser *parser)
{
    const struct head_scan *scan = &parser->scan;
    if (scan->fields_count > parser->headers_cap) {
        parser->headers_cap = scan->fields_cap;
        parser->headers = xrealloc(parser->headers, parser->headers_cap * sizeof *parser->headers);
    }
    for (size_t i = 0; i < scan->fields_count; i++) {
        lower(&parser->head, scan->fields[i].name);
        parser->headers[i].name = slice(parser, scan->fields[i].name);
        parser->headers[i].value = slice(parser, scan->fields[i].value);
    }
    parser->request.headers = parser->headers;
    parser->request.headers_count = scan->fields_count;
}

static void set_request(struct request_parser *parser)
{
    const struct head_scan *scan = &parser->scan;
    struct http_request *request = &parser->request;
    request->method = slice(parser, scan->method);
    request->target = slice(parser, scan->target);
    request->path = (struct str){request->target.at, scan->path_len};
    request->query = STR_ABSENT;
    if (scan->path_len < request->target.len)
        request->query = (struct str){request->target.at + scan->path_len + 1,
                                      request->target.len - scan->path_len - 1};
    request->minor_version = scan->minor_version;
    request->has_body = scan->has_length || scan->chunked;
    request->bytes_in = scan->len;
    set_headers(parser);
}

enum request_verdict request_parser_head(struct request_parser *parser, struct str *bytes)
{
    struct head_scan *scan = &parser->scan;
    enum head_verdict verdict = head_scan(scan, bytes->at, bytes->len);
    if (verdict == HEAD_INCOMPLETE)
        return REQUEST_INCOMPLETE;
    if (verdict == HEAD_TOO_LARGE)
        return refuse(parser, API_headers_too_large, scan->detail);
    if (verdict == HEAD_REFUSED)
        return refuse(parser, API_bad_http, scan->detail);
    struct str head = {bytes->at, scan->len};
    if (!second_agrees_on_head(parser, head))
        return refuse(parser, API_bad_http, "The request's head is not valid.");
    buf_str(&parser->head, head);
    bytes->at += head.len;
    bytes->len -= head.len;
    set_request(parser);
    parser->whole = !scan->chunked && scan->content_length == 0;
    parser->body_left = scan->content_length;
    /* RFC 9112 9.3: 1.1 stays unless told otherwise, 1.0 the other way round. */
    parser->keep_alive = !scan->asks_close && (scan->minor_version == 1 || scan->asks_keep_alive);
    /* RFC 9110 10.1.1: of 1.0 clients it is ignored. */
    parser->expects_continue = scan->expects_continue && scan->minor_version == 1 && !parser->whole;
    return REQUEST_COMPLETE;
}

static enum request_verdict complete_body(struct request_parser *parser)
{
    parser->whole = true;
    parser->request.body = buf_view(&parser->body);
    return REQUEST_COMPLETE;
}

enum request_verdict request_parser_start_body(struct request_parser *parser)
{
    if (parser->body_left > parser->max_body)
        return refuse(parser, API_body_too_large, "The Content-Length is above the limit.");
    return parser->whole ? complete_body(parser) : REQUEST_INCOMPLETE;
}

/* How many of the bytes belong to the body, and whether it ends with them. */
static enum request_verdict frame_body(struct request_parser *parser, struct str bytes,
                                       size_t *used)
{
    if (!parser->scan.chunked) {
        *used = parser->body_left < bytes.len ? (size_t)parser->body_left : bytes.len;
        parser->body_left -= *used;
        return parser->body_left == 0 ? REQUEST_COMPLETE : REQUEST_INCOMPLETE;
    }
    switch (chunk_scan(&parser->chunks, bytes.at, bytes.len, used)) {
    case CHUNK_INCOMPLETE:
        return REQUEST_INCOMPLETE;
    case CHUNK_COMPLETE:
        return REQUEST_COMPLETE;
    case CHUNK_TOO_LARGE:
        return refuse(parser, API_body_too_large, "The chunks are above the limit together.");
    case CHUNK_REFUSED:
        break;
    }
    return refuse(parser, API_bad_http, parser->chunks.detail);
}

enum request_verdict request_parser_body(struct request_parser *parser, struct str *bytes)
{
    size_t used = 0;
    enum request_verdict verdict = frame_body(parser, *bytes, &used);
    if (verdict == REQUEST_REFUSED)
        return verdict;
    bool sane = llhttp_execute(&parser->second, bytes->at, used) == HPE_OK;
    if (!sane || parser->second_saw_end != (verdict == REQUEST_COMPLETE))
        return refuse(parser, API_bad_http, "The request's body is not framed as HTTP/1.1 asks.");
    bytes->at += used;
    bytes->len -= used;
    parser->request.bytes_in += used;
    return verdict == REQUEST_COMPLETE ? complete_body(parser) : verdict;
}

void request_parser_shrink(struct request_parser *parser)
{
    if (parser->head.cap > KEEP_BYTES)
        buf_free(&parser->head);
    if (parser->body.cap > KEEP_BYTES)
        buf_free(&parser->body);
}

void request_parser_free(struct request_parser *parser)
{
    head_scan_free(&parser->scan);
    buf_free(&parser->head);
    buf_free(&parser->body);
    free(parser->headers);
    parser->headers = NULL;
    parser->headers_cap = 0;
}
