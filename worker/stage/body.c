/* The body: its media type, its bytes, its JSON. */
#include "worker/stage/stage.h"

#include "shared/base/clock.h"

/* application/json, with no charset but UTF-8 (RFC 8259 section 8.1). */
static bool is_json(struct str content_type)
{
    struct str rest = content_type;
    if (!str_eq_nocase(str_trim(str_split(&rest, ';')), STR("application/json")))
        return false;
    while (rest.at) {
        struct str value = str_trim(str_split(&rest, ';'));
        struct str name = str_split(&value, '=');
        if (!str_eq_nocase(name, STR("charset")))
            continue;
        if (!str_eq_nocase(value, STR("utf-8")) && !str_eq_nocase(value, STR("\"utf-8\"")))
            return false;
    }
    return true;
}

enum stage_result stage_body_read(struct exchange *ex)
{
    struct str content_type = http_header(ex->request, "content-type");
    if (http_header_count(ex->request, "content-type") != 1 || !is_json(content_type))
        return exchange_fail(ex, API_unsupported_media_type,
                             "The body must be sent as Content-Type: application/json, in UTF-8.");
    struct str coding = http_header(ex->request, "content-encoding");
    if (coding.len && !str_eq_nocase(coding, STR("identity")))
        return exchange_fail(ex, API_unsupported_media_type,
                             "The body must be sent as it is, without a Content-Encoding.");
    ex->body_began_us = clock_now_us();
    http_read_body(ex->connection);
    return STAGE_WAIT;
}

enum stage_result stage_body_parse(struct exchange *ex)
{
    struct error error;
    ex->body_ended_us = clock_now_us();
    ex->bytes_in = ex->request->bytes_in;
    if (!json_read(ex->request->body, &ex->body, &error))
        return exchange_fail(ex, API_invalid_json, "The body is not valid JSON: %s.",
                             error.message);
    if (!json_object_is_type(ex->body, json_type_object))
        return exchange_fail(ex, API_invalid_request, "The body must be a JSON object.");
    return STAGE_NEXT;
}
