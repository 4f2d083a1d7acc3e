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

/* additionalProperties, required and description are looked at by themselves. */
static const struct keyword {
    const char *name;
    enum value value;
    unsigned forms;
    enum without without;
    const char *type; /* the one that it is about; NULL = any */
} keywords[] = {
    {"type", PLAIN, ALL, LOST, NULL},
    {"enum", PLAIN, ALL, LOST, NULL},
    {"const", PLAIN, ALL, LOST, NULL},
    {"$ref", PLAIN, ALL, LOST, NULL},
    {"title", PLAIN, ALL, NOTHING, NULL},
    {"$defs", NAMED, ALL, LOST, NULL},
    {"definitions", NAMED, ALL, LOST, NULL},
    {"properties", NAMED, ALL, LOST, "object"},
    {"items", SCHEMA, ALL, LOST, "array"},
    {"prefixItems", SCHEMAS, GEMINI | OLLAMA, LOST, "array"},
    {"anyOf", SCHEMAS, ALL, LOST, NULL},
    {"oneOf", SCHEMAS, ALL, LOST, NULL},
    {"allOf", SCHEMAS, OLLAMA, LOST, NULL},
    {"minimum", PLAIN, STRICT | GEMINI | OLLAMA, TOLD, "number"},
    {"maximum", PLAIN, STRICT | GEMINI | OLLAMA, TOLD, "number"},
    {"exclusiveMinimum", PLAIN, STRICT | OLLAMA, TOLD, "number"},
    {"exclusiveMaximum", PLAIN, STRICT | OLLAMA, TOLD, "number"},
    {"multipleOf", PLAIN, STRICT, TOLD, "number"},
    {"minItems", PLAIN, STRICT | GEMINI | OLLAMA, TOLD, "array"},
    {"maxItems", PLAIN, STRICT | GEMINI | OLLAMA, TOLD, "array"},
    {"minLength", PLAIN, OLLAMA, TOLD, "string"},
    {"maxLength", PLAIN, OLLAMA, TOLD, "string"},
    {"format", PLAIN, ALL, TOLD, "string"},
    {"pattern", PLAIN, 0, TOLD, "string"},
    {"uniqueItems", PLAIN, 0, TOLD, "array"},
    {"contains", PLAIN, 0, TOLD, "array"},
    {"minContains", PLAIN, 0, TOLD, "array"},
    {"maxContains", PLAIN, 0, TOLD, "array"},
    {"minProperties", PLAIN, 0, TOLD, "object"},
    {"maxProperties", PLAIN, 0, TOLD, "object"},
    {"propertyNames", PLAIN, 0, TOLD, "object"},
    {"dependentRequired", PLAIN, 0, TOLD, "object"},
    {"contentEncoding", PLAIN, 0, TOLD, "string"},
    {"contentMediaType", PLAIN, 0, TOLD, "string"},
    {"contentSchema", PLAIN, 0, TOLD, "string"},
    {"patternProperties", PLAIN, 0, LOST, "object"},
    {"additionalItems", PLAIN, 0, LOST, "array"},
    {"unevaluatedItems", PLAIN, 0, LOST, "array"},
    {"unevaluatedProperties", PLAIN, 0, LOST, "object"},
    {"dependentSchemas", PLAIN, 0, LOST, "object"},
    {"dependencies", PLAIN, 0, LOST, "object"},
    {"not", PLAIN, 0, LOST, NULL},
    {"if", PLAIN, 0, LOST, NULL},
    {"then", PLAIN, 0, LOST, NULL},
    {"else", PLAIN, 0, LOST, NULL},
    {"$dynamicRef", PLAIN, 0, LOST, NULL},
    {"$recursiveRef", PLAIN, 0, LOST, NULL},
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

/* The two that put_object looks at. */
static bool is_of_objects(const char *name)
{
    return strcmp(name, "required") == 0 || strcmp(name, "additionalProperties") == 0;
}

static bool is_definition(const char *name)
{
    return strcmp(name, "$defs") == 0 || strcmp(name, "definitions") == 0;
}

struct walk {
    struct json_object *root;
    unsigned depth, steps;
};

static bool is_endless(struct walk *walk, struct json_object *schema);

static bool has_endless(struct walk *walk, struct json_object *schemas)
{
    for (size_t i = 0; is(schemas, json_type_array) && i < json_object_array_length(schemas); i++)
        if (is_endless(walk, json_object_array_get_idx(schemas, i)))
            return true;
    if (!is(schemas, json_type_object))
        return false;
    json_object_object_foreach(schemas, name, value)
    {
        (void)name;
        if (is_endless(walk, value))
            return true;
    }
    return false;
}

/* Definitions count only where something refers to them. */
static bool leads_to_endless(struct walk *walk, const char *name, struct json_object *value)
{
    const struct keyword *keyword = keyword_named(name);
    bool is_schema =
        strcmp(name, "additionalProperties") == 0 || (keyword && keyword->value == SCHEMA);
    if (is_schema)
        return is_endless(walk, value);
    return keyword && keyword->value != PLAIN && !is_definition(name) && has_endless(walk, value);
}

/* Whether the way through all references comes to no end, or to none worth waiting for. */
static bool is_endless(struct walk *walk, struct json_object *schema)
{
    enum { DEPTH = 64, STEPS = 20000 };
    bool endless = walk->depth >= DEPTH || ++walk->steps > STEPS;
    if (endless || !is(schema, json_type_object))
        return endless;
    walk->depth++;
    struct json_object *target = referred(walk->root, json_text(get(schema, "$ref")));
    endless = target && is_endless(walk, target);
    json_object_object_foreach(schema, name, value) endless =
        endless || leads_to_endless(walk, name, value);
    walk->depth--;
    return endless;
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

/* What a closed form's lists hold has to be said. */
static void check_items(struct rewriting *rewriting, struct json_object *made)
{
    if (rewriting->dialect->closed && has_type(made, "array") && !get(made, "items"))
        lose(rewriting);
}

/* Whether a keyword says anything of values of the type. */
static bool concerns(const char *name, struct str type)
{
    const struct keyword *keyword = keyword_named(name);
    if (is_of_objects(name))
        return str_eq(type, STR("object"));
    if (!keyword || !keyword->type)
        return !str_eq(type, STR("null")) || strcmp(name, "description") != 0;
    bool is_number = strcmp(keyword->type, "number") == 0 && str_eq(type, STR("integer"));
    return is_number || str_eq(str_of(keyword->type), type);
}

static struct json_object *values_of(struct json_object *list, struct str type)
{
    struct json_object *kept = json_object_new_array();
    for (size_t i = 0; is(list, json_type_array) && i < json_object_array_length(list); i++) {
        struct json_object *value = json_object_array_get_idx(list, i);
        struct str found = str_of(type_of(value));
        bool is_number = str_eq(type, STR("number")) && str_eq(found, STR("integer"));
        if (is_number || str_eq(found, type))
            json_object_array_add(kept, json_object_get(value));
    }
    return kept;
}

/* The part of the schema that is about one of its types; NULL when no value of that type fits. */
static struct json_object *branch_of(struct json_object *schema, struct json_object *type)
{
    struct json_object *branch = json_object_new_object();
    json_object_object_foreach(schema, name, value)
    {
        if (strcmp(name, "enum") == 0)
            json_object_object_add(branch, name, values_of(value, json_text(type)));
        else if (concerns(name, json_text(type)))
            json_object_object_add(branch, name, json_object_get(value));
    }
    json_object_object_add(branch, "type", json_object_get(type));
    struct json_object *list = get(branch, "enum");
    if (list && json_object_array_length(list) == 0) {
        json_object_put(branch);
        return NULL;
    }
    return branch;
}

/* {type: [a, b], …} as {anyOf: [{type: a, …}, {type: b, …}]} */
static struct json_object *split(struct rewriting *rewriting, struct json_object *schema,
                                 unsigned depth)
{
    struct json_object *types = get(schema, "type"), *branches = json_object_new_array();
    struct json_object *made = json_object_new_object();
    json_object_object_add(made, "anyOf", branches);
    if (get(schema, "anyOf") || get(schema, "oneOf") || get(schema, "const"))
        lose(rewriting);
    for (size_t i = 0; !rewriting->lost && i < json_object_array_length(types); i++) {
        struct json_object *branch = branch_of(schema, json_object_array_get_idx(types, i));
        if (branch)
            json_object_array_add(branches, rewrite(rewriting, branch, depth));
        json_object_put(branch);
    }
    return made;
}

/* --- all of it --- */

static bool leads_home(const struct rewriting *rewriting, struct json_object *schema)
{
    struct json_object *reference = get(schema, "$ref");
    return !reference || referred(rewriting->root, json_text(reference));
}

/* Whether something beside the reference says more of the value than for people to read. */
static bool says_more(struct json_object *schema)
{
    json_object_object_foreach(schema, name, value)
    {
        const struct keyword *keyword = keyword_named(name);
        bool says = is_of_objects(name) || (keyword && keyword->without != NOTHING);
        (void)value;
        if (says && !is_definition(name) && strcmp(name, "$ref") != 0)
            return true;
    }
    return false;
}

static struct json_object *lone_reference(struct rewriting *rewriting, struct json_object *schema)
{
    struct json_object *made = json_object_new_object();
    json_object_object_add(made, "$ref", json_object_get(get(schema, "$ref")));
    if (says_more(schema))
        lose(rewriting);
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
        return lone_reference(rewriting, schema);
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
    check_items(rewriting, made);
    buf_free(&told);
    return made;
}

static bool root_fits(const struct rewriting *rewriting)
{
    const struct dialect *dialect = rewriting->dialect;
    struct json_object *root = rewriting->root;
    struct walk walk = {.root = root};
    if (dialect->object_root && !str_eq(json_text(get(root, "type")), STR("object")))
        return false;
    if (dialect->object_root && get(root, "$ref"))
        return false;
    struct json_object *required = get(root, "required");
    if (dialect->some_required &&
        (!is(required, json_type_array) || json_object_array_length(required) == 0))
        return false;
    return dialect->recurs || !is_endless(&walk, root);
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
