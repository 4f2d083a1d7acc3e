#include "test/unit/worker_gateway.h"

#define ECHO_PATH "/api/" DEMO "/echo"
#define BODY "{\"message\":\"hi\"}"

/* --- before the token is accepted: no row --- */

static void expect_unauthorized(struct gateway *g, const char *headers)
{
    uint64_t refused = atomic_load(&g->counts.refused);
    ask(g, ECHO_PATH, headers, BODY);
    expect_error(g, 401, "unauthorized", NULL);
    assert_string_equal(at(g, "error.type"), "\"authentication_error\"");
    assert_true(has_line(g, "WWW-Authenticate: Bearer"));
    expect_no_row(g);
    assert_int_equal(atomic_load(&g->counts.refused), refused + 1);
    assert_int_equal(atomic_load(&g->counts.requests), 0);
}

static void no_good_header(void **state)
{
    static const char *const headers[] = {
        JSON_TYPE,
        JSON_TYPE "Authorization:\r\n",
        JSON_TYPE "Authorization: Bearer\r\n",
        JSON_TYPE "Authorization: Bearer \r\n",
        JSON_TYPE "Authorization: Basic Zm9vOmJhcg==\r\n",
        JSON_TYPE "Authorization: Basic " TOKEN("g") "\r\n",
        JSON_TYPE "Authorization: " TOKEN("g") "\r\n",
        JSON_TYPE "Authorization: Bearer" TOKEN("g") "\r\n",
        JSON_TYPE "Authorization: Bearer, " TOKEN("g") "\r\n",
        JSON_TYPE "Authorization: Bearer " TOKEN("g") " x\r\n",
        JSON_TYPE "Authorization: Bearer \"" TOKEN("g") "\"\r\n",
        JSON_TYPE "X-Authorization: Bearer " TOKEN("g") "\r\n",
        JSON_TYPE "X-Api-Key: " TOKEN("g") "\r\n",
        GOOD BEARER("g"),
        GOOD "Authorization: Basic x\r\n",
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++)
        expect_unauthorized(*state, headers[i]);
}

static void malformed_tokens(void **state)
{
    static const char *const tokens[] = {
        "pg_live_",
        "pg_live_g23456789012345678901234567890123456789012",
        "pg_live_g2345678901234567890123456789012345678901234",
        "pg_live_g23456789012345678901234567890123456789012=",
        "pg_live_g23456789012345678901234567890123456789012+",
        "pg_test_g234567890123456789012345678901234567890123",
        "PG_LIVE_g234567890123456789012345678901234567890123",
        "pg_live_G234567890123456789012345678901234567890123",
    };
    char headers[256];
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        snprintf(headers, sizeof headers, JSON_TYPE "Authorization: Bearer %s\r\n", tokens[i]);
        expect_unauthorized(*state, headers);
    }
}

static void unknown_inactive_expired(void **state)
{
    expect_unauthorized(*state, JSON_TYPE BEARER("u"));
    expect_unauthorized(*state, JSON_TYPE BEARER("i"));
    expect_unauthorized(*state, JSON_TYPE BEARER("e"));
}

/* Of all these nobody learns which tokens, projects or endpoints there are. */
static void nothing_is_told_without_a_token(void **state)
{
    struct gateway *g = *state;
    static const char *const paths[] = {"/api/" NOBODY "/echo", "/api/" DEMO "/missing",
                                        "/api/" SLEEPING "/echo", "/api/" DEMO "/chat/completions"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        ask(g, paths[i], JSON_TYPE, "not JSON");
        expect_error(g, 401, "unauthorized", NULL);
        expect_no_row(g);
    }
}

static void accepted_spellings(void **state)
{
    struct gateway *g = *state;
    static const char *const headers[] = {
        GOOD,
        JSON_TYPE "authorization: bearer " TOKEN("g") "\r\n",
        JSON_TYPE "AUTHORIZATION:BEARER   " TOKEN("g") "  \r\n",
        JSON_TYPE BEARER("l"),
    };
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        ask(g, ECHO_PATH, headers[i], BODY);
        expect_ok(g);
        expect_text(only_row(g).status, "ok");
        expect_no_row(g);
    }
    assert_int_equal(atomic_load(&g->counts.requests), 4);
    assert_int_equal(atomic_load(&g->counts.refused), 0);
}

/* The answer without what differs by chance. */
static void copy_without_ids(struct gateway *g, struct buf *out)
{
    buf_clear(out);
    buf_str(out, buf_view(&g->answer.bytes));
    buf_cstr(out);
    for (char *id; (id = strstr(out->data, "-7")) && id - out->data > 14;)
        memset(id - 13, 'x', UUID_TEXT_LEN);
}

static void another_project_is_like_none(void **state)
{
    struct gateway *g = *state;
    struct buf other = {0}, none = {0};
    ask(g, "/api/" OTHER "/echo", GOOD, BODY);
    expect_error(g, 404, "not_found", NULL);
    copy_without_ids(g, &other);
    ask(g, "/api/" NOBODY "/echo", GOOD, BODY);
    expect_error(g, 404, "not_found", NULL);
    copy_without_ids(g, &none);
    assert_string_equal(buf_cstr(&other), buf_cstr(&none));
    ask(g, "/api/" SLEEPING "/echo", GOOD, BODY);
    expect_error(g, 404, "not_found", NULL);
    copy_without_ids(g, &none);
    assert_string_equal(buf_cstr(&other), buf_cstr(&none));
    expect_no_row(g);
    buf_free(&other);
    buf_free(&none);
}

static void admin_token_without_project(void **state)
{
    struct gateway *g = *state;
    ask(g, ECHO_PATH, JSON_TYPE BEARER("a"), BODY);
    expect_error(g, 404, "not_found", NULL);
    expect_no_row(g);
}

/* --- behind it: each leaves a row --- */

static void inactive_project(void **state)
{
    struct gateway *g = *state;
    ask(g, "/api/" SLEEPING "/echo", JSON_TYPE BEARER("s"), BODY);
    struct record row = expect_error_row(g, 403, "project_inactive", NULL);
    assert_string_equal(at(g, "error.type"), "\"permission_error\"");
    expect_text(row.project, "sleeping");
    expect_text(row.token, "sleeper");
    assert_null(row.endpoint.at);
    expect_no_row(g);
}

static void missing_scope(void **state)
{
    struct gateway *g = *state;
    ask(g, ECHO_PATH, JSON_TYPE BEARER("r"), BODY);
    expect_error_row(g, 403, "scope_missing", NULL);
    expect_no_row(g);
}

static void token_for_some_endpoints(void **state)
{
    struct gateway *g = *state;
    ask(g, ECHO_PATH, JSON_TYPE BEARER("n"), BODY);
    expect_ok(g);
    only_row(g);
    ask(g, "/api/" DEMO "/net", JSON_TYPE BEARER("n"), BODY);
    struct record row = expect_error_row(g, 403, "endpoint_forbidden", NULL);
    expect_text(row.endpoint, "net");
    ask(g, "/api/" DEMO "/chat/completions", JSON_TYPE BEARER("n"),
        "{\"model\":\"net\",\"message\":\"hi\"}");
    expect_error_row(g, 403, "endpoint_forbidden", NULL);
    assert_int_equal(g->mock.requests, 0);
    expect_no_row(g);
}

static void unknown_and_inactive_endpoints(void **state)
{
    struct gateway *g = *state;
    ask_endpoint(g, "missing", BODY);
    struct record row = expect_error_row(g, 404, "not_found", NULL);
    assert_null(row.endpoint.at);
    ask_endpoint(g, "off", BODY);
    expect_error_row(g, 404, "not_found", NULL);
    dispatch(g, "{\"model\":\"off\",\"message\":\"hi\"}");
    expect_error_row(g, 404, "not_found", "model");
    expect_no_row(g);
}

static void dispatcher_names_its_endpoint(void **state)
{
    struct gateway *g = *state;
    dispatch(g, "{\"model\":\"echo\",\"message\":\"a\"}");
    expect_ok(g);
    assert_string_equal(at(g, "meta.endpoint"), "\"echo\"");
    only_row(g);
    dispatch(g, "{\"model\":\"missing\",\"endpoint\":\"echo\",\"message\":\"a\"}");
    expect_ok(g);
    only_row(g);
    dispatch(g, "{\"model\":\"echo\",\"endpoint\":null,\"message\":\"a\"}");
    expect_ok(g);
    only_row(g);
    dispatch(g, "{\"message\":\"a\"}");
    expect_error_row(g, 400, "invalid_request", "model");
    dispatch(g, "{\"model\":7,\"message\":\"a\"}");
    expect_error_row(g, 400, "invalid_request", "model");
    dispatch(g, "{\"model\":\"echo\",\"endpoint\":[],\"message\":\"a\"}");
    expect_error_row(g, 400, "invalid_request", "endpoint");
    dispatch(g, "{\"model\":\"\",\"message\":\"a\"}");
    expect_error_row(g, 404, "not_found", "model");
    dispatch(g, "{\"model\":\"echo\\u0000\",\"message\":\"a\"}");
    expect_error_row(g, 404, "not_found", "model");
    expect_no_row(g);
}

/* --- a log that does not keep up --- */

static int set_up_tiny_queue(void **state)
{
    return gateway_begin(state, 1);
}

static void overloaded_until_the_log_is_read(void **state)
{
    struct gateway *g = *state;
    unsigned answered = 0, rows = 0;
    for (;; answered++) {
        assert_true(answered < 100);
        ask(g, ECHO_PATH, GOOD, BODY);
        if (g->answer.status != 200)
            break;
    }
    assert_true(answered > 0);
    expect_error(g, 503, "overloaded", NULL);
    assert_true(has_line(g, "Retry-After: 1"));
    assert_int_equal(atomic_load(&g->counts.requests), answered);
    assert_int_equal(atomic_load(&g->counts.refused), 1);
    ask(g, ECHO_PATH, JSON_TYPE, BODY);
    expect_error(g, 401, "unauthorized", NULL); /* still: who has no token learns nothing */
    while (next_row(g))
        rows++;
    assert_int_equal(rows, answered);
    ask(g, ECHO_PATH, GOOD, BODY);
    expect_ok(g);
    only_row(g);
    expect_no_row(g);
}

/* --- what needs no token --- */

static void raw(struct gateway *g, const char *request)
{
    gateway_hang_up(g);
    gateway_send(g, str_of(request));
    gateway_await_answer(g);
}

static void unknown_path(void **state)
{
    struct gateway *g = *state;
    raw(g, "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    expect_error(g, 404, "not_found", NULL);
    raw(g, "GET /api/" DEMO "/nothing/here HTTP/1.1\r\nHost: x\r\n" GOOD "\r\n");
    expect_error(g, 404, "not_found", NULL);
    expect_no_row(g);
    assert_int_equal(atomic_load(&g->counts.refused), 2);
}

static void other_methods(void **state)
{
    struct gateway *g = *state;
    raw(g, "GET " ECHO_PATH " HTTP/1.1\r\nHost: x\r\n" GOOD "\r\n");
    expect_error(g, 405, "method_not_allowed", NULL);
    assert_true(has_line(g, "Allow: POST"));
    raw(g, "OPTIONS /api/" DEMO "/chat/completions HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_error(g, 405, "method_not_allowed", NULL);
    assert_true(has_line(g, "Allow: POST"));
    raw(g, "DELETE /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_error(g, 405, "method_not_allowed", NULL);
    assert_true(has_line(g, "Allow: GET, HEAD"));
    expect_no_row(g);
}

static void query_is_no_part_of_the_path(void **state)
{
    struct gateway *g = *state;
    ask(g, ECHO_PATH "?x=/y", GOOD, BODY);
    expect_ok(g);
    only_row(g);
    raw(g, "GET /healthz?verbose HTTP/1.1\r\nHost: x\r\n\r\n");
    expect_ok(g);
}

static void bad_http(void **state)
{
    struct gateway *g = *state;
    raw(g, "GET /healthz\r\n\r\n");
    expect_error(g, 400, "bad_http", NULL);
    assert_true(has_line(g, "Connection: close"));
    expect_no_row(g);
    assert_int_equal(atomic_load(&g->counts.refused), 1);
}

static void health_and_readiness(void **state)
{
    struct gateway *g = *state;
    static const char *const requests[] = {"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
                                           "GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n"};
    for (size_t i = 0; i < 2; i++) {
        raw(g, requests[i]);
        expect_ok(g);
        assert_string_equal(g->answer.body, "{\"ok\":true}");
        assert_non_null(strstr(g->answer.bytes.data, "\r\nX-Request-Id: "));
    }
    g->frontend.draining = true;
    raw(g, requests[0]);
    expect_ok(g);
    raw(g, requests[1]);
    expect_error(g, 503, "draining", NULL);
    expect_no_row(g);
    assert_int_equal(atomic_load(&g->counts.requests), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, gateway_setup, gateway_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(no_good_header),
        TEST(malformed_tokens),
        TEST(unknown_inactive_expired),
        TEST(nothing_is_told_without_a_token),
        TEST(accepted_spellings),
        TEST(another_project_is_like_none),
        TEST(admin_token_without_project),
        TEST(inactive_project),
        TEST(missing_scope),
        TEST(token_for_some_endpoints),
        TEST(unknown_and_inactive_endpoints),
        TEST(dispatcher_names_its_endpoint),
        cmocka_unit_test_setup_teardown(overloaded_until_the_log_is_read, set_up_tiny_queue,
                                        gateway_teardown),
        TEST(unknown_path),
        TEST(other_methods),
        TEST(query_is_no_part_of_the_path),
        TEST(bad_http),
        TEST(health_and_readiness),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
