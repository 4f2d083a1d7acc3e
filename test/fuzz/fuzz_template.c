/* The input is a template, then a NUL, then the text it is rendered with. */
#include "shared/base/json.h"
#include "shared/prompt/template.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void render(const struct template *template, struct template_input input)
{
    struct buf out = {0};
    struct error error;
    buf_puts(&out, "before");
    if (!template_render(template, &input, &out, &error) && out.len != strlen("before"))
        abort();
    buf_free(&out);
}

static void render_both_ways(const struct template *template, struct str text)
{
    const struct str variables[] = {text, STR("{{input}}")};
    struct template_input value = {.variables = variables};
    struct error error;
    render(template, (struct template_input){.text = text, .variables = variables});
    if (!json_read(text, &value.value, &error))
        return;
    render(template, value);
    json_object_put(value.value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const known[] = {"name", "x"};
    static const struct template_names names = {known, 2};
    struct str text = {(const char *)data, size};
    struct str source = str_split(&text, '\0');
    struct arena arena = {0};
    struct template *template;
    struct error error;
    size_t offset;
    if (template_compile(source, &names, &arena, &template, &offset, &error))
        render_both_ways(template, text);
    else if (offset >= source.len)
        abort();
    arena_free(&arena);
    return 0;
}
