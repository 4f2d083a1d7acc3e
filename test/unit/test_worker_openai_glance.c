/* What is recognised at a glance is what a whole reading says of it. */
#include "worker/provider/openai_glance.h"

#include "worker/provider/chunks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define EVENT(choice) "{\"id\":\"i\",\"model\":\"m\",\"choices\":[{\"index\":0," choice "}]}"

static void expect(const char *event, const char *text)
{
    struct buf got = {0};
    buf_puts(&got, "-");
    struct openai_glance seen = {.text = &got}, counted = {0};
    bool plain = openai_glance(str_of(event), &seen);
    if (plain != (text != NULL))
        fail_msg("%s: %d", event, plain);
    assert_int_equal(openai_glance(str_of(event), &counted), plain);
    assert_string_equal(buf_cstr(&got) + 1, text ? text : "");
    if (text)
        assert_int_equal(seen.text_bytes, strlen(text));
    assert_int_equal(counted.text_bytes, seen.text_bytes);
    buf_free(&got);
}

static void text_alone_is_plain(void **state)
{
    (void)state;
    expect(EVENT("\"delta\":{\"content\":\"Hi\"},\"finish_reason\":null"), "Hi");
    expect(EVENT("\"delta\":{\"role\":\"assistant\",\"content\":\"\"}"), "");
    expect(EVENT("\"delta\":{\"role\":\"assistant\",\"content\":null,\"refusal\":null}"), "");
    expect(EVENT("\"delta\":{}"), "");
    expect(EVENT("\"delta\":{\"content\":\"\\u00fc\\n\"}"), "\xC3\xBC\n");
    expect(EVENT("\"delta\":{\"content\":\"a\",\"token_id\":9},\"logprobs\":{\"content\":[\"b\"]}"),
           "a");
    expect("{\"usage\":null,\"error\":null,\"x\":{\"choices\":[{\"finish_reason\":\"stop\"}],"
           "\"error\":1},\"choices\":[{\"delta\":{\"content\":\"a\"}}],\"obfuscation\":\"zz\"}",
           "a");
}

static void whatever_tells_more_is_not(void **state)
{
    (void)state;
    static const char *const events[] = {
        EVENT("\"delta\":{},\"finish_reason\":\"stop\""),
        EVENT("\"delta\":{\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}"),
        EVENT("\"delta\":{\"content\":{}}"),
        EVENT("\"delta\":{\"content\":7}"),
        EVENT("\"delta\":{\"content\":\"\\ud83d\"}"),
        EVENT("\"delta\":{\"content\":\"a\",\"tool_calls\":[]}"),
        EVENT("\"delta\":{\"refusal\":\"no\"}"),
        EVENT("\"delta\":{\"reasoning_content\":\"hm\"}"),
        EVENT("\"delta\":null"),
        EVENT("\"delta\":\"a\""),
        EVENT("\"delta\":[]"),
        "{\"choices\":[]}",
        "{\"choices\":null}",
        "{\"choices\":{}}",
        "{\"choices\":[null]}",
        "{\"choices\":[[]]}",
        "{\"choices\":[{\"delta\":{}},{\"delta\":{}}]}",
        "{\"choices\":[{\"delta\":{}}],\"usage\":{}}",
        "{\"choices\":[{\"delta\":{}}],\"error\":\"x\"}",
        "{\"choices\":[{\"delta\":{}}],\"error\":false}",
        "{\"choices\":[{\"delta\":{}}],\"x_groq\":{\"error\":\"x\"}}",
        "[{\"delta\":{\"content\":\"a\"}}]",
        "{}",
        "\"a\"",
        "null",
        "{\"choices\":[{\"delta\":{\"content\":\"a\"}}]",
        "{\"choices\":[{\"delta\":{\"content\":\"a\",\"content\":\"b\"}}]}",
        "",
    };
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        expect(events[i], NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_alone_is_plain),
        cmocka_unit_test(whatever_tells_more_is_not),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
