/* The short way through what most schemas are made of, for when nobody wants to know why. */
#include "shared/schema/run.h"

static inline bool number_fits(const struct number_rules *rules, const struct cell *value)
{
    if (rules->is_range && value->is_small)
        return value->integer >= rules->least && value->integer <= rules->most;
    return (!rules->minimum || cell_compare(value, rules->minimum) >= 0) &&
           (!rules->maximum || cell_compare(value, rules->maximum) <= 0) &&
           (!rules->above || cell_compare(value, rules->above) > 0) &&
           (!rules->below || cell_compare(value, rules->below) < 0) &&
           (!rules->multiple_of || cell_is_multiple(value, rules->multiple_of));
}

/* NO_LIMIT is less than all counts, and without a sign more than all. */
static inline bool count_fits(uint32_t count, int64_t min, int64_t max)
{
    return (int64_t)count >= min && (uint64_t)count <= (uint64_t)max;
}

static inline bool length_fits(const struct string_rules *rules, const struct cell *value)
{
    return count_fits(value->characters, rules->min, rules->max);
}

static bool string_fits(const struct string_rules *rules, const struct cell *value)
{
    return length_fits(rules, value) &&
           (!rules->pattern ||
            pattern_match(rules->pattern, (struct str){value->text, value->count}) ==
                PATTERN_MATCHES);
}

static inline __attribute__((always_inline)) bool scalar_fits(const struct node *node,
                                                              const struct cell *value)
{
    if (!(node->types & value->type))
        return false;
    if (node->choices && !cell_is_among(node->choices, value))
        return false;
    if (node->constant && !cell_equal(node->constant, value))
        return false;
    if (value->type == TYPE_STRING)
        return !node->string || string_fits(node->string, value);
    if (value->type & (TYPE_INTEGER | TYPE_NUMBER))
        return !node->number || number_fits(node->number, value);
    return true;
}

static bool object_fits(struct run *run, const struct object_rules *rules,
                        const struct cell *object, const struct scope *scope);
static bool array_fits(struct run *run, const struct array_rules *rules, const struct cell *array,
                       const struct scope *scope);

bool quick_fits_scalar(const struct node *node, const struct cell *value)
{
    return scalar_fits(node, value);
}

/* Not at the edges: there the nearest double is not enough to tell. */
static inline bool is_within(const struct node *node, const struct cell *value)
{
    return (node->types & value->type & (TYPE_INTEGER | TYPE_NUMBER)) &&
           value->number > (double)node->number->least &&
           value->number < (double)node->number->most;
}

/* What is quick leads only to its own resource. An object's or an array's children are smaller than
 * it, so nothing has to be counted; what may refer to itself is. */
static inline __attribute__((always_inline)) bool asked_fits(struct run *run,
                                                             const struct node *node,
                                                             const struct cell *value,
                                                             const struct scope *scope)
{
    switch (node->kind == NODE_REFERENCE ? (node = node->reference)->kind : node->kind) {
    case NODE_TYPES:
        return node->types & value->type;
    case NODE_TEXT:
        return (node->types & value->type) &&
               (value->type != TYPE_STRING || length_fits(node->string, value));
    case NODE_RANGE:
        if (value->is_small)
            return (node->types & TYPE_INTEGER) && value->integer >= node->number->least &&
                   value->integer <= node->number->most;
        return is_within(node, value) || scalar_fits(node, value);
    case NODE_CHOICE:
        if (value->type == TYPE_STRING)
            return (node->types & TYPE_STRING) && cell_text_is_among(node->choices, value);
        return (node->types & value->type) && cell_is_among(node->choices, value);
    case NODE_SCALAR:
        return scalar_fits(node, value);
    case NODE_OBJECT:
        return (node->types & value->type) &&
               (value->type != TYPE_OBJECT || object_fits(run, node->object, value, scope));
    case NODE_ARRAY:
        return (node->types & value->type) &&
               (value->type != TYPE_ARRAY || array_fits(run, node->array, value, scope));
    case NODE_QUICK:
    case NODE_REFERENCE:
        return quick_fits(run, node, value, scope);
    case NODE_SLOW:
        break;
    }
    return run_fits(run, node, value, scope);
}

static inline __attribute__((always_inline)) bool child_fits(struct run *run,
                                                             const struct node *node,
                                                             const struct cell *value,
                                                             const struct scope *scope)
{
    return (node->plain & value->type) || asked_fits(run, node, value, scope);
}

static __attribute__((noinline)) const struct name_entry *look_up(const struct name_table *table,
                                                                  const struct name *name)
{
    for (uint32_t i = name->hash & table->mask; table->at[i].name.text; i = (i + 1) & table->mask)
        if (name_equal(&table->at[i].name, name))
            return &table->at[i];
    return NULL;
}

/* Members often come in the order that the schema has them. */
static bool object_fits(struct run *run, const struct object_rules *rules,
                        const struct cell *object, const struct scope *scope)
{
    const struct name_entry *guess = rules->names.first;
    const struct member *member = object->members, *end = member + object->count;
    uint32_t required = 0;
    if (!count_fits(object->count, rules->min, rules->max))
        return false;
    for (; member < end; member++) {
        const struct node *node = rules->additional;
        const struct name_entry *entry = guess;
        if (!entry || !name_equal(&entry->name, &member->name))
            entry = rules->has_names ? look_up(&rules->names, &member->name) : NULL;
        if (entry) {
            guess = entry->next;
            required += entry->required;
            node = entry->node ? entry->node : node;
        }
        if (node && !child_fits(run, node, &member->value, scope))
            return false;
    }
    return required == rules->names.required;
}

static bool array_fits(struct run *run, const struct array_rules *rules, const struct cell *array,
                       const struct scope *scope)
{
    const struct cell *element = array->elements, *end = element + array->count;
    if (!count_fits(array->count, rules->min, rules->max) ||
        (rules->unique && !cell_is_unique(array)))
        return false;
    for (size_t i = 0; element < end && i < rules->prefix.count; i++, element++)
        if (!child_fits(run, rules->prefix.at[i], element, scope))
            return false;
    for (; rules->items && element < end; element++)
        if (!child_fits(run, rules->items, element, scope))
            return false;
    return true;
}

static bool choices_fit(struct run *run, const struct node *node, const struct cell *value,
                        const struct scope *scope)
{
    bool any = node->any_of.count == 0;
    size_t fitting = 0;
    for (size_t i = 0; i < node->all_of.count; i++)
        if (!child_fits(run, node->all_of.at[i], value, scope))
            return false;
    for (size_t i = 0; i < node->any_of.count && !any; i++)
        any = child_fits(run, node->any_of.at[i], value, scope);
    for (size_t i = 0; i < node->one_of.count && fitting < 2; i++)
        fitting += child_fits(run, node->one_of.at[i], value, scope);
    if (!any || (node->one_of.count > 0 && fitting != 1) ||
        (node->not &&child_fits(run, node->not, value, scope)))
        return false;
    if (!node->condition)
        return true;
    const struct node *next =
        child_fits(run, node->condition, value, scope) ? node->then : node->otherwise;
    return !next || child_fits(run, next, value, scope);
}

bool quick_fits(struct run *run, const struct node *node, const struct cell *value,
                const struct scope *scope)
{
    if (!run_enter(run))
        return false;
    bool fits = scalar_fits(node, value);
    if (fits && value->type == TYPE_OBJECT && node->object)
        fits = object_fits(run, node->object, value, scope);
    else if (fits && value->type == TYPE_ARRAY && node->array)
        fits = array_fits(run, node->array, value, scope);
    if (fits && node->reference)
        fits = child_fits(run, node->reference, value, scope);
    if (fits && !node->is_simple)
        fits = choices_fit(run, node, value, scope);
    run->depth--;
    return fits && !run->given_up;
}
