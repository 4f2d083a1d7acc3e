/* Streamed answers of every provider, whole, byte by byte and cut in two at every place: the same
 * is collected, and a client that reads OpenAI's shape reads the same. */
#include "worker/provider/chunks.h"
#include "worker/upstream/event_reader.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* What the events of OpenAI's shape begin with here. */
#define CHUNK_OF_1                                                                                 \
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m1\","    \
    "\"choices\":[{\"index\":0,"
#define USAGE "\"usage\":{\"prompt_tokens\":21,\"completion_tokens\":9,\"total_tokens\":30}"

static const struct sample {
    const char *name;
    enum provider_id provider;
    enum model_api api;
    const char *stream, *collected;
} samples[] = {
    /* An event a line. */
    /* clang-format off */
    {"openai", PROVIDER_OPENAI, MODEL_API_CHAT,
     CHUNK_OF_1 "\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"content\":\"Stock \"},\"finish_reason\":null}],\"usage\":null}\n\n"
     CHUNK_OF_1 "\"delta\":{\"content\":\"is 4.\"},\"finish_reason\":null}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"tool_calls\":[{\"index\":0,\"id\":\"call_a1\",\"type\":\"function\",\"function\":{\"name\":\"lookup\",\"arguments\":\"\"}}]}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"sku\\\":\"}}]}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"\\\"Q7\\\"}\"}}]}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\n"
     "data: {\"id\":\"c1\",\"choices\":[]," USAGE "}\n\n"
     "data: [DONE]\n\n",
     "c1 m1 [Stock is 4.] call_a1 lookup {\"sku\":\"Q7\"} tool_calls 21+9 end"},
    {"groq", PROVIDER_GROQ, MODEL_API_CHAT,
     CHUNK_OF_1 "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}],\"x_groq\":{\"id\":\"r\"}}\n\n"
     CHUNK_OF_1 "\"delta\":{\"reasoning\":\"count\"}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"content\":\"Four left.\"}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{},\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"r\"," USAGE "}}\n\n"
     "data: [DONE]\n\n",
     "c1 m1 [Four left.] stop 21+9 end"},
    {"mistral", PROVIDER_MISTRAL, MODEL_API_CHAT,
     CHUNK_OF_1 "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"content\":[{\"type\":\"thinking\",\"thinking\":[]},{\"type\":\"text\",\"text\":\"Let me look.\"}]}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"content\":\"\",\"tool_calls\":[{\"id\":\"aB3dE6gH9\",\"function\":{\"name\":\"lookup\",\"arguments\":{\"sku\":\"Q7\"}}}]},\"finish_reason\":\"tool_calls\"}]," USAGE "}\n\n"
     "data: [DONE]\n\n",
     "c1 m1 [Let me look.] aB3dE6gH9 lookup {\"sku\":\"Q7\"} tool_calls 21+9 end"},
    {"together", PROVIDER_TOGETHER, MODEL_API_CHAT,
     CHUNK_OF_1 "\"delta\":{\"role\":\"assistant\",\"content\":\"Four\",\"token_id\":9}}]}\n\n"
     CHUNK_OF_1 "\"delta\":{\"role\":\"assistant\",\"content\":\" left.\"},\"finish_reason\":\"eos\"}]," USAGE "}\n\n"
     "data: [DONE]\n\n",
     "c1 m1 [Four left.] stop 21+9 end"},
    {"anthropic", PROVIDER_ANTHROPIC, MODEL_API_CHAT,
     "event: message_start\n"
     "data: {\"type\":\"message_start\",\"message\":{\"id\":\"c1\",\"model\":\"m1\",\"content\":[],\"usage\":{\"input_tokens\":5,\"cache_read_input_tokens\":16,\"output_tokens\":1}}}\n\n"
     "event: content_block_start\n"
     "data: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
     "event: ping\n"
     "data: {\"type\":\"ping\"}\n\n"
     "event: content_block_delta\n"
     "data: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Let me look.\"}}\n\n"
     "event: content_block_stop\n"
     "data: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
     "event: content_block_start\n"
     "data: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"lookup\",\"input\":{}}}\n\n"
     "event: content_block_delta\n"
     "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"{\\\"sku\\\":\"}}\n\n"
     "event: content_block_delta\n"
     "data: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":\"\\\"Q7\\\"}\"}}\n\n"
     "event: content_block_stop\n"
     "data: {\"type\":\"content_block_stop\",\"index\":1}\n\n"
     "event: content_block_start\n"
     "data: {\"type\":\"content_block_start\",\"index\":2,\"content_block\":{\"type\":\"tool_use\",\"id\":\"t2\",\"name\":\"now\",\"input\":{}}}\n\n"
     "event: content_block_stop\n"
     "data: {\"type\":\"content_block_stop\",\"index\":2}\n\n"
     "event: message_delta\n"
     "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\n"
     "event: message_stop\n"
     "data: {\"type\":\"message_stop\"}\n\n",
     "c1 m1 [Let me look.] t1 lookup {\"sku\":\"Q7\"} t2 now {} tool_calls 21+9 end"},
    {"gemini", PROVIDER_GEMINI, MODEL_API_CHAT,
     "data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"hm\",\"thought\":true},{\"text\":\"Let me\"}]},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":21},\"modelVersion\":\"m1\",\"responseId\":\"c1\"}\r\n\r\n"
     "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"id\":\"fn1\",\"name\":\"lookup\",\"args\":{\"sku\":\"Q7\"}},\"thoughtSignature\":\"c2ln\"}]}}],\"responseId\":\"c1\"}\r\n\r\n"
     "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":21,\"candidatesTokenCount\":5,\"thoughtsTokenCount\":4}}\r\n\r\n",
     "c1 m1 [Let me] fn1 lookup {\"sku\":\"Q7\"} tool_calls 21+9"},
    {"ollama", PROVIDER_OLLAMA, MODEL_API_CHAT,
     "{\"model\":\"m1\",\"message\":{\"role\":\"assistant\",\"content\":\"Four\"},\"done\":false}\n"
     "{\"model\":\"m1\",\"message\":{\"content\":\"\",\"thinking\":\"hm\"},\"done\":false}\n"
     "{\"model\":\"m1\",\"message\":{\"content\":\"\",\"tool_calls\":[{\"id\":\"o1\",\"function\":{\"name\":\"lookup\",\"arguments\":{\"sku\":\"Q7\"}}}]},\"done\":false}\n"
     "{\"model\":\"m1\",\"message\":{\"content\":\"\"},\"done\":true,\"done_reason\":\"stop\",\"prompt_eval_count\":21,\"eval_count\":9}\n",
     "default m1 [Four] o1 lookup {\"sku\":\"Q7\"} tool_calls 21+9"},
    {"cohere", PROVIDER_COHERE, MODEL_API_CHAT,
     "event: message-start\n"
     "data: {\"type\":\"message-start\",\"id\":\"c1\",\"delta\":{\"message\":{\"role\":\"assistant\",\"content\":[]}}}\n\n"
     "event: content-start\n"
     "data: {\"type\":\"content-start\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"type\":\"text\",\"text\":\"\"}}}}\n\n"
     "event: content-delta\n"
     "data: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"Four left.\"}}}}\n\n"
     "event: tool-call-start\n"
     "data: {\"type\":\"tool-call-start\",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{\"id\":\"l1\",\"type\":\"function\",\"function\":{\"name\":\"lookup\",\"arguments\":\"\"}}}}}\n\n"
     "event: tool-call-delta\n"
     "data: {\"type\":\"tool-call-delta\",\"index\":0,\"delta\":{\"message\":{\"tool_calls\":{\"function\":{\"arguments\":\"{\\\"sku\\\":\\\"Q7\\\"}\"}}}}}\n\n"
     "event: tool-call-end\n"
     "data: {\"type\":\"tool-call-end\",\"index\":0}\n\n"
     "event: message-end\n"
     "data: {\"type\":\"message-end\",\"id\":\"c1\",\"delta\":{\"finish_reason\":\"TOOL_CALL\",\"usage\":{\"tokens\":{\"input_tokens\":21,\"output_tokens\":9}}}}\n\n",
     "c1 default [Four left.] l1 lookup {\"sku\":\"Q7\"} tool_calls 21+9"},
    {"responses", PROVIDER_OPENAI, MODEL_API_RESPONSES,
     "event: response.created\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":1795000000,\"model\":\"gpt-r\",\"status\":\"in_progress\",\"output\":[]},\"sequence_number\":0}\n\n"
     "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":0,\"item\":{\"type\":\"message\",\"id\":\"msg_1\",\"role\":\"assistant\",\"content\":[]},\"sequence_number\":1}\n\n"
     "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"Let me look. \",\"sequence_number\":2}\n\n"
     "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"delta\":\"ok\",\"sequence_number\":3}\n\n"
     "event: response.output_text.done\ndata: {\"type\":\"response.output_text.done\",\"item_id\":\"msg_1\",\"output_index\":0,\"content_index\":0,\"text\":\"Let me look. ok\",\"sequence_number\":4}\n\n"
     "event: response.output_item.added\ndata: {\"type\":\"response.output_item.added\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"call_r1\",\"name\":\"lookup\",\"arguments\":\"\",\"status\":\"in_progress\"},\"sequence_number\":5}\n\n"
     "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"fc_1\",\"output_index\":1,\"delta\":\"{\\\"sku\\\":\",\"sequence_number\":6}\n\n"
     "event: response.function_call_arguments.delta\ndata: {\"type\":\"response.function_call_arguments.delta\",\"item_id\":\"fc_1\",\"output_index\":1,\"delta\":\"\\\"Q7\\\"}\",\"sequence_number\":7}\n\n"
     "event: response.output_item.done\ndata: {\"type\":\"response.output_item.done\",\"output_index\":1,\"item\":{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"call_r1\",\"name\":\"lookup\",\"arguments\":\"{\\\"sku\\\":\\\"Q7\\\"}\",\"status\":\"completed\"},\"sequence_number\":8}\n\n"
     "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":1795000000,\"model\":\"gpt-r\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":21,\"input_tokens_details\":{\"cached_tokens\":16},\"output_tokens\":9,\"output_tokens_details\":{\"reasoning_tokens\":4},\"total_tokens\":30}},\"sequence_number\":9}\n\n",
     "resp_1 gpt-r [Let me look. ok] call_r1 lookup {\"sku\":\"Q7\"} tool_calls 21+9"},
    /* clang-format on */
};

/* One that reads a stream. */
struct reading {
    struct streamed streamed;
    struct buf relayed; /* what a client gets, in OpenAI's shape */
    bool ended, failed;
};

static bool on_event(void *context, const struct stream_event *event)
{
    struct reading *reading = context;
    size_t before = reading->relayed.len;
    enum event_kind kind = streamed_read(&reading->streamed, event->data, &reading->relayed);
    reading->ended = reading->ended || kind == EVENT_END;
    reading->failed = reading->failed || kind == EVENT_FAILED;
    bool passes = streamed_is_openai(reading->streamed.provider, reading->streamed.api);
    if (kind == EVENT_CONTENT && passes && reading->relayed.len == before)
        buf_str(&reading->relayed, event->raw);
    return true;
}

static void read_in_pieces(const struct sample *sample, size_t first, size_t each,
                           struct arena *arena, struct reading *reading)
{
    struct str stream = str_of(sample->stream);
    struct event_reader reader = {.framing = streamed_in_lines(sample->provider) ? STREAM_NDJSON
                                                                                 : STREAM_SSE,
                                  .max_event = 1 << 20};
    *reading = (struct reading){.streamed = {.provider = sample->provider,
                                             .api = sample->api,
                                             .arena = arena,
                                             .created_s = 1,
                                             .keeps_text = true,
                                             .default_id = STR("default"),
                                             .default_model = STR("default")}};
    for (size_t at = 0, len = first; at < stream.len; at += len, len = each) {
        len = len < stream.len - at ? len : stream.len - at;
        assert_int_equal(
            event_reader_feed(&reader, (struct str){stream.at + at, len}, on_event, reading),
            STREAM_MORE);
    }
    assert_int_equal(event_reader_end(&reader, on_event, reading), STREAM_MORE);
    chunks_write_finish(&reading->streamed, &reading->relayed);
}

static void release(struct reading *reading)
{
    streamed_free(&reading->streamed);
    buf_free(&reading->relayed);
}

static void describe(const struct reading *reading, struct buf *out)
{
    const struct streamed *streamed = &reading->streamed;
    buf_clear(out);
    buf_str(out, streamed->id.len ? streamed->id : streamed->default_id);
    buf_putc(out, ' ');
    buf_str(out, streamed->model.len ? streamed->model : streamed->default_model);
    buf_puts(out, " [");
    buf_str(out, buf_view(&streamed->text));
    buf_puts(out, "] ");
    for (size_t i = 0; i < streamed->calls_count; i++) {
        buf_str(out, streamed->calls[i].id);
        buf_putc(out, ' ');
        buf_str(out, streamed->calls[i].name);
        buf_putc(out, ' ');
        buf_str(out, buf_view(&streamed->calls[i].arguments));
        buf_putc(out, ' ');
    }
    buf_printf(out, "%s %lld+%lld%s%s", streamed->finish_reason ? streamed->finish_reason : "-",
               (long long)streamed->usage.prompt_tokens,
               (long long)streamed->usage.completion_tokens, reading->ended ? " end" : "",
               reading->failed ? " failed" : "");
}

/* What a client that reads OpenAI's chunks has in the end; the usage comes as it asked for it. */
static void expect_relayed(const struct reading *reading, struct arena *arena, const char *expected)
{
    struct buf stream = {0}, text = {0};
    struct reading client;
    buf_str(&stream, buf_view(&reading->relayed));
    chunks_write_usage(&reading->streamed, &stream);
    if (reading->ended)
        buf_puts(&stream, "data: [DONE]\n\n");
    const struct sample relayed = {.provider = PROVIDER_OPENAI, .stream = buf_cstr(&stream)};
    read_in_pieces(&relayed, stream.len, stream.len, arena, &client);
    describe(&client, &text);
    assert_string_equal(buf_cstr(&text), expected);
    release(&client);
    buf_free(&stream);
    buf_free(&text);
}

static void expect(const struct sample *sample, size_t first, size_t each)
{
    struct arena arena = {0};
    struct reading reading;
    struct buf text = {0};
    read_in_pieces(sample, first, each, &arena, &reading);
    describe(&reading, &text);
    assert_string_equal(buf_cstr(&text), sample->collected);
    expect_relayed(&reading, &arena, sample->collected);
    release(&reading);
    buf_free(&text);
    arena_free(&arena);
}

static void cut_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        size_t len = strlen(samples[i].stream);
        print_message("%s: %zu bytes\n", samples[i].name, len);
        expect(&samples[i], 1, 1);
        for (size_t cut = 1; cut <= len; cut++)
            expect(&samples[i], cut, len);
    }
}

/* What OpenAI's chunks look like, word for word. */
static void the_chunks_themselves(void **state)
{
    (void)state;
#define CHUNK                                                                                      \
    "data: "                                                                                       \
    "{\"id\":\"default\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"m1\","     \
    "\"choices\":[{\"index\":0,\"delta\":{"
    static const char *const expected =
        CHUNK "\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n" CHUNK
              "\"content\":\"Four\"},\"finish_reason\":null}]}\n\n" CHUNK
              "\"reasoning_content\":\"hm\"},\"finish_reason\":null}]}\n\n" CHUNK
              "\"tool_calls\":[{\"index\":0,\"id\":\"o1\",\"type\":\"function\",\"function\":{"
              "\"name\":\"lookup\",\"arguments\":\"\"}}]},\"finish_reason\":null}]}\n\n" CHUNK
              "\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"sku\\\":"
              "\\\"Q7\\\"}\"}}]},\"finish_reason\":null}]}\n\n" CHUNK
              "},\"finish_reason\":\"tool_calls\"}]}\n\n";
    const struct sample *ollama = &samples[6];
    struct arena arena = {0};
    struct reading reading;
    assert_string_equal(ollama->name, "ollama");
    read_in_pieces(ollama, 1, 1, &arena, &reading);
    assert_string_equal(buf_cstr(&reading.relayed), expected);
    release(&reading);
    arena_free(&arena);
}

static void failures(void **state)
{
    (void)state;
    static const struct {
        enum provider_id provider;
        const char *event, *said;
    } cases[] = {
        {PROVIDER_OPENAI, "data: {\"error\":{\"message\":\"Overloaded\"}}\n\n", "Overloaded"},
        {PROVIDER_ANTHROPIC,
         "event: error\ndata: {\"type\":\"error\",\"error\":{\"message\":\"Overloaded\"}}\n\n",
         "Overloaded"},
        {PROVIDER_GEMINI, "data: {\"error\":{\"code\":503,\"message\":\"Overloaded\"}}\n\n",
         "Overloaded"},
        {PROVIDER_GEMINI, "data: {\"candidates\":[{\"finishReason\":\"MALFORMED_RESPONSE\"}]}\n\n",
         "MALFORMED_RESPONSE"},
        {PROVIDER_GROQ, "data: {\"choices\":[],\"x_groq\":{\"error\":\"Stopped\"}}\n\n", "Stopped"},
        {PROVIDER_MISTRAL, "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
         "the model failed"},
        {PROVIDER_OLLAMA, "{\"error\":\"out of memory\"}\n", "out of memory"},
        {PROVIDER_COHERE,
         "data: {\"type\":\"message-end\",\"delta\":{\"finish_reason\":\"ERROR\",\"error\":\"oh\"}}"
         "\n\n",
         "oh"},
        {PROVIDER_OPENAI, "data: {\"choices\":\n\n", "an event is not JSON"},
        {PROVIDER_OPENAI, "data: 7\n\n", "an event is not a JSON object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena arena = {0};
        struct reading reading;
        const struct sample failing = {.provider = cases[i].provider, .stream = cases[i].event};
        size_t len = strlen(failing.stream);
        read_in_pieces(&failing, len, len, &arena, &reading);
        assert_true(reading.failed);
        assert_string_equal(reading.streamed.failure.at, cases[i].said);
        assert_int_equal(reading.relayed.len, 0);
        release(&reading);
        arena_free(&arena);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cut_anywhere),
        cmocka_unit_test(the_chunks_themselves),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
