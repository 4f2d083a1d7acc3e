#include "test/unit/worker_gateway.h"

/* The provider's answer with this status and body. */
static void provider_says(struct gateway *g, int status, const char *body)
{
    static struct buf answer;
    buf_clear(&answer);
    buf_printf(&answer,
               "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
               status, strlen(body), body);
    g->mock.answer = buf_view(&answer);
}

/* --- good answers --- */

static void native_shape(void **state)
{
    struct gateway *g = *state;
    struct buf expected = {0};
    ask_endpoint(g, "echo", "{\"message\":\"Hello\",\"temperature\":1}");
    struct record row = only_row(g);
    char id[UUID_TEXT_LEN + 1], plain[64] = "", *end = plain;
    uuid_format(&row.request_id, id);
    for (const char *c = id; *c; c++)
        if (*c != '-')
            *end++ = *c;
    buf_printf(&expected,
               "{\"ok\":true,\"id\":\"chatcmpl-%s\",\"model\":\"echo\",\"content\":\"Hello\","
               "\"finish_reason\":\"stop\",\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":2,"
               "\"total_tokens\":4,\"prompt_tokens_details\":{\"cached_tokens\":0},"
               "\"completion_tokens_details\":{\"reasoning_tokens\":0}},\"meta\":{\"request_id\":"
               "\"%s\",\"endpoint\":\"echo\",\"provider\":\"echo\",\"attempts\":1,\"ignored\":"
               "[\"temperature\"]}}",
               plain, id);
    assert_string_equal(g->answer.body, buf_cstr(&expected));
    assert_true(has_line(g, "Content-Type: application/json"));
    assert_true(has_line(g, "Keep-Alive: timeout=15"));
    snprintf(plain, sizeof plain, "X-Request-Id: %s", id);
    assert_true(has_line(g, plain));
    assert_true(has_line(g, "Server-Timing: gateway;dur=0.000, upstream;dur=0.000"));
    buf_free(&expected);
}

static void openai_shape(void **state)
{
    struct gateway *g = *state;
    provider_says(g, 200,
                  "{\"id\":\"chatcmpl-7\",\"model\":\"gpt-x-2026\",\"choices\":[{\"message\":"
                  "{\"role\":\"assistant\",\"content\":null,\"refusal\":\"No.\",\"tool_calls\":"
                  "[{\"id\":\"c\",\"arguments\":1.10}]},\"finish_reason\":\"tool_calls\"}],"
                  "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":1},"
                  "\"completion_tokens_details\":{\"reasoning_tokens\":2}}}");
    dispatch(g, "{\"model\":\"net\",\"message\":\"x\"}");
    expect_ok(g);
    struct buf expected = {0};
    char id[UUID_TEXT_LEN + 1];
    struct record row = only_row(g);
    buf_printf(&expected,
               "{\"id\":\"chatcmpl-7\",\"object\":\"chat.completion\",\"created\":1795000000,"
               "\"model\":\"gpt-x-2026\",\"choices\":[{\"index\":0,\"message\":{\"role\":"
               "\"assistant\",\"content\":null,\"refusal\":\"No.\",\"tool_calls\":[{\"id\":\"c\","
               "\"arguments\":1.10}]},\"logprobs\":null,\"finish_reason\":\"tool_calls\"}],"
               "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7,"
               "\"prompt_tokens_details\":{\"cached_tokens\":1},\"completion_tokens_details\":"
               "{\"reasoning_tokens\":2}},\"meta\":{\"request_id\":\"%s\",\"endpoint\":\"net\","
               "\"provider\":\"openai\",\"attempts\":1,\"ignored\":[]}}",
               uuid_format(&row.request_id, id));
    assert_string_equal(g->answer.body, buf_cstr(&expected));
    assert_int_equal(row.cached_tokens, 1);
    assert_int_equal(row.reasoning_tokens, 2);
    expect_text(row.finish_reason, "tool_calls");
    expect_text(row.provider_model, "gpt-x-2026");
    buf_free(&expected);
}

static void both_dispatcher_routes(void **state)
{
    struct gateway *g = *state;
    ask(g, "/api/" DEMO "/v1/chat/completions", GOOD,
        "{\"model\":\"echo\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
    expect_ok(g);
    assert_string_equal(at(g, "object"), "\"chat.completion\"");
    assert_string_equal(at(g, "choices.0.message"),
                        "{\"role\":\"assistant\",\"content\":\"Hi\",\"refusal\":null}");
    only_row(g);
}

static void whole_row_of_a_good_answer(void **state)
{
    struct gateway *g = *state;
    ask_endpoint(g, "echo", "{\"message\":\"Hello\"}");
    struct record row = only_row(g);
    assert_int_equal(row.created_at, gateway_wall_ms);
    expect_text(row.project, "demo");
    expect_text(row.endpoint, "echo");
    expect_text(row.token, "good");
    assert_null(row.session_id.at);
    expect_text(row.client_ip, "127.0.0.1");
    expect_text(row.provider, "echo");
    expect_text(row.model, "echo");
    expect_text(row.provider_model, "echo");
    expect_text(row.credential, "built-in");
    expect_text(row.status, "ok");
    assert_int_equal(row.http_status, 200);
    assert_null(row.error_message.at);
    assert_null(row.routing_decision.at);
    expect_text(row.attempts,
                "[{\"provider\":\"echo\",\"model\":\"echo\",\"credential\":\"built-in\",\"status\":"
                "\"ok\",\"http_status\":200,\"ms\":0,\"prompt_tokens\":2,\"completion_tokens\":2,"
                "\"cost_nano_usd\":null,\"error\":null}]");
    assert_int_equal(row.streamed, 0);
    expect_text(row.finish_reason, "stop");
    assert_int_equal(row.prompt_tokens, 2);
    assert_int_equal(row.completion_tokens, 2);
    assert_int_equal(row.total_tokens, 4);
    expect_text(row.cost_basis, "none");
    assert_int_equal(row.cost_nano_usd, RECORD_NULL);
    assert_int_equal(row.latency_ms, 0);
    assert_int_equal(row.bytes_out, g->answer.bytes.len);
    expect_text(row.host, "test-host");
    assert_int_equal(row.worker, 3);
    assert_null(row.request_body.at);
    assert_null(row.response_body.at);
    expect_no_row(g);
    assert_int_equal(atomic_load(&g->counts.rows), 1);
}

static void bytes_in_are_all_of_them(void **state)
{
    struct gateway *g = *state;
    struct str request = STR("POST /api/" DEMO "/echo HTTP/1.1\r\nHost: x\r\n" GOOD
                             "Content-Length: 15\r\n\r\n{\"message\":\"x\"}");
    gateway_send(g, request);
    gateway_await_answer(g);
    expect_ok(g);
    assert_int_equal(only_row(g).bytes_in, request.len);
}

static void several_requests_on_one_connection(void **state)
{
    struct gateway *g = *state;
    for (unsigned i = 0; i < 5; i++) {
        gateway_post(g, "/api/" DEMO "/echo", GOOD, "{\"message\":\"again\"}");
        gateway_await_answer(g);
        expect_ok(g);
        only_row(g);
        gateway_post(g, "/api/" DEMO "/echo", GOOD, "{}");
        gateway_await_answer(g);
        expect_error_row(g, 400, "input_missing", NULL);
    }
    assert_int_equal(g->server.connections_count, 1);
    assert_int_equal(g->ended, 10);
}

/* More than the pool of ended exchanges keeps, and more than one record's room in the pipe. */
static void large_bodies_one_after_the_other(void **state)
{
    struct gateway *g = *state;
    struct buf body = {0};
    buf_puts(&body, "{\"message\":\"");
    memset(buf_reserve(&body, 90000), 'a', 90000);
    body.len += 90000;
    buf_puts(&body, "\"}");
    for (unsigned i = 0; i < 3; i++) {
        ask_endpoint(g, "echo", buf_cstr(&body));
        expect_ok(g);
        assert_int_equal(strlen(at(g, "content")), 90002);
        only_row(g);
    }
    buf_free(&body);
}

static void slow_provider(void **state)
{
    struct gateway *g = *state;
    gateway_post(g, "/api/" DEMO "/slow", GOOD, "{\"message\":\"x\"}");
    turn_until(g, gateway_in_flight(g) == 1);
    gateway_turn(g);
    gateway_turn(g);
    gateway_now_us += 1234567;
    gateway_await_answer(g);
    expect_ok(g);
    assert_true(has_line(g, "Server-Timing: gateway;dur=0.000, upstream;dur=1234.567"));
    struct record row = only_row(g);
    assert_int_equal(row.upstream_ms, 1235);
    assert_int_equal(row.latency_ms, 1235);
    assert_int_equal(row.gateway_us, 0);
}

/* --- the provider fails --- */

static void provider_failures(void **state)
{
    struct gateway *g = *state;
    static const struct {
        const char *slug;
        int status;
        const char *code, *message;
    } cases[] = {
        {"fail-401", 502, "provider_error",
         "\"The provider did not accept the gateway's credential (status 401).\""},
        {"fail-422", 422, "provider_rejected",
         "\"The provider answered with status 422: echo was asked to fail with status 422\""},
        {"fail-503", 502, "provider_error",
         "\"The provider answered with status 503: echo was asked to fail with status 503\""},
        {"never", 504, "provider_timeout", "\"The provider's answer was not complete in time.\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ask_endpoint(g, cases[i].slug, "{\"message\":\"x\"}");
        struct record row = expect_error_row(g, cases[i].status, cases[i].code, NULL);
        assert_string_equal(at(g, "error.message"), cases[i].message);
        assert_true(row.attempts.at != NULL);
        assert_null(row.finish_reason.at);
        assert_int_equal(row.prompt_tokens, RECORD_NULL);
        expect_text(row.provider, "echo");
    }
    ask_endpoint(g, "invalid", "{\"message\":\"x\"}");
    expect_error_row(g, 502, "provider_bad_response", NULL);
    expect_no_row(g);
}

static void expect_attempt(struct gateway *g, const char *slug, int status, const char *code,
                           int provider_status)
{
    char member[64];
    ask_endpoint(g, slug, "{\"message\":\"x\"}");
    struct record row = expect_error_row(g, status, code, NULL);
    snprintf(member, sizeof member, "\"http_status\":%d,", provider_status);
    if (!memmem(row.attempts.at, row.attempts.len, member, strlen(member)))
        fail_msg("%.*s", STR_ARG(row.attempts));
}

static void network_failures(void **state)
{
    struct gateway *g = *state;
    g->mock.close_after = true;
    g->mock.answer = STR("");
    expect_attempt(g, "net", 502, "provider_error", 0);
    g->mock.answer = STR("SSH-2.0-x\r\n");
    expect_attempt(g, "net", 502, "provider_bad_response", 0);
    g->mock.answer = STR("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"choices\":");
    expect_attempt(g, "net", 502, "provider_bad_response", 200);
    g->mock.close_after = false;
    g->mock.answer = STR("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
    expect_attempt(g, "net-short", 504, "provider_timeout", 200);
    g->mock.answer = STR_ABSENT;
    expect_attempt(g, "net-short", 504, "provider_timeout", 0);
    g->mock.answer = STR("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
    expect_attempt(g, "net", 502, "provider_error", 302);
    g->mock.answer = STR("HTTP/1.1 200 OK\r\nContent-Length: 14\r\n\r\n<html>no</html>");
    expect_attempt(g, "net", 502, "provider_bad_response", 200);
    expect_no_row(g);
}

static void answer_beyond_the_limit(void **state)
{
    struct gateway *g = *state;
    struct buf body = {0};
    buf_puts(&body, "{\"choices\":[{\"message\":{\"content\":\"");
    memset(buf_reserve(&body, 5000), 'a', 5000);
    body.len += 5000;
    buf_puts(&body, "\"}}]}");
    provider_says(g, 200, buf_cstr(&body));
    expect_attempt(g, "net", 502, "provider_bad_response", 200);
    assert_non_null(strstr(g->answer.body, "upstream.max_response"));
    buf_free(&body);
}

/* A provider that repeats the key or a header of the credential: neither the client nor the row
 * gets it. */
static void the_key_stays_here(void **state)
{
    struct gateway *g = *state;
    static const int statuses[] = {400, 401, 429, 500};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        provider_says(g, statuses[i],
                      "{\"error\":{\"message\":\"Key sk-very-secret: bad, sk-very-secretsk-very-"
                      "secret and proxy-secret-7 (1)\"}}");
        ask_endpoint(g, "net", "{\"message\":\"x\"}");
        struct record row = only_row(g);
        assert_null(strstr(g->answer.body, "sk-very"));
        assert_null(memmem(row.attempts.at, row.attempts.len, "sk-very", 7));
        assert_null(memmem(row.error_message.at, row.error_message.len, "sk-very", 7));
        assert_null(strstr(g->answer.body, "proxy-secret"));
        assert_null(memmem(row.attempts.at, row.attempts.len, "proxy-secret", 12));
        static const char clean[] = "Key [key]: bad, [key][key] and [key] (1)";
        assert_non_null(memmem(row.attempts.at, row.attempts.len, clean, sizeof clean - 1));
    }
}

static void long_words_are_cut_between_characters(void **state)
{
    struct gateway *g = *state;
    struct buf body = {0};
    buf_puts(&body, "{\"error\":{\"message\":\"x");
    for (int i = 0; i < 400; i++)
        buf_puts(&body, "\xE2\x82\xAC");
    buf_puts(&body, "\"}}");
    provider_says(g, 400, buf_cstr(&body));
    ask_endpoint(g, "net", "{\"message\":\"x\"}");
    expect_error_row(g, 422, "provider_rejected", NULL);
    assert_null(strstr(g->answer.body, "\xEF\xBF\xBD"));
    assert_true(strlen(at(g, "error.message")) < 600);
    buf_free(&body);
}

static void provider_gets_the_key(void **state)
{
    struct gateway *g = *state;
    provider_says(g, 200, "{\"choices\":[{\"message\":{\"content\":\"x\"}}]}");
    ask_endpoint(g, "net", "{\"message\":\"x\"}");
    expect_ok(g);
    only_row(g);
    const char *request = buf_cstr(&g->mock.request);
    assert_ptr_equal(strstr(request, "POST /chat/completions HTTP/1.1\r\n"), request);
    assert_non_null(strstr(request, "\r\nAuthorization: Bearer sk-very-secret\r\n"));
    assert_null(strstr(request, TOKEN("g")));
}

/* --- the client leaves --- */

static struct record expect_gone(struct gateway *g)
{
    unsigned ended = g->ended;
    gateway_hang_up(g);
    turn_until(g, g->ended == ended + 1);
    struct record row = only_row(g);
    expect_text(row.status, "client_closed");
    assert_int_equal(row.http_status, RECORD_NULL);
    assert_int_equal(row.bytes_out, 0);
    assert_null(row.finish_reason.at);
    assert_int_equal(gateway_in_flight(g), 0);
    expect_no_row(g);
    return row;
}

static void gone_in_the_body(void **state)
{
    struct gateway *g = *state;
    struct str part = STR("POST /api/" DEMO "/echo HTTP/1.1\r\nHost: x\r\n" GOOD
                          "Content-Length: 15\r\n\r\n{\"mess");
    gateway_send(g, part);
    turn_until(g, gateway_in_flight(g) == 1);
    gateway_turn(g);
    gateway_now_us += 5000000;
    struct record row = expect_gone(g);
    expect_text(row.endpoint, "echo");
    assert_null(row.provider.at);
    assert_null(row.attempts.at);
    assert_int_equal(row.latency_ms, 5000);
    assert_int_equal(row.gateway_us, 0); /* the client's time is not the gateway's */
    assert_int_equal(row.bytes_in, part.len);
}

static void gone_in_the_dispatchers_body(void **state)
{
    struct gateway *g = *state;
    gateway_send(g, STR("POST /api/" DEMO "/chat/completions HTTP/1.1\r\nHost: x\r\n" GOOD
                        "Content-Length: 15\r\n\r\n"));
    turn_until(g, gateway_in_flight(g) == 1);
    struct record row = expect_gone(g);
    assert_null(row.endpoint.at);
}

static void gone_while_the_provider_thinks(void **state)
{
    struct gateway *g = *state;
    gateway_post(g, "/api/" DEMO "/stuck", GOOD, "{\"message\":\"x\"}");
    turn_until(g, gateway_in_flight(g) == 1);
    gateway_turn(g);
    gateway_turn(g);
    gateway_now_us += 7000000;
    struct record row = expect_gone(g);
    expect_text(row.provider, "echo");
    assert_int_equal(row.upstream_ms, 7000);
    assert_int_equal(row.latency_ms, 7000);
    assert_int_equal(row.gateway_us, 0);
}

static void gone_during_the_transfer(void **state)
{
    struct gateway *g = *state;
    gateway_post(g, "/api/" DEMO "/net", GOOD, "{\"message\":\"x\"}");
    turn_until(g, g->mock.requests == 1);
    gateway_now_us += 7000000;
    struct record row = expect_gone(g);
    assert_int_equal(transfer_pool_running(g->services.transfers), 0);
    turn_until(g, g->mock.open == 0); /* the provider's connection is closed at once */
    assert_int_equal(row.upstream_ms, 7000);
    assert_int_equal(row.gateway_us, 0);
    expect_text(row.attempts,
                "[{\"provider\":\"openai\",\"model\":\"gpt-x\",\"credential\":\"main\",\"status\":"
                "\"client_closed\",\"http_status\":0,\"ms\":7000,\"prompt_tokens\":1,"
                "\"completion_tokens\":0,\"cost_nano_usd\":null,\"error\":null}]");
}

static void gone_in_the_providers_body(void **state)
{
    struct gateway *g = *state;
    g->mock.answer = STR("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{\"choices\":");
    gateway_post(g, "/api/" DEMO "/net", GOOD, "{\"message\":\"x\"}");
    turn_until(g, g->mock.requests == 1);
    for (unsigned i = 0; i < 20; i++)
        gateway_turn(g);
    struct record row = expect_gone(g);
    assert_non_null(memmem(row.attempts.at, row.attempts.len, "\"http_status\":200,", 18));
    turn_until(g, g->mock.open == 0);
}

/* contract: a half-closed connection counts. */
static void half_closed(void **state)
{
    struct gateway *g = *state;
    gateway_post(g, "/api/" DEMO "/stuck", GOOD, "{\"message\":\"x\"}");
    turn_until(g, gateway_in_flight(g) == 1);
    shutdown(g->client, SHUT_WR);
    turn_until(g, g->ended == 1);
    expect_text(only_row(g).status, "client_closed");
}

/* Before the token is looked at nothing is known of the client, and nothing is written. */
static void gone_in_the_head(void **state)
{
    struct gateway *g = *state;
    gateway_send(g, STR("POST /api/" DEMO "/echo HTTP/1.1\r\nHost: x\r\n" GOOD));
    gateway_hang_up(g);
    turn_until(g, g->server.connections_count == 0);
    expect_no_row(g);
    assert_int_equal(g->ended, 0);
}

static void another_client_is_not_disturbed(void **state)
{
    struct gateway *g = *state;
    gateway_post(g, "/api/" DEMO "/slow", GOOD, "{\"message\":\"x\"}");
    int slow = g->client;
    g->client = -1;
    gateway_post(g, "/api/" DEMO "/stuck", GOOD, "{\"message\":\"x\"}");
    turn_until(g, gateway_in_flight(g) == 2);
    gateway_hang_up(g);
    turn_until(g, g->ended >= 1);
    g->client = slow;
    gateway_await_answer(g);
    expect_ok(g);
    assert_true(next_row(g) && next_row(g));
    expect_no_row(g);
}

/* --- bodies in rows --- */

static void bodies_of_all(void **state)
{
    struct gateway *g = *state;
    g->config.log_bodies = LOG_BODIES_ALL;
    g->config.log_max_body = 4096;
    ask_endpoint(g, "echo", "{\"message\" : \"Grüße\"}");
    struct record row = only_row(g);
    expect_text(row.request_body, "{\"message\" : \"Grüße\"}");
    expect_text(row.response_body, g->answer.body);
    assert_int_equal(row.request_body_cut, 0);
    assert_int_equal(row.response_body_cut, 0);
    ask_endpoint(g, "echo", "not json");
    row = only_row(g);
    expect_text(row.request_body, "not json");
    expect_text(row.response_body, g->answer.body);
}

static void bodies_of_errors(void **state)
{
    struct gateway *g = *state;
    g->config.log_bodies = LOG_BODIES_ERRORS;
    g->config.log_max_body = 4096;
    ask_endpoint(g, "echo", "{\"message\":\"Hi\"}");
    struct record row = only_row(g);
    assert_null(row.request_body.at);
    assert_null(row.response_body.at);
    assert_int_equal(row.request_body_cut, RECORD_NULL);
    ask_endpoint(g, "fail-503", "{\"message\":\"Hi\"}");
    row = only_row(g);
    expect_text(row.request_body, "{\"message\":\"Hi\"}");
    expect_text(row.response_body, g->answer.body);
    /* Refused by its head: its body was never read. */
    ask_endpoint(g, "nothing-here", "{\"message\":\"Hi\"}");
    row = only_row(g);
    assert_null(row.request_body.at);
    expect_text(row.response_body, g->answer.body);
}

/* In the middle of "ü", and at its end. */
static void long_bodies_are_cut_between_characters(void **state)
{
    struct gateway *g = *state;
    g->config.log_bodies = LOG_BODIES_ALL;
    for (int max = 13; max <= 15; max++) {
        g->config.log_max_body = max;
        ask_endpoint(g, "echo", "{\"message\":\"üü\"}");
        struct record row = only_row(g);
        expect_text(row.request_body, max < 14 ? "{\"message\":\"" : "{\"message\":\"ü");
        assert_int_equal(row.request_body_cut, 1);
        assert_int_equal(row.response_body_cut, 1);
        assert_true(row.response_body.len <= (size_t)max);
    }
    g->config.log_max_body = 0;
    ask_endpoint(g, "echo", "{\"message\":\"üü\"}");
    struct record row = only_row(g);
    expect_text(row.request_body, "");
    assert_int_equal(row.request_body_cut, 1);
}

/* A secret stays out wherever the cut falls, whole and in part. */
static void bodies_hold_no_secrets(void **state)
{
    struct gateway *g = *state;
    g->config.log_bodies = LOG_BODIES_ALL;
    provider_says(
        g, 200,
        "{\"id\":\"x\",\"model\":\"m\",\"choices\":[{\"message\":{\"role\":\"assistant\","
        "\"content\":\"sk-very-secret and proxy-secret-7.\"},\"finish_reason\":\"stop\"}]}");
    for (int max = 20; max < 200; max++) {
        g->config.log_max_body = max;
        ask_endpoint(g, "net", "{\"message\":\"Say sk-very-secret, please\"}");
        struct record row = only_row(g);
        struct buf both = {0};
        buf_str(&both, row.request_body);
        buf_puts(&both, " | ");
        buf_str(&both, row.response_body);
        if (strstr(buf_cstr(&both), "sk-v") || strstr(buf_cstr(&both), "proxy-s"))
            fail_msg("%s", buf_cstr(&both));
        if (max > 190)
            assert_non_null(strstr(buf_cstr(&both), "[key] and [key]."));
        buf_free(&both);
    }
}

static void the_body_of_one_who_left(void **state)
{
    struct gateway *g = *state;
    g->config.log_bodies = LOG_BODIES_ERRORS;
    g->config.log_max_body = 4096;
    gateway_post(g, "/api/" DEMO "/stuck", GOOD, "{\"message\":\"Hi\"}");
    turn_until(g, gateway_in_flight(g) == 1);
    gateway_hang_up(g);
    turn_until(g, g->ended == 1);
    struct record row = only_row(g);
    expect_text(row.status, "client_closed");
    expect_text(row.request_body, "{\"message\":\"Hi\"}");
    assert_null(row.response_body.at);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, gateway_setup, gateway_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(native_shape),
        TEST(openai_shape),
        TEST(both_dispatcher_routes),
        TEST(whole_row_of_a_good_answer),
        TEST(bytes_in_are_all_of_them),
        TEST(several_requests_on_one_connection),
        TEST(large_bodies_one_after_the_other),
        TEST(slow_provider),
        TEST(provider_failures),
        TEST(network_failures),
        TEST(answer_beyond_the_limit),
        TEST(the_key_stays_here),
        TEST(long_words_are_cut_between_characters),
        TEST(provider_gets_the_key),
        TEST(gone_in_the_body),
        TEST(gone_in_the_dispatchers_body),
        TEST(gone_while_the_provider_thinks),
        TEST(gone_during_the_transfer),
        TEST(gone_in_the_providers_body),
        TEST(half_closed),
        TEST(gone_in_the_head),
        TEST(another_client_is_not_disturbed),
        TEST(bodies_of_all),
        TEST(bodies_of_errors),
        TEST(long_bodies_are_cut_between_characters),
        TEST(bodies_hold_no_secrets),
        TEST(the_body_of_one_who_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
