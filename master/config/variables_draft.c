/* An endpoint's variables: each definition is checked as strictly as what clients will give. */
#include "master/config/drafts.h"

static bool is_name(struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.at[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!letter && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return text.len > 0;
}

static bool means_else(const struct endpoint_draft *endpoint, struct str name)
{
    enum member member = member_named(name);
    enum member_use use = member_use(member);
    if (use == MEMBER_PINNED)
        return endpoint->target.client_parameters & MEMBER_BIT(member);
    return use != MEMBER_PAYLOAD;
}

static void check_name(struct reading *reading, struct endpoint_draft *endpoint,
                       struct variable_draft *draft)
{
    struct section *section = &draft->section;
    if (section->bad[VARIABLE_name])
        return;
    if (!is_name(str_of(draft->name))) {
        section_error(reading, section, VARIABLE_name,
                      "must be letters, digits and _, and begin with no digit");
    } else if (means_else(endpoint, str_of(draft->name))) {
        section_error(reading, section, VARIABLE_name,
                      "means something else in a request's body: choose another name");
    }
    for (size_t i = 0; i < endpoint->variables_count; i++)
        if (strcmp(endpoint->variables[i].name, draft->name) == 0)
            section_error(reading, section, VARIABLE_name,
                          "is the name of another variable already");
}

static bool is_one_of(int type, unsigned types)
{
    return types & (1u << type);
}

/* A key that means nothing for this type. */
static void check_fits(struct reading *reading, struct variable_draft *draft, enum key_id key,
                       unsigned types, const char *named)
{
    struct section *section = &draft->section;
    if (section->at[key] && !section->bad[key] && !section->bad[VARIABLE_type] &&
        !is_one_of(draft->type, types))
        section_error(reading, section, key, "is for %s alone: leave the key out", named);
}

static void check_keys(struct reading *reading, struct variable_draft *draft)
{
    enum {
        BOUNDED = 1u << VARIABLE_INT | 1u << VARIABLE_FLOAT | 1u << VARIABLE_DATE,
        TEXTS = 1u << VARIABLE_STRING | 1u << VARIABLE_TEXT,
    };
    check_fits(reading, draft, VARIABLE_min, BOUNDED, "int, float and date");
    check_fits(reading, draft, VARIABLE_max, BOUNDED, "int, float and date");
    check_fits(reading, draft, VARIABLE_max_length, TEXTS, "string and text");
    check_fits(reading, draft, VARIABLE_pattern, TEXTS, "string and text");
    check_fits(reading, draft, VARIABLE_enum, 1u << VARIABLE_ENUM, "the type enum");
}

static void read_bound(struct reading *reading, struct variable_draft *draft, enum key_id key,
                       const char *text, bool *has, int64_t *whole, double *decimal)
{
    struct section *section = &draft->section;
    if (!text || section->bad[key] || section->bad[VARIABLE_type])
        return;
    *has = draft->type == VARIABLE_FLOAT
               ? variable_parse_decimal(str_of(text), decimal)
               : variable_parse_whole((enum variable_type)draft->type, str_of(text), whole);
    if (!*has)
        section_error(reading, section, key, "must be %s, as the variable's values",
                      draft->type == VARIABLE_FLOAT  ? "a number"
                      : draft->type == VARIABLE_DATE ? "a date such as 2026-11-26"
                                                     : "a whole number");
}

static void read_bounds(struct reading *reading, struct variable_draft *draft,
                        struct variable *variable)
{
    read_bound(reading, draft, VARIABLE_min, draft->min, &variable->has_min, &variable->min,
               &variable->min_decimal);
    read_bound(reading, draft, VARIABLE_max, draft->max, &variable->has_max, &variable->max,
               &variable->max_decimal);
    variable->min_text = draft->min;
    variable->max_text = draft->max;
    bool both = variable->has_min && variable->has_max;
    if (both && (variable->min > variable->max || variable->min_decimal > variable->max_decimal))
        section_error(reading, &draft->section, VARIABLE_max, "is less than min: no value fits");
}

static void read_pattern(struct reading *reading, struct variable_draft *draft,
                         struct variable *variable)
{
    struct section *section = &draft->section;
    struct pattern *pattern;
    struct error error;
    size_t offset;
    if (!draft->pattern || section->bad[VARIABLE_pattern])
        return;
    if (pattern_compile(str_of(draft->pattern), reading->lasting, &pattern, &offset, &error))
        variable->pattern = pattern;
    else
        section_error(reading, section, VARIABLE_pattern,
                      "is no regular expression: %s, at its byte %zu", error.message, offset);
}

static void read_choices(struct reading *reading, struct variable_draft *draft,
                         struct variable *variable)
{
    struct section *section = &draft->section;
    const struct yaml_node *list = draft->choices_node;
    if (section->bad[VARIABLE_enum] || draft->type != VARIABLE_ENUM)
        return;
    if (!list || list->count == 0) {
        section_error(reading, section, VARIABLE_enum,
                      "missing: an enum needs the list of its values");
        return;
    }
    variable->choices = arena_alloc(reading->lasting, list->count * sizeof *variable->choices);
    for (size_t i = 0; i < list->count; i++) {
        const struct yaml_node *one = list->entries[i].value;
        if (one->kind != NODE_SCALAR || yaml_node_is_null(one)) {
            problem_error(reading->problems, section->file, one->mark,
                          section_key_path(reading, section, "enum"),
                          "must be texts, numbers, true or false, not %s",
                          yaml_node_shown(one, reading->scratch, false));
            section->bad[VARIABLE_enum] = true;
        } else {
            variable->choices[variable->choices_count++] = arena_copy(reading->lasting, one->text);
        }
    }
}

static void check_default(struct reading *reading, struct variable_draft *draft,
                          struct variable *variable)
{
    struct section *section = &draft->section;
    struct variable_fault fault;
    if (!draft->standard || section->bad[VARIABLE_default])
        return;
    variable->standard = str_of(draft->standard);
    if (draft->required)
        section_error(reading, section, VARIABLE_default,
                      "is never used, for the variable is required: leave one of them out");
    for (size_t i = 0; i < KEYS_COUNT; i++)
        if (config_keys[i].section == SECTION_VARIABLE && section->bad[i])
            return; /* there is nothing to hold it against */
    if (!variable_check(variable, variable->standard, reading->scratch, &fault))
        section_error(reading, section, VARIABLE_default, "breaks the variable's own rules: it %s",
                      fault.message);
}

static void read_variable(struct reading *reading, struct endpoint_draft *endpoint,
                          const struct yaml_node *node, size_t index)
{
    struct variable_draft *draft = arena_alloc(reading->scratch, sizeof *draft);
    draft->section = (struct section){
        .id = SECTION_VARIABLE,
        .file = endpoint->section.file,
        .path = arena_printf(reading->scratch, "%s.variables[%zu]", endpoint->section.path, index),
        .mark = node->mark,
        .node = node,
    };
    if (!section_read(reading, &draft->section))
        return;
    check_name(reading, endpoint, draft);
    if (!draft->name)
        return;
    struct variable *variable = &endpoint->variables[endpoint->variables_count++];
    *variable = (struct variable){
        .name = draft->name,
        .type = (enum variable_type)draft->type,
        .required = draft->required,
        .max_length = draft->max_length ? draft->max_length : -1,
    };
    check_keys(reading, draft);
    read_bounds(reading, draft, variable);
    read_pattern(reading, draft, variable);
    read_choices(reading, draft, variable);
    check_default(reading, draft, variable);
}

void variables_read(struct reading *reading, struct endpoint_draft *endpoint)
{
    const struct yaml_node *list = endpoint->variables_node;
    size_t count = list ? list->count : 0;
    endpoint->variables =
        count ? arena_alloc(reading->lasting, count * sizeof *endpoint->variables) : NULL;
    for (size_t i = 0; i < count; i++)
        read_variable(reading, endpoint, list->entries[i].value, i);
}
