#include "worker/provider/schema_form.h"

#include "shared/base/json.h"
#include "shared/base/xalloc.h"

/* --- what each form is like --- */

static const char *const strict_formats[] = {"date-time", "time", "date", "duration", "email",
                                             "hostname",  "ipv4", "ipv6", "uuid",     NULL};
static const char *const anthropic_formats[] = {"date-time", "time",     "date", "duration",
                                                "email",     "hostname", "uri",  "ipv4",
                                                "ipv6",      "uuid",     NULL};
static const char *const date_formats[] = {"date-time", "time", "date", NULL};
static const char *const cohere_formats[] = {"date-time", "time", "date", "uuid", NULL};

static const struct dialect {
    bool closed;        /* objects have the members that are named, and no others */
    bool all_required;  /* and all of them */
    bool some_required; /* or one at least, at the root */
    bool object_root;
    bool typed;       /* every schema says its type, */
    bool single_type; /* and just one */
    bool lone_refs;   /* nothing stands beside a $ref */
    bool recurs;      /* a schema may refer to itself */
    bool const_is_enum;
    bool one_is_any; /* oneOf is written anyOf */
    unsigned depth;  /* most objects within each other; 0 = any number */
    const char *const *formats;
} dialects[FORM_COUNT] = {
    [FORM_STRICT] = {.closed = true,
                     .all_required = true,
                     .object_root = true,
                     .typed = true,
                     .lone_refs = true,
                     .recurs = true,
                     .one_is_any = true,
                     .depth = 10,
                     .formats = strict_formats},
    [FORM_ANTHROPIC] = {.closed = true,
                        .object_root = true,
                        .typed = true,
                        .single_type = true,
                        .lone_refs = true,
                        .one_is_any = true,
                        .formats = anthropic_formats},
    [FORM_GEMINI] = {.typed = true,
                     .lone_refs = true,
                     .const_is_enum = true,
                     .one_is_any = true,
                     .formats = date_formats},
    [FORM_OLLAMA] = {.recurs = true, .formats = cohere_formats},
    [FORM_COHERE] = {.closed = true,
                     .some_required = true,
                     .object_root = true,
                     .typed = true,
                     .single_type = true,
                     .lone_refs = true,
                     .one_is_any = true,
                     .depth = 5,
                     .formats = cohere_formats},
};

/* --- keywords --- */

enum value {
    PLAIN,   /* it is what it is */
    SCHEMA,  /* another schema */
    SCHEMAS, /* a list of them */
    NAMED,   /* an object of them */
};

/* What becomes of a schema whose keyword the form has no word for. */
enum without {
    NOTHING, /* it says nothing about instances */
    TOLD,    /* the model is told in the description */
    LOST,    /* what is left would mean something else */
};

enum {
    STRICT = 1 << FORM_STRICT,
    ANTHROPIC = 1 << FORM_ANTHROPIC,
    GEMINI = 1 << FORM_GEMINI,
    OLLAMA = 1 << FORM_OLLAMA,
    COHERE = 1 << FORM_COHERE,
    ALL = STRICT | ANTHROPIC | GEMINI | OLLAMA | COHERE,
};

/* additionalProperties, required, format, minItems and description are looked at by themselves. */
static const struct keyword {
    const char *name;
    enum value value;
    unsigned forms;
    enum without without;
} keywords[] = {
    {"type", PLAIN, ALL, LOST},
    {"enum", PLAIN, ALL, LOST},
    {"const", PLAIN, ALL, LOST},
    {"$ref", PLAIN, ALL, LOST},
    {"title", PLAIN, ALL, NOTHING},
    {"$defs", NAMED, ALL, LOST},
    {"definitions", NAMED, ALL, LOST},
    {"properties", NAMED, ALL, LOST},
    {"items", SCHEMA, ALL, LOST},
    {"prefixItems", SCHEMAS, GEMINI | OLLAMA, LOST},
    {"anyOf", SCHEMAS, ALL, LOST},
    {"oneOf", SCHEMAS, ALL, LOST},
    {"allOf", SCHEMAS, OLLAMA, LOST},
    {"minimum", PLAIN, STRICT | GEMINI | OLLAMA, TOLD},
    {"maximum", PLAIN, STRICT | GEMINI | OLLAMA, TOLD},
    {"exclusiveMinimum", PLAIN, STRICT | OLLAMA, TOLD},
    {"exclusiveMaximum", PLAIN, STRICT | OLLAMA, TOLD},
    {"multipleOf", PLAIN, STRICT, TOLD},
    {"minItems", PLAIN, STRICT | GEMINI | OLLAMA, TOLD},
    {"maxItems", PLAIN, STRICT | GEMINI | OLLAMA, TOLD},
    {"minLength", PLAIN, OLLAMA, TOLD},
    {"maxLength", PLAIN, OLLAMA, TOLD},
    {"format", PLAIN, ALL, TOLD},
    {"pattern", PLAIN, 0, TOLD},
    {"uniqueItems", PLAIN, 0, TOLD},
    {"contains", PLAIN, 0, TOLD},
    {"minContains", PLAIN, 0, TOLD},
    {"maxContains", PLAIN, 0, TOLD},
    {"minProperties", PLAIN, 0, TOLD},
    {"maxProperties", PLAIN, 0, TOLD},
    {"propertyNames", PLAIN, 0, TOLD},
    {"dependentRequired", PLAIN, 0, TOLD},
    {"contentEncoding", PLAIN, 0, TOLD},
    {"contentMediaType", PLAIN, 0, TOLD},
    {"contentSchema", PLAIN, 0, TOLD},
    {"patternProperties", PLAIN, 0, LOST},
    {"additionalItems", PLAIN, 0, LOST},
    {"unevaluatedItems", PLAIN, 0, LOST},
    {"unevaluatedProperties", PLAIN, 0, LOST},
    {"dependentSchemas", PLAIN, 0, LOST},
    {"dependencies", PLAIN, 0, LOST},
    {"not", PLAIN, 0, LOST},
    {"if", PLAIN, 0, LOST},
    {"then", PLAIN, 0, LOST},
    {"else", PLAIN, 0, LOST},
    {"$dynamicRef", PLAIN, 0, LOST},
    {"$recursiveRef", PLAIN, 0, LOST},
};

static const struct keyword *keyword_named(const char *name)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++)
        if (strcmp(keywords[i].name, name) == 0)
            return &keywords[i];
    return NULL;
}

/* --- looking at a schema --- */

static bool is(struct json_object *value, enum json_type type)
{
    return value && json_object_is_type(value, type);
}

static struct json_object *get(struct json_object *schema, const char *name)
{
    return json_member(schema, name, NULL);
}

static bool lists(struct json_object *list, const char *text)
{
    for (size_t i = 0; is(list, json_type_array) && i < json_object_array_length(list); i++)
        if (str_eq(json_text(json_object_array_get_idx(list, i)), str_of(text)))
            return true;
    return false;
}

static bool has_type(struct json_object *schema, const char *type)
{
    struct json_object *said = get(schema, "type");
    return lists(said, type) || str_eq(json_text(said), str_of(type));
}

/* json-c has no value for null. */
static bool lists_null(struct json_object *list)
{
    for (size_t i = 0; is(list, json_type_array) && i < json_object_array_length(list); i++)
        if (!json_object_array_get_idx(list, i))
            return true;
    return false;
}

static bool takes_null(struct json_object *schema)
{
    static const char *const branches[] = {"anyOf", "oneOf"};
    if (has_type(schema, "null") || lists_null(get(schema, "enum")))
        return true;
    for (size_t i = 0; i < sizeof branches / sizeof *branches; i++) {
        struct json_object *list = get(schema, branches[i]);
        for (size_t j = 0; is(list, json_type_array) && j < json_object_array_length(list); j++)
            if (has_type(json_object_array_get_idx(list, j), "null"))
                return true;
    }
    return false;
}

/* "#", "#/$defs/NAME", "#/definitions/NAME"; NULL = leads elsewhere. */
static struct json_object *referred(struct json_object *root, struct str reference)
{
    static const char *const places[][2] = {{"#/$defs/", "$defs"},
                                            {"#/definitions/", "definitions"}};
    if (str_eq(reference, STR("#")))
        return root;
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        struct str before = str_of(places[i][0]);
        if (!str_starts(reference, before) || memchr(reference.at, '~', reference.len) ||
            memchr(reference.at, '%', reference.len))
            continue;
        return get(get(root, places[i][1]), reference.at + before.len);
    }
    return NULL;
}

/* Whether the way through all references comes to no end, or to none worth waiting for. */
static bool is_endless(struct json_object *root, struct json_object *schema, unsigned depth,
                       unsigned *steps)
{
    enum { DEPTH = 64, STEPS = 20000 };
    if (depth > DEPTH || ++*steps > STEPS)
        return true;
    if (is(schema, json_type_array)) {
        for (size_t i = 0; i < json_object_array_length(schema); i++)
            if (is_endless(root, json_object_array_get_idx(schema, i), depth + 1, steps))
                return true;
        return false;
    }
    if (!is(schema, json_type_object))
        return false;
    struct json_object *target = referred(root, json_text(get(schema, "$ref")));
    if (target && is_endless(root, target, depth + 1, steps))
        return true;
    json_object_object_foreach(schema, name, value)
    {
        bool is_definition = strcmp(name, "$defs") == 0 || strcmp(name, "definitions") == 0;
        if (!is_definition && is_endless(root, value, depth + 1, steps))
            return true;
    }
    return false;
}

/* --- writing it anew --- */

struct rewriting {
    enum schema_form form;
    const struct dialect *dialect;
    struct json_object *root;
    bool lost;
};

static struct json_object *rewrite(struct rewriting *rewriting, struct json_object *schema,
                                   unsigned depth);

static struct json_object *lose(struct rewriting *rewriting)
{
    rewriting->lost = true;
    return NULL;
}

static struct json_object *rewrite_list(struct rewriting *rewriting, struct json_object *list,
                                        unsigned depth)
{
    if (!is(list, json_type_array))
        return lose(rewriting);
    struct json_object *made = json_object_new_array();
    for (size_t i = 0; !rewriting->lost && i < json_object_array_length(list); i++)
        json_object_array_add(made, rewrite(rewriting, json_object_array_get_idx(list, i), depth));
    return made;
}

static struct json_object *rewrite_named(struct rewriting *rewriting, struct json_object *named,
                                         unsigned depth)
{
    if (!is(named, json_type_object))
        return lose(rewriting);
    struct json_object *made = json_object_new_object();
    json_object_object_foreach(named, name, value)
    {
        if (rewriting->lost)
            break;
        json_object_object_add(made, name, rewrite(rewriting, value, depth));
    }
    return made;
}

static struct json_object *rewrite_value(struct rewriting *rewriting, enum value kind,
                                         struct json_object *value, unsigned depth)
{
    if (kind == SCHEMA)
        return rewrite(rewriting, value, depth);
    if (kind == SCHEMAS)
        return rewrite_list(rewriting, value, depth);
    if (kind == NAMED)
        return rewrite_named(rewriting, value, depth);
    return json_object_get(value);
}

/* Bounds that the form takes only some of. */
static bool takes_value(const struct rewriting *rewriting, const char *name,
                        struct json_object *value)
{
    const char *const *formats = rewriting->dialect->formats;
    if (strcmp(name, "format") == 0) {
        for (; *formats; formats++)
            if (str_eq(json_text(value), str_of(*formats)))
                return true;
        return false;
    }
    bool is_bound = str_starts(str_of(name), STR("exclusive"));
    return !is_bound || !is(value, json_type_boolean); /* as draft 4 has it */
}

static void tell(struct buf *told, const char *name, struct json_object *value)
{
    buf_printf(told, "%s%s: ", told->len ? ", " : "", name);
    json_write(told, value);
}

static void put_description(struct json_object *schema, struct json_object *made, struct buf *told)
{
    struct str own = json_text(get(schema, "description"));
    struct buf text = {0};
    buf_str(&text, own);
    if (told->len)
        buf_printf(&text, own.len ? " (%s)" : "%s", buf_cstr(told));
    if (text.len)
        json_object_object_add(made, "description",
                               json_object_new_string_len(text.data, (int)text.len));
    buf_free(&text);
}

static const char *written_as(const struct dialect *dialect, const char *name)
{
    if (dialect->one_is_any && strcmp(name, "oneOf") == 0)
        return "anyOf";
    if (dialect->const_is_enum && strcmp(name, "const") == 0)
        return "enum";
    return name;
}

static void put_keyword(struct rewriting *rewriting, const struct keyword *keyword,
                        struct json_object *value, struct json_object *made, unsigned depth)
{
    const char *name = written_as(rewriting->dialect, keyword->name);
    struct json_object *put = rewrite_value(rewriting, keyword->value, value, depth);
    if (name != keyword->name && strcmp(name, "enum") == 0) {
        struct json_object *list = json_object_new_array();
        json_object_array_add(list, put);
        put = list;
    }
    if (get(made, name))
        lose(rewriting); /* anyOf and oneOf */
    json_object_object_add(made, name, put);
}

static void put_keywords(struct rewriting *rewriting, struct json_object *schema,
                         struct json_object *made, struct buf *told, unsigned depth)
{
    json_object_object_foreach(schema, name, value)
    {
        const struct keyword *keyword = keyword_named(name);
        if (!keyword || rewriting->lost)
            continue;
        if ((keyword->forms >> rewriting->form & 1) && takes_value(rewriting, name, value))
            put_keyword(rewriting, keyword, value, made, depth);
        else if (keyword->without == TOLD)
            tell(told, name, value);
        else if (keyword->without == LOST)
            lose(rewriting);
    }
}

/* --- objects --- */

static void put_required(struct rewriting *rewriting, struct json_object *schema,
                         struct json_object *made)
{
    struct json_object *properties = get(schema, "properties"), *required = get(schema, "required");
    struct json_object *list = json_object_new_array();
    for (size_t i = 0; is(required, json_type_array) && i < json_object_array_length(required);
         i++) {
        struct json_object *name = json_object_array_get_idx(required, i);
        bool named;
        (void)json_member(properties, json_text(name).at, &named);
        if (!named && rewriting->dialect->closed)
            lose(rewriting);
        json_object_array_add(list, json_object_get(name));
    }
    if (rewriting->dialect->all_required && is(properties, json_type_object)) {
        json_object_object_foreach(properties, name, value)
        {
            if (lists(required, name))
                continue;
            if (!takes_null(value))
                lose(rewriting); /* it could not be left out */
            json_object_array_add(list, json_object_new_string(name));
        }
    }
    if (json_object_array_length(list) > 0)
        json_object_object_add(made, "required", json_object_get(list));
    json_object_put(list);
}

/* Branches that name members of their own would be shut out by the ones that are named beside. */
static void put_object(struct rewriting *rewriting, struct json_object *schema,
                       struct json_object *made, unsigned depth)
{
    bool any_more, is_branched = get(schema, "anyOf") || get(schema, "oneOf");
    struct json_object *more = json_member(schema, "additionalProperties", &any_more);
    bool open = any_more && !(is(more, json_type_boolean) && !json_object_get_boolean(more));
    bool is_object = get(schema, "properties") || has_type(schema, "object");
    if (!is_object && !any_more && !get(schema, "required"))
        return;
    if (is_branched || (rewriting->dialect->closed && (open || !get(schema, "properties")))) {
        lose(rewriting);
        return;
    }
    put_required(rewriting, schema, made);
    if (rewriting->dialect->closed || (any_more && !open))
        json_object_object_add(made, "additionalProperties", json_object_new_boolean(false));
    else if (is(more, json_type_object))
        json_object_object_add(made, "additionalProperties", rewrite(rewriting, more, depth));
    else if (open)
        json_object_object_add(made, "additionalProperties", json_object_new_boolean(true));
}

/* --- types --- */

static const char *type_of(struct json_object *value)
{
    switch (json_object_get_type(value)) {
    case json_type_null:
        return "null";
    case json_type_boolean:
        return "boolean";
    case json_type_int:
        return "integer";
    case json_type_double:
        return "number";
    case json_type_string:
        return "string";
    default:
        return NULL;
    }
}

/* The one type that all the values have; NULL = there is none. */
static const char *type_of_values(struct json_object *made)
{
    struct json_object *list = get(made, "enum");
    bool is_const;
    struct json_object *value = json_member(made, "const", &is_const);
    if (is_const)
        return type_of(value);
    if (!is(list, json_type_array) || json_object_array_length(list) == 0)
        return NULL;
    const char *type = type_of(json_object_array_get_idx(list, 0));
    for (size_t i = 1; type && i < json_object_array_length(list); i++) {
        const char *other = type_of(json_object_array_get_idx(list, i));
        if (!other || strcmp(type, other) != 0)
            return NULL;
    }
    return type;
}

static void put_type(struct rewriting *rewriting, struct json_object *made)
{
    if (get(made, "type") || get(made, "anyOf") || !rewriting->dialect->typed)
        return;
    const char *type = get(made, "properties")                          ? "object"
                       : get(made, "items") || get(made, "prefixItems") ? "array"
                                                                        : type_of_values(made);
    if (type)
        json_object_object_add(made, "type", json_object_new_string(type));
    else
        lose(rewriting);
}

/* {type: [a, b], …} as {anyOf: [{type: a, …}, {type: b, …}]} */
static struct json_object *split(struct rewriting *rewriting, struct json_object *schema,
                                 unsigned depth)
{
    struct json_object *types = get(schema, "type"), *branches = json_object_new_array();
    for (size_t i = 0; i < json_object_array_length(types); i++) {
        struct json_object *branch = json_object_new_object();
        json_object_object_foreach(schema, name, value)
            json_object_object_add(branch, name, json_object_get(value));
        json_object_object_add(branch, "type",
                               json_object_get(json_object_array_get_idx(types, i)));
        json_object_array_add(branches, rewrite(rewriting, branch, depth));
        json_object_put(branch);
    }
    struct json_object *made = json_object_new_object();
    json_object_object_add(made, "anyOf", branches);
    return made;
}

/* --- all of it --- */

static bool leads_home(const struct rewriting *rewriting, struct json_object *schema)
{
    struct json_object *reference = get(schema, "$ref");
    return !reference || referred(rewriting->root, json_text(reference));
}

/* What stands beside it is left to the whole schema. */
static struct json_object *lone_reference(struct json_object *schema)
{
    struct json_object *made = json_object_new_object();
    json_object_object_add(made, "$ref", json_object_get(get(schema, "$ref")));
    return made;
}

static struct json_object *rewrite(struct rewriting *rewriting, struct json_object *schema,
                                   unsigned depth)
{
    const struct dialect *dialect = rewriting->dialect;
    bool is_root = schema == rewriting->root;
    if (!is(schema, json_type_object) || (get(schema, "$id") && !is_root) ||
        !leads_home(rewriting, schema))
        return lose(rewriting);
    if (get(schema, "$ref") && dialect->lone_refs)
        return lone_reference(schema);
    if (dialect->single_type && is(get(schema, "type"), json_type_array))
        return split(rewriting, schema, depth);
    depth += get(schema, "properties") != NULL;
    if (dialect->depth && depth > dialect->depth)
        return lose(rewriting);
    struct json_object *made = json_object_new_object();
    struct buf told = {0};
    put_keywords(rewriting, schema, made, &told, depth);
    put_object(rewriting, schema, made, depth);
    put_description(schema, made, &told);
    put_type(rewriting, made);
    buf_free(&told);
    return made;
}

static bool root_fits(const struct rewriting *rewriting)
{
    const struct dialect *dialect = rewriting->dialect;
    struct json_object *root = rewriting->root;
    unsigned steps = 0;
    if (dialect->object_root && !str_eq(json_text(get(root, "type")), STR("object")))
        return false;
    if (dialect->object_root && get(root, "$ref"))
        return false;
    struct json_object *required = get(root, "required");
    if (dialect->some_required &&
        (!is(required, json_type_array) || json_object_array_length(required) == 0))
        return false;
    return dialect->recurs || !is_endless(root, root, 0, &steps);
}

/* OpenAI and those who follow it take any schema of an object outside of strict mode. */
static bool is_whole(struct json_object *root)
{
    return str_eq(json_text(get(root, "type")), STR("object")) && !get(root, "$ref");
}

static char *text_of(struct json_object *schema)
{
    struct buf text = {0};
    json_write(&text, schema);
    char *copy = xstrdup(buf_cstr(&text));
    buf_free(&text);
    return copy;
}

char *schema_form_write(enum schema_form form, struct str schema)
{
    struct rewriting rewriting = {.form = form, .dialect = &dialects[form]};
    struct json_object *made = NULL;
    struct error ignored;
    if (!json_read(schema, &rewriting.root, &ignored))
        return NULL;
    if (form == FORM_WHOLE)
        rewriting.lost = !is_whole(rewriting.root);
    else if (root_fits(&rewriting))
        made = rewrite(&rewriting, rewriting.root, 0);
    else
        rewriting.lost = true;
    char *text = rewriting.lost ? NULL : text_of(form == FORM_WHOLE ? rewriting.root : made);
    json_object_put(made);
    json_object_put(rewriting.root);
    return text;
}
