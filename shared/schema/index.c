#include "shared/schema/index.h"

#include "shared/schema/metaschemas.h"
#include "shared/schema/uri.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

struct owner {
    struct json_object *schema;
    struct resource *resource;
    struct node *node;
};

/* --- which subschema is whose --- */

static size_t place_of(struct json_object *schema, size_t size)
{
    return ((uintptr_t)schema >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 20 & (size - 1);
}

static struct owner **find_place(struct owner **owners, size_t size, struct json_object *schema)
{
    size_t i = place_of(schema, size);
    while (owners[i] && owners[i]->schema != schema)
        i = (i + 1) & (size - 1);
    return &owners[i];
}

static void make_room(struct index *index)
{
    size_t size = index->owners_size ? index->owners_size * 2 : 64;
    if (index->owners_count * 2 < index->owners_size)
        return;
    struct owner **owners = arena_alloc(index->arena, size * sizeof *owners);
    for (size_t i = 0; i < index->owners_size; i++)
        if (index->owners[i])
            *find_place(owners, size, index->owners[i]->schema) = index->owners[i];
    index->owners = owners;
    index->owners_size = size;
}

static void own(struct index *index, struct json_object *schema, struct resource *resource)
{
    make_room(index);
    struct owner **place = find_place(index->owners, index->owners_size, schema);
    if (*place)
        return;
    *place = arena_alloc(index->arena, sizeof **place);
    **place = (struct owner){schema, resource, NULL};
    index->owners_count++;
}

struct resource *index_owner(const struct index *index, struct json_object *schema)
{
    if (index->owners_size == 0 || !schema)
        return NULL;
    struct owner *owner = *find_place(index->owners, index->owners_size, schema);
    return owner ? owner->resource : NULL;
}

struct node **index_node(struct index *index, struct json_object *schema, struct resource *resource)
{
    if (!schema)
        return NULL;
    own(index, schema, resource);
    return &(*find_place(index->owners, index->owners_size, schema))->node;
}

/* --- drafts --- */

static bool report(struct index *index, const char *format, struct str text)
{
    if (!index->problem)
        index->problem = arena_printf(index->arena, format, (int)(text.len < 150 ? text.len : 150),
                                      text.at ? text.at : "");
    return false;
}

static struct json_object *member(struct json_object *object, const char *name)
{
    struct json_object *value = NULL;
    if (json_object_is_type(object, json_type_object))
        json_object_object_get_ex(object, name, &value);
    return value;
}

static struct str text_of(struct json_object *value)
{
    if (!json_object_is_type(value, json_type_string))
        return STR_ABSENT;
    return (struct str){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
}

static struct resource *resource_at(const struct index *index, struct str uri)
{
    for (struct resource *one = index->resources; one; one = one->next)
        if (str_eq(one->uri, uri))
            return one;
    return NULL;
}

static bool has_vocabulary(struct json_object *vocabularies, const char *draft, const char *name,
                           bool wanted)
{
    char uri[128];
    struct json_object *required = NULL;
    snprintf(uri, sizeof uri, "https://json-schema.org/draft/%s/vocab/%s", draft, name);
    return json_object_object_get_ex(vocabularies, uri, &required) &&
           (!wanted || json_object_get_boolean(required));
}

/* What a metaschema of somebody's own turns on. */
static void read_vocabularies(struct json_object *metaschema, struct resource *resource)
{
    static const char *const drafts[] = {"2019-09", "2020-12"};
    struct json_object *vocabularies = member(metaschema, "$vocabulary");
    for (int i = 0; vocabularies && i < 2; i++) {
        const char *draft = drafts[i];
        if (!has_vocabulary(vocabularies, draft, "core", false))
            continue;
        resource->draft = i == 0 ? SCHEMA_2019_09 : SCHEMA_2020_12;
        resource->vocabularies =
            (has_vocabulary(vocabularies, draft, "applicator", false) ? VOCABULARY_APPLICATOR : 0) |
            (has_vocabulary(vocabularies, draft, "unevaluated", false) ? VOCABULARY_UNEVALUATED
                                                                       : 0) |
            (has_vocabulary(vocabularies, draft, "validation", false) ? VOCABULARY_VALIDATION : 0);
        if (i == 0 && (resource->vocabularies & VOCABULARY_APPLICATOR))
            resource->vocabularies |= VOCABULARY_UNEVALUATED;
        resource->asserts_formats =
            resource->asserts_formats ||
            has_vocabulary(vocabularies, draft, "format-assertion", false) ||
            has_vocabulary(vocabularies, draft, "format", true);
    }
}

static struct json_object *load(struct index *index, struct str uri);

/* "$schema" of a resource's root. */
static bool read_draft(struct index *index, struct resource *resource)
{
    struct str uri = text_of(member(resource->root, "$schema"));
    struct str fragment;
    if (!uri.at)
        return true;
    uri = uri_resolve(STR(""), uri, &fragment, index->arena);
    if (metaschema_draft(uri, &resource->draft))
        return true;
    struct json_object *metaschema = load(index, uri);
    if (!metaschema)
        return report(index, "there is no metaschema %.*s", uri);
    struct str above = text_of(member(metaschema, "$schema"));
    if (above.at)
        (void)metaschema_draft(uri_resolve(STR(""), above, &fragment, index->arena),
                               &resource->draft);
    read_vocabularies(metaschema, resource);
    return true;
}

/* --- taking a document in --- */

static struct resource *new_resource(struct index *index, struct json_object *root, struct str uri,
                                     enum schema_draft draft)
{
    struct resource *resource = arena_alloc(index->arena, sizeof *resource);
    *resource = (struct resource){
        .uri = arena_copy(index->arena, uri),
        .root = root,
        .draft = draft,
        .vocabularies = VOCABULARY_APPLICATOR | VOCABULARY_UNEVALUATED | VOCABULARY_VALIDATION,
        .asserts_formats = index->options->assert_formats,
        .next = index->resources,
    };
    index->resources = resource;
    (void)read_draft(index, resource);
    return resource;
}

static void add_anchor(struct index *index, struct resource *resource, struct str name,
                       struct json_object *schema, bool dynamic)
{
    struct anchor *anchor = arena_alloc(index->arena, sizeof *anchor);
    *anchor = (struct anchor){name, schema, dynamic, NULL, resource->anchors};
    resource->anchors = anchor;
}

struct anchor *index_anchor(const struct resource *resource, struct str name)
{
    for (struct anchor *one = resource->anchors; one; one = one->next)
        if (str_eq(one->name, name))
            return one;
    return NULL;
}

enum keyword_kind { KIND_SCHEMA = 1, KIND_LIST = 2, KIND_MAP = 4 };

/* Keywords that hold subschemas; the drafts that have them. */
static const struct {
    const char *name;
    unsigned kinds;
    enum schema_draft from, to;
} holders[] = {
    {"additionalProperties", KIND_SCHEMA, SCHEMA_4, SCHEMA_2020_12},
    {"additionalItems", KIND_SCHEMA, SCHEMA_4, SCHEMA_2019_09},
    {"items", KIND_SCHEMA | KIND_LIST, SCHEMA_4, SCHEMA_2020_12},
    {"prefixItems", KIND_LIST, SCHEMA_2020_12, SCHEMA_2020_12},
    {"contains", KIND_SCHEMA, SCHEMA_6, SCHEMA_2020_12},
    {"propertyNames", KIND_SCHEMA, SCHEMA_6, SCHEMA_2020_12},
    {"not", KIND_SCHEMA, SCHEMA_4, SCHEMA_2020_12},
    {"if", KIND_SCHEMA, SCHEMA_7, SCHEMA_2020_12},
    {"then", KIND_SCHEMA, SCHEMA_7, SCHEMA_2020_12},
    {"else", KIND_SCHEMA, SCHEMA_7, SCHEMA_2020_12},
    {"unevaluatedItems", KIND_SCHEMA, SCHEMA_2019_09, SCHEMA_2020_12},
    {"unevaluatedProperties", KIND_SCHEMA, SCHEMA_2019_09, SCHEMA_2020_12},
    {"contentSchema", KIND_SCHEMA, SCHEMA_2019_09, SCHEMA_2020_12},
    {"allOf", KIND_LIST, SCHEMA_4, SCHEMA_2020_12},
    {"anyOf", KIND_LIST, SCHEMA_4, SCHEMA_2020_12},
    {"oneOf", KIND_LIST, SCHEMA_4, SCHEMA_2020_12},
    {"properties", KIND_MAP, SCHEMA_4, SCHEMA_2020_12},
    {"patternProperties", KIND_MAP, SCHEMA_4, SCHEMA_2020_12},
    {"definitions", KIND_MAP, SCHEMA_4, SCHEMA_2020_12},
    {"$defs", KIND_MAP, SCHEMA_2019_09, SCHEMA_2020_12},
    {"dependencies", KIND_MAP, SCHEMA_4, SCHEMA_2020_12},
    {"dependentSchemas", KIND_MAP, SCHEMA_2019_09, SCHEMA_2020_12},
};

static void walk(struct index *index, struct json_object *schema, struct resource *resource);

static void walk_holder(struct index *index, struct json_object *value, unsigned kinds,
                        struct resource *resource)
{
    if (json_object_is_type(value, json_type_array) && (kinds & KIND_LIST)) {
        for (size_t i = 0; i < json_object_array_length(value); i++)
            walk(index, json_object_array_get_idx(value, i), resource);
    } else if (json_object_is_type(value, json_type_object) && (kinds & KIND_MAP)) {
        json_object_object_foreach(value, name, one)
        {
            (void)name;
            walk(index, one, resource);
        }
    } else if (kinds & KIND_SCHEMA) {
        walk(index, value, resource);
    }
}

/* A URI of its own makes a new resource; up to draft 7 "#name" is an anchor. */
static struct resource *enter(struct index *index, struct json_object *schema,
                              struct resource *resource)
{
    bool old = resource->draft <= SCHEMA_7;
    struct str id = text_of(member(schema, resource->draft == SCHEMA_4 ? "id" : "$id"));
    struct str fragment;
    if (!id.at || (old && text_of(member(schema, "$ref")).at))
        return resource;
    struct str uri = uri_resolve(resource->uri, id, &fragment, index->arena);
    if (id.len > 0 && id.at[0] != '#' && resource->root != schema)
        resource = new_resource(index, schema, uri, resource->draft);
    if (fragment.len > 0 && old)
        add_anchor(index, resource, fragment, schema, false);
    return resource;
}

static void note_anchors(struct index *index, struct json_object *schema, struct resource *resource)
{
    struct str anchor = text_of(member(schema, "$anchor"));
    struct str dynamic = text_of(member(schema, "$dynamicAnchor"));
    if (anchor.at && resource->draft >= SCHEMA_2019_09)
        add_anchor(index, resource, anchor, schema, false);
    if (dynamic.at && resource->draft >= SCHEMA_2020_12)
        add_anchor(index, resource, dynamic, schema, true);
    if (resource->root == schema && resource->draft == SCHEMA_2019_09)
        resource->recursive_anchor = json_object_get_boolean(member(schema, "$recursiveAnchor"));
}

static void walk(struct index *index, struct json_object *schema, struct resource *resource)
{
    if (!schema || index->problem || index_owner(index, schema))
        return;
    if (!json_object_is_type(schema, json_type_object)) {
        own(index, schema, resource);
        return;
    }
    resource = enter(index, schema, resource);
    own(index, schema, resource);
    note_anchors(index, schema, resource);
    for (size_t i = 0; i < sizeof holders / sizeof *holders; i++) {
        struct json_object *value = member(schema, holders[i].name);
        if (value && resource->draft >= holders[i].from && resource->draft <= holders[i].to)
            walk_holder(index, value, holders[i].kinds, resource);
    }
}

struct resource *index_add(struct index *index, struct json_object *document, struct str uri,
                           enum schema_draft draft)
{
    struct document *kept = arena_alloc(index->arena, sizeof *kept);
    *kept = (struct document){arena_copy(index->arena, uri), json_object_get(document),
                              index->documents};
    index->documents = kept;
    struct resource *resource = new_resource(index, document, uri, draft);
    struct str id = text_of(member(document, resource->draft == SCHEMA_4 ? "id" : "$id"));
    struct str fragment;
    bool hidden = resource->draft <= SCHEMA_7 && text_of(member(document, "$ref")).at;
    if (id.len > 0 && id.at[0] != '#' && !hidden)
        resource->uri = uri_resolve(uri, id, &fragment, index->arena);
    walk(index, document, resource);
    return index->problem ? NULL : resource;
}

/* --- references --- */

/* A document by where it was asked for, or by what it calls itself. */
static struct json_object *load(struct index *index, struct str uri)
{
    for (struct document *one = index->documents; one; one = one->next)
        if (str_eq(one->uri, uri))
            return one->root;
    struct resource *known = resource_at(index, uri);
    if (known)
        return known->root;
    enum schema_draft draft = index->options->draft;
    struct json_object *document = metaschema_load(uri, &draft);
    if (!document && index->options->load)
        document = index->options->load(index->options->context, uri);
    if (!document)
        return NULL;
    (void)index_add(index, document, uri, draft);
    json_object_put(document); /* index_add has a reference */
    return document;
}

/* "~0" is "~", "~1" is "/". */
static struct str take_token(struct index *index, struct str *rest)
{
    struct str raw = str_split(rest, '/');
    char *out = arena_alloc(index->arena, raw.len + 1);
    size_t len = 0;
    for (size_t i = 0; i < raw.len; i++) {
        bool escaped = raw.at[i] == '~' && i + 1 < raw.len;
        out[len++] = !escaped ? raw.at[i] : raw.at[i + 1] == '1' ? '/' : '~';
        i += escaped;
    }
    return (struct str){out, len};
}

static struct json_object *step(struct json_object *value, struct str token)
{
    unsigned long long number;
    if (json_object_is_type(value, json_type_object))
        return member(value, token.at);
    if (json_object_is_type(value, json_type_array) && str_to_u64(token, &number) &&
        number < json_object_array_length(value))
        return json_object_array_get_idx(value, (size_t)number);
    return NULL;
}

static struct json_object *follow(struct index *index, struct json_object *value,
                                  struct str pointer, struct resource **owner)
{
    struct str rest = {pointer.at + 1, pointer.len - 1};
    while (value && rest.at) {
        value = step(value, take_token(index, &rest));
        struct resource *known = index_owner(index, value);
        if (known)
            *owner = known;
    }
    return value;
}

bool index_find(struct index *index, const struct resource *from, struct str reference,
                struct json_object **schema, struct resource **owner)
{
    struct str fragment;
    struct str uri = uri_resolve(from->uri, reference, &fragment, index->arena);
    if (!resource_at(index, uri))
        (void)load(index, uri);
    *owner = resource_at(index, uri);
    if (!*owner) {
        struct json_object *document = load(index, uri);
        *owner = index_owner(index, document);
    }
    if (!*owner)
        return report(index, "$ref leads nowhere: %.*s", reference);
    fragment = fragment.at ? uri_decode(fragment, index->arena) : STR_ABSENT;
    *schema = (*owner)->root;
    if (fragment.len > 0 && fragment.at[0] == '/') {
        *schema = follow(index, *schema, fragment, owner);
    } else if (fragment.len > 0) {
        struct anchor *anchor = index_anchor(*owner, fragment);
        *schema = anchor ? anchor->schema : NULL;
    }
    if (!*schema)
        return report(index, "$ref leads nowhere: %.*s", reference);
    walk(index, *schema, *owner); /* where no keyword leads to */
    struct resource *known = index_owner(index, *schema);
    *owner = known ? known : *owner;
    return !index->problem;
}
