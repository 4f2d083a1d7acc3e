/* A schema's program at work: once to say yes or no, and a second time, when it is no and somebody
 * wants to know why, to say what is wrong. */
#include "shared/schema/run.h"
#include "shared/base/xalloc.h"
#include "shared/schema/format.h"
#include "shared/schema/report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BITS = 64 };

struct block {
    struct block *next;
    uint64_t words[];
};

/* Which members or elements of a value something has looked at. NULL bits: nobody asks. */
struct seen {
    uint64_t *bits;
    size_t count;
};

struct here {
    const struct place *place;
    const struct way *way;
    const struct scope *scope;
};

static bool run_node(struct run *run, const struct node *node, const struct cell *value,
                     const struct here *here, struct seen *seen);

/* --- marks --- */

static struct seen new_seen(struct run *run, size_t count)
{
    size_t words = (count + BITS - 1) / BITS;
    struct seen seen = {.count = count};
    if (run->used + words <= MARK_WORDS) {
        seen.bits = run->marks + run->used;
        run->used += words;
    } else {
        struct block *block = xmalloc(sizeof *block + words * sizeof *block->words);
        block->next = run->blocks;
        run->blocks = block;
        seen.bits = block->words;
    }
    memset(seen.bits, 0, words * sizeof *seen.bits);
    return seen;
}

static void mark(struct seen *seen, size_t i)
{
    if (seen)
        seen->bits[i / BITS] |= UINT64_C(1) << i % BITS;
}

static bool is_marked(const struct seen *seen, size_t i)
{
    return seen->bits[i / BITS] >> i % BITS & 1;
}

static void mark_all(struct seen *seen)
{
    if (seen)
        memset(seen->bits, 0xFF, (seen->count + BITS - 1) / BITS * sizeof *seen->bits);
}

static void merge(struct seen *into, const struct seen *from)
{
    for (size_t i = 0; i < (into->count + BITS - 1) / BITS; i++)
        into->bits[i] |= from->bits[i];
}

/* How many members or elements a value has. */
static size_t size_of(const struct cell *value)
{
    return value->type & (TYPE_OBJECT | TYPE_ARRAY) ? value->count : 0;
}

/* --- helpers --- */

#define FAIL(run, here, key, ...)                                                                  \
    do {                                                                                           \
        if ((run)->errors)                                                                         \
            fail((run), (here), (key), __VA_ARGS__);                                               \
        ok = false;                                                                                \
        if (!(run)->errors)                                                                        \
            return false;                                                                          \
    } while (0)

#define fail(run, here, key, ...)                                                                  \
    report((run)->errors, (here)->place, &(struct way){(here)->way, (key), NULL, NO_INDEX},        \
           __VA_ARGS__)

/* A subschema for the same value. */
static bool run_in_place(struct run *run, const struct node *node, const struct cell *value,
                         const struct here *here, const char *keyword, size_t index,
                         struct seen *seen)
{
    const struct way way = {here->way, keyword, NULL, index};
    const struct here there = {here->place, &way, here->scope};
    return run_node(run, node, value, &there, seen);
}

/* Its failure is not the instance's. */
static bool try_in_place(struct run *run, const struct node *node, const struct cell *value,
                         const struct here *here, const char *keyword, size_t index,
                         struct seen *seen)
{
    struct schema_errors *errors = run->errors;
    size_t used = run->used;
    struct seen own = {0};
    if (seen)
        own = new_seen(run, seen->count);
    run->errors = NULL;
    bool valid = run_in_place(run, node, value, here, keyword, index, seen ? &own : NULL);
    run->errors = errors;
    if (valid && seen)
        merge(seen, &own);
    run->used = used;
    return valid;
}

/* --- strings and numbers --- */

static struct str text_of(const struct cell *value)
{
    return (struct str){value->text, value->count};
}

static bool run_string(struct run *run, const struct string_rules *rules, const struct cell *value,
                       const struct here *here)
{
    bool ok = true;
    int64_t length = value->characters;
    if (rules->min != NO_LIMIT && length < rules->min)
        FAIL(run, here, "minLength", "must have at least %lld characters, not %lld",
             (long long)rules->min, (long long)length);
    if (rules->max != NO_LIMIT && length > rules->max)
        FAIL(run, here, "maxLength", "must have at most %lld characters, not %lld",
             (long long)rules->max, (long long)length);
    if (!rules->pattern)
        return ok;
    enum pattern_verdict verdict = pattern_match(rules->pattern, text_of(value));
    if (verdict == PATTERN_TOO_COSTLY)
        FAIL(run, here, "pattern", "cannot be held against the pattern %.200s: that takes too long",
             rules->pattern_source);
    else if (verdict == PATTERN_DIFFERS)
        FAIL(run, here, "pattern", "must match the pattern %.200s", rules->pattern_source);
    return ok;
}

static bool run_number(struct run *run, const struct number_rules *rules, const struct cell *value,
                       const struct here *here)
{
    bool ok = true;
    if (rules->minimum && cell_compare(value, rules->minimum) < 0)
        FAIL(run, here, "minimum", "must be at least %s",
             report_value(run->errors, rules->minimum));
    if (rules->maximum && cell_compare(value, rules->maximum) > 0)
        FAIL(run, here, "maximum", "must be at most %s", report_value(run->errors, rules->maximum));
    if (rules->above && cell_compare(value, rules->above) <= 0)
        FAIL(run, here, "exclusiveMinimum", "must be more than %s",
             report_value(run->errors, rules->above));
    if (rules->below && cell_compare(value, rules->below) >= 0)
        FAIL(run, here, "exclusiveMaximum", "must be less than %s",
             report_value(run->errors, rules->below));
    if (rules->multiple_of && !cell_is_multiple(value, rules->multiple_of))
        FAIL(run, here, "multipleOf", "must be a multiple of %s",
             report_value(run->errors, rules->multiple_of));
    return ok;
}

static bool is_scalar(const struct node *node)
{
    return node->kind >= NODE_TYPES && node->kind <= NODE_SCALAR;
}

/* --- arrays --- */

static bool run_element(struct run *run, const struct node *node, const struct cell *array,
                        size_t i, const char *keyword, size_t index, const struct here *here)
{
    const struct cell *value = &array->elements[i];
    if (is_scalar(node) && !run->errors)
        return quick_fits_scalar(node, value);
    const struct place place = {here->place, NULL, i};
    const struct way way = {here->way, keyword, NULL, index};
    const struct here there = {&place, &way, here->scope};
    return run_node(run, node, value, &there, NULL);
}

static bool run_contains(struct run *run, const struct array_rules *rules, const struct cell *array,
                         const struct here *here, struct seen *seen)
{
    bool ok = true;
    struct schema_errors *errors = run->errors;
    int64_t found = 0;
    size_t count = array->count;
    struct seen *marks = rules->contains_evaluates ? seen : NULL;
    run->errors = NULL;
    for (size_t i = 0; i < count; i++) {
        if (!run_element(run, rules->contains, array, i, "contains", NO_INDEX, here))
            continue;
        found++;
        mark(marks, i);
        if (!marks && rules->max_contains == NO_LIMIT && found >= rules->min_contains)
            break;
    }
    run->errors = errors;
    if (found < rules->min_contains)
        FAIL(run, here, rules->min_contains == 1 ? "contains" : "minContains",
             "must contain at least %lld elements of a kind, not %lld",
             (long long)rules->min_contains, (long long)found);
    if (rules->max_contains != NO_LIMIT && found > rules->max_contains)
        FAIL(run, here, "maxContains", "must contain at most %lld elements of a kind, not %lld",
             (long long)rules->max_contains, (long long)found);
    return ok;
}

static bool run_elements(struct run *run, const struct array_rules *rules, const struct cell *array,
                         const struct here *here, struct seen *seen)
{
    bool ok = true;
    size_t count = array->count, i = 0;
    const char *keyword = rules->items_listed ? "items" : "prefixItems";
    for (; i < count && i < rules->prefix.count; i++) {
        mark(seen, i);
        ok = run_element(run, rules->prefix.at[i], array, i, keyword, i, here) && ok;
        if (!ok && !run->errors)
            return false;
    }
    if (!rules->items)
        return ok;
    for (; i < count; i++) {
        ok = run_element(run, rules->items, array, i, rules->items_keyword, NO_INDEX, here) && ok;
        if (!ok && !run->errors)
            return false;
    }
    mark_all(seen);
    return ok;
}

static bool run_array(struct run *run, const struct array_rules *rules, const struct cell *array,
                      const struct here *here, struct seen *seen)
{
    bool ok = true;
    int64_t count = (int64_t)array->count;
    if (rules->min != NO_LIMIT && count < rules->min)
        FAIL(run, here, "minItems", "must have at least %lld elements, not %lld",
             (long long)rules->min, (long long)count);
    if (rules->max != NO_LIMIT && count > rules->max)
        FAIL(run, here, "maxItems", "must have at most %lld elements, not %lld",
             (long long)rules->max, (long long)count);
    if (rules->unique && !cell_is_unique(array))
        FAIL(run, here, "uniqueItems", "must have no element twice");
    if (rules->prefix.count > 0 || rules->items)
        ok = run_elements(run, rules, array, here, seen) && ok;
    if (!ok && !run->errors)
        return false;
    if (rules->contains)
        ok = run_contains(run, rules, array, here, seen) && ok;
    return ok;
}

/* --- objects --- */

static const struct name_entry *find_name(const struct name_table *table, const struct name *name)
{
    for (uint32_t i = name->hash & table->mask; table->at[i].name.text; i = (i + 1) & table->mask)
        if (name_equal(&table->at[i].name, name))
            return &table->at[i];
    return NULL;
}

static bool run_member(struct run *run, const struct node *node, const struct member *member,
                       const char *keyword, const char *by, const struct here *here)
{
    if (is_scalar(node) && !run->errors)
        return quick_fits_scalar(node, &member->value);
    const struct place place = {here->place, member->name.text, 0};
    const struct way way = {here->way, keyword, by, NO_INDEX};
    const struct here there = {&place, &way, here->scope};
    return run_node(run, node, &member->value, &there, NULL);
}

/* A member whose name fits, or might. */
static bool run_pattern(struct run *run, const struct pattern_entry *entry,
                        const struct member *member, const struct here *here, bool *known)
{
    bool ok = true;
    const struct place place = {here->place, member->name.text, 0};
    const struct here there = {&place, here->way, here->scope};
    enum pattern_verdict verdict =
        pattern_match(entry->pattern, (struct str){member->name.text, member->name.len});
    if (verdict == PATTERN_TOO_COSTLY)
        FAIL(run, &there, "patternProperties",
             "has a name that cannot be held against the pattern %.200s: that takes too long",
             entry->source);
    *known = *known || verdict != PATTERN_DIFFERS;
    return verdict == PATTERN_MATCHES
               ? run_member(run, entry->node, member, "patternProperties", entry->source, here)
               : ok;
}

struct members {
    const struct object_rules *rules;
    uint32_t required; /* of them that were found */
    struct seen *seen;
};

static bool run_name(struct run *run, const struct node *node, const struct member *member,
                     const struct here *here)
{
    const struct cell name = cell_of_name(&member->name);
    const struct place place = {here->place, member->name.text, 0};
    const struct way way = {here->way, "propertyNames", NULL, NO_INDEX};
    const struct here there = {&place, &way, here->scope};
    return run_node(run, node, &name, &there, NULL);
}

static bool run_one_member(struct run *run, struct members *members, const struct member *member,
                           size_t i, const struct here *here)
{
    const struct object_rules *rules = members->rules;
    const struct name_entry *entry =
        rules->has_names ? find_name(&rules->names, &member->name) : NULL;
    bool ok = true, known = false;
    if (entry) {
        members->required += entry->required;
        known = entry->node;
    }
    if (known)
        ok = run_member(run, entry->node, member, "properties", member->name.text, here);
    for (size_t j = 0; j < rules->patterns_count; j++)
        ok = run_pattern(run, &rules->patterns[j], member, here, &known) && ok;
    if (!known && rules->additional) {
        known = true;
        ok = run_member(run, rules->additional, member, "additionalProperties", NULL, here) && ok;
    }
    if (rules->property_names)
        ok = run_name(run, rules->property_names, member, here) && ok;
    if (known)
        mark(members->seen, i);
    return ok;
}

static bool has_member(const struct cell *object, const struct name *name)
{
    return cell_member(object, name);
}

static bool run_required(struct run *run, const struct object_rules *rules,
                         const struct cell *object, const struct here *here)
{
    bool ok = true;
    for (size_t i = 0; i < rules->required_count; i++)
        if (!has_member(object, &rules->required[i]))
            FAIL(run, here, "required", "must have the member %s", rules->required[i].text);
    return ok;
}

static bool run_dependency(struct run *run, const struct dependency *dependency,
                           const struct cell *object, const struct here *here, struct seen *seen)
{
    bool ok = true;
    const struct way way = {here->way, dependency->keyword, dependency->name.text, NO_INDEX};
    const struct here there = {here->place, &way, here->scope};
    if (!has_member(object, &dependency->name))
        return true;
    if (dependency->schema)
        return run_node(run, dependency->schema, object, &there, seen);
    for (size_t i = 0; i < dependency->required_count; i++) {
        if (has_member(object, &dependency->required[i]))
            continue;
        if (!run->errors)
            return false;
        report(run->errors, here->place, &way, "must have the member %s, for it has %s",
               dependency->required[i].text, dependency->name.text);
        ok = false;
    }
    return ok;
}

static bool run_object(struct run *run, const struct object_rules *rules, const struct cell *object,
                       const struct here *here, struct seen *seen)
{
    bool ok = true;
    int64_t count = object->count;
    struct members members = {rules, 0, seen};
    if (rules->min != NO_LIMIT && count < rules->min)
        FAIL(run, here, "minProperties", "must have at least %lld members, not %lld",
             (long long)rules->min, (long long)count);
    if (rules->max != NO_LIMIT && count > rules->max)
        FAIL(run, here, "maxProperties", "must have at most %lld members, not %lld",
             (long long)rules->max, (long long)count);
    for (uint32_t i = 0; i < object->count; i++) {
        ok = run_one_member(run, &members, &object->members[i], i, here) && ok;
        if (!ok && !run->errors)
            return false;
    }
    if (members.required < rules->names.required) {
        if (!run->errors)
            return false;
        ok = run_required(run, rules, object, here) && ok;
    }
    for (size_t j = 0; j < rules->dependencies_count; j++) {
        ok = run_dependency(run, &rules->dependencies[j], object, here, seen) && ok;
        if (!ok && !run->errors)
            return false;
    }
    return ok;
}

/* --- what nobody has looked at --- */

static bool run_unevaluated(struct run *run, const struct node *node, const struct cell *value,
                            const struct here *here, struct seen *seen)
{
    bool ok = true;
    if (node->unevaluated_properties && value->type == TYPE_OBJECT) {
        for (uint32_t i = 0; i < value->count; i++)
            if (!is_marked(seen, i))
                ok = run_member(run, node->unevaluated_properties, &value->members[i],
                                "unevaluatedProperties", NULL, here) &&
                     ok;
        mark_all(seen);
    }
    if (node->unevaluated_items && value->type == TYPE_ARRAY) {
        for (uint32_t i = 0; i < value->count; i++)
            if (!is_marked(seen, i))
                ok = run_element(run, node->unevaluated_items, value, i, "unevaluatedItems",
                                 NO_INDEX, here) &&
                     ok;
        mark_all(seen);
    }
    return ok;
}

/* --- schemas for the same value --- */

static struct anchor *dynamic_anchor_of(const struct resource *resource, struct str name)
{
    for (struct anchor *one = resource->anchors; one; one = one->next)
        if (one->dynamic && str_eq(one->name, name))
            return one;
    return NULL;
}

/* The outermost resource on the way that has such an anchor. */
static const struct node *target_of(const struct node *node, const struct scope *scope)
{
    const struct node *target = node->reference;
    for (; scope; scope = scope->outer) {
        if (node->recursive && scope->resource->recursive_anchor)
            target = scope->resource->root_node;
        struct anchor *anchor = node->dynamic_anchor.at
                                    ? dynamic_anchor_of(scope->resource, node->dynamic_anchor)
                                    : NULL;
        if (anchor && anchor->node)
            target = anchor->node;
    }
    return target;
}

/* Whether all that is wrong with it is its type: the branch was meant for other values. */
static bool is_of_another_type(const struct schema_errors *errors, const char *path)
{
    return errors->count == 0 || (strcmp(errors->at[0].keyword, "type") == 0 &&
                                  strcmp(errors->at[0].instance_path, path) == 0);
}

/* Of branches that all fail: what is wrong by the first that was meant for such a value. */
static void explain_branches(struct run *run, const struct node_list *branches,
                             const struct cell *value, const struct here *here, const char *keyword)
{
    struct schema_errors *errors = run->errors;
    const char *path = errors->count > 0 ? errors->at[errors->count - 1].instance_path : "";
    bool told = false;
    for (size_t i = 0; i < branches->count && !told; i++) {
        struct schema_errors own = {.hide_values = errors->hide_values};
        run->errors = &own;
        (void)run_in_place(run, branches->at[i], value, here, keyword, i, NULL);
        run->errors = errors;
        told = !is_of_another_type(&own, path);
        for (size_t j = 0; told && j < own.count; j++)
            report_again(errors, &own.at[j]);
        schema_errors_free(&own);
    }
}

static bool run_choices(struct run *run, const struct node *node, const struct cell *value,
                        const struct here *here, struct seen *seen)
{
    bool ok = true, any = node->any_of.count == 0;
    size_t fitting = 0;
    for (size_t i = 0; i < node->any_of.count && (!any || seen); i++)
        any = try_in_place(run, node->any_of.at[i], value, here, "anyOf", i, seen) || any;
    if (!any) {
        FAIL(run, here, "anyOf", "must fit one of %zu schemas at least, and fits none",
             node->any_of.count);
        explain_branches(run, &node->any_of, value, here, "anyOf");
    }
    for (size_t i = 0; i < node->one_of.count && fitting < 2; i++)
        fitting += try_in_place(run, node->one_of.at[i], value, here, "oneOf", i, seen);
    if (node->one_of.count > 0 && fitting != 1) {
        FAIL(run, here, "oneOf", "must fit exactly one of %zu schemas, and fits %s",
             node->one_of.count, fitting == 0 ? "none" : "more");
        if (fitting == 0)
            explain_branches(run, &node->one_of, value, here, "oneOf");
    }
    if (node->not &&try_in_place(run, node->not, value, here, "not", NO_INDEX, NULL))
        FAIL(run, here, "not", "must not fit the schema");
    return ok;
}

static bool run_condition(struct run *run, const struct node *node, const struct cell *value,
                          const struct here *here, struct seen *seen)
{
    bool holds = try_in_place(run, node->condition, value, here, "if", NO_INDEX, seen);
    const struct node *next = holds ? node->then : node->otherwise;
    return !next || run_in_place(run, next, value, here, holds ? "then" : "else", NO_INDEX, seen);
}

static bool run_applicators(struct run *run, const struct node *node, const struct cell *value,
                            const struct here *here, struct seen *seen)
{
    bool ok = true;
    if (node->reference) {
        const struct node *target = node->dynamic_anchor.at || node->recursive
                                        ? target_of(node, here->scope)
                                        : node->reference;
        ok = run_in_place(run, target, value, here, node->reference_keyword, NO_INDEX, seen);
    }
    for (size_t i = 0; i < node->all_of.count && (ok || run->errors); i++)
        ok = run_in_place(run, node->all_of.at[i], value, here, "allOf", i, seen) && ok;
    if (!ok && !run->errors)
        return false;
    ok = run_choices(run, node, value, here, seen) && ok;
    if (node->condition && (ok || run->errors))
        ok = run_condition(run, node, value, here, seen) && ok;
    return ok;
}

/* --- a node --- */

static const char *type_words(unsigned types, char words[160])
{
    static const char *const names[] = {"null",     "true or false", "an integer", "a number",
                                        "a string", "an array",      "an object"};
    size_t len = 0;
    words[0] = '\0';
    if ((types & (TYPE_INTEGER | TYPE_NUMBER)) == (TYPE_INTEGER | TYPE_NUMBER))
        types &= ~(unsigned)TYPE_INTEGER;
    for (int i = 0; i < 7; i++)
        if (types >> i & 1)
            len += (size_t)snprintf(words + len, 160 - len, "%s%s", len ? " or " : "", names[i]);
    return words;
}

/* Kept apart: its texts are large, and most values are of their type. */
static __attribute__((noinline)) void report_type(struct run *run, const struct node *node,
                                                  unsigned type, const struct here *here)
{
    char wanted[160], found[160];
    fail(run, here, "type", "must be %s, not %s", type_words(node->types, wanted),
         type_words(type, found));
}

static bool run_fixed(struct run *run, const struct node *node, const struct cell *value,
                      const struct here *here)
{
    bool ok = true;
    if (node->constant && !cell_equal(node->constant, value))
        FAIL(run, here, "const", "must be %s", report_value(run->errors, node->constant));
    if (node->choices && !cell_is_among(node->choices, value))
        FAIL(run, here, "enum", "must be one of %s", report_value(run->errors, node->choices));
    return ok;
}

static bool run_rules(struct run *run, const struct node *node, const struct cell *value,
                      const struct here *here, struct seen *seen)
{
    bool ok = true;
    unsigned type = value->type;
    if (node->dots_count && value->is_dotted)
        type = TYPE_NUMBER;
    if (!(node->types & type)) {
        if (!run->errors)
            return false;
        report_type(run, node, type, here);
        ok = false;
    }
    if (node->constant || node->choices)
        ok = run_fixed(run, node, value, here) && ok;
    if (!ok && !run->errors)
        return false;
    if (type == TYPE_STRING && node->string)
        ok = run_string(run, node->string, value, here) && ok;
    else if ((type & (TYPE_INTEGER | TYPE_NUMBER)) && node->number)
        ok = run_number(run, node->number, value, here) && ok;
    else if (type == TYPE_ARRAY && node->array)
        ok = run_array(run, node->array, value, here, seen) && ok;
    else if (type == TYPE_OBJECT && node->object)
        ok = run_object(run, node->object, value, here, seen) && ok;
    if (type == TYPE_STRING && node->format && !format_fits(node->format, text_of(value)))
        FAIL(run, here, "format", "must be of the format %s", node->format_name);
    return ok;
}

/* One that needs to know what the others have looked at has marks of its own. */
static bool run_tracking(struct run *run, const struct node *node, const struct cell *value,
                         const struct here *here, struct seen *outer)
{
    size_t used = run->used;
    struct seen seen = new_seen(run, size_of(value));
    bool ok = run_rules(run, node, value, here, &seen);
    if (ok || run->errors)
        ok = run_applicators(run, node, value, here, &seen) && ok;
    if (ok || run->errors)
        ok = run_unevaluated(run, node, value, here, &seen) && ok;
    if (outer)
        merge(outer, &seen);
    run->used = used;
    return ok;
}

static bool run_scoped(struct run *run, const struct node *node, const struct cell *value,
                       const struct here *here, struct seen *seen)
{
    if (node->never) {
        if (run->errors)
            report(run->errors, here->place, here->way, "must not be there");
        return false;
    }
    if (node->tracks)
        return run_tracking(run, node, value, here, seen);
    bool ok = run_rules(run, node, value, here, seen);
    if (!node->is_simple && (ok || run->errors))
        ok = run_applicators(run, node, value, here, seen) && ok;
    return ok;
}

static bool run_node(struct run *run, const struct node *node, const struct cell *value,
                     const struct here *here, struct seen *seen)
{
    bool ok, same = here->scope && here->scope->resource == node->resource;
    const struct scope scope = {here->scope, node->resource};
    const struct here there = {here->place, here->way, same ? here->scope : &scope};
    if (node->kind != NODE_SLOW && !run->errors && !seen)
        return quick_fits(run, node, value, there.scope);
    if (!run_enter(run))
        return false;
    ok = run_scoped(run, node, value, &there, seen);
    run->depth--;
    return ok;
}

bool run_fits(struct run *run, const struct node *node, const struct cell *value,
              const struct scope *scope)
{
    const struct here here = {NULL, NULL, scope};
    return run_node(run, node, value, &here, NULL);
}

struct verdict {
    bool valid;
    const char *given_up;
};

static struct verdict start(const struct schema *schema, const struct cell *instance,
                            struct schema_errors *errors)
{
    struct run run;
    const struct here here = {0};
    run.errors = errors;
    run.depth = run.steps = 0;
    run.given_up = NULL;
    run.used = 0;
    run.blocks = NULL;
    bool valid = run_node(&run, schema->root, instance, &here, NULL);
    while (run.blocks) {
        struct block *block = run.blocks;
        run.blocks = block->next;
        free(block);
    }
    return (struct verdict){valid && !run.given_up, run.given_up};
}

const struct cell *schema_instance(struct json_object *value, struct arena *arena)
{
    return cell_of(value, arena);
}

bool schema_validate(const struct schema *schema, const struct cell *instance,
                     struct schema_errors *errors)
{
    struct verdict verdict = start(schema, instance, NULL);
    if (verdict.given_up && errors)
        report(errors, NULL, NULL, "cannot be checked: %s", verdict.given_up);
    else if (!verdict.valid && errors)
        (void)start(schema, instance, errors);
    return verdict.valid;
}
