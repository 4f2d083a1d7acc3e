#include "shared/http/response.h"

#include "shared/base/clock.h"

#include <stdio.h>
#include <time.h>

/* The IANA registry's phrases for what this gateway and its tests answer. */
const char *http_reason(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 204:
        return "No Content";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 410:
        return "Gone";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 422:
        return "Unprocessable Content";
    case 429:
        return "Too Many Requests";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 502:
        return "Bad Gateway";
    case 503:
        return "Service Unavailable";
    case 504:
        return "Gateway Timeout";
    default:
        return "Status";
    }
}

/* IMF-fixdate (RFC 9110 5.6.7), made once per second; strftime would follow the locale. */
static struct str date_line(void)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    static char line[64];
    static struct str made;
    static int64_t made_for = -1;
    int64_t now = clock_wall_ms() / 1000;
    if (now == made_for)
        return made;
    time_t seconds = (time_t)now;
    struct tm t;
    if (!gmtime_r(&seconds, &t))
        return STR("");
    int len = snprintf(line, sizeof line, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
                       days[t.tm_wday], t.tm_mday, months[t.tm_mon], t.tm_year + 1900, t.tm_hour,
                       t.tm_min, t.tm_sec);
    made = (struct str){line, (size_t)len};
    made_for = now;
    return made;
}

static void write_connection(struct buf *out, const struct response_frame *frame)
{
    enum { EARLIER_S = 5 }; /* so that a client never races a closing connection */
    if (frame->close) {
        buf_str(out, STR("Connection: close\r\n"));
        return;
    }
    if (frame->old_client)
        buf_str(out, STR("Connection: keep-alive\r\n"));
    int64_t seconds = frame->idle_timeout_ms / 1000 - EARLIER_S;
    buf_str(out, STR("Keep-Alive: timeout="));
    buf_i64(out, seconds > 1 ? seconds : 1);
    buf_str(out, STR("\r\n"));
}

static void write_length(struct buf *out, size_t length, enum response_length how)
{
    if (how == LENGTH_CHUNKED)
        buf_str(out, STR("Transfer-Encoding: chunked\r\n"));
    if (how != LENGTH_KNOWN)
        return;
    buf_str(out, STR("Content-Length: "));
    buf_u64(out, length);
    buf_str(out, STR("\r\n"));
}

void response_write(struct buf *out, const struct http_response *response,
                    const struct response_frame *frame)
{
    /* RFC 9110 15.3.5, 15.4.5: these never have content; 8.6: 204 has no Content-Length, and for
     * 304 it would be the other answer's. */
    bool bare = response->status == 204 || response->status == 304;
    bool no_body = bare || frame->head_only || frame->length != LENGTH_KNOWN;
    struct str body = no_body ? STR("") : response->body;
    buf_reserve(out, 256 + response->headers.len + body.len);
    buf_str(out, STR("HTTP/1.1 "));
    buf_i64(out, response->status);
    buf_putc(out, ' ');
    buf_puts(out, http_reason(response->status));
    buf_str(out, STR("\r\n"));
    buf_str(out, date_line());
    write_connection(out, frame);
    if (!bare)
        write_length(out, response->body.len, frame->length);
    buf_str(out, response->headers);
    buf_str(out, STR("\r\n"));
    buf_str(out, body);
}

void response_write_chunk(struct buf *out, struct str piece)
{
    buf_printf(out, "%zx\r\n", piece.len);
    buf_str(out, piece);
    buf_str(out, STR("\r\n"));
}
