#include "shared/base/buf.h"
#include "shared/base/log.h"
#include "shared/base/xalloc.h"
#include "shared/schema/format.h"
#include "shared/schema/index.h"
#include "shared/schema/metaschemas.h"
#include "shared/schema/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct compiler {
    struct index index;
    struct arena *arena;
    struct kept_pattern *patterns;
    struct json_object *problem_at; /* the subschema; NULL = no problem, or nowhere */
};

static struct node *node_of(struct compiler *c, struct json_object *schema,
                            struct resource *resource);

/* --- values --- */

static struct json_object *member(struct json_object *schema, const char *name)
{
    struct json_object *value = NULL;
    json_object_object_get_ex(schema, name, &value);
    return value;
}

static struct str text_of(struct json_object *value)
{
    if (!json_object_is_type(value, json_type_string))
        return STR_ABSENT;
    return (struct str){json_object_get_string(value), (size_t)json_object_get_string_len(value)};
}

/* A count that is too large for this is none that can be passed. */
static int64_t limit_of(struct json_object *schema, const char *name)
{
    struct json_object *value = member(schema, name);
    if (!value)
        return NO_LIMIT;
    double number = json_object_get_double(value);
    return number >= 9e18 ? INT64_MAX : json_object_get_int64(value);
}

static void fail(struct compiler *c, const char *format, const char *text)
{
    if (!c->index.problem)
        c->index.problem = arena_printf(c->arena, format, text);
}

static bool has(const struct resource *resource, unsigned vocabulary)
{
    return resource->vocabularies & vocabulary;
}

/* --- what each type's keywords say --- */

static const struct pattern *compile_pattern(struct compiler *c, struct str source)
{
    struct kept_pattern *kept = arena_alloc(c->arena, sizeof *kept);
    struct error error;
    size_t offset;
    if (pattern_compile_javascript(source, c->arena, &kept->pattern, &offset, &error)) {
        kept->next = c->patterns;
        c->patterns = kept;
        return kept->pattern;
    }
    if (!c->index.problem)
        c->index.problem =
            arena_printf(c->arena, "the pattern %.*s is none: %s",
                         (int)(source.len < 100 ? source.len : 100), source.at, error.message);
    return NULL;
}

static void compile_string(struct compiler *c, struct json_object *schema, struct node *node)
{
    struct str pattern = text_of(member(schema, "pattern"));
    struct string_rules rules = {
        .min = limit_of(schema, "minLength"),
        .max = limit_of(schema, "maxLength"),
        .pattern = pattern.at ? compile_pattern(c, pattern) : NULL,
        .pattern_source = pattern.at,
    };
    if (rules.min == NO_LIMIT && rules.max == NO_LIMIT && !pattern.at)
        return;
    node->string = arena_alloc(c->arena, sizeof rules);
    *node->string = rules;
}

static const struct cell *number_of(struct compiler *c, struct json_object *schema,
                                    const char *name)
{
    struct json_object *value = member(schema, name);
    bool is_number =
        json_object_is_type(value, json_type_int) || json_object_is_type(value, json_type_double);
    return is_number ? cell_of(value, c->arena) : NULL;
}

/* Limits that are small integers themselves, and nothing else. */
static void set_range(struct number_rules *rules)
{
    const struct cell *const limits[] = {rules->minimum, rules->maximum, rules->above,
                                         rules->below};
    rules->least = INT64_MIN;
    rules->most = INT64_MAX;
    rules->is_range = !rules->multiple_of;
    for (int i = 0; i < 4; i++) {
        if (!limits[i])
            continue;
        int64_t limit = limits[i]->integer;
        rules->is_range =
            rules->is_range && limits[i]->is_small && limit > INT64_MIN && limit < INT64_MAX;
        if (!rules->is_range)
            return;
        limit += i == 2 ? 1 : i == 3 ? -1 : 0;
        if (i % 2 == 0)
            rules->least = limit > rules->least ? limit : rules->least;
        else
            rules->most = limit < rules->most ? limit : rules->most;
    }
}

static void compile_number(struct compiler *c, struct json_object *schema, struct node *node)
{
    struct number_rules rules = {
        .minimum = number_of(c, schema, "minimum"),
        .maximum = number_of(c, schema, "maximum"),
        .above = number_of(c, schema, "exclusiveMinimum"),
        .below = number_of(c, schema, "exclusiveMaximum"),
        .multiple_of = number_of(c, schema, "multipleOf"),
    };
    if (node->resource->draft == SCHEMA_4) { /* truths, about the limits beside them */
        if (json_object_get_boolean(member(schema, "exclusiveMinimum")))
            rules.above = rules.minimum;
        if (json_object_get_boolean(member(schema, "exclusiveMaximum")))
            rules.below = rules.maximum;
    }
    if (!rules.minimum && !rules.maximum && !rules.above && !rules.below && !rules.multiple_of)
        return;
    set_range(&rules);
    node->number = arena_alloc(c->arena, sizeof rules);
    *node->number = rules;
}

static struct node *compile_member(struct compiler *c, struct json_object *schema, const char *name,
                                   const struct node *node)
{
    struct json_object *value = NULL;
    if (!json_object_object_get_ex(schema, name, &value))
        return NULL;
    return node_of(c, value, node->resource);
}

static struct node_list compile_list(struct compiler *c, struct json_object *list,
                                     const struct node *node)
{
    struct node_list nodes = {0};
    size_t count = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    nodes.at = arena_alloc(c->arena, (count + 1) * sizeof *nodes.at);
    for (; nodes.count < count; nodes.count++)
        nodes.at[nodes.count] =
            node_of(c, json_object_array_get_idx(list, nodes.count), node->resource);
    return nodes;
}

static void compile_items(struct compiler *c, struct json_object *schema, struct node *node,
                          struct array_rules *rules)
{
    struct json_object *items = member(schema, "items");
    rules->items_keyword = "items";
    if (node->resource->draft >= SCHEMA_2020_12) {
        rules->prefix = compile_list(c, member(schema, "prefixItems"), node);
        rules->items = compile_member(c, schema, "items", node);
    } else if (json_object_is_type(items, json_type_array)) {
        rules->prefix = compile_list(c, items, node);
        rules->items_listed = true;
        rules->items_keyword = "additionalItems";
        rules->items = compile_member(c, schema, "additionalItems", node);
    } else {
        rules->items = compile_member(c, schema, "items", node);
    }
}

static void compile_array(struct compiler *c, struct json_object *schema, struct node *node)
{
    const struct resource *resource = node->resource;
    struct array_rules rules = {
        .min = NO_LIMIT, .max = NO_LIMIT, .min_contains = 1, .max_contains = NO_LIMIT};
    if (has(resource, VOCABULARY_APPLICATOR)) {
        compile_items(c, schema, node, &rules);
        if (resource->draft >= SCHEMA_6)
            rules.contains = compile_member(c, schema, "contains", node);
    }
    rules.contains_evaluates = resource->draft >= SCHEMA_2020_12;
    if (has(resource, VOCABULARY_VALIDATION)) {
        rules.min = limit_of(schema, "minItems");
        rules.max = limit_of(schema, "maxItems");
        rules.unique = json_object_get_boolean(member(schema, "uniqueItems"));
        if (resource->draft >= SCHEMA_2019_09 && member(schema, "minContains"))
            rules.min_contains = limit_of(schema, "minContains");
        if (resource->draft >= SCHEMA_2019_09)
            rules.max_contains = limit_of(schema, "maxContains");
    }
    if (rules.prefix.count == 0 && !rules.items && !rules.contains && rules.min == NO_LIMIT &&
        rules.max == NO_LIMIT && !rules.unique)
        return;
    node->array = arena_alloc(c->arena, sizeof rules);
    *node->array = rules;
}

static struct name_entry *name_place(struct name_table *table, const char *text)
{
    const struct name name = name_of(text);
    uint32_t i = name.hash & table->mask;
    while (table->at[i].name.text && !name_equal(&table->at[i].name, &name))
        i = (i + 1) & table->mask;
    table->at[i].name = name;
    return &table->at[i];
}

static struct name *compile_names(struct compiler *c, struct json_object *list, size_t *count)
{
    size_t length = json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
    struct name *names = arena_alloc(c->arena, (length + 1) * sizeof *names);
    *count = 0;
    for (size_t i = 0; i < length; i++) {
        struct str name = text_of(json_object_array_get_idx(list, i));
        if (name.at)
            names[(*count)++] = name_of(name.at);
    }
    return names;
}

static void compile_table(struct compiler *c, struct json_object *properties,
                          const struct node *node, struct object_rules *rules)
{
    size_t count = rules->required_count;
    bool is_map = json_object_is_type(properties, json_type_object);
    count += is_map ? (size_t)json_object_object_length(properties) : 0;
    rules->has_names = count > 0;
    if (!rules->has_names)
        return;
    uint32_t size = 4;
    while (size < count * 2)
        size *= 2;
    rules->names.at = arena_alloc(c->arena, size * sizeof *rules->names.at);
    rules->names.mask = size - 1;
    if (is_map) {
        const struct name_entry **next = &rules->names.first;
        json_object_object_foreach(properties, name, value)
        {
            struct name_entry *entry = name_place(&rules->names, name);
            entry->node = node_of(c, value, node->resource);
            *next = entry;
            next = &entry->next;
        }
    }
    for (size_t i = 0; i < rules->required_count; i++) {
        struct name_entry *entry = name_place(&rules->names, rules->required[i].text);
        rules->names.required += !entry->required;
        entry->required = true;
    }
}

static void compile_patterns(struct compiler *c, struct json_object *map, const struct node *node,
                             struct object_rules *rules)
{
    if (!json_object_is_type(map, json_type_object))
        return;
    rules->patterns = arena_alloc(c->arena, ((size_t)json_object_object_length(map) + 1) *
                                                sizeof *rules->patterns);
    json_object_object_foreach(map, name, value)
    {
        struct pattern_entry *entry = &rules->patterns[rules->patterns_count++];
        entry->pattern = compile_pattern(c, str_of(name));
        entry->source = name;
        entry->node = node_of(c, value, node->resource);
    }
}

/* Of `dependencies`, a list of names or a schema each; of the later two keywords one of them. */
static void compile_dependencies(struct compiler *c, struct json_object *schema,
                                 const char *keyword, const struct node *node,
                                 struct object_rules *rules)
{
    struct json_object *map = member(schema, keyword);
    if (!json_object_is_type(map, json_type_object))
        return;
    size_t room = rules->dependencies_count + (size_t)json_object_object_length(map);
    struct dependency *all = arena_alloc(c->arena, (room + 1) * sizeof *all);
    if (rules->dependencies_count > 0)
        memcpy(all, rules->dependencies, rules->dependencies_count * sizeof *all);
    rules->dependencies = all;
    json_object_object_foreach(map, name, value)
    {
        struct dependency *one = &all[rules->dependencies_count++];
        one->name = name_of(name);
        one->keyword = keyword;
        if (json_object_is_type(value, json_type_array))
            one->required = compile_names(c, value, &one->required_count);
        else
            one->schema = node_of(c, value, node->resource);
    }
}

static void compile_object(struct compiler *c, struct json_object *schema, struct node *node)
{
    const struct resource *resource = node->resource;
    struct object_rules rules = {.min = NO_LIMIT, .max = NO_LIMIT};
    bool applies = has(resource, VOCABULARY_APPLICATOR);
    if (has(resource, VOCABULARY_VALIDATION)) {
        rules.min = limit_of(schema, "minProperties");
        rules.max = limit_of(schema, "maxProperties");
        rules.required = compile_names(c, member(schema, "required"), &rules.required_count);
        if (resource->draft >= SCHEMA_2019_09)
            compile_dependencies(c, schema, "dependentRequired", node, &rules);
    }
    compile_table(c, applies ? member(schema, "properties") : NULL, node, &rules);
    if (applies) {
        compile_patterns(c, member(schema, "patternProperties"), node, &rules);
        rules.additional = compile_member(c, schema, "additionalProperties", node);
        if (resource->draft >= SCHEMA_6)
            rules.property_names = compile_member(c, schema, "propertyNames", node);
        if (resource->draft >= SCHEMA_2019_09)
            compile_dependencies(c, schema, "dependentSchemas", node, &rules);
        compile_dependencies(c, schema, "dependencies", node, &rules);
    }
    if (!rules.has_names && rules.patterns_count == 0 && !rules.additional &&
        !rules.property_names && rules.dependencies_count == 0 && rules.min == NO_LIMIT &&
        rules.max == NO_LIMIT)
        return;
    node->object = arena_alloc(c->arena, sizeof rules);
    *node->object = rules;
}

/* --- keywords of all types --- */

static unsigned type_named(struct str name)
{
    static const struct {
        const char *name;
        unsigned types;
    } names[] = {{"null", TYPE_NULL},       {"boolean", TYPE_BOOLEAN},
                 {"integer", TYPE_INTEGER}, {"number", TYPE_INTEGER | TYPE_NUMBER},
                 {"string", TYPE_STRING},   {"array", TYPE_ARRAY},
                 {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq(name, str_of(names[i].name)))
            return names[i].types;
    return 0;
}

static unsigned compile_types(struct json_object *type)
{
    unsigned types = type_named(text_of(type));
    if (json_object_is_type(type, json_type_array))
        for (size_t i = 0; i < json_object_array_length(type); i++)
            types |= type_named(text_of(json_object_array_get_idx(type, i)));
    return types;
}

static void compile_validation(struct compiler *c, struct json_object *schema, struct node *node)
{
    struct json_object *choices = member(schema, "enum");
    struct json_object *constant = NULL, *type = member(schema, "type");
    if (type)
        node->types = compile_types(type);
    if (json_object_is_type(choices, json_type_array))
        node->choices = cell_of(choices, c->arena);
    if (node->resource->draft >= SCHEMA_6 && json_object_object_get_ex(schema, "const", &constant))
        node->constant = cell_of(constant, c->arena);
    compile_string(c, schema, node);
    compile_number(c, schema, node);
}

static void compile_format(struct json_object *schema, struct node *node)
{
    struct str name = text_of(member(schema, "format"));
    if (!name.at || !node->resource->asserts_formats)
        return;
    node->format_name = name.at;
    node->format = format_named(name, node->resource->draft);
}

static void compile_applicators(struct compiler *c, struct json_object *schema, struct node *node)
{
    node->all_of = compile_list(c, member(schema, "allOf"), node);
    node->any_of = compile_list(c, member(schema, "anyOf"), node);
    node->one_of = compile_list(c, member(schema, "oneOf"), node);
    node->not = compile_member(c, schema, "not", node);
    if (node->resource->draft < SCHEMA_7)
        return;
    node->condition = compile_member(c, schema, "if", node);
    if (!node->condition)
        return;
    node->then = compile_member(c, schema, "then", node);
    node->otherwise = compile_member(c, schema, "else", node);
}

static void compile_unevaluated(struct compiler *c, struct json_object *schema, struct node *node)
{
    if (node->resource->draft < SCHEMA_2019_09 || !has(node->resource, VOCABULARY_UNEVALUATED))
        return;
    node->unevaluated_items = compile_member(c, schema, "unevaluatedItems", node);
    node->unevaluated_properties = compile_member(c, schema, "unevaluatedProperties", node);
    node->tracks = node->unevaluated_items || node->unevaluated_properties;
}

/* --- references --- */

static struct node *refer(struct compiler *c, const struct node *node, struct str reference,
                          struct json_object **target)
{
    struct resource *owner;
    if (!index_find(&c->index, node->resource, reference, target, &owner))
        return NULL;
    return node_of(c, *target, owner);
}

/* Whoever comes by may have put another schema in the place of this one. */
static void compile_dynamic(struct compiler *c, struct str reference, struct node *node)
{
    struct json_object *target = NULL;
    node->reference = refer(c, node, reference, &target);
    node->reference_keyword = "$dynamicRef";
    struct str name = reference;
    (void)str_split(&name, '#');
    struct str anchor = json_object_is_type(target, json_type_object)
                            ? text_of(member(target, "$dynamicAnchor"))
                            : STR_ABSENT;
    if (anchor.at && name.at && str_eq(anchor, name))
        node->dynamic_anchor = anchor;
}

static void compile_references(struct compiler *c, struct json_object *schema, struct node *node)
{
    struct json_object *target;
    struct str reference = text_of(member(schema, "$ref"));
    struct str dynamic = text_of(member(schema, "$dynamicRef"));
    struct str recursive = text_of(member(schema, "$recursiveRef"));
    enum schema_draft draft = node->resource->draft;
    if (reference.at) {
        node->reference = refer(c, node, reference, &target);
        node->reference_keyword = "$ref";
    }
    /* Two in one schema: the second one stands in an allOf of its own. */
    struct node *other = node;
    bool another =
        (dynamic.at && draft >= SCHEMA_2020_12) || (recursive.at && draft == SCHEMA_2019_09);
    if (reference.at && another) {
        other = arena_alloc(c->arena, sizeof *other);
        other->resource = node->resource;
        other->source = schema;
        other->types = TYPE_ALL;
        struct node **all = arena_alloc(c->arena, (node->all_of.count + 1) * sizeof *all);
        memcpy(all, node->all_of.at, node->all_of.count * sizeof *all);
        all[node->all_of.count] = other;
        node->all_of = (struct node_list){all, node->all_of.count + 1};
    }
    if (dynamic.at && draft >= SCHEMA_2020_12) {
        compile_dynamic(c, dynamic, other);
    } else if (recursive.at && draft == SCHEMA_2019_09) {
        other->reference = refer(c, other, recursive, &target);
        other->reference_keyword = "$recursiveRef";
        other->recursive = other->reference && other->reference->resource->recursive_anchor &&
                           other->reference->source == other->reference->resource->root;
    }
}

/* --- nodes --- */

/* Whether all that it leads to is of its own resource. */
static bool stays(const struct node *node, const struct node *child)
{
    return !child || child->resource == node->resource;
}

static bool list_stays(const struct node *node, const struct node_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        if (!stays(node, list->at[i]))
            return false;
    return true;
}

static bool is_quick_object(const struct node *node, const struct object_rules *rules)
{
    for (const struct name_entry *one = rules->names.first; one; one = one->next)
        if (!stays(node, one->node))
            return false;
    return stays(node, rules->additional) && rules->patterns_count == 0 && !rules->property_names &&
           rules->dependencies_count == 0;
}

static bool is_quick_array(const struct node *node, const struct array_rules *rules)
{
    return stays(node, rules->items) && list_stays(node, &rules->prefix) && !rules->contains;
}

static bool is_quick(const struct node *node)
{
    bool in_place = stays(node, node->reference) && list_stays(node, &node->all_of) &&
                    list_stays(node, &node->any_of) && list_stays(node, &node->one_of) &&
                    stays(node, node->not ) && stays(node, node->condition) &&
                    stays(node, node->then) && stays(node, node->otherwise);
    return in_place && !node->format && !node->dots_count && !node->tracks &&
           !node->dynamic_anchor.at && !node->recursive &&
           (!node->object || is_quick_object(node, node->object)) &&
           (!node->array || is_quick_array(node, node->array));
}

static enum node_kind kind_of(const struct node *node)
{
    bool holder = node->object || node->array;
    bool fixed = node->constant || node->choices;
    bool scalar = fixed || node->string || node->number;
    if (!is_quick(node))
        return NODE_SLOW;
    if (node->has_applicators || (node->object && node->array) || (holder && scalar))
        return NODE_QUICK;
    if (node->reference)
        return holder || scalar || node->types != TYPE_ALL ? NODE_QUICK : NODE_REFERENCE;
    if (holder)
        return node->object ? NODE_OBJECT : NODE_ARRAY;
    if (!scalar)
        return NODE_TYPES;
    if (!fixed && !node->number && !node->string->pattern)
        return NODE_TEXT;
    if (!fixed && !node->string && node->number->is_range)
        return NODE_RANGE;
    return node->choices && !node->constant && !node->string && !node->number ? NODE_CHOICE
                                                                              : NODE_SCALAR;
}

static unsigned plain_of(const struct node *node)
{
    unsigned asked = 0;
    if (node->kind < NODE_TYPES || node->kind > NODE_ARRAY || node->constant || node->choices)
        return 0;
    if (node->string)
        asked |= TYPE_STRING;
    if (node->number)
        asked |= TYPE_INTEGER | TYPE_NUMBER;
    if (node->object)
        asked |= TYPE_OBJECT;
    if (node->array)
        asked |= TYPE_ARRAY;
    return node->types & ~asked;
}

static void compile(struct compiler *c, struct json_object *schema, struct node *node)
{
    bool only_ref = node->resource->draft <= SCHEMA_7 && text_of(member(schema, "$ref")).at;
    if (!only_ref) {
        if (has(node->resource, VOCABULARY_APPLICATOR))
            compile_applicators(c, schema, node);
        if (has(node->resource, VOCABULARY_VALIDATION))
            compile_validation(c, schema, node);
        compile_format(schema, node);
        compile_object(c, schema, node);
        compile_array(c, schema, node);
        compile_unevaluated(c, schema, node);
    }
    compile_references(c, schema, node);
    node->dots_count = node->resource->draft == SCHEMA_4;
    node->has_applicators = node->all_of.count + node->any_of.count + node->one_of.count > 0 ||
                            node->not || node->condition || node->tracks;
    node->is_simple = !node->reference && !node->has_applicators;
    node->kind = kind_of(node);
    node->plain = plain_of(node);
}

static void note_dynamic_anchor(struct json_object *schema, struct node *node)
{
    for (struct anchor *one = node->resource->anchors; one; one = one->next)
        if (one->dynamic && one->schema == schema)
            one->node = node;
}

/* Made once, and known before it is complete: schemas refer to themselves. */
static struct node *node_of(struct compiler *c, struct json_object *schema,
                            struct resource *resource)
{
    struct resource *owner = index_owner(&c->index, schema);
    resource = owner ? owner : resource;
    struct node **place = index_node(&c->index, schema, resource);
    if (!place) {
        fail(c, "%s", "a schema must be an object, true or false");
        return NULL;
    }
    if (*place)
        return *place;
    struct node *node = arena_alloc(c->arena, sizeof *node);
    *place = node;
    node->resource = resource;
    node->source = schema;
    node->types = TYPE_ALL;
    if (json_object_is_type(schema, json_type_boolean)) {
        node->never = !json_object_get_boolean(schema);
        node->is_simple = true;
        node->kind = node->never ? NODE_SLOW : NODE_TYPES;
        node->plain = plain_of(node);
    } else if (json_object_is_type(schema, json_type_object)) {
        note_dynamic_anchor(schema, node);
        compile(c, schema, node);
        if (c->index.problem && !c->problem_at)
            c->problem_at = schema;
    } else {
        fail(c, "%s", "a schema must be an object, true or false");
    }
    return node;
}

/* A $dynamicRef may lead to any anchor of its name, also to one that nothing else leads to. */
static void compile_anchors(struct compiler *c)
{
    bool more = true;
    while (more && !c->index.problem) {
        more = false;
        for (struct resource *one = c->index.resources; one; one = one->next)
            for (struct anchor *anchor = one->anchors; anchor; anchor = anchor->next) {
                if (!anchor->dynamic || anchor->node)
                    continue;
                anchor->node = node_of(c, anchor->schema, one);
                more = true;
            }
    }
    for (struct resource *one = c->index.resources; one; one = one->next)
        if (one->recursive_anchor)
            one->root_node = node_of(c, one->root, one);
}

/* --- the whole --- */

static bool find(struct json_object *value, struct json_object *wanted, struct buf *pointer)
{
    size_t before = pointer->len;
    if (value == wanted)
        return true;
    if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, name, one)
        {
            pointer_add(pointer, name);
            if (find(one, wanted, pointer))
                return true;
            pointer->len = before;
        }
    }
    for (size_t i = 0;
         json_object_is_type(value, json_type_array) && i < json_object_array_length(value); i++) {
        buf_printf(pointer, "/%zu", i);
        if (find(json_object_array_get_idx(value, i), wanted, pointer))
            return true;
        pointer->len = before;
    }
    return false;
}

static void tell(struct schema_fault *fault, const char *pointer, const char *message)
{
    snprintf(fault->pointer, sizeof fault->pointer, "%s", pointer);
    snprintf(fault->message, sizeof fault->message, "%s", message);
}

static void tell_problem(const struct compiler *c, struct json_object *document,
                         struct schema_fault *fault)
{
    struct buf pointer = {0};
    if (c->problem_at)
        (void)find(document, c->problem_at, &pointer);
    tell(fault, buf_cstr(&pointer), c->index.problem);
    buf_free(&pointer);
}

static const struct schema *metaschema_of(enum schema_draft draft);

/* Held against its draft's metaschema, which is taken on trust itself. */
static bool check(const struct resource *resource, struct json_object *document,
                  struct schema_fault *fault)
{
    enum schema_draft draft;
    struct schema_errors errors = {0};
    struct arena arena = {0};
    bool valid =
        metaschema_draft(resource->uri, &draft) ||
        schema_validate(metaschema_of(resource->draft), schema_instance(document, &arena), &errors);
    arena_free(&arena);
    if (!valid) {
        const struct schema_error *first = &errors.at[0];
        bool chose = errors.count > 1 && strcmp(first->keyword, "anyOf") == 0;
        first += chose; /* what is wrong by the alternative that was meant says more */
        tell(fault, first->instance_path, first->message);
    }
    schema_errors_free(&errors);
    return valid;
}

struct schema *schema_compile(struct json_object *document, struct str uri,
                              const struct schema_options *options, struct schema_fault *fault)
{
    struct schema *schema = xcalloc(1, sizeof *schema);
    struct compiler c = {.arena = &schema->arena,
                         .index = {.arena = &schema->arena, .options = options}};
    *fault = (struct schema_fault){0};
    struct resource *resource = index_add(&c.index, document, uri, options->draft);
    bool checked = resource && check(resource, document, fault);
    if (checked) {
        schema->root = node_of(&c, document, resource);
        compile_anchors(&c);
    }
    schema->documents = c.index.documents;
    schema->patterns = c.patterns;
    if (c.index.problem)
        tell_problem(&c, document, fault);
    if (!checked || c.index.problem)
        schema_free(&schema);
    return schema;
}

/* Made when it is needed first. */
static const struct schema *metaschema_of(enum schema_draft draft)
{
    static struct schema *made[SCHEMA_2020_12 + 1];
    struct schema_options options = {.draft = draft};
    struct schema_fault fault;
    if (made[draft])
        return made[draft];
    struct json_object *document = metaschema_load(metaschema_uri(draft), &options.draft);
    made[draft] = schema_compile(document, metaschema_uri(draft), &options, &fault);
    json_object_put(document);
    if (!made[draft]) {
        log_error("metaschema: %s %s", fault.pointer, fault.message);
        abort(); /* a part of the binary */
    }
    return made[draft];
}

void schema_free(struct schema **place)
{
    struct schema *schema = *place;
    *place = NULL;
    if (!schema)
        return;
    for (struct document *one = schema->documents; one; one = one->next)
        json_object_put(one->root);
    for (struct kept_pattern *one = schema->patterns; one; one = one->next)
        pattern_free(one->pattern);
    arena_free(&schema->arena);
    free(schema);
}
