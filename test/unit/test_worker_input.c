#include "test/unit/worker_gateway.h"

#define PROVIDER_ANSWER                                                                            \
    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 67\r\n\r\n"              \
    "{\"choices\":[{\"message\":{\"content\":\"fine\"},\"finish_reason\":\"stop\"}]}"

static int set_up(void **state)
{
    if (gateway_setup(state) != 0)
        return -1;
    ((struct gateway *)*state)->mock.answer = STR(PROVIDER_ANSWER);
    return 0;
}

/* What the provider got is model gpt-x, these messages, and what follows. */
static void expect_sent(struct gateway *g, const char *messages, const char *rest)
{
    struct buf expected = {0};
    expect_ok(g);
    expect_text(only_row(g).status, "ok");
    buf_printf(&expected, "{\"model\":\"gpt-x\",\"messages\":%s%s}", messages, rest);
    const char *sent = strstr(buf_cstr(&g->mock.request), "\r\n\r\n") + 4;
    assert_string_equal(sent, buf_cstr(&expected));
    buf_free(&expected);
}

static void send_to(struct gateway *g, const char *slug, const char *body, const char *messages)
{
    ask_endpoint(g, slug, body);
    expect_sent(g, messages, "");
}

static void expect_refused(struct gateway *g, const char *slug, const char *body, int status,
                           const char *code, const char *param)
{
    unsigned requests = g->mock.requests;
    ask_endpoint(g, slug, body);
    expect_error_row(g, status, code, param);
    expect_no_row(g);
    assert_int_equal(g->mock.requests, requests); /* nothing went up */
}

/* --- the body --- */

static void media_types(void **state)
{
    struct gateway *g = *state;
    static const char *const good[] = {
        "application/json", "Application/JSON", "application/json;charset=utf-8",
        "application/json; charset=\"UTF-8\"", "application/json; profile=x; charset=utf-8"};
    static const char *const bad[] = {"",
                                      "Content-Type: text/plain\r\n",
                                      "Content-Type: application/jsonx\r\n",
                                      "Content-Type: application/json; charset=latin1\r\n",
                                      "Content-Type: application/x-www-form-urlencoded\r\n",
                                      JSON_TYPE JSON_TYPE,
                                      JSON_TYPE "Content-Encoding: gzip\r\n",
                                      JSON_TYPE "Content-Encoding: identity, br\r\n"};
    char headers[256];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        snprintf(headers, sizeof headers, BEARER("g") "Content-Type: %s\r\n", good[i]);
        ask(g, "/api/" DEMO "/echo", headers, "{\"message\":\"x\"}");
        expect_ok(g);
        only_row(g);
    }
    ask(g, "/api/" DEMO "/echo", BEARER("g") JSON_TYPE "Content-Encoding: Identity\r\n",
        "{\"message\":\"x\"}");
    expect_ok(g);
    only_row(g);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        snprintf(headers, sizeof headers, BEARER("g") "%s", bad[i]);
        ask(g, "/api/" DEMO "/echo", headers, "{\"message\":\"x\"}");
        expect_error_row(g, 415, "unsupported_media_type", NULL);
    }
    expect_no_row(g);
}

static void bodies_that_are_not_json(void **state)
{
    static const char *const bodies[] = {"",
                                         "{",
                                         "{\"message\":\"x\"} x",
                                         "{\"a\":1,\"a\":2}",
                                         "{'message':'x'}",
                                         "{\"n\":NaN}",
                                         "\xFF",
                                         "{\"message\":x}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        expect_refused(*state, "net", bodies[i], 400, "invalid_json", NULL);
}

static void bodies_that_are_no_object(void **state)
{
    static const char *const bodies[] = {"[]", "null", "\"x\"", "7", "true"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        expect_refused(*state, "net", bodies[i], 400, "invalid_request", NULL);
}

static void body_too_large(void **state)
{
    struct gateway *g = *state;
    gateway_send(g, STR("POST /api/" DEMO "/echo HTTP/1.1\r\nHost: x\r\n" GOOD
                        "Content-Length: 100001\r\n\r\n"));
    gateway_await_answer(g);
    expect_error_row(g, 413, "body_too_large", NULL);
    expect_no_row(g);
}

static void body_in_chunks(void **state)
{
    struct gateway *g = *state;
    gateway_send(g, STR("POST /api/" DEMO "/echo HTTP/1.1\r\nHost: x\r\n" GOOD
                        "Transfer-Encoding: chunked\r\n\r\n8\r\n{\"messag\r\n8\r\ne\":\"hi\"}\r\n"
                        "0\r\n\r\n"));
    gateway_await_answer(g);
    expect_ok(g);
    assert_string_equal(at(g, "content"), "\"hi\"");
    only_row(g);
}

/* --- which member is the conversation --- */

static void messages_go_up_as_they_are(void **state)
{
    const char *messages = "[{\"role\":\"developer\",\"content\":\"D\"},"
                           "{\"role\":\"user\",\"content\":\"a\",\"name\":\"n\"},"
                           "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c\","
                           "\"type\":\"function\","
                           "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
                           "{\"role\":\"assistant\"},"
                           "{\"role\":\"tool\",\"tool_call_id\":\"c\",\"content\":\"1.10\"},"
                           "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"b\"},{"
                           "\"type\":\"image_url\","
                           "\"image_url\":{\"url\":\"data:,\",\"detail\":\"low\"}},{\"type\":"
                           "\"file\",\"file\":{\"file_id\":\"f\"}}]"
                           "}]";
    struct buf body = {0};
    buf_printf(&body, "{\"messages\":%s}", messages);
    send_to(*state, "net", buf_cstr(&body), messages);
    buf_free(&body);
}

static void message_and_input(void **state)
{
    send_to(*state, "net", "{\"message\":\"Hi \\\"you\\\"\"}",
            "[{\"role\":\"user\",\"content\":\"Hi \\\"you\\\"\"}]");
    send_to(*state, "net", "{\"message\":\"\"}", "[{\"role\":\"user\",\"content\":\"\"}]");
    send_to(*state, "net", "{\"input\":\"text\"}", "[{\"role\":\"user\",\"content\":\"text\"}]");
    send_to(
        *state, "net", "{\"input\": {\"a\": [1.50, 12345678901234567890123, null]} }",
        "[{\"role\":\"user\",\"content\":\"{\\\"a\\\":[1.50,12345678901234567890123,null]}\"}]");
    send_to(*state, "net", "{\"input\":null}", "[{\"role\":\"user\",\"content\":\"null\"}]");
    send_to(*state, "net", "{\"input\":false}", "[{\"role\":\"user\",\"content\":\"false\"}]");
}

static void the_first_of_them_counts(void **state)
{
    struct gateway *g = *state;
    ask_endpoint(g, "net",
                 "{\"input\":\"i\",\"message\":\"m\",\"messages\":[{\"role\":\"user\","
                 "\"content\":\"ms\"}]}");
    assert_string_equal(at(g, "meta.ignored"), "[\"input\",\"message\"]");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"ms\"}]", "");
    ask_endpoint(g, "net", "{\"input\":\"i\",\"message\":\"m\",\"messages\":null}");
    assert_string_equal(at(g, "meta.ignored"), "[\"input\",\"messages\"]");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"m\"}]", "");
}

static void nothing_to_say(void **state)
{
    expect_refused(*state, "net", "{}", 400, "input_missing", NULL);
    expect_refused(*state, "net", "{\"text\":\"x\"}", 400, "input_missing", NULL);
    expect_refused(*state, "net", "{\"message\":null}", 400, "input_missing", NULL);
    expect_refused(*state, "pinned", "{}", 400, "input_missing", NULL);
    expect_refused(*state, "pinned", "{\"model\":\"x\",\"seed\":1}", 400, "input_missing", NULL);
    expect_refused(*state, "pinned", "{\"messages\":[{\"role\":\"assistant\",\"content\":\"x\"}]}",
                   400, "input_missing", "messages");
}

static void malformed_conversations(void **state)
{
    static const struct {
        const char *body, *param;
    } bad[] = {
        {"{\"messages\":[]}", "messages"},
        {"{\"messages\":\"x\"}", "messages"},
        {"{\"messages\":{}}", "messages"},
        {"{\"messages\":[\"x\"]}", "messages[0]"},
        {"{\"messages\":[null]}", "messages[0]"},
        {"{\"messages\":[{\"content\":\"x\"}]}", "messages[0].role"},
        {"{\"messages\":[{\"role\":\"User\",\"content\":\"x\"}]}", "messages[0].role"},
        {"{\"messages\":[{\"role\":7,\"content\":\"x\"}]}", "messages[0].role"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"bot\"}]}",
         "messages[1].role"},
        {"{\"messages\":[{\"role\":\"user\"}]}", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":7}]}", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":{}}]}", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"assistant\",\"content\":7}]}", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"tool\",\"tool_call_id\":\"c\"}]}", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"tool\",\"content\":\"x\"}]}", "messages[0].tool_call_id"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[]}]}", "messages[0].content"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[\"x\"]}]}", "messages[0].content[0]"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"\"},{}]}]}",
         "messages[0].content[1].type"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"video\"}]}]}",
         "messages[0].content[0].type"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":7}]}]}",
         "messages[0].content[0].text"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":"
         "\"x\"}]}]}",
         "messages[0].content[0].image_url"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\",\"image_url\":{}}]"
         "}]}",
         "messages[0].content[0].image_url.url"},
        {"{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"input_audio\",\"input_audio\":"
         "{}}]}]}",
         "messages[0].content[0].input_audio.data"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":{}}]}", "messages[0].tool_calls"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[7]}]}",
         "messages[0].tool_calls[0]"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"function\":{}}]}]}",
         "messages[0].tool_calls[0].id"},
        {"{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{\"id\":\"c\",\"function\":{"
         "\"name\":\"f\"}}]}]}",
         "messages[0].tool_calls[0].function.arguments"},
        {"{\"message\":7}", "message"},
        {"{\"message\":[\"x\"],\"input\":\"x\"}", "message"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        expect_refused(*state, "net", bad[i].body, 400, "invalid_request", bad[i].param);
}

/* --- control members --- */

static void streams(void **state)
{
    struct gateway *g = *state;
    expect_refused(g, "net", "{\"message\":\"x\",\"stream\":true}", 422, "streaming_disabled",
                   "stream");
    expect_refused(g, "net", "{\"message\":\"x\",\"stream\":\"yes\"}", 400, "invalid_request",
                   "stream");
    ask_endpoint(g, "net", "{\"message\":\"x\",\"stream\":false,\"stream_options\":{}}");
    assert_string_equal(at(g, "meta.ignored"), "[]");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"x\"}]", "");
}

static void sessions(void **state)
{
    struct gateway *g = *state;
    expect_refused(g, "net", "{\"message\":\"x\",\"session_id\":\"y\"}", 422,
                   "parameter_unsupported", "session_id");
    send_to(g, "net", "{\"message\":\"x\",\"session_id\":null}",
            "[{\"role\":\"user\",\"content\":\"x\"}]");
    ask(g, "/api/" DEMO "/net", GOOD "X-Session-Id: y\r\n", "{\"message\":\"x\"}");
    expect_error_row(g, 422, "parameter_unsupported", "session_id");
}

static void variables(void **state)
{
    struct gateway *g = *state;
    send_to(g, "net", "{\"message\":\"x\",\"variables\":{}}",
            "[{\"role\":\"user\",\"content\":\"x\"}]");
    expect_refused(g, "net", "{\"message\":\"x\",\"variables\":[]}", 400, "invalid_request",
                   "variables");
    expect_refused(g, "net", "{\"message\":\"x\",\"variables\":{\"tone\":\"secret\",\"b\":1}}", 422,
                   "variables_invalid", "variables");
    assert_string_equal(at(g, "error.details.0.path"), "\"/variables/tone\"");
    assert_string_equal(at(g, "error.details.0.keyword"), "\"unknown\"");
    assert_string_equal(at(g, "error.details.1.path"), "\"/variables/b\"");
    assert_string_equal(at(g, "error.details.2"), "null");
    assert_null(strstr(g->answer.body, "secret")); /* values are never echoed */
}

/* RFC 6901: a path of names that hold its own separators. */
static void paths_are_json_pointers(void **state)
{
    struct gateway *g = *state;
    expect_refused(g, "net", "{\"message\":\"x\",\"variables\":{\"a/b~c\":1}}", 422,
                   "variables_invalid", "variables");
    assert_string_equal(at(g, "error.details.0.path"), "\"/variables/a~1b~0c\"");
}

static void not_all_of_very_many_errors(void **state)
{
    struct gateway *g = *state;
    struct buf body = {0};
    buf_puts(&body, "{\"message\":\"x\",\"variables\":{\"v\":0");
    for (int i = 0; i < 5000; i++)
        buf_printf(&body, ",\"v%d\":0", i);
    buf_puts(&body, "}}");
    expect_refused(g, "net", buf_cstr(&body), 422, "variables_invalid", "variables");
    assert_true(g->answer.bytes.len < 20000);
    buf_free(&body);
}

/* --- client parameters --- */

static void parameters_go_up(void **state)
{
    struct gateway *g = *state;
    ask_endpoint(g, "net",
                 "{\"message\":\"x\",\"user\":\"u\",\"tool_choice\":{\"type\":\"none\"},"
                 "\"tools\":[{\"a\":1.10}],\"seed\":-3,\"stop\":[\"a\"],\"max_tokens\":7}");
    assert_string_equal(at(g, "meta.ignored"), "[]");
    expect_sent(
        g, "[{\"role\":\"user\",\"content\":\"x\"}]",
        ",\"max_completion_tokens\":7,\"stop\":[\"a\"],\"seed\":-3,\"tools\":[{\"a\":1.10}],"
        "\"tool_choice\":{\"type\":\"none\"},\"user\":\"u\"");
    ask_endpoint(g, "net", "{\"message\":\"x\",\"stop\":\"z\",\"seed\":null,\"max_tokens\":null}");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"x\"}]", ",\"stop\":\"z\"");
}

static void malformed_parameters(void **state)
{
    static const struct {
        const char *member, *param;
    } bad[] = {
        {"\"max_tokens\":0", "max_tokens"},
        {"\"max_tokens\":-1", "max_tokens"},
        {"\"max_tokens\":\"7\"", "max_tokens"},
        {"\"max_tokens\":1.5", "max_tokens"},
        {"\"max_tokens\":99999999999999999999", "max_tokens"},
        {"\"max_completion_tokens\":0", "max_completion_tokens"},
        {"\"stop\":7", "stop"},
        {"\"stop\":[]", "stop"},
        {"\"stop\":[\"a\",7]", "stop"},
        {"\"seed\":\"1\"", "seed"},
        {"\"seed\":1.5", "seed"},
        {"\"tools\":{}", "tools"},
        {"\"user\":7", "user"},
        {"\"n\":0", "n"},
        {"\"n\":\"2\"", "n"},
        {"\"n\":1.5", "n"},
        {"\"n\":2", "n"},
    };
    char body[128];
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool is_more = strcmp(bad[i].member, "\"n\":2") == 0;
        snprintf(body, sizeof body, "{\"message\":\"x\",%s}", bad[i].member);
        expect_refused(*state, "net", body, is_more ? 422 : 400,
                       is_more ? "parameter_unsupported" : "invalid_request", bad[i].param);
    }
}

/* contract: max_tokens may only lower the endpoint's. */
static void max_tokens_and_the_ceiling(void **state)
{
    struct gateway *g = *state;
    static const struct {
        const char *members, *sent, *ignored;
    } cases[] = {
        {"", "100", "[]"},
        {",\"max_tokens\":40", "40", "[]"},
        {",\"max_tokens\":100", "100", "[]"},
        {",\"max_tokens\":101", "100", "[\"max_tokens\"]"},
        {",\"max_completion_tokens\":40", "40", "[]"},
        {",\"max_completion_tokens\":4000", "100", "[\"max_completion_tokens\"]"},
        {",\"max_tokens\":50,\"max_completion_tokens\":60", "50", "[]"},
        {",\"max_tokens\":60,\"max_completion_tokens\":50", "50", "[]"},
    };
    char body[128], rest[64];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(body, sizeof body, "{\"message\":\"x\"%s}", cases[i].members);
        snprintf(rest, sizeof rest, ",\"max_completion_tokens\":%s", cases[i].sent);
        ask_endpoint(g, "capped", body);
        assert_string_equal(at(g, "meta.ignored"), cases[i].ignored);
        expect_sent(g, "[{\"role\":\"user\",\"content\":\"x\"}]", rest);
    }
}

static void what_is_not_used_is_named(void **state)
{
    struct gateway *g = *state;
    ask_endpoint(g, "net",
                 "{\"temperature\":1,\"model\":\"gpt-9\",\"message\":\"x\",\"top_p\":0.5,"
                 "\"endpoint\":\"y\",\"response_format\":{},\"n\":1,\"own\":null}");
    assert_string_equal(at(g, "meta.ignored"),
                        "[\"temperature\",\"model\",\"top_p\",\"endpoint\",\"response_format\","
                        "\"own\"]");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"x\"}]", "");
    dispatch(g, "{\"model\":\"net\",\"message\":\"x\",\"temperature\":1}");
    assert_string_equal(at(g, "meta.ignored"), "[\"temperature\"]");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"x\"}]", "");
}

/* "lacks: … # dropped before sending, named in meta.ignored" */
static void what_the_model_lacks_is_not_sent(void **state)
{
    struct gateway *g = *state;
    static const struct {
        const char *members, *messages, *sent, *ignored;
    } cases[] = {
        {"", NULL, "", "[\"temperature\"]"},
        {",\"temperature\":1,\"stop\":\"x\",\"seed\":1", NULL, ",\"seed\":1",
         "[\"stop\",\"temperature\"]"},
        {",\"max_tokens\":60", NULL, "", "[\"temperature\",\"max_tokens\"]"},
        {",\"max_completion_tokens\":600", NULL, "", "[\"max_completion_tokens\",\"temperature\"]"},
        {",\"tool_choice\":\"auto\"", NULL, ",\"tool_choice\":\"auto\"", "[\"temperature\"]"},
        {",\"tool_choice\":\"none\"", NULL, ",\"tool_choice\":\"none\"", "[\"temperature\"]"},
        {",\"tool_choice\":\"required\"", NULL, "", "[\"temperature\",\"tool_choice\"]"},
        {",\"tool_choice\":{\"type\":\"function\"}", NULL, "", "[\"temperature\",\"tool_choice\"]"},
        {"", ",{\"role\":\"assistant\",\"content\":\"Once\"}", "", "[\"temperature\",\"prefill\"]"},
    };
    const char *user = "{\"role\":\"user\",\"content\":\"x\"}";
    char body[256], rest[128], messages[128];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *more = cases[i].messages ? cases[i].messages : "";
        snprintf(body, sizeof body, "{\"messages\":[%s%s]%s}", user, more, cases[i].members);
        snprintf(messages, sizeof messages, "[%s]", user);
        snprintf(rest, sizeof rest, ",\"top_p\":0.5,\"max_completion_tokens\":50%s", cases[i].sent);
        ask_endpoint(g, "picky", body);
        assert_string_equal(at(g, "meta.ignored"), cases[i].ignored);
        expect_sent(g, messages, rest);
    }
    ask_endpoint(g, "picky", "{\"message\":\"x\",\"max_tokens\":20}");
    assert_string_equal(at(g, "meta.ignored"), "[\"temperature\"]");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"x\"}]",
                ",\"top_p\":0.5,\"max_completion_tokens\":20");
}

/* A stranger's body may have as many members as fit into it. */
static void very_many_members(void **state)
{
    struct gateway *g = *state;
    struct buf body = {0};
    buf_puts(&body, "{\"message\":\"x\"");
    for (int i = 0; i < 9000; i++)
        buf_printf(&body, ",\"%d\":0", i);
    buf_puts(&body, "}");
    ask_endpoint(g, "echo", buf_cstr(&body));
    expect_ok(g);
    assert_string_equal(at(g, "meta.ignored.8999"), "\"8999\"");
    only_row(g);
    buf_free(&body);
}

/* --- prompts --- */

static void pinned_prompts(void **state)
{
    send_to(*state, "pinned", "{\"message\":\"cats\"}",
            "[{\"role\":\"system\",\"content\":\"Be brief about cats.\"},"
            "{\"role\":\"user\",\"content\":\"<cats>\"}]");
    send_to(*state, "system", "{\"message\":\"cats\"}",
            "[{\"role\":\"system\",\"content\":\"Be brief.\"},"
            "{\"role\":\"user\",\"content\":\"cats\"}]");
}

static void user_prompt_replaces_the_last_user_message(void **state)
{
    send_to(*state, "pinned",
            "{\"messages\":[{\"role\":\"user\",\"content\":\"first\"},"
            "{\"role\":\"assistant\",\"content\":\"yes\"},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"la\"},"
            "{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}},"
            "{\"type\":\"text\",\"text\":\"st\"}],\"name\":\"n\"},"
            "{\"role\":\"assistant\",\"content\":\"go on\"}]}",
            "[{\"role\":\"system\",\"content\":\"Be brief about last.\"},"
            "{\"role\":\"user\",\"content\":\"first\"},"
            "{\"role\":\"assistant\",\"content\":\"yes\"},"
            "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"<last>\"},"
            "{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]},"
            "{\"role\":\"assistant\",\"content\":\"go on\"}]");
}

/* One pass: what a client writes is never a template. */
static void input_is_no_template(void **state)
{
    send_to(*state, "pinned", "{\"message\":\"{{input}}{{{{\"}",
            "[{\"role\":\"system\",\"content\":\"Be brief about {{input}}{{{{.\"},"
            "{\"role\":\"user\",\"content\":\"<{{input}}{{{{>\"}]");
}

static void payload_is_the_input(void **state)
{
    struct gateway *g = *state;
    ask_endpoint(g, "ticket",
                 "{\"title\":\"Fire\",\"tags\":[\"hot\",\"red\"],\"seed\":5,\"model\":\"m\"}");
    assert_string_equal(at(g, "meta.ignored"), "[\"model\"]");
    expect_sent(g, "[{\"role\":\"user\",\"content\":\"Fire: hot\"}]", ",\"seed\":5");
    send_to(g, "pinned", "{\"b\":1.0,\"a\":{}}",
            "[{\"role\":\"system\",\"content\":\"Be brief about {\\\"b\\\":1.0,\\\"a\\\":{}}.\"},"
            "{\"role\":\"user\",\"content\":\"<{\\\"b\\\":1.0,\\\"a\\\":{}}>\"}]");
    send_to(g, "ticket", "{\"input\":{\"title\":\"A\",\"tags\":[2]}}",
            "[{\"role\":\"user\",\"content\":\"A: 2\"}]");
    send_to(g, "ticket", "{\"message\":\"{\\\"title\\\":\\\"B\\\",\\\"tags\\\":[\\\"t\\\"]}\"}",
            "[{\"role\":\"user\",\"content\":\"B: t\"}]");
}

static void missing_template_values(void **state)
{
    struct gateway *g = *state;
    static const char *const bodies[] = {"{\"title\":\"x\"}", "{\"title\":\"x\",\"tags\":[]}",
                                         "{\"message\":\"text\"}", "{\"input\":null}",
                                         "{\"input\":[1]}"};
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
        expect_refused(g, "ticket", bodies[i], 422, "template_value_missing", NULL);
}

static void system_messages_beside_a_pinned_one(void **state)
{
    struct gateway *g = *state;
    expect_refused(g, "system",
                   "{\"messages\":[{\"role\":\"system\",\"content\":\"x\"},"
                   "{\"role\":\"user\",\"content\":\"y\"}]}",
                   422, "system_message_not_allowed", "messages[0].role");
    expect_refused(g, "pinned",
                   "{\"messages\":[{\"role\":\"user\",\"content\":\"y\"},"
                   "{\"role\":\"developer\",\"content\":\"x\"}]}",
                   422, "system_message_not_allowed", "messages[1].role");
    send_to(g, "net",
            "{\"messages\":[{\"role\":\"system\",\"content\":\"x\"},"
            "{\"role\":\"user\",\"content\":\"y\"}]}",
            "[{\"role\":\"system\",\"content\":\"x\"},{\"role\":\"user\",\"content\":\"y\"}]");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, gateway_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(media_types),
        TEST(bodies_that_are_not_json),
        TEST(bodies_that_are_no_object),
        TEST(body_too_large),
        TEST(body_in_chunks),
        TEST(messages_go_up_as_they_are),
        TEST(message_and_input),
        TEST(the_first_of_them_counts),
        TEST(nothing_to_say),
        TEST(malformed_conversations),
        TEST(streams),
        TEST(sessions),
        TEST(variables),
        TEST(paths_are_json_pointers),
        TEST(not_all_of_very_many_errors),
        TEST(parameters_go_up),
        TEST(malformed_parameters),
        TEST(max_tokens_and_the_ceiling),
        TEST(what_is_not_used_is_named),
        TEST(what_the_model_lacks_is_not_sent),
        TEST(very_many_members),
        TEST(pinned_prompts),
        TEST(user_prompt_replaces_the_last_user_message),
        TEST(input_is_no_template),
        TEST(payload_is_the_input),
        TEST(missing_template_values),
        TEST(system_messages_beside_a_pinned_one),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
