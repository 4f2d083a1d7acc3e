#include "worker/input/input.h"

enum { DETAILS_MAX = 100 }; /* an answer should not be larger than what it complains of */

/* Where values of variables are looked for, in this order. */
struct places {
    struct json_object *variables; /* the member of that name; NULL = not sent */
    struct json_object *body;      /* the payload's own members */
    struct json_object *input;     /* the object that the input value is; NULL = it is none */
};

/* What is wrong, in the order of the endpoint's variables. */
struct complaints {
    struct exchange *ex;
    const struct api_detail **place;
    unsigned count;
};

/* A JSON pointer to a member (RFC 6901 section 3). */
static const char *pointer(struct exchange *ex, const char *parent, const char *name)
{
    struct buf path = {0};
    buf_printf(&path, "%s/", parent);
    for (; *name; name++) {
        if (*name == '~' || *name == '/')
            buf_puts(&path, *name == '~' ? "~0" : "~1");
        else
            buf_putc(&path, *name);
    }
    struct str copy = arena_copy(&ex->arena, buf_view(&path));
    buf_free(&path);
    return copy.at;
}

static void complain(struct complaints *c, const char *parent, const char *name,
                     const char *keyword, const char *message)
{
    if (c->count++ >= DETAILS_MAX)
        return;
    struct api_detail *detail = arena_alloc(&c->ex->arena, sizeof *detail);
    detail->path = pointer(c->ex, parent, name);
    detail->keyword = keyword;
    detail->message = message;
    *c->place = detail;
    c->place = (const struct api_detail **)(uintptr_t)&detail->next;
}

/* ---- names */

bool input_is_variable(const struct config_endpoint *endpoint, struct str name)
{
    for (size_t i = 0; i < endpoint->variables_count; i++)
        if (str_eq(str_of(endpoint->variables[i].name), name))
            return true;
    return false;
}

static void find_unknown(struct complaints *c, struct json_object *object, const char *parent)
{
    struct json_object_iterator it = json_object_iter_begin(object);
    struct json_object_iterator end = json_object_iter_end(object);
    for (; !json_object_iter_equal(&it, &end); json_object_iter_next(&it)) {
        const char *name = json_object_iter_peek_name(&it);
        if (!input_is_variable(c->ex->endpoint, str_of(name)))
            complain(c, parent, name, "unknown", "The endpoint declares no such variable.");
    }
}

/* ---- values */

/* Null is as if it were not there. */
static struct json_object *find(const struct places *places, const char *name, const char **parent)
{
    struct json_object *value = json_member(places->variables, name, NULL);
    *parent = "/variables";
    if (!value) {
        value = json_member(places->body, name, NULL);
        *parent = value ? "" : *parent;
    }
    if (!value) {
        value = json_member(places->input, name, NULL);
        *parent = value ? "/input" : *parent;
    }
    return value;
}

static const char *sentence(struct exchange *ex, const char *message)
{
    return arena_printf(&ex->arena, "The value %s.", message);
}

static struct str value_of(struct complaints *c, const struct variable *variable,
                           const struct places *places)
{
    const char *parent;
    struct str text;
    struct variable_fault fault;
    struct json_object *value = find(places, variable->name, &parent);
    if (!value) {
        if (variable->required)
            complain(c, parent, variable->name, "required", "The variable is required.");
        return variable->standard.at ? variable->standard : STR("");
    }
    if (variable_read(variable, value, &c->ex->arena, &text, &fault))
        return text;
    complain(c, parent, variable->name, fault.keyword, sentence(c->ex, fault.message));
    return STR("");
}

/* A text that is a JSON object counts as that. */
static struct json_object *input_object(struct exchange *ex)
{
    struct json_object *object = ex->input.value;
    struct str text = str_trim_lines(ex->input.text);
    struct error unused;
    if (object || ex->input_owned || text.len == 0 || text.at[0] != '{' ||
        !json_read(text, &ex->input_owned, &unused))
        return json_object_is_type(object, json_type_object) ? object : NULL;
    return ex->input_owned;
}

static void read_all(struct complaints *c, const struct places *places)
{
    const struct config_endpoint *endpoint = c->ex->endpoint;
    struct str *texts = arena_alloc(&c->ex->arena, (endpoint->variables_count + 1) * sizeof *texts);
    for (size_t i = 0; i < endpoint->variables_count; i++)
        texts[i] = value_of(c, &endpoint->variables[i], places);
    c->ex->input.variables = texts;
}

bool input_take_variables(struct exchange *ex, struct json_object *payload)
{
    struct complaints complaints = {.ex = ex, .place = &ex->failure.details};
    struct places places = {.variables = json_member(ex->body, "variables", NULL),
                            .body = ex->body};
    bool declares = ex->endpoint->variables_count > 0;
    if (places.variables && !json_object_is_type(places.variables, json_type_object))
        return input_bad(ex, "variables", "an object");
    if (declares && !payload)
        places.input = input_object(ex);
    read_all(&complaints, &places);
    if (places.variables)
        find_unknown(&complaints, places.variables, "/variables");
    if (declares && payload)
        find_unknown(&complaints, payload, "");
    if (complaints.count == 0)
        return true;
    if (declares)
        exchange_fail_at(ex, API_variables_invalid, "variables",
                         "%u of the variables of endpoint %s cannot be taken; see details.",
                         complaints.count, ex->endpoint->slug);
    else
        exchange_fail_at(ex, API_variables_invalid, "variables",
                         "Endpoint %s declares no variables.", ex->endpoint->slug);
    return false;
}
