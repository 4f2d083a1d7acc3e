/* Which parameters clients may set, and which the endpoint adds itself. */
#include "master/config/drafts.h"
#include "master/config/yaml_json.h"

#include "shared/base/json_text.h"

static bool may_be_listed(enum member member)
{
    return member_use(member) == MEMBER_CLIENT || member_use(member) == MEMBER_PINNED;
}

static const char *nearest_parameter(struct str name)
{
    const char *names[MEMBER_NONE];
    size_t count = 0;
    for (int i = 0; i < MEMBER_NONE; i++)
        if (may_be_listed((enum member)i))
            names[count++] = member_name((enum member)i);
    return nearest_name(names, count, name);
}

static void read_client_parameter(struct reading *reading, const struct section *section,
                                  struct target_draft *target, const struct yaml_node *node)
{
    enum member member = node->kind == NODE_SCALAR ? member_named(node->text) : MEMBER_NONE;
    if (may_be_listed(member)) {
        target->client_parameters |= MEMBER_BIT(member);
        return;
    }
    const char *near = node->kind == NODE_SCALAR ? nearest_parameter(node->text) : NULL;
    problem_error(reading->problems, section->file, node->mark,
                  section_key_path(reading, section, "client_parameters"),
                  "must be names of parameters such as max_tokens or temperature, not %s%s",
                  yaml_node_shown(node, reading->scratch, false),
                  near ? arena_printf(reading->scratch, "; did you mean %s?", near) : "");
}

/* Those that have a key of their own, or that this gateway alone knows how to set. */
static const char *why_not(enum member member, struct str name)
{
    if (member == MEMBER_temperature || member == MEMBER_top_p)
        return "has a key of its own on the endpoint";
    if (member == MEMBER_max_tokens || member == MEMBER_max_completion_tokens)
        return "is set by max_output_tokens";
    if (member_use(member) == MEMBER_CONTROL || member_use(member) == MEMBER_CONVERSATION ||
        str_eq(name, STR("n")))
        return "is set by the gateway itself";
    return NULL;
}

static void read_parameter(struct reading *reading, struct section *section,
                           const struct yaml_entry *entry, uint64_t client,
                           struct parameters_draft *parameters)
{
    struct str name = entry->key->text;
    enum member member = member_named(name);
    const struct yaml_node *wrong = NULL;
    const char *reason = why_not(member, name);
    const char *path = section_key_path(
        reading, section, arena_printf(reading->scratch, "parameters.%.*s", STR_ARG(name)));
    if (!reason && member != MEMBER_NONE && (client & MEMBER_BIT(member)))
        reason = "is one that clients may set: take it out of client_parameters, or leave it out";
    if (reason) {
        problem_error(reading->problems, section->file, entry->key->mark, path, "%s", reason);
        return;
    }
    struct buf json = {0};
    if (!yaml_json_write(entry->value, &json, &wrong))
        problem_error(reading->problems, section->file, wrong->mark, path,
                      "must be a number as JSON has it, not %s",
                      yaml_node_shown(wrong, reading->scratch, false));
    parameters->at[parameters->count++] = (struct parameter_draft){
        arena_copy(reading->scratch, name).at, arena_copy(reading->scratch, buf_view(&json)).at};
    buf_free(&json);
}

struct parameters_draft parameters_read_map(struct reading *reading, struct section *section,
                                            const struct yaml_node *map, uint64_t client)
{
    struct parameters_draft parameters = {0};
    size_t count = map ? map->count : 0;
    parameters.at = arena_alloc(reading->scratch, count * sizeof *parameters.at);
    for (size_t i = 0; i < count; i++)
        read_parameter(reading, section, &map->entries[i], client, &parameters);
    return parameters;
}

void parameters_read(struct reading *reading, struct section *section, struct target_draft *target)
{
    const struct yaml_node *list = target->client_parameters_node;
    if (!list)
        target->client_parameters = member_client_set();
    for (size_t i = 0; list && i < list->count; i++)
        read_client_parameter(reading, section, target, list->entries[i].value);
    target->parameters =
        parameters_read_map(reading, section, target->parameters_node, target->client_parameters);
}

/* --- those of both, an endpoint and its model --- */

static void put_parameter(const struct parameter_draft *parameter, struct buf *json)
{
    buf_puts(json, json->len ? "," : "");
    json_write_string(json, str_of(parameter->name));
    buf_printf(json, ":%s", parameter->json);
}

static bool clients_set(const struct target_draft *target, const char *name)
{
    enum member member = member_named(str_of(name));
    return member != MEMBER_NONE && (target->client_parameters & MEMBER_BIT(member));
}

const char *parameters_format(const struct parameters_draft *parameters)
{
    static const char *const names[] = {"response_format", "output_format"};
    for (size_t i = 0; i < parameters->count; i++)
        for (size_t j = 0; j < sizeof names / sizeof *names; j++)
            if (strcmp(parameters->at[i].name, names[j]) == 0)
                return names[j];
    return NULL;
}

const char *parameters_clash(const struct target_draft *target)
{
    for (size_t i = 0; i < target->parameters.count; i++)
        if (clients_set(target, target->parameters.at[i].name))
            return target->parameters.at[i].name;
    return NULL;
}

static bool sets(const struct target_draft *target, const char *name)
{
    if (clients_set(target, name))
        return true;
    for (size_t i = 0; i < target->parameters.count; i++)
        if (strcmp(target->parameters.at[i].name, name) == 0)
            return true;
    return false;
}

const char *parameters_join(struct reading *reading, const struct target_draft *target,
                            const struct model_draft *model)
{
    struct buf json = {0};
    const char *text = NULL;
    for (size_t i = 0; i < target->parameters.count; i++)
        put_parameter(&target->parameters.at[i], &json);
    for (size_t i = 0; model && i < model->parameters.count; i++)
        if (!sets(target, model->parameters.at[i].name))
            put_parameter(&model->parameters.at[i], &json);
    if (json.len > 0)
        text = arena_copy(reading->lasting, buf_view(&json)).at;
    buf_free(&json);
    return text;
}
