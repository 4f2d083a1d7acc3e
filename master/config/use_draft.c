/* Targets beside an endpoint's own: its failover chain, and what its rules lead to. */
#include "master/config/drafts.h"

/* The keys that name a target. */
struct use_keys {
    enum key_id template, provider, model, credential;
};

static const struct use_keys failover_keys = {FAILOVER_template, FAILOVER_provider, FAILOVER_model,
                                              FAILOVER_credential};
static const struct use_keys rule_keys = {RULE_template, RULE_provider, RULE_model,
                                          RULE_credential};

static const struct price_draft no_price = {-1, -1, -1, -1};

/* How it is called is the endpoint's own where the template doesn't say; whom it calls is not. */
static bool take_template(const struct template_draft *template, struct target_draft *target)
{
    const struct section *section = &template->section;
    const struct target_draft *shared = &template->target;
    if (section->bad[TEMPLATE_provider] || section->bad[TEMPLATE_model] ||
        section->bad[TEMPLATE_credential])
        return false; /* reported there */
    target->provider = shared->provider;
    target->model = shared->model;
    target->credential = shared->credential;
    target->price = shared->price;
    target->parameters = shared->parameters;
    if (section->at[TEMPLATE_temperature])
        target->temperature = shared->temperature;
    if (section->at[TEMPLATE_top_p])
        target->top_p = shared->top_p;
    if (section->at[TEMPLATE_max_output_tokens])
        target->max_output_tokens = shared->max_output_tokens;
    if (section->at[TEMPLATE_timeout])
        target->timeout_ms = shared->timeout_ms;
    return true;
}

/* A price is a model's, a credential and parameters are a provider's. */
static void take_own_keys(const struct section *section, const struct use_keys *keys,
                          const struct use_draft *use, struct target_draft *target)
{
    if (section->at[keys->provider] && use->provider != target->provider) {
        target->provider = use->provider;
        target->credential = NULL;
        target->price = no_price;
        target->parameters = (struct parameters_draft){0};
    }
    if (section->at[keys->model] && strcmp(use->model, target->model) != 0) {
        target->model = use->model;
        target->price = no_price;
    }
    if (section->at[keys->credential])
        target->credential = use->credential;
}

static bool endpoint_is_known(const struct endpoint_draft *endpoint)
{
    const struct section *section = &endpoint->section;
    return !section->bad[ENDPOINT_provider] && !section->bad[ENDPOINT_model] &&
           !section->bad[ENDPOINT_credential] && endpoint->target.model;
}

/* What clients may set is the endpoint's, so its template and parameters must leave that alone. */
static void check_parameters(struct reading *reading, struct section *section,
                             const struct use_keys *keys, const struct target_draft *target)
{
    const char *name = parameters_clash(target);
    if (name)
        section_error(reading, section, keys->template,
                      "sets %s, which clients of this endpoint may set: take it out of "
                      "client_parameters, or of the template",
                      name);
}

static void use_read(struct reading *reading, const struct drafts *drafts,
                     const struct endpoint_draft *endpoint, struct section *section,
                     const struct use_keys *keys, struct use_draft *use)
{
    const struct template_draft *template = NULL;
    use->target = endpoint->target;
    if (section->bad[keys->template] || section->bad[keys->provider] || section->bad[keys->model] ||
        section->bad[keys->credential])
        return;
    if (use->template) {
        template = template_named(reading, drafts, section, keys->template, use->template);
        if (!template || !take_template(template, &use->target))
            return;
    } else if (!endpoint_is_known(endpoint)) {
        return;
    }
    int provider = use->target.provider;
    take_own_keys(section, keys, use, &use->target);
    if (use->target.provider != provider && !section->at[keys->model]) {
        section_error(reading, section, keys->provider,
                      "needs a model beside it: the model of another provider isn't %s's",
                      provider_name((enum provider_id)use->provider));
        return;
    }
    check_parameters(reading, section, keys, &use->target);
    use->known = true;
}

void failover_read(struct reading *reading, const struct drafts *drafts,
                   struct endpoint_draft *endpoint)
{
    const struct yaml_node *list = endpoint->failover_node;
    size_t count = list ? list->count : 0;
    if (count > FAILOVER_MAX) {
        section_error(reading, &endpoint->section, ENDPOINT_failover,
                      "has %zu targets; more than %d are not tried", count, FAILOVER_MAX);
        return;
    }
    endpoint->failover = arena_alloc(reading->scratch, count * sizeof *endpoint->failover);
    for (size_t i = 0; i < count; i++) {
        const struct yaml_node *node = list->entries[i].value;
        struct failover_draft *draft = &endpoint->failover[endpoint->failover_count++];
        draft->section = (struct section){
            .id = SECTION_FAILOVER,
            .file = endpoint->section.file,
            .path = arena_printf(reading->scratch, "%s.failover[%zu]", endpoint->section.path, i),
            .mark = node->mark,
            .node = node,
        };
        if (!section_read(reading, &draft->section))
            continue;
        if (node->count == 0)
            problem_error(reading->problems, draft->section.file, node->mark, draft->section.path,
                          "names no target: give it a template, a credential, or a provider and "
                          "its model");
        else
            use_read(reading, drafts, endpoint, &draft->section, &failover_keys, &draft->use);
    }
}

void rule_use_read(struct reading *reading, const struct drafts *drafts,
                   const struct endpoint_draft *endpoint, struct rule_draft *rule)
{
    use_read(reading, drafts, endpoint, &rule->section, &rule_keys, &rule->use);
}
