#include "shared/prompt/template.h"

#include "shared/base/json.h"

/* --- compiling --- */

struct compiler {
    struct str source; /* the arena's copy */
    const struct template_names *names;
    struct arena *arena;
    struct template *template;
    size_t *offset;
    struct error *error;
};

static bool refuse(struct compiler *c, struct str placeholder, const char *why)
{
    *c->offset = (size_t)(placeholder.at - c->source.at);
    return error_set(c->error, "%.*s: %s", STR_ARG(placeholder), why);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static struct str strip(struct str s)
{
    while (s.len && is_space(*s.at)) {
        s.at++;
        s.len--;
    }
    while (s.len && is_space(s.at[s.len - 1]))
        s.len--;
    return s;
}

/* The bytes from `start` up to the first `needle`, or absent when there is none. */
static struct str until(struct str s, size_t start, const char *needle)
{
    const char *found = memmem(s.at + start, s.len - start, needle, strlen(needle));
    return found ? (struct str){s.at + start, (size_t)(found - s.at) - start} : STR_ABSENT;
}

static void add_piece(struct compiler *c, struct template_piece piece)
{
    c->template->pieces[c->template->count++] = piece;
}

static void add_literal(struct compiler *c, size_t start, size_t end)
{
    if (end > start)
        add_piece(c, (struct template_piece){.kind = TEMPLATE_LITERAL,
                                             .text = {c->source.at + start, end - start}});
}

static size_t count_steps(struct str path)
{
    size_t count = 0;
    while (path.at) {
        str_split(&path, '.');
        count++;
    }
    return count;
}

static bool split_path(struct compiler *c, struct str placeholder, struct template_piece *piece)
{
    struct str rest = piece->text;
    piece->path_length = count_steps(rest);
    piece->path = arena_alloc(c->arena, piece->path_length * sizeof *piece->path);
    for (size_t i = 0; i < piece->path_length; i++) {
        struct str step = str_split(&rest, '.');
        if (step.len == 0)
            return refuse(c, placeholder, "an empty step in the path");
        if (strip(step).len != step.len)
            return refuse(c, placeholder, "white space beside a dot");
        piece->path[i] = arena_copy(c->arena, step); /* NUL-terminated, for json_member */
    }
    return true;
}

static bool add_variable(struct compiler *c, struct str placeholder, struct str name,
                         struct str members)
{
    size_t i = 0;
    while (i < c->names->count && !str_eq(str_of(c->names->at[i]), name))
        i++;
    if (i == c->names->count)
        return refuse(c, placeholder,
                      "unknown name: a template knows {{input}}, its members and the endpoint's "
                      "variables");
    if (members.at)
        return refuse(c, placeholder, "a variable has no members");
    add_piece(c, (struct template_piece){.kind = TEMPLATE_VARIABLE, .variable = i});
    return true;
}

static bool add_placeholder(struct compiler *c, struct str placeholder)
{
    struct str rest = strip((struct str){placeholder.at + 2, placeholder.len - 4});
    if (memchr(rest.at, '\0', rest.len))
        return refuse(c, placeholder, "a NUL character in a name");
    if (memchr(rest.at, '{', rest.len) || memchr(rest.at, '}', rest.len))
        return refuse(c, placeholder, "a brace in a name (write {{{{ for a literal {{)");
    struct str name = str_split(&rest, '.');
    if (!str_eq(name, STR("input")))
        return add_variable(c, placeholder, name, rest);
    struct template_piece piece = {.kind = TEMPLATE_INPUT, .text = rest};
    if (rest.at && !split_path(c, placeholder, &piece))
        return false;
    add_piece(c, piece);
    return true;
}

/* Compiles what begins with two braces at `start`; `*end` is where the text goes on. */
static bool compile_braces(struct compiler *c, size_t start, size_t *end)
{
    struct str rest = {c->source.at + start, c->source.len - start};
    if (str_starts(rest, STR("{{{{"))) {
        add_literal(c, start, start + 2);
        *end = start + 4;
        return true;
    }
    struct str name = until(rest, 2, "}}");
    if (!name.at)
        return refuse(c, (struct str){rest.at, 2}, "no }} closes it");
    *end = start + name.len + 4;
    return add_placeholder(c, (struct str){rest.at, name.len + 4});
}

/* At most this many pieces: a literal before each pair of braces, the pair's own, one behind. */
static size_t piece_limit(struct str source)
{
    size_t limit = 1;
    for (size_t i = 0; i + 1 < source.len; i++)
        if (source.at[i] == '{' && source.at[i + 1] == '{')
            limit += 2;
    return limit;
}

static bool compile(struct compiler *c)
{
    size_t start = 0;
    for (;;) {
        struct str literal = until(c->source, start, "{{");
        size_t end = literal.at ? start + literal.len : c->source.len;
        add_literal(c, start, end);
        if (!literal.at)
            return true;
        if (!compile_braces(c, end, &start))
            return false;
    }
}

bool template_compile(struct str source, const struct template_names *names, struct arena *arena,
                      struct template **result, size_t *offset, struct error *error)
{
    struct template *template = arena_alloc(arena, sizeof *template);
    template->pieces = arena_alloc(arena, piece_limit(source) * sizeof *template->pieces);
    struct compiler c = {
        arena_copy(arena, source.at ? source : STR("")), names, arena, template, offset, error};
    *offset = 0;
    if (!compile(&c))
        return false;
    *result = template;
    return true;
}

/* --- rendering --- */

struct renderer {
    const struct template_input *input;
    struct str text;            /* the input's text, absent when it is no text */
    struct json_object *parsed; /* of that text, once a path asked for it */
    bool tried;
    struct buf *out;
    struct error *error;
};

/* The value that paths lead into. */
static struct json_object *root(struct renderer *r)
{
    if (!r->text.at)
        return r->input->value;
    struct str text = strip(r->text);
    if (!r->tried && text.len && (*text.at == '{' || *text.at == '[')) {
        struct error unused;
        if (!json_read(text, &r->parsed, &unused))
            r->parsed = NULL;
    }
    r->tried = true;
    return r->parsed;
}

static bool element(struct json_object *array, struct str step, struct json_object **value)
{
    unsigned long long index;
    if (!str_to_u64(step, &index) || (step.len > 1 && step.at[0] == '0') ||
        index >= json_object_array_length(array))
        return false;
    *value = json_object_array_get_idx(array, (size_t)index);
    return true;
}

static bool walk(struct json_object *value, const struct template_piece *piece,
                 struct json_object **found)
{
    for (size_t i = 0; i < piece->path_length; i++) {
        bool present;
        if (json_object_is_type(value, json_type_array))
            present = element(value, piece->path[i], &value);
        else
            value = json_member(value, piece->path[i].at, &present);
        if (!present)
            return false;
    }
    *found = value;
    return true;
}

static void put_value(struct renderer *r, struct json_object *value)
{
    struct str text = json_text(value);
    if (text.at)
        buf_str(r->out, text);
    else
        json_write(r->out, value);
}

static bool render_input(struct renderer *r, const struct template_piece *piece)
{
    struct json_object *value;
    if (piece->path_length == 0) {
        if (r->text.at)
            buf_str(r->out, r->text);
        else
            json_write(r->out, r->input->value);
        return true;
    }
    if (!walk(root(r), piece, &value))
        return error_set(r->error, "the input has no value for {{input.%.*s}}",
                         STR_ARG(piece->text));
    put_value(r, value);
    return true;
}

static bool render(struct renderer *r, const struct template *template)
{
    for (size_t i = 0; i < template->count; i++) {
        const struct template_piece *piece = &template->pieces[i];
        if (piece->kind == TEMPLATE_LITERAL)
            buf_str(r->out, piece->text);
        else if (piece->kind == TEMPLATE_VARIABLE)
            buf_str(r->out, r->input->variables[piece->variable]);
        else if (!render_input(r, piece))
            return false;
    }
    return true;
}

bool template_render(const struct template *template, const struct template_input *input,
                     struct buf *out, struct error *error)
{
    struct renderer r = {.input = input,
                         .text = input->value ? json_text(input->value) : input->text,
                         .out = out,
                         .error = error};
    size_t before = out->len;
    bool ok = render(&r, template);
    json_object_put(r.parsed);
    if (!ok)
        out->len = before;
    return ok;
}
