#include "shared/base/json.h"
#include "worker/provider/provider.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A call of the echo provider from the request to what comes out of read_answer. */
struct echo {
    struct arena arena;
    struct config_target target;
    struct client_parameters parameters;
    struct upstream_call call;
    struct upstream_reply reply;
    struct completion completion;
    struct error error;
};

static int set_up(void **state)
{
    struct echo *echo = calloc(1, sizeof *echo);
    echo->target = (struct config_target){
        .provider = PROVIDER_ECHO, .model = "echo", .temperature = NAN, .top_p = NAN};
    *state = echo;
    return 0;
}

static int tear_down(void **state)
{
    struct echo *echo = *state;
    json_object_put(echo->completion.parsed);
    buf_free(&echo->call.body);
    buf_free(&echo->reply.body);
    arena_free(&echo->arena);
    free(echo);
    return 0;
}

static void ask_with(struct echo *echo, const char *model, const char *messages, int64_t max_tokens)
{
    struct json_object *list;
    assert_true(json_read(str_of(messages), &list, &echo->error));
    echo->target.model = model;
    struct completion_request request = {
        .target = &echo->target,
        .messages = list,
        .parameters = &echo->parameters,
        .max_tokens = max_tokens,
    };
    buf_clear(&echo->call.body);
    buf_clear(&echo->reply.body);
    echo->reply.delay_ms = 0;
    echo->reply.never = false;
    assert_true(provider_echo.build(&request, &echo->arena, &echo->call, &echo->error));
    provider_echo.answer(&request, &echo->call, &echo->arena, &echo->reply);
    json_object_put(list);
}

static void ask(struct echo *echo, const char *model, const char *user)
{
    struct buf messages = {0};
    buf_puts(&messages, "[{\"role\":\"user\",\"content\":");
    json_write_string(&messages, str_of(user));
    buf_puts(&messages, "}]");
    ask_with(echo, model, buf_cstr(&messages), 0);
    buf_free(&messages);
}

static bool read_answer(struct echo *echo)
{
    json_object_put(echo->completion.parsed);
    echo->completion = (struct completion){0};
    return provider_echo.read_answer(&echo->reply, &echo->arena, &echo->completion, &echo->error);
}

static void expect(struct echo *echo, const char *content, const char *finish_reason)
{
    assert_int_equal(echo->reply.status, 200);
    assert_true(str_eq(echo->reply.content_type, STR("application/json")));
    if (!read_answer(echo))
        fail_msg("%s", echo->error.message);
    if (!str_eq(echo->completion.content, str_of(content)))
        fail_msg("\"%.*s\" is not \"%s\"", STR_ARG(echo->completion.content), content);
    assert_string_equal(echo->completion.finish_reason, finish_reason);
}

static void echoes_last_user_message(void **state)
{
    struct echo *echo = *state;
    ask_with(echo, "echo",
             "[{\"role\":\"user\",\"content\":\"first\"},{\"role\":\"user\",\"content\":\"Say "
             "\\\"hi\\\"\\n\"},{\"role\":\"assistant\",\"content\":\"later\"}]",
             0);
    expect(echo, "Say \"hi\"\n", "stop");
    assert_true(str_eq(echo->completion.model, STR("echo")));
    assert_int_equal(echo->reply.delay_ms, 0);
    assert_false(echo->reply.never);
}

static void joins_text_parts(void **state)
{
    struct echo *echo = *state;
    ask_with(echo, "echo",
             "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
             "{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}},"
             "{\"type\":\"text\",\"text\":\"b\"},7]}]",
             0);
    expect(echo, "ab", "stop");
}

static void nothing_to_echo(void **state)
{
    struct echo *echo = *state;
    ask_with(echo, "echo", "[{\"role\":\"system\",\"content\":\"x\"}]", 0);
    expect(echo, "", "stop");
    ask_with(echo, "echo", "[{\"role\":\"user\",\"content\":null}]", 0);
    expect(echo, "", "stop");
}

/* Four characters are a token, rounded up; the prompt is all messages one behind the other. */
static void usage_is_the_estimate(void **state)
{
    struct echo *echo = *state;
    ask_with(
        echo, "echo",
        "[{\"role\":\"system\",\"content\":\"123\"},{\"role\":\"user\",\"content\":\"12345\"}]", 0);
    expect(echo, "12345", "stop");
    assert_true(echo->completion.usage.reported);
    assert_int_equal(echo->completion.usage.prompt_tokens, 2);
    assert_int_equal(echo->completion.usage.completion_tokens, 2);
    assert_int_equal(echo->completion.usage.total_tokens, 4);
    ask(echo, "echo", "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80x");
    expect(echo, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80x", "stop");
    assert_int_equal(echo->completion.usage.completion_tokens, 1);
}

static void max_tokens_cuts_between_characters(void **state)
{
    struct echo *echo = *state;
    const char *messages = "[{\"role\":\"user\",\"content\":\"\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80x"
                           "\xC3\xB6yz\"}]";
    ask_with(echo, "echo", messages, 1);
    expect(echo, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80x", "length");
    assert_int_equal(echo->completion.usage.completion_tokens, 1);
    ask_with(echo, "echo", messages, 2);
    expect(echo, "\xC3\xA4\xE2\x82\xAC\xF0\x9F\x98\x80x\xC3\xB6yz", "stop");
    ask_with(echo, "echo", "[{\"role\":\"user\",\"content\":\"12345678\"}]", 2);
    expect(echo, "12345678", "stop");
    ask_with(echo, "echo", "[{\"role\":\"user\",\"content\":\"123456789\"}]", 2);
    expect(echo, "12345678", "length");
}

/* A limit whose fourfold no longer fits a size is no limit of zero. */
static void huge_max_tokens(void **state)
{
    struct echo *echo = *state;
    ask_with(echo, "echo", "[{\"role\":\"user\",\"content\":\"hello\"}]", INT64_C(1) << 62);
    expect(echo, "hello", "stop");
    ask_with(echo, "echo", "[{\"role\":\"user\",\"content\":\"hello\"}]", INT64_MAX);
    expect(echo, "hello", "stop");
}

static void slow_models(void **state)
{
    struct echo *echo = *state;
    static const struct {
        const char *model;
        int64_t delay_ms;
    } models[] = {
        {"echo/slow", 2000},          {"echo/slow-0", 0},      {"echo/slow-250", 250},
        {"echo/slow-600000", 600000}, {"echo/slow-600001", 0}, {"echo/slow-", 0},
        {"echo/slow-1s", 0},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        ask(echo, models[i].model, "hi");
        if (echo->reply.delay_ms != models[i].delay_ms)
            fail_msg("%s takes %lld ms", models[i].model, (long long)echo->reply.delay_ms);
        assert_false(echo->reply.never);
        expect(echo, "hi", "stop");
        assert_true(str_eq(echo->completion.model, str_of(models[i].model)));
    }
}

static void failing_models(void **state)
{
    struct echo *echo = *state;
    static const struct {
        const char *model;
        int status;
        enum provider_fault fault;
    } models[] = {
        {"echo/fail-400", 400, FAULT_REQUEST},  {"echo/fail-401", 401, FAULT_CREDENTIAL},
        {"echo/fail-404", 404, FAULT_MODEL},    {"echo/fail-429", 429, FAULT_LATER},
        {"echo/fail-503", 503, FAULT_PROVIDER}, {"echo/fail-599", 599, FAULT_PROVIDER},
    };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        struct refusal refusal = {0};
        ask(echo, models[i].model, "hi");
        assert_int_equal(echo->reply.status, models[i].status);
        assert_int_equal(provider_echo.read_error(&echo->reply, &echo->arena, &refusal),
                         models[i].fault);
        assert_true(str_starts(refusal.said, STR("echo was asked to fail with status ")));
    }
}

static void no_failure_outside_the_range(void **state)
{
    struct echo *echo = *state;
    static const char *const models[] = {"echo/fail-200", "echo/fail-399", "echo/fail-600",
                                         "echo/fail-",    "echo/fail-x",   "gpt-4o"};
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) {
        ask(echo, models[i], "hi");
        expect(echo, "hi", "stop");
    }
}

static void invalid_json_model(void **state)
{
    struct echo *echo = *state;
    ask(echo, "echo/invalid-json", "hi");
    assert_int_equal(echo->reply.status, 200);
    assert_true(echo->reply.body.len > 0);
    assert_false(read_answer(echo));
    assert_true(str_starts(str_of(echo->error.message), STR("the answer is not JSON: ")));
}

static void no_choices_model(void **state)
{
    struct echo *echo = *state;
    ask(echo, "echo/no-choices", "hi");
    assert_int_equal(echo->reply.status, 200);
    assert_false(read_answer(echo));
    assert_string_equal(echo->error.message, "the answer has no choices");
}

static void never_model(void **state)
{
    struct echo *echo = *state;
    ask(echo, "echo/never", "hi");
    assert_true(echo->reply.never);
}

static void registry(void **state)
{
    (void)state;
    assert_ptr_equal(provider_of(PROVIDER_ECHO, MODEL_API_CHAT), &provider_echo);
    assert_ptr_equal(provider_of(PROVIDER_OPENAI, MODEL_API_CHAT), &provider_openai);
    assert_null(provider_openai.answer);
    for (int id = 0; id < PROVIDER_COUNT; id++)
        assert_non_null(provider_of((enum provider_id)id, MODEL_API_CHAT));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(echoes_last_user_message),
        TEST(joins_text_parts),
        TEST(nothing_to_echo),
        TEST(usage_is_the_estimate),
        TEST(max_tokens_cuts_between_characters),
        TEST(huge_max_tokens),
        TEST(slow_models),
        TEST(failing_models),
        TEST(no_failure_outside_the_range),
        TEST(invalid_json_model),
        TEST(no_choices_model),
        TEST(never_model),
        cmocka_unit_test(registry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
