#include "shared/base/json.h"
#include "worker/provider/provider.h"

#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

/* One call with everything that build and read_answer need; a test changes what it is about. */
struct call {
    struct arena arena;
    struct config_header headers[CALL_HEADERS_MAX];
    struct config_credential credential;
    struct config_target target;
    struct client_parameters parameters;
    struct completion_request request;
    struct upstream_call made;
    struct upstream_reply reply;
    struct completion completion;
    struct error error;
};

static struct json_object *json(const char *text)
{
    struct json_object *value;
    struct error error;
    if (!json_read(str_of(text), &value, &error))
        fail_msg("%s: %s", text, error.message);
    return value;
}

static int set_up(void **state)
{
    struct call *call = calloc(1, sizeof *call);
    call->credential = (struct config_credential){
        .name = "main",
        .provider = PROVIDER_OPENAI,
        .base_url = "https://api.example/v1",
        .api_key = "sk-secret",
        .headers = call->headers,
    };
    call->target = (struct config_target){
        .provider = PROVIDER_OPENAI,
        .model = "gpt-4o-mini",
        .credential = &call->credential,
    };
    call->request = (struct completion_request){
        .target = &call->target,
        .messages = json("[{\"role\":\"user\",\"content\":\"Hi\"}]"),
        .parameters = &call->parameters,
        .temperature = NAN,
        .top_p = NAN,
    };
    *state = call;
    return 0;
}

static int tear_down(void **state)
{
    struct call *call = *state;
    json_object_put(call->request.messages);
    json_object_put(call->parameters.values[MEMBER_stop]);
    json_object_put(call->parameters.values[MEMBER_seed]);
    json_object_put(call->parameters.values[MEMBER_tools]);
    json_object_put(call->parameters.values[MEMBER_tool_choice]);
    json_object_put(call->parameters.values[MEMBER_user]);
    json_object_put(call->completion.parsed);
    buf_free(&call->made.body);
    buf_free(&call->reply.body);
    arena_free(&call->arena);
    free(call);
    return 0;
}

/* --- build --- */

static void build(struct call *call)
{
    buf_clear(&call->made.body);
    call->made.headers_count = 0;
    assert_true(provider_openai.build(&call->request, &call->arena, &call->made, &call->error));
}

static void expect_body(struct call *call, const char *body)
{
    build(call);
    assert_string_equal(buf_cstr(&call->made.body), body);
}

static void smallest_body(void **state)
{
    struct call *call = *state;
    expect_body(
        call, "{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]}");
    assert_string_equal(call->made.url, "https://api.example/v1/chat/completions");
}

static void messages_keep_order_and_members(void **state)
{
    struct call *call = *state;
    const char *messages =
        "[{\"role\":\"system\",\"content\":\"S\"},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},"
        "{\"type\":\"image_url\",\"image_url\":{\"url\":\"https://x/y.png\"}}]},"
        "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"c1\","
        "\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]},"
        "{\"role\":\"tool\",\"tool_call_id\":\"c1\",\"content\":\"4\"}]";
    struct buf expected = {0};
    json_object_put(call->request.messages);
    call->request.messages = json(messages);
    buf_printf(&expected, "{\"model\":\"gpt-4o-mini\",\"messages\":%s}", messages);
    expect_body(call, buf_cstr(&expected));
    buf_free(&expected);
}

static void sampling_only_when_set(void **state)
{
    struct call *call = *state;
    call->request.temperature = 0.2;
    expect_body(call, "{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":"
                      "\"Hi\"}],\"temperature\":0.2}");
    call->request.temperature = NAN;
    call->request.top_p = 0;
    expect_body(call, "{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":"
                      "\"Hi\"}],\"top_p\":0}");
}

static void all_parameters(void **state)
{
    struct call *call = *state;
    call->request.max_tokens = 512;
    call->parameters.values[MEMBER_stop] = json("[\"a\",\"b\"]");
    call->parameters.values[MEMBER_seed] = json("18446744073709551615");
    call->parameters.values[MEMBER_tools] =
        json("[{\"type\":\"function\",\"function\":{\"name\":\"f\","
             "\"parameters\":{\"minimum\":1.10,\"maximum\":1e400}}}]");
    call->parameters.values[MEMBER_tool_choice] = json("\"auto\"");
    call->parameters.values[MEMBER_user] = json("\"u \\ud800\"");
    expect_body(call, "{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":"
                      "\"Hi\"}],\"max_completion_tokens\":512,\"stop\":[\"a\",\"b\"],"
                      "\"seed\":18446744073709551615,\"tools\":[{\"type\":\"function\","
                      "\"function\":{\"name\":\"f\",\"parameters\":{\"minimum\":1.10,"
                      "\"maximum\":1e400}}}],\"tool_choice\":\"auto\",\"user\":\"u \\ud800\"}");
}

/* --- those that speak alike, but not the same --- */

#define PLAIN "\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

static uint64_t lacks_of(enum provider_id id)
{
    const struct config_target target = {.provider = id};
    return provider_lacks(&target);
}

static void names_and_ranges_of_each_provider(void **state)
{
    struct call *call = *state;
    static const struct {
        enum provider_id provider;
        const char *body;
    } cases[] = {
        {PROVIDER_OPENAI,
         "{" PLAIN ",\"temperature\":1.5,\"max_completion_tokens\":9,\"stop\":\"x\","
         "\"seed\":7}"},
        {PROVIDER_GROQ, "{" PLAIN ",\"temperature\":1.5,\"max_completion_tokens\":9,\"stop\":\"x\","
                        "\"seed\":7}"},
        {PROVIDER_MISTRAL, "{" PLAIN ",\"temperature\":1,\"max_tokens\":9,\"stop\":\"x\","
                           "\"random_seed\":7}"},
        {PROVIDER_TOGETHER, "{" PLAIN ",\"temperature\":1.5,\"max_tokens\":9,\"stop\":[\"x\"],"
                            "\"seed\":7}"},
    };
    call->request.temperature = 1.5;
    call->request.max_tokens = 9;
    call->parameters.values[MEMBER_stop] = json("\"x\"");
    call->parameters.values[MEMBER_seed] = json("7");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        call->target.provider = cases[i].provider;
        expect_body(call, cases[i].body);
    }
    assert_true(lacks_of(PROVIDER_MISTRAL) & MEMBER_BIT(MEMBER_user));
    assert_true(lacks_of(PROVIDER_GROQ) & MEMBER_BIT(MEMBER_logprobs));
    assert_true(lacks_of(PROVIDER_TOGETHER) & MEMBER_BIT(MEMBER_parallel_tool_calls));
    assert_true(lacks_of(PROVIDER_OPENAI) == 0);
}

/* "Tool-call ids must be exactly 9 of [A-Za-z0-9]": the same one for a call and its result. */
static void mistral_gets_short_ids(void **state)
{
    struct call *call = *state;
    call->target.provider = PROVIDER_MISTRAL;
    json_object_put(call->request.messages);
    call->request.messages =
        json("[{\"role\":\"assistant\",\"content\":\"\",\"tool_calls\":[{\"id\":\"call_1\"},"
             "{\"id\":\"aB3dE6gH9\"}]},{\"role\":\"tool\",\"tool_call_id\":\"call_1\"},"
             "{\"role\":\"tool\",\"tool_call_id\":\"aB3dE6gH9\"}]");
    buf_clear(&call->made.body);
    assert_true(provider_openai.build(&call->request, &call->arena, &call->made, &call->error));
    const char *body = buf_cstr(&call->made.body);
    const char *first = strstr(body, "{\"id\":\"") + 7;
    char id[10] = "", result[64];
    memcpy(id, first, 9);
    assert_int_equal(first[9], '"');
    for (size_t i = 0; i < 9; i++)
        assert_true(isalnum((unsigned char)id[i]));
    snprintf(result, sizeof result, "\"tool_call_id\":\"%s\"", id);
    assert_non_null(strstr(body, result));
    assert_non_null(strstr(body, "{\"id\":\"aB3dE6gH9\"}"));
    assert_null(strstr(body, "call_1"));
    assert_non_null(strstr(json_object_to_json_string(call->request.messages), "call_1"));
}

static void mistral_is_told_to_go_on(void **state)
{
    struct call *call = *state;
    call->target.provider = PROVIDER_MISTRAL;
    json_object_put(call->request.messages);
    call->request.messages = json("[{\"role\":\"assistant\",\"content\":\"Once\"}]");
    expect_body(call,
                "{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"assistant\",\"content\":"
                "\"Once\",\"prefix\":true}]}");
    call->target.provider = PROVIDER_GROQ;
    expect_body(call,
                "{\"model\":\"gpt-4o-mini\",\"messages\":[{\"role\":\"assistant\",\"content\":"
                "\"Once\"}]}");
}

static void model_is_escaped(void **state)
{
    struct call *call = *state;
    call->target.model = "ft:\"x\"\\y";
    expect_body(call, "{\"model\":\"ft:\\\"x\\\"\\\\y\",\"messages\":[{\"role\":\"user\","
                      "\"content\":\"Hi\"}]}");
}

static void expect_header(const struct call *call, size_t index, const char *name,
                          const char *value)
{
    assert_true(index < call->made.headers_count);
    assert_true(str_eq(call->made.headers[index].name, str_of(name)));
    assert_true(str_eq(call->made.headers[index].value, str_of(value)));
}

static void headers(void **state)
{
    struct call *call = *state;
    call->headers[0] = (struct config_header){"OpenAI-Organization", "org-1"};
    call->headers[1] = (struct config_header){"X-Team", "a b"};
    call->credential.headers_count = 2;
    build(call);
    assert_int_equal(call->made.headers_count, 4);
    expect_header(call, 0, "Content-Type", "application/json");
    expect_header(call, 1, "Authorization", "Bearer sk-secret");
    expect_header(call, 2, "OpenAI-Organization", "org-1");
    expect_header(call, 3, "X-Team", "a b");
}

static void no_key_no_authorization(void **state)
{
    struct call *call = *state;
    call->credential.api_key = NULL;
    build(call);
    assert_int_equal(call->made.headers_count, 1);
    expect_header(call, 0, "Content-Type", "application/json");
}

/* The configuration has no more than these. */
static void all_headers_there_may_be(void **state)
{
    struct call *call = *state;
    for (size_t i = 0; i < CONFIG_HEADERS_MAX; i++)
        call->headers[i] = (struct config_header){"X-Y", "z"};
    call->credential.headers_count = CONFIG_HEADERS_MAX;
    build(call);
    assert_int_equal(call->made.headers_count, CONFIG_HEADERS_MAX + 2);
}

/* --- read_answer --- */

static bool read_answer(struct call *call, const char *body)
{
    json_object_put(call->completion.parsed);
    call->completion = (struct completion){0};
    buf_clear(&call->reply.body);
    buf_puts(&call->reply.body, body);
    call->reply.status = 200;
    return provider_openai.read_answer(&call->reply, &call->arena, &call->completion, &call->error);
}

static void read_good(struct call *call, const char *body)
{
    if (!read_answer(call, body))
        fail_msg("%s: %s", body, call->error.message);
}

#define CHOICE(message, reason)                                                                    \
    "{\"choices\":[{\"index\":0,\"message\":" message ",\"finish_reason\":" reason "}]}"

static void answer_with_everything(void **state)
{
    struct call *call = *state;
    read_good(call, "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1795000000,"
                    "\"model\":\"gpt-4o-mini-2026\",\"choices\":[{\"index\":0,\"message\":"
                    "{\"role\":\"assistant\",\"content\":\"Four.\",\"refusal\":null},"
                    "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":21,"
                    "\"completion_tokens\":9,\"total_tokens\":30,\"prompt_tokens_details\":"
                    "{\"cached_tokens\":16,\"cache_write_tokens\":3},"
                    "\"completion_tokens_details\":{\"reasoning_tokens\":4}}}");
    const struct completion *completion = &call->completion;
    assert_true(str_eq(completion->id, STR("chatcmpl-1")));
    assert_true(str_eq(completion->model, STR("gpt-4o-mini-2026")));
    assert_true(str_eq(completion->content, STR("Four.")));
    assert_null(completion->refusal.at);
    assert_null(completion->tool_calls);
    assert_string_equal(completion->finish_reason, "stop");
    assert_true(completion->usage.reported);
    assert_int_equal(completion->usage.prompt_tokens, 21);
    assert_int_equal(completion->usage.completion_tokens, 9);
    assert_int_equal(completion->usage.total_tokens, 30);
    assert_int_equal(completion->usage.cached_tokens, 16);
    assert_int_equal(completion->usage.cache_write_tokens, 3);
    assert_int_equal(completion->usage.reasoning_tokens, 4);
}

static void answer_with_calls(void **state)
{
    struct call *call = *state;
    const char *calls = "[{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
                        "\"arguments\":\"{\\\"a\\\":1}\"}}]";
    struct buf body = {0}, written = {0};
    buf_printf(&body,
               "{\"choices\":[{\"message\":{\"role\":\"assistant\",\"content\":null,"
               "\"tool_calls\":%s},\"finish_reason\":\"tool_calls\"}]}",
               calls);
    read_good(call, buf_cstr(&body));
    assert_null(call->completion.content.at);
    assert_string_equal(call->completion.finish_reason, "tool_calls");
    json_write(&written, call->completion.tool_calls);
    assert_string_equal(buf_cstr(&written), calls);
    assert_false(call->completion.usage.reported);
    buf_free(&body);
    buf_free(&written);
}

static void answer_with_text_and_calls(void **state)
{
    struct call *call = *state;
    read_good(call, CHOICE("{\"content\":\"Let me look.\",\"tool_calls\":[{\"id\":\"c\"}]}",
                           "\"tool_calls\""));
    assert_true(str_eq(call->completion.content, STR("Let me look.")));
    assert_non_null(call->completion.tool_calls);
}

static void answer_with_refusal(void **state)
{
    struct call *call = *state;
    read_good(call, CHOICE("{\"content\":null,\"refusal\":\"I can't.\"}", "\"stop\""));
    assert_null(call->completion.content.at);
    assert_true(str_eq(call->completion.refusal, STR("I can't.")));
}

static void answer_with_empty_parts(void **state)
{
    struct call *call = *state;
    read_good(call, CHOICE("{\"content\":\"\",\"tool_calls\":[]}", "\"length\""));
    assert_non_null(call->completion.content.at);
    assert_int_equal(call->completion.content.len, 0);
    assert_null(call->completion.tool_calls);
    read_good(call, CHOICE("{\"content\":\"x\",\"tool_calls\":null}", "\"stop\""));
    assert_null(call->completion.tool_calls);
    assert_null(call->completion.id.at);
    assert_null(call->completion.model.at);
}

/* Nobody but a provider that lies would let every row grow. */
static void names_too_long_to_be_true(void **state)
{
    struct call *call = *state;
    struct buf body = {0};
    for (size_t len = 256; len <= 257; len++) {
        char *text = malloc(len + 1);
        memset(text, 'm', len);
        text[len] = '\0';
        buf_clear(&body);
        buf_printf(&body, "{\"id\":\"%s\",\"model\":\"%s\",", text, text);
        buf_puts(&body, CHOICE("{\"content\":\"x\"}", "\"stop\"") + 1);
        read_good(call, buf_cstr(&body));
        assert_int_equal(call->completion.id.len, len == 256 ? 256 : 0);
        assert_int_equal(call->completion.model.len, len == 256 ? 256 : 0);
        free(text);
    }
    buf_free(&body);
}

static void strange_usage(void **state)
{
    struct call *call = *state;
    static const char *const usages[] = {
        "null",
        "[]",
        "\"many\"",
    };
    struct buf body = {0};
    for (size_t i = 0; i < sizeof usages / sizeof *usages; i++) {
        buf_clear(&body);
        buf_printf(&body, "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":%s}",
                   usages[i]);
        read_good(call, buf_cstr(&body));
        assert_false(call->completion.usage.reported);
        assert_int_equal(call->completion.usage.total_tokens, 0);
    }
    buf_free(&body);
    read_good(call, "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{"
                    "\"prompt_tokens\":-5,\"completion_tokens\":\"7\",\"total_tokens\":9,"
                    "\"prompt_tokens_details\":null,\"completion_tokens_details\":[3]}}");
    assert_true(call->completion.usage.reported);
    assert_int_equal(call->completion.usage.prompt_tokens, 0);
    assert_int_equal(call->completion.usage.completion_tokens, 0);
    assert_int_equal(call->completion.usage.total_tokens, 0);
    assert_int_equal(call->completion.usage.reasoning_tokens, 0);
}

/* Two counts at int64's end have no sum. */
static void counts_beyond_reason(void **state)
{
    struct call *call = *state;
    read_good(call, "{\"choices\":[{\"message\":{\"content\":\"x\"}}],\"usage\":{"
                    "\"prompt_tokens\":9223372036854775807,"
                    "\"completion_tokens\":9223372036854775807}}");
    assert_true(call->completion.usage.total_tokens >= 0);
    assert_int_equal(call->completion.usage.total_tokens,
                     call->completion.usage.prompt_tokens +
                         call->completion.usage.completion_tokens);
}

static void finish_reasons(void **state)
{
    struct call *call = *state;
    static const struct {
        const char *said, *meant;
    } reasons[] = {
        {"\"stop\"", "stop"},
        {"\"length\"", "length"},
        {"\"tool_calls\"", "tool_calls"},
        {"\"function_call\"", "tool_calls"},
        {"\"content_filter\"", "content_filter"},
        {"\"something new\"", "stop"},
        {"null", "stop"},
        {"7", "stop"},
    };
    struct buf body = {0};
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        buf_clear(&body);
        buf_printf(&body, "{\"choices\":[{\"message\":{\"content\":\"x\"},\"finish_reason\":%s}]}",
                   reasons[i].said);
        read_good(call, buf_cstr(&body));
        assert_string_equal(call->completion.finish_reason, reasons[i].meant);
    }
    buf_free(&body);
}

static void bad_answers(void **state)
{
    struct call *call = *state;
    static const struct {
        const char *body, *sentence;
    } bad[] = {
        {"", "the answer is not JSON: "},
        {"<html>busy</html>", "the answer is not JSON: "},
        {"{\"choices\":[{\"mess", "the answer is not JSON: "},
        {"{\"choices\":[]} {}", "the answer is not JSON: "},
        {"null", "the answer has no choices"},
        {"[]", "the answer has no choices"},
        {"{}", "the answer has no choices"},
        {"{\"choices\":{}}", "the answer has no choices"},
        {"{\"choices\":[]}", "the answer has no choices"},
        {"{\"choices\":[null]}", "the answer's choice has no message"},
        {"{\"choices\":[\"x\"]}", "the answer's choice has no message"},
        {"{\"choices\":[{\"message\":\"x\"}]}", "the answer's choice has no message"},
        {"{\"choices\":[{\"message\":{}}]}", "the message has neither content nor tool calls"},
        {"{\"choices\":[{\"message\":{\"tool_calls\":[]}}]}",
         "the message has neither content nor tool calls"},
        {"{\"choices\":[{\"message\":{\"content\":[{\"type\":\"text\",\"text\":\"x\"}]}}]}",
         "the message's content is not a string"},
        {"{\"choices\":[{\"message\":{\"content\":4}}]}", "the message's content is not a string"},
        {"{\"choices\":[{\"message\":{\"content\":\"x\",\"tool_calls\":{}}}]}",
         "the message's tool_calls are not a list"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (read_answer(call, bad[i].body))
            fail_msg("%s was taken", bad[i].body);
        if (!str_starts(str_of(call->error.message), str_of(bad[i].sentence)))
            fail_msg("%s: %s", bad[i].body, call->error.message);
    }
}

/* --- read_error --- */

static enum provider_fault read_error(struct call *call, int status, const char *body,
                                      struct str *said)
{
    buf_clear(&call->reply.body);
    buf_puts(&call->reply.body, body);
    call->reply.status = status;
    struct refusal refusal = {0};
    enum provider_fault fault = provider_openai.read_error(&call->reply, &call->arena, &refusal);
    *said = refusal.said;
    return fault;
}

static void faults_by_status(void **state)
{
    struct call *call = *state;
    static const struct {
        int status;
        enum provider_fault fault;
    } faults[] = {
        {400, FAULT_REQUEST},    {401, FAULT_CREDENTIAL}, {402, FAULT_CREDENTIAL},
        {403, FAULT_CREDENTIAL}, {404, FAULT_MODEL},      {405, FAULT_REQUEST},
        {408, FAULT_PROVIDER},   {409, FAULT_PROVIDER},   {413, FAULT_REQUEST},
        {415, FAULT_REQUEST},    {422, FAULT_REQUEST},    {425, FAULT_PROVIDER},
        {429, FAULT_LATER},      {500, FAULT_PROVIDER},   {502, FAULT_PROVIDER},
        {503, FAULT_PROVIDER},   {529, FAULT_PROVIDER},   {302, FAULT_PROVIDER},
        {204, FAULT_PROVIDER},
    };
    struct str said;
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) {
        enum provider_fault fault =
            read_error(call, faults[i].status, "{\"error\":{\"message\":\"No.\"}}", &said);
        if (fault != faults[i].fault)
            fail_msg("status %d is fault %d", faults[i].status, fault);
        assert_true(str_eq(said, STR("No.")));
    }
}

static void out_of_money(void **state)
{
    struct call *call = *state;
    struct str said;
    assert_int_equal(
        read_error(call, 429,
                   "{\"error\":{\"message\":\"You exceeded your current quota.\",\"type\":"
                   "\"insufficient_quota\",\"param\":null,\"code\":\"insufficient_quota\"}}",
                   &said),
        FAULT_CREDENTIAL);
    assert_true(str_eq(said, STR("You exceeded your current quota.")));
    assert_int_equal(
        read_error(call, 429, "{\"error\":{\"code\":\"credit_balance_exhausted\"}}", &said),
        FAULT_CREDENTIAL);
    assert_int_equal(read_error(call, 429, "{\"error\":{\"code\":\"slow_down\"}}", &said),
                     FAULT_LATER);
    assert_int_equal(read_error(call, 500, "{\"error\":{\"code\":\"insufficient_quota\"}}", &said),
                     FAULT_PROVIDER);
}

static void what_was_said(void **state)
{
    struct call *call = *state;
    static const struct {
        const char *body, *said;
    } cases[] = {
        {"{\"error\":{\"message\":\"Bad \\\"x\\\"\"}}", "Bad \"x\""},
        {"{\"message\":\"Unauthorized\"}", "Unauthorized"},
        {"{\"error\":\"plain\",\"message\":\"outside\"}", "outside"},
        {"{\"error\":{\"message\":\"\"}}", ""},
        {"{\"error\":{\"message\":7}}", NULL},
        {"{\"error\":{}}", NULL},
        {"{\"error\":null}", NULL},
        {"[{\"error\":{\"message\":\"x\"}}]", NULL},
        {"null", NULL},
        {"\"text\"", NULL},
        {"<html><body>502 Bad Gateway</body></html>", NULL},
        {"{\"error\":{\"message\":\"cut of", NULL},
        {"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str said;
        assert_int_equal(read_error(call, 400, cases[i].body, &said), FAULT_REQUEST);
        if (!str_eq(said, str_of(cases[i].said)) || !said.at != !cases[i].said)
            fail_msg("%s: said \"%.*s\"", cases[i].body, STR_ARG(said));
    }
}

/* It goes on living when the body is gone. */
static void said_outlives_body(void **state)
{
    struct call *call = *state;
    struct str said;
    read_error(call, 400, "{\"error\":{\"message\":\"kept\"}}", &said);
    buf_free(&call->reply.body);
    assert_true(str_eq(said, STR("kept")));
}

static bool answer_of(struct call *call, enum provider_id provider, const char *body)
{
    buf_clear(&call->reply.body);
    json_object_put(call->completion.parsed);
    call->completion = (struct completion){0};
    buf_puts(&call->reply.body, body);
    call->reply.status = 200;
    call->reply.provider = provider;
    return provider_openai.read_answer(&call->reply, &call->arena, &call->completion, &call->error);
}

static void answers_of_each_provider(void **state)
{
    struct call *call = *state;
    assert_true(
        answer_of(call, PROVIDER_MISTRAL,
                  "{\"choices\":[{\"finish_reason\":\"model_length\",\"message\":{\"content\":["
                  "{\"type\":\"thinking\",\"thinking\":[]},{\"type\":\"text\",\"text\":\"Four \"},"
                  "{\"type\":\"text\",\"text\":\"left\"}],\"tool_calls\":[{\"id\":\"a\","
                  "\"function\":{\"name\":\"f\",\"arguments\":{\"a\":1}}}]}}]}"));
    assert_true(str_eq(call->completion.content, STR("Four left")));
    assert_string_equal(call->completion.finish_reason, "length");
    struct buf calls = {0};
    json_write(&calls, call->completion.tool_calls);
    assert_string_equal(buf_cstr(&calls),
                        "[{\"id\":\"a\",\"function\":{\"name\":\"f\",\"arguments\":"
                        "\"{\\\"a\\\":1}\"},\"type\":\"function\"}]");
    buf_free(&calls);
    assert_true(answer_of(call, PROVIDER_TOGETHER,
                          "{\"prompt\":[],\"choices\":[{\"finish_reason\":\"eos\",\"message\":"
                          "{\"content\":\"x\"}}]}"));
    assert_string_equal(call->completion.finish_reason, "stop");
    assert_true(
        answer_of(call, PROVIDER_GROQ,
                  "{\"choices\":[{\"finish_reason\":\"stop\",\"message\":{\"content\":\"x\","
                  "\"reasoning\":\"count\"}}],\"usage\":{\"prompt_tokens\":21,"
                  "\"completion_tokens\":9,\"queue_time\":0.01,\"prompt_tokens_details\":"
                  "{\"cached_tokens\":16}},\"x_groq\":{\"id\":\"r\"}}"));
    assert_int_equal(call->completion.usage.cached_tokens, 16);
    assert_false(
        answer_of(call, PROVIDER_MISTRAL,
                  "{\"choices\":[{\"finish_reason\":\"error\",\"message\":{\"content\":\"\"}}]}"));
    assert_false(answer_of(call, PROVIDER_OPENAI,
                           "{\"choices\":[{\"message\":{\"content\":[]}}]}")); /* never said so */
}

static void errors_of_each_provider(void **state)
{
    struct call *call = *state;
    static const struct {
        enum provider_id provider;
        int status;
        const char *body, *said;
        enum provider_fault fault;
    } cases[] = {
        {PROVIDER_MISTRAL, 400,
         "{\"object\":\"error\",\"message\":\"Expected last role\",\"code\":\"3280\"}",
         "Expected last role", FAULT_REQUEST},
        {PROVIDER_MISTRAL, 422, "{\"detail\":[{\"loc\":[\"body\"],\"msg\":\"Field required\"}]}",
         "Field required", FAULT_REQUEST},
        {PROVIDER_MISTRAL, 401, "{\"detail\":\"Unauthorized\"}", "Unauthorized", FAULT_CREDENTIAL},
        {PROVIDER_MISTRAL, 402, "{}", NULL, FAULT_CREDENTIAL},
        {PROVIDER_GROQ, 400, "{\"error\":{\"message\":\"m\",\"code\":\"tool_use_failed\"}}", "m",
         FAULT_PROVIDER},
        {PROVIDER_GROQ, 413, "{\"error\":{\"message\":\"m\",\"code\":\"rate_limit_exceeded\"}}",
         "m", FAULT_PROVIDER},
        {PROVIDER_GROQ, 413, "{\"error\":{\"message\":\"m\"}}", "m", FAULT_REQUEST},
        {PROVIDER_GROQ, 498, "{\"error\":{\"message\":\"m\"}}", "m", FAULT_LATER},
        {PROVIDER_TOGETHER, 403, "{\"error\":{\"message\":\"too long\"}}", "too long",
         FAULT_REQUEST},
        {PROVIDER_TOGETHER, 402, "{\"error\":{\"message\":\"m\"}}", "m", FAULT_CREDENTIAL},
        {PROVIDER_TOGETHER, 529, "<html>", NULL, FAULT_PROVIDER},
        {PROVIDER_OPENAI, 403, "{\"error\":{\"message\":\"m\"}}", "m", FAULT_CREDENTIAL},
        {PROVIDER_OPENAI, 498, "{}", NULL, FAULT_PROVIDER},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct refusal refusal = {0};
        buf_clear(&call->reply.body);
        buf_puts(&call->reply.body, cases[i].body);
        call->reply.status = cases[i].status;
        call->reply.provider = cases[i].provider;
        assert_int_equal(provider_openai.read_error(&call->reply, &call->arena, &refusal),
                         cases[i].fault);
        assert_true(str_eq(refusal.said, str_of(cases[i].said)));
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(smallest_body),
        TEST(messages_keep_order_and_members),
        TEST(sampling_only_when_set),
        TEST(names_and_ranges_of_each_provider),
        TEST(mistral_gets_short_ids),
        TEST(mistral_is_told_to_go_on),
        TEST(answers_of_each_provider),
        TEST(errors_of_each_provider),
        TEST(all_parameters),
        TEST(model_is_escaped),
        TEST(headers),
        TEST(no_key_no_authorization),
        TEST(all_headers_there_may_be),
        TEST(answer_with_everything),
        TEST(answer_with_calls),
        TEST(answer_with_text_and_calls),
        TEST(answer_with_refusal),
        TEST(answer_with_empty_parts),
        TEST(names_too_long_to_be_true),
        TEST(strange_usage),
        TEST(counts_beyond_reason),
        TEST(finish_reasons),
        TEST(bad_answers),
        TEST(faults_by_status),
        TEST(out_of_money),
        TEST(what_was_said),
        TEST(said_outlives_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
