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

static void read_client_parameter(struct reading *reading, struct endpoint_draft *endpoint,
                                  const struct yaml_node *node)
{
    struct section *section = &endpoint->section;
    enum member member = node->kind == NODE_SCALAR ? member_named(node->text) : MEMBER_NONE;
    if (may_be_listed(member)) {
        endpoint->client_parameters |= MEMBER_BIT(member);
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

static void read_parameter(struct reading *reading, struct endpoint_draft *endpoint,
                           const struct yaml_entry *entry, struct buf *json)
{
    struct section *section = &endpoint->section;
    struct str name = entry->key->text;
    enum member member = member_named(name);
    const struct yaml_node *wrong = NULL;
    const char *reason = why_not(member, name);
    const char *path = section_key_path(
        reading, section, arena_printf(reading->scratch, "parameters.%.*s", STR_ARG(name)));
    if (!reason && member != MEMBER_NONE && (endpoint->client_parameters & MEMBER_BIT(member)))
        reason = "is one that clients may set: take it out of client_parameters, or leave it out";
    if (reason) {
        problem_error(reading->problems, section->file, entry->key->mark, path, "%s", reason);
        return;
    }
    buf_puts(json, json->len ? "," : "");
    json_write_string(json, name);
    buf_putc(json, ':');
    if (!yaml_json_write(entry->value, json, &wrong))
        problem_error(reading->problems, section->file, wrong->mark, path,
                      "must be a number as JSON has it, not %s",
                      yaml_node_shown(wrong, reading->scratch, false));
}

void parameters_read(struct reading *reading, struct endpoint_draft *endpoint)
{
    const struct yaml_node *list = endpoint->client_parameters_node;
    const struct yaml_node *map = endpoint->parameters_node;
    if (!list)
        endpoint->client_parameters = member_client_set();
    for (size_t i = 0; list && i < list->count; i++)
        read_client_parameter(reading, endpoint, list->entries[i].value);
    struct buf json = {0};
    for (size_t i = 0; map && i < map->count; i++)
        read_parameter(reading, endpoint, &map->entries[i], &json);
    if (json.len > 0)
        endpoint->parameters = arena_copy(reading->lasting, buf_view(&json)).at;
    buf_free(&json);
}
