#include "shared/base/json.h"
#include "shared/prompt/template.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Renders `source` over `input`; `out` holds the text, or the error's message on failure. */
static const struct template_names no_names;

static bool render(struct str source, const struct template_input *input, struct buf *out)
{
    struct arena arena = {0};
    struct template *template = NULL;
    struct error error = {{0}};
    size_t offset;
    buf_clear(out);
    if (!template_compile(source, &no_names, &arena, &template, &offset, &error))
        fail_msg("%.*s: %s", STR_ARG(source), error.message);
    bool ok = template_render(template, input, out, &error);
    if (!ok)
        buf_puts(out, error.message);
    arena_free(&arena);
    return ok;
}

static struct json_object *read_value(const char *text)
{
    struct json_object *value;
    struct error error = {{0}};
    if (!json_read(str_of(text), &value, &error))
        fail_msg("%s: %s", text, error.message);
    return value;
}

static const char document[] =
    "{\"a\":{\"b\":\"deep\",\"0\":\"zero\"},\"items\":[\"x\",{\"y\":2},[3]],"
    "\"n\":null,\"t\":true,\"big\":12345678901234567890123,"
    "\"first name\":\"Ann\",\"tpl\":\"{{input.a.b}}\",\"\":\"empty\","
    "\"text\":\"{\\\"k\\\":1}\"}";

static void renders_values_and_paths(void **state)
{
    (void)state;
    static const struct {
        struct str source;
        const char *expected;
    } cases[] = {
        {STR(""), ""},
        {STR("no placeholder"), "no placeholder"},
        {STR("{ } {a} }} }"), "{ } {a} }} }"},
        {STR("{{input.a.b}}"), "deep"},
        {STR("<{{input.a.b}}>"), "<deep>"},
        {STR("{{ input.a.b }}"), "deep"},
        {STR("{{\t\n input.a.b\r\n}}"), "deep"},
        {STR("{{input.a.b}}{{input.t}}"), "deeptrue"},
        {STR("{{input.a}}"), "{\"b\":\"deep\",\"0\":\"zero\"}"},
        {STR("{{input.a.0}}"), "zero"},
        {STR("{{input.items.0}}"), "x"},
        {STR("{{input.items.1.y}}"), "2"},
        {STR("{{input.items.2}}"), "[3]"},
        {STR("{{input.items.2.0}}"), "3"},
        {STR("{{input.n}}"), "null"},
        {STR("{{input.big}}"), "12345678901234567890123"},
        {STR("{{input.first name}}"), "Ann"},
        {STR("{{input.text}}"), "{\"k\":1}"},
        {STR("{{{{input}}"), "{{input}}"},
        {STR("{{{{"), "{{"},
        {STR("{{{{{{{{"), "{{{{"},
        {STR("{{{{{{input.t}}"), "{{true"},
        {STR("a{{{{b{{input.t}}c"), "a{{btruec"},
        {STR("{{input.t}}}}"), "true}}"},
        {STR("{\"v\":{{input.t}}}"), "{\"v\":true}"},
        {STR("{{{{{"), "{{{"},
    };
    struct template_input input = {.value = read_value(document)};
    struct buf out = {0};
    for (size_t i = 0; i < COUNT(cases); i++) {
        assert_true(render(cases[i].source, &input, &out));
        assert_string_equal(buf_cstr(&out), cases[i].expected);
    }
    buf_free(&out);
    json_object_put(input.value);
}

static void what_was_substituted_is_not_looked_at_again(void **state)
{
    (void)state;
    struct template_input value = {.value = read_value(document)};
    struct template_input text = {.text = STR("{{input}} {{{{ {{input.x}}")};
    struct buf out = {0};
    assert_true(render(STR("{{input.tpl}}"), &value, &out));
    assert_string_equal(buf_cstr(&out), "{{input.a.b}}");
    assert_true(render(STR("{{input}}"), &text, &out));
    assert_string_equal(buf_cstr(&out), "{{input}} {{{{ {{input.x}}");
    buf_free(&out);
    json_object_put(value.value);
}

static void assert_whole(struct template_input input, const char *expected)
{
    struct buf out = {0};
    assert_true(render(STR("{{input}}"), &input, &out));
    assert_string_equal(buf_cstr(&out), expected);
    buf_free(&out);
    json_object_put(input.value);
}

static void the_whole_input_is_text_or_compact_json(void **state)
{
    (void)state;
    assert_whole((struct template_input){.text = STR("as it is { }")}, "as it is { }");
    assert_whole((struct template_input){.text = STR("")}, "");
    assert_whole((struct template_input){.text = STR(" {\"a\": 1} ")}, " {\"a\": 1} ");
    assert_whole((struct template_input){0}, "null");
    assert_whole((struct template_input){.value = read_value("\"a\\nb\"")}, "a\nb");
    assert_whole((struct template_input){.value = read_value("{\"a\" : [1, 2.50]}")},
                 "{\"a\":[1,2.50]}");
    assert_whole((struct template_input){.value = read_value("1e400")}, "1e400");
}

static void a_path_reads_a_text_as_json(void **state)
{
    (void)state;
    struct template_input plain = {.text = STR(" {\"a\":[1,{\"b\":\"c\"}]} ")};
    struct template_input string = {.value = read_value("\"[\\\"x\\\"]\"")};
    struct buf out = {0};
    assert_true(render(STR("{{input.a.1.b}}{{input.a.0}}"), &plain, &out));
    assert_string_equal(buf_cstr(&out), "c1");
    assert_true(render(STR("{{input.0}}|{{input}}"), &string, &out));
    assert_string_equal(buf_cstr(&out), "x|[\"x\"]");
    buf_free(&out);
    json_object_put(string.value);
}

static void a_missing_path_is_named(void **state)
{
    (void)state;
    static const char *const missing[] = {
        "z",
        "a.z",
        "a.b.c",
        "items.3",
        "items.00",
        "items.-1",
        "items.x",
        "items.1.z",
        "n.x",
        "t.x",
        "items.99999999999999999999",
        "big.0",
        "A",
        "items.01",
        "text.k",
        "a.b.0",
    };
    struct template_input input = {.value = read_value(document)};
    struct buf out = {0}, source = {0};
    for (size_t i = 0; i < COUNT(missing); i++) {
        buf_clear(&source);
        buf_printf(&source, "before {{ input.%s }}", missing[i]);
        assert_false(render(buf_view(&source), &input, &out));
        buf_clear(&source);
        buf_printf(&source, "the input has no value for {{input.%s}}", missing[i]);
        assert_string_equal(buf_cstr(&out), buf_cstr(&source));
    }
    buf_free(&source);
    buf_free(&out);
    json_object_put(input.value);
}

static void a_path_into_what_is_no_json_is_missing(void **state)
{
    (void)state;
    static const struct template_input inputs[] = {
        {.text = STR("plain")},
        {.text = STR("{broken")},
        {.text = STR("")},
        {.text = STR("\"x\"")},
        {.text = STR("17")},
        {.text = STR("[1,2] x")},
        {0},
    };
    struct buf out = {0};
    for (size_t i = 0; i < COUNT(inputs); i++)
        assert_false(render(STR("{{input.0}}"), &inputs[i], &out));
    buf_free(&out);
}

static void failure_leaves_the_output_alone(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct template *template;
    struct template_input input = {.text = STR("x")};
    struct buf out = {0};
    struct error error;
    size_t offset;
    buf_puts(&out, "head");
    assert_true(template_compile(STR("a{{input}}{{input.b}}"), &no_names, &arena, &template,
                                 &offset, &error));
    assert_false(template_render(template, &input, &out, &error));
    assert_string_equal(buf_cstr(&out), "head");
    buf_free(&out);
    arena_free(&arena);
}

static void mistakes_are_found_where_they_stand(void **state)
{
    (void)state;
    static const struct {
        struct str source;
        size_t offset;
        const char *message;
    } cases[] = {
        {STR("{{"), 0, "no }} closes it"},
        {STR("ab{{input"), 2, "no }} closes it"},
        {STR("{{input}"), 0, "no }} closes it"},
        {STR("{{input}} {{input"), 10, "no }} closes it"},
        {STR("{{}}"), 0, "{{}}: unknown name"},
        {STR("{{ }}"), 0, "unknown name"},
        {STR("x {{name}}"), 2, "{{name}}: unknown name"},
        {STR("{{Input}}"), 0, "unknown name"},
        {STR("{{inputs}}"), 0, "unknown name"},
        {STR("{{inputs.a}}"), 0, "unknown name"},
        {STR("{{.input}}"), 0, "unknown name"},
        {STR("{{a.input}}"), 0, "unknown name"},
        {STR("{{input .a}}"), 0, "unknown name"},
        {STR("{{input.}}"), 0, "an empty step"},
        {STR("{{input.a.}}"), 0, "an empty step"},
        {STR("{{input..a}}"), 0, "an empty step"},
        {STR("{{input.a. b}}"), 0, "white space beside a dot"},
        {STR("{{input.a .b}}"), 0, "white space beside a dot"},
        {STR("{{input.{a}}"), 0, "a brace in a name"},
        {STR("{{input {{input}}"), 0, "a brace in a name"},
        {STR("{{{input}}}"), 0, "a brace in a name"},
        {STR("{{input.a\0}}"), 0, "a NUL character"},
        {STR("{{{{{{x}}"), 4, "unknown name"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct arena arena = {0};
        struct template *template;
        struct error error = {{0}};
        size_t offset = 99;
        assert_false(
            template_compile(cases[i].source, &no_names, &arena, &template, &offset, &error));
        assert_int_equal(offset, cases[i].offset);
        if (!strstr(error.message, cases[i].message))
            fail_msg("%.*s: %s", STR_ARG(cases[i].source), error.message);
        arena_free(&arena);
    }
}

/* The source may be gone when the template is used. */
static void a_template_owns_its_text(void **state)
{
    (void)state;
    struct arena arena = {0};
    struct template *template;
    struct template_input input = {.value = read_value("{\"k\":\"v\"}")};
    struct buf out = {0};
    struct error error;
    size_t offset;
    char *source = strdup("head {{input.k}} tail");
    assert_true(template_compile(str_of(source), &no_names, &arena, &template, &offset, &error));
    memset(source, 'X', strlen(source));
    free(source);
    assert_int_equal(template->count, 3);
    assert_int_equal(template->pieces[1].path_length, 1);
    assert_true(str_eq(template->pieces[1].text, STR("k")));
    assert_true(template_render(template, &input, &out, &error));
    assert_string_equal(buf_cstr(&out), "head v tail");
    buf_free(&out);
    json_object_put(input.value);
    arena_free(&arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(renders_values_and_paths),
        cmocka_unit_test(what_was_substituted_is_not_looked_at_again),
        cmocka_unit_test(the_whole_input_is_text_or_compact_json),
        cmocka_unit_test(a_path_reads_a_text_as_json),
        cmocka_unit_test(a_missing_path_is_named),
        cmocka_unit_test(a_path_into_what_is_no_json_is_missing),
        cmocka_unit_test(failure_leaves_the_output_alone),
        cmocka_unit_test(mistakes_are_found_where_they_stand),
        cmocka_unit_test(a_template_owns_its_text),
    };
    return cmocka_run_group_tests_name("prompt/template", tests, NULL, NULL);
}
