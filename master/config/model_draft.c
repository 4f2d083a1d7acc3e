/* What is known of models: each row of models.yaml. */
#include "master/config/drafts.h"

/* max_tokens is how an answer's length, and its price, is held: no model does without. */
static bool may_be_lacked(enum member member)
{
    bool is_parameter = member_use(member) == MEMBER_CLIENT || member_use(member) == MEMBER_PINNED;
    return is_parameter && member != MEMBER_max_tokens && member != MEMBER_max_completion_tokens;
}

static const char *nearest_lack(struct str name)
{
    const char *names[MEMBER_NONE + 2] = {"prefill", "forced_tool_choice"};
    size_t count = 2;
    for (int i = 0; i < MEMBER_NONE; i++)
        if (may_be_lacked((enum member)i))
            names[count++] = member_name((enum member)i);
    return nearest_name(names, count, name);
}

static void read_lack(struct reading *reading, struct model_draft *model,
                      const struct yaml_node *node)
{
    struct str name = node->kind == NODE_SCALAR ? node->text : STR_ABSENT;
    enum member member = member_named(name);
    if (may_be_lacked(member)) {
        model->lacks.parameters |= MEMBER_BIT(member);
    } else if (str_eq(name, STR("prefill"))) {
        model->lacks.prefill = true;
    } else if (str_eq(name, STR("forced_tool_choice"))) {
        model->lacks.forced_tool_choice = true;
    } else {
        const char *near = name.at ? nearest_lack(name) : NULL;
        problem_error(reading->problems, model->section.file, node->mark,
                      section_key_path(reading, &model->section, "lacks"),
                      "must be parameters such as temperature, or prefill or "
                      "forced_tool_choice, not %s%s",
                      yaml_node_shown(node, reading->scratch, false),
                      near ? arena_printf(reading->scratch, "; did you mean %s?", near) : "");
    }
}

static bool is_same(const struct model_draft *a, const struct model_draft *b)
{
    return a->provider == b->provider && !a->section.bad[MODEL_model] &&
           !b->section.bad[MODEL_model] && strcmp(a->model, b->model) == 0;
}

static void check_is_new(struct reading *reading, const struct drafts *drafts,
                         struct model_draft *model)
{
    for (const struct model_draft *other = drafts->models; other != model; other++)
        if (is_same(other, model)) {
            section_error(reading, &model->section, MODEL_model,
                          "has a row at line %u already: remove one of them",
                          other->section.mark.line);
            return;
        }
}

static void read_row(struct reading *reading, struct drafts *drafts, struct model_draft *model)
{
    if (!section_read(reading, &model->section))
        return;
    for (size_t i = 0; i < model->lacks_node->count; i++)
        read_lack(reading, model, model->lacks_node->entries[i].value);
    model->parameters = parameters_read_map(reading, &model->section, model->parameters_node, 0);
    if (model->api == MODEL_API_RESPONSES && model->provider != PROVIDER_OPENAI)
        section_error(reading, &model->section, MODEL_api, "responses is an interface of openai's");
    prices_check_model(reading, model);
    check_is_new(reading, drafts, model);
}

void model_drafts_read(struct reading *reading, const struct config_file *file,
                       struct drafts *drafts)
{
    const struct yaml_node *root = file->root;
    if (!root || yaml_node_is_null(root))
        return;
    if (root->kind != NODE_LIST) {
        problem_error(reading->problems, file, root->mark, "", "must be a list of models, not %s",
                      yaml_node_shown(root, reading->scratch, false));
        return;
    }
    drafts->models = arena_alloc(reading->scratch, root->count * sizeof *drafts->models);
    for (size_t i = 0; i < root->count; i++) {
        const struct yaml_node *node = root->entries[i].value;
        struct model_draft *model = &drafts->models[drafts->models_count++];
        model->section = (struct section){.id = SECTION_MODEL,
                                          .file = file,
                                          .path = arena_printf(reading->scratch, "[%zu]", i),
                                          .mark = node->mark,
                                          .node = node};
        read_row(reading, drafts, model);
    }
}

const struct model_draft *model_draft_for(const struct drafts *drafts, int provider,
                                          const char *model)
{
    const struct model_draft *best = NULL;
    struct str name = str_of(model);
    for (size_t i = 0; name.at && i < drafts->models_count; i++) {
        const struct model_draft *row = &drafts->models[i];
        struct str beginning = str_of(row->model);
        if (row->provider == provider && beginning.at && str_starts(name, beginning) &&
            (!best || beginning.len > strlen(best->model)))
            best = row;
    }
    return best;
}
