#include "master/config/resolve.h"

#include <stdlib.h>

static struct credential_draft *find_credential(const struct drafts *drafts, const char *name)
{
    for (size_t i = 0; i < drafts->credentials_count; i++)
        if (strcmp(drafts->credentials[i].name, name) == 0)
            return &drafts->credentials[i];
    return NULL;
}

static struct project_draft *find_project(const struct drafts *drafts, const char *name)
{
    for (size_t i = 0; i < drafts->projects_count; i++)
        if (strcmp(drafts->projects[i].name, name) == 0)
            return &drafts->projects[i];
    return NULL;
}

/* Why a request to the target has no most that it can cost; NULL when it has. */
static const char *unbounded_because(const struct drafts *drafts, const struct target_draft *target)
{
    if (target->max_output_tokens == 0)
        return "max_output_tokens: without it no answer has a longest";
    if (!prices_of(target, model_draft_for(drafts, target->provider, target->model)).known)
        return "price: models.yaml has none for its model; { input: 0, output: 0 } says free";
    return NULL;
}

/* Of the endpoint's own target; what is wrong there is reported there. */
static const char *endpoint_unbounded_because(const struct drafts *drafts,
                                              const struct endpoint_draft *endpoint)
{
    const struct section *section = &endpoint->section;
    bool known = !section->bad[ENDPOINT_model] && !section->bad[ENDPOINT_provider] &&
                 !section->bad[ENDPOINT_max_output_tokens];
    return known ? unbounded_because(drafts, &endpoint->target) : NULL;
}

static bool has_endpoint(const struct project_draft *project, const char *slug)
{
    for (size_t i = 0; i < project->endpoints_count; i++)
        if (strcmp(project->endpoints[i].slug, slug) == 0)
            return true;
    return false;
}

/* "; did you mean demo?", "; there are a, b", or "; there are none". */
static const char *name_hint(struct reading *reading, const char *const *names, size_t count,
                             const char *given)
{
    const char *near = nearest_name(names, count, str_of(given));
    if (near)
        return arena_printf(reading->scratch, "; did you mean %s?", near);
    if (count == 0)
        return "; there are none";
    if (count == 1)
        return arena_printf(reading->scratch, "; there is only %s", names[0]);
    const char *list = names[0];
    for (size_t i = 1; i < count && i < 12; i++)
        list = arena_printf(reading->scratch, "%s, %s", list, names[i]);
    return arena_printf(reading->scratch, "; there are %s%s", list, count > 12 ? ", …" : "");
}

/* The keys that say who answers. */
struct target_keys {
    const char *of;
    enum key_id provider, credential;
    enum key_id temperature, top_p, max_output_tokens; /* of an endpoint or a template */
    enum key_id template, model;                       /* of a chain or a rule */
};

static const struct target_keys endpoint_keys = {
    .of = "endpoint",
    .provider = ENDPOINT_provider,
    .credential = ENDPOINT_credential,
    .temperature = ENDPOINT_temperature,
    .top_p = ENDPOINT_top_p,
    .max_output_tokens = ENDPOINT_max_output_tokens,
};
static const struct target_keys template_keys = {
    .of = "template",
    .provider = TEMPLATE_provider,
    .credential = TEMPLATE_credential,
    .temperature = TEMPLATE_temperature,
    .top_p = TEMPLATE_top_p,
    .max_output_tokens = TEMPLATE_max_output_tokens,
};
static const struct target_keys failover_keys = {
    .of = "target",
    .provider = FAILOVER_provider,
    .credential = FAILOVER_credential,
    .template = FAILOVER_template,
    .model = FAILOVER_model,
};
static const struct target_keys rule_keys = {
    .of = "target",
    .provider = RULE_provider,
    .credential = RULE_credential,
    .template = RULE_template,
    .model = RULE_model,
};

static void report_no_credential(struct reading *reading, struct drafts *drafts,
                                 struct section *section, enum key_id key, const char *name)
{
    size_t count = drafts->credentials_count;
    const char **names = arena_alloc(reading->scratch, count * sizeof *names);
    for (size_t i = 0; i < count; i++)
        names[i] = drafts->credentials[i].name;
    section_error(reading, section, key, "there is no credentials.d/%s.yaml%s", name,
                  name_hint(reading, names, count, name));
}

/* Whether the name is the row's, or that with a date behind it: -2026-01-31, -20260131, @20260131
 * or -0125. */
static bool is_dated(const char *model, const char *row)
{
    const char *rest = model + strlen(row);
    if (*rest == '\0')
        return true;
    size_t len = strlen(rest), digits = 0;
    for (size_t i = 1; i < len; i++) {
        if (rest[i] != '-' && !(rest[i] >= '0' && rest[i] <= '9'))
            return false;
        digits += rest[i] != '-';
    }
    return strchr("-@", rest[0]) && (digits == 4 || digits == 6 || digits == 8);
}

/* What its model is known not to take. */
static void check_model(struct reading *reading, const struct drafts *drafts,
                        const struct section *section, const struct target_draft *target,
                        const struct target_keys *keys)
{
    const struct model_draft *model = model_draft_for(drafts, target->provider, target->model);
    if (!model)
        return;
    uint64_t lacks = model->lacks.parameters;
    if (section->at[keys->temperature] && (lacks & MEMBER_BIT(MEMBER_temperature)))
        section_warning(reading, section, keys->temperature,
                        "is not sent: the model does not take it (models.yaml)");
    if (section->at[keys->top_p] && (lacks & MEMBER_BIT(MEMBER_top_p)))
        section_warning(reading, section, keys->top_p,
                        "is not sent: the model does not take it (models.yaml)");
    if (section->at[keys->max_output_tokens] && model->limits_output &&
        target->max_output_tokens > model->limits_output)
        section_warning(
            reading, section, keys->max_output_tokens,
            arena_printf(reading->scratch,
                         "is more than the model gives: %lld are asked for (models.yaml)",
                         (long long)model->limits_output));
}

static bool is_free(const struct model_draft *model)
{
    return model->price.input == 0 && model->price.output == 0;
}

/* A price of a whole family, under a budget that trusts in it. */
static void check_price(struct reading *reading, const struct drafts *drafts,
                        const struct section *section, enum key_id key,
                        const struct target_draft *target)
{
    const struct model_draft *model = model_draft_for(drafts, target->provider, target->model);
    if (model && target->price.input < 0 && !is_free(model) &&
        !is_dated(target->model, model->model))
        section_warning(
            reading, section, key,
            arena_printf(reading->scratch,
                         "takes the price of %s, which may be another model's: give it a row in "
                         "models.yaml",
                         *model->model ? model->model : "all models"));
}

static bool has_budget(const struct project_draft *project, const struct endpoint_draft *endpoint)
{
    return endpoint->monthly_nano_usd != INT64_MAX || project->monthly_nano_usd != INT64_MAX;
}

/* Under a budget, its own or the project's. */
static void check_budget(struct reading *reading, const struct drafts *drafts,
                         const struct project_draft *project, struct endpoint_draft *endpoint)
{
    struct section *section = &endpoint->section;
    bool own = endpoint->monthly_nano_usd != INT64_MAX;
    if (!has_budget(project, endpoint))
        return;
    const char *reason = endpoint_unbounded_because(drafts, endpoint);
    if (reason)
        section_error(reading, section, own ? ENDPOINT_monthly_usd : ENDPOINT_model, "%s needs %s",
                      own ? "a budget" : "the project's budget", reason);
    else
        check_price(reading, drafts, section, ENDPOINT_model, &endpoint->target);
}

static void check_credential(struct reading *reading, struct drafts *drafts,
                             struct section *section, const struct target_draft *target,
                             const struct target_keys *keys)
{
    const struct credential_draft *credential = find_credential(drafts, target->credential);
    if (!credential)
        report_no_credential(reading, drafts, section, keys->credential, target->credential);
    else if (!section->bad[keys->provider] && !credential->section.bad[CREDENTIAL_provider] &&
             credential->provider != target->provider)
        section_error(reading, section, keys->credential,
                      "is a credential of %s, but the %s's provider is %s",
                      provider_name((enum provider_id)credential->provider), keys->of,
                      provider_name((enum provider_id)target->provider));
}

/* What an endpoint has from its template is checked there, unless it changes the provider. */
static bool is_all_the_templates(const struct endpoint_draft *endpoint)
{
    const struct section *section = &endpoint->section;
    return endpoint->template && !section->at[ENDPOINT_credential] &&
           !section->at[ENDPOINT_provider];
}

/* Of a chain's or a rule's target. What it has from the endpoint or a template was checked there.
 */
static void check_use(struct reading *reading, struct drafts *drafts, bool budgeted,
                      struct section *section, const struct target_keys *keys,
                      const struct use_draft *use)
{
    const struct target_draft *target = &use->target;
    if (!use->known)
        return;
    enum key_id key = use->template ? keys->template : keys->model;
    if (section->at[keys->credential] || section->at[keys->provider])
        key = section->at[keys->credential] ? keys->credential : keys->provider;
    const char *reason = budgeted ? unbounded_because(drafts, target) : NULL;
    if (target->credential && section->at[keys->credential])
        check_credential(reading, drafts, section, target, keys);
    else if (target->credential && section->at[keys->provider])
        check_credential(reading, drafts, section, target, keys);
    else if (!target->credential && provider_needs_key((enum provider_id)target->provider))
        section_error(reading, section, keys->credential,
                      "missing: %s needs a key, so a file of credentials.d must be named",
                      provider_name((enum provider_id)target->provider));
    if (reason && !section->bad[key])
        section_error(reading, section, key, "a budget needs %s", reason);
    else if (budgeted && !section->bad[key] && section->at[keys->model])
        check_price(reading, drafts, section, keys->model, target);
}

static void check_uses(struct reading *reading, struct drafts *drafts,
                       const struct project_draft *project, struct endpoint_draft *endpoint)
{
    bool budgeted = has_budget(project, endpoint);
    for (size_t i = 0; i < endpoint->failover_count; i++) {
        struct failover_draft *draft = &endpoint->failover[i];
        check_use(reading, drafts, budgeted, &draft->section, &failover_keys, &draft->use);
    }
    for (size_t i = 0; i < endpoint->rules_count; i++) {
        struct rule_draft *draft = &endpoint->rules[i];
        check_use(reading, drafts, budgeted, &draft->section, &rule_keys, &draft->use);
    }
}

static void check_format(struct reading *reading, const struct drafts *drafts,
                         struct endpoint_draft *endpoint, const struct target_draft *target)
{
    const struct model_draft *model = model_draft_for(drafts, target->provider, target->model);
    const char *name = parameters_format(&target->parameters);
    bool is_models = !name && model && (name = parameters_format(&model->parameters));
    if (name)
        section_error(reading, &endpoint->section, ENDPOINT_output_schema,
                      "sets the answer's format, and so does %s in the parameters of %s%s: remove "
                      "one of them",
                      name, target->model, is_models ? " (models.yaml)" : "");
}

/* Whoever answers is told the schema, and nothing else beside it. */
static void check_formats(struct reading *reading, const struct drafts *drafts,
                          struct endpoint_draft *endpoint)
{
    if (!endpoint->output_schema_node || !endpoint->target.model)
        return;
    check_format(reading, drafts, endpoint, &endpoint->target);
    for (size_t i = 0; i < endpoint->failover_count; i++)
        if (endpoint->failover[i].use.known)
            check_format(reading, drafts, endpoint, &endpoint->failover[i].use.target);
    for (size_t i = 0; i < endpoint->rules_count; i++)
        if (endpoint->rules[i].use.known)
            check_format(reading, drafts, endpoint, &endpoint->rules[i].use.target);
}

static void check_endpoint(struct reading *reading, struct drafts *drafts,
                           const struct project_draft *project, struct endpoint_draft *endpoint)
{
    struct section *section = &endpoint->section;
    const struct target_draft *target = &endpoint->target;
    check_model(reading, drafts, section, target, &endpoint_keys);
    check_budget(reading, drafts, project, endpoint);
    check_uses(reading, drafts, project, endpoint);
    check_formats(reading, drafts, endpoint);
    if (section->bad[ENDPOINT_credential])
        return;
    if (target->credential && !is_all_the_templates(endpoint))
        check_credential(reading, drafts, section, target, &endpoint_keys);
    else if (!target->credential && !section->bad[ENDPOINT_provider] &&
             provider_needs_key((enum provider_id)target->provider))
        section_error(reading, section, ENDPOINT_credential,
                      "missing: %s needs a key, so a file of credentials.d must be named",
                      provider_name((enum provider_id)target->provider));
}

/* An endpoint may name the credential that is missing here. */
static void check_template(struct reading *reading, struct drafts *drafts,
                           struct template_draft *template)
{
    struct section *section = &template->section;
    if (!section->bad[TEMPLATE_provider] && !section->bad[TEMPLATE_model])
        check_model(reading, drafts, section, &template->target, &template_keys);
    if (template->target.credential && !section->bad[TEMPLATE_credential])
        check_credential(reading, drafts, section, &template->target, &template_keys);
}

static bool is_listed(const struct token_draft *token, const char *slug)
{
    for (size_t i = 0; i < token->endpoints_count; i++)
        if (strcmp(token->endpoints[i], slug) == 0)
            return true;
    return !token->endpoints_node;
}

static void check_token_budget(struct reading *reading, const struct drafts *drafts,
                               struct token_draft *token, const struct project_draft *project)
{
    if (token->monthly_nano_usd == INT64_MAX)
        return;
    for (size_t i = 0; i < project->endpoints_count; i++) {
        const struct endpoint_draft *endpoint = &project->endpoints[i];
        const char *reason =
            is_listed(token, endpoint->slug) ? endpoint_unbounded_because(drafts, endpoint) : NULL;
        if (!reason)
            continue;
        section_error(reading, &token->section, TOKEN_monthly_usd,
                      "a budget needs on its endpoint %s %s", endpoint->slug, reason);
        return;
    }
}

static void check_token_endpoints(struct reading *reading, struct token_draft *token,
                                  const struct project_draft *project)
{
    if (project->section.bad[PROJECT_endpoints])
        return;
    size_t count = project->endpoints_count;
    const char **names = arena_alloc(reading->scratch, count * sizeof *names);
    for (size_t i = 0; i < count; i++)
        names[i] = project->endpoints[i].slug;
    for (size_t i = 0; i < token->endpoints_count; i++)
        if (!has_endpoint(project, token->endpoints[i]))
            problem_error(reading->problems, token->section.file, token->endpoint_nodes[i]->mark,
                          section_key_path(reading, &token->section, "endpoints"),
                          "project %s has no endpoint %s%s", project->name,
                          yaml_shown(str_of(token->endpoints[i]), reading->scratch),
                          name_hint(reading, names, count, token->endpoints[i]));
}

static void check_token(struct reading *reading, struct drafts *drafts, struct token_draft *token)
{
    if (!token->project || token->section.bad[TOKEN_project])
        return;
    const struct project_draft *project = find_project(drafts, token->project);
    if (project) {
        check_token_endpoints(reading, token, project);
        check_token_budget(reading, drafts, token, project);
        return;
    }
    size_t count = drafts->projects_count;
    const char **names = arena_alloc(reading->scratch, count * sizeof *names);
    for (size_t i = 0; i < count; i++)
        names[i] = drafts->projects[i].name;
    section_error(reading, &token->section, TOKEN_project, "there is no projects.d/%s.yaml%s",
                  token->project, name_hint(reading, names, count, token->project));
}

/* By value, and equal ones by their place, so that the later one is reported. */
static int compare_tokens(const void *left, const void *right)
{
    const struct token_draft *a = *(struct token_draft *const *)left;
    const struct token_draft *b = *(struct token_draft *const *)right;
    int order = memcmp(&a->hash, &b->hash, sizeof a->hash);
    return order != 0 ? order : (a > b) - (a < b);
}

static int compare_projects(const void *left, const void *right)
{
    const struct project_draft *a = *(struct project_draft *const *)left;
    const struct project_draft *b = *(struct project_draft *const *)right;
    int order = uuid_compare(&a->id, &b->id);
    return order != 0 ? order : (a > b) - (a < b);
}

static const char *place_of(struct reading *reading, const struct section *section, enum key_id key)
{
    struct yaml_mark mark = section->at[key]->mark;
    return arena_printf(reading->scratch, "%s:%u:%u", section->file->path, mark.line, mark.column);
}

/* `hash` and `id` are required: one that is not bad is there. */
void resolve_check_hashes(struct reading *reading, struct drafts *drafts)
{
    struct token_draft **sorted =
        arena_alloc(reading->scratch, drafts->tokens_count * sizeof(struct token_draft *));
    size_t count = 0;
    for (size_t i = 0; i < drafts->tokens_count; i++)
        if (!drafts->tokens[i].section.bad[TOKEN_hash])
            sorted[count++] = &drafts->tokens[i];
    qsort(sorted, count, sizeof *sorted, compare_tokens);
    for (size_t i = 1, first = 0; i < count; i++) {
        if (memcmp(&sorted[i]->hash, &sorted[first]->hash, sizeof sorted[i]->hash) != 0)
            first = i;
        else
            section_error(reading, &sorted[i]->section, TOKEN_hash,
                          "is the hash of a token at %s already: remove one of them",
                          place_of(reading, &sorted[first]->section, TOKEN_hash));
    }
}

static void check_same_ids(struct reading *reading, struct drafts *drafts)
{
    struct project_draft **sorted =
        arena_alloc(reading->scratch, drafts->projects_count * sizeof(struct project_draft *));
    size_t count = 0;
    for (size_t i = 0; i < drafts->projects_count; i++)
        if (!drafts->projects[i].section.bad[PROJECT_id])
            sorted[count++] = &drafts->projects[i];
    qsort(sorted, count, sizeof *sorted, compare_projects);
    for (size_t i = 1, first = 0; i < count; i++) {
        if (uuid_compare(&sorted[i]->id, &sorted[first]->id) != 0)
            first = i;
        else
            section_error(reading, &sorted[i]->section, PROJECT_id,
                          "is the id of the project at %s already: give this one another",
                          place_of(reading, &sorted[first]->section, PROJECT_id));
    }
}

void resolve_check(struct reading *reading, struct drafts *drafts)
{
    for (size_t i = 0; i < drafts->templates_count; i++)
        check_template(reading, drafts, &drafts->templates[i]);
    for (size_t i = 0; i < drafts->projects_count; i++)
        for (size_t j = 0; j < drafts->projects[i].endpoints_count; j++)
            check_endpoint(reading, drafts, &drafts->projects[i],
                           &drafts->projects[i].endpoints[j]);
    for (size_t i = 0; i < drafts->tokens_count; i++)
        check_token(reading, drafts, &drafts->tokens[i]);
    check_same_ids(reading, drafts);
    resolve_check_hashes(reading, drafts);
}

/* Behind the files' credentials stands a built-in one for each provider that needs no key. */
static void build_credentials(struct reading *reading, struct drafts *drafts, struct config *config)
{
    config->credentials =
        arena_alloc(reading->lasting,
                    (drafts->credentials_count + PROVIDER_COUNT) * sizeof *config->credentials);
    for (size_t i = 0; i < drafts->credentials_count; i++) {
        const struct credential_draft *draft = &drafts->credentials[i];
        config->credentials[config->credentials_count++] = (struct config_credential){
            .name = draft->name,
            .provider = (enum provider_id)draft->provider,
            .base_url = draft->base_url,
            .api_key = draft->api_key,
            .headers = draft->headers_read,
            .headers_count = draft->headers_count,
        };
    }
    static const char *const base_urls[] = {
#define PROVIDER(id, name, url, key) url,
#include "shared/providers.def"
#undef PROVIDER
    };
    for (int i = 0; i < PROVIDER_COUNT; i++)
        if (!provider_needs_key((enum provider_id)i))
            config->credentials[config->credentials_count++] =
                (struct config_credential){.name = provider_name((enum provider_id)i),
                                           .provider = (enum provider_id)i,
                                           .base_url = base_urls[i],
                                           .built_in = true};
}

/* The files' credentials come first, so a built-in one is found from behind. */
static const struct config_credential *credential_for(const struct drafts *drafts,
                                                      const struct config *config,
                                                      const struct target_draft *target)
{
    if (target->credential)
        return &config->credentials[find_credential(drafts, target->credential) -
                                    drafts->credentials];
    size_t i = config->credentials_count - 1;
    while ((int)config->credentials[i].provider != target->provider)
        i--;
    return &config->credentials[i];
}

static struct config_model build_model(const struct target_draft *target,
                                       const struct model_draft *draft)
{
    struct config_model model = {.prices = prices_of(target, draft), .image_tokens = -1};
    if (!draft)
        return model;
    model.api = (enum model_api)draft->api;
    model.lacks = draft->lacks;
    model.output_limit = draft->limits_output;
    model.context_limit = draft->limits_context;
    if (draft->section.at[MODEL_worst_image_tokens])
        model.image_tokens = draft->worst_image_tokens;
    model.tool_overhead = draft->worst_tool_overhead;
    model.reasons = draft->reasons;
    model.structured_output = (enum structured_output)draft->structured_output;
    return model;
}

static int64_t cap_or_none(int64_t cap)
{
    return cap > 0 ? cap : INT64_MAX;
}

static struct config_caps build_caps(int64_t per_minute, int64_t per_hour, int64_t monthly_nano_usd)
{
    return (struct config_caps){cap_or_none(per_minute), cap_or_none(per_hour), monthly_nano_usd};
}

static struct config_target build_target(struct reading *reading, const struct drafts *drafts,
                                         const struct config *config,
                                         const struct target_draft *draft)
{
    const struct model_draft *model = model_draft_for(drafts, draft->provider, draft->model);
    return (struct config_target){
        .provider = (enum provider_id)draft->provider,
        .model = draft->model,
        .credential = credential_for(drafts, config, draft),
        .temperature = draft->temperature,
        .top_p = draft->top_p,
        .max_output_tokens = draft->max_output_tokens,
        .parameters = parameters_join(reading, draft, model),
        .known = build_model(draft, model),
        .timeout_ms = draft->timeout_ms ? draft->timeout_ms : config->upstream.timeout_ms,
    };
}

static void build_chain(struct reading *reading, const struct drafts *drafts,
                        const struct config *config, const struct endpoint_draft *draft,
                        struct config_endpoint *endpoint)
{
    endpoint->retries = draft->retries;
    endpoint->failover_count = draft->failover_count;
    endpoint->failover =
        arena_alloc(reading->lasting, draft->failover_count * sizeof *endpoint->failover);
    for (size_t i = 0; i < draft->failover_count; i++)
        endpoint->failover[i] =
            build_target(reading, drafts, config, &draft->failover[i].use.target);
    endpoint->rules_count = draft->rules_count;
    endpoint->rules = arena_alloc(reading->lasting, draft->rules_count * sizeof *endpoint->rules);
    for (size_t i = 0; i < draft->rules_count; i++) {
        const struct rule_draft *rule = &draft->rules[i];
        endpoint->rules[i] = (struct config_rule){
            .rule = {rule->conditions, rule->conditions_count, rule->decision},
            .target = build_target(reading, drafts, config, &rule->use.target),
        };
    }
}

static struct config_endpoint build_endpoint(struct reading *reading, const struct drafts *drafts,
                                             const struct config *config,
                                             const struct endpoint_draft *draft)
{
    struct config_endpoint endpoint = {
        .slug = draft->slug,
        .description = draft->description,
        .active = draft->active,
        .target = build_target(reading, drafts, config, &draft->target),
        .variables = draft->variables,
        .variables_count = draft->variables_count,
        .client_parameters = draft->target.client_parameters,
        .caps = build_caps(draft->per_minute, draft->per_hour, draft->monthly_nano_usd),
        .request_tokens = draft->request_tokens,
        .streams = draft->streaming_enabled,
        .stream_format = (enum stream_format)draft->streaming_format,
        .system_prompt = draft->system_template,
        .user_prompt = draft->user_template,
        .input_schema = draft->input_schema ? draft->input_schema->schema : NULL,
        .output_schema = draft->output_schema,
        .output_repair = draft->output_repair,
        .session = draft->session,
    };
    build_chain(reading, drafts, config, draft, &endpoint);
    return endpoint;
}

static int compare_slugs(const void *a, const void *b)
{
    return strcmp(((const struct config_endpoint *)a)->slug,
                  ((const struct config_endpoint *)b)->slug);
}

static int compare_ids(const void *a, const void *b)
{
    return uuid_compare(&((const struct config_project *)a)->id,
                        &((const struct config_project *)b)->id);
}

static void build_project(struct reading *reading, const struct drafts *drafts,
                          struct config *config, const struct project_draft *draft)
{
    struct config_project *project = &config->projects[config->projects_count++];
    *project = (struct config_project){
        .name = draft->name,
        .title = draft->title,
        .id = draft->id,
        .active = draft->active,
        .caps = build_caps(draft->per_minute, draft->per_hour, draft->monthly_nano_usd),
        .origins = draft->origins,
        .origins_count = draft->origins_count,
        .endpoints_count = draft->endpoints_count};
    project->endpoints =
        arena_alloc(reading->lasting, draft->endpoints_count * sizeof *project->endpoints);
    for (size_t i = 0; i < draft->endpoints_count; i++)
        project->endpoints[i] = build_endpoint(reading, drafts, config, &draft->endpoints[i]);
    if (project->endpoints_count > 1)
        qsort(project->endpoints, project->endpoints_count, sizeof *project->endpoints,
              compare_slugs);
}

static void build_projects(struct reading *reading, struct drafts *drafts, struct config *config)
{
    config->projects =
        arena_alloc(reading->lasting, drafts->projects_count * sizeof *config->projects);
    for (size_t i = 0; i < drafts->projects_count; i++)
        build_project(reading, drafts, config, &drafts->projects[i]);
    if (config->projects_count > 1)
        qsort(config->projects, config->projects_count, sizeof *config->projects, compare_ids);
    for (size_t i = 0; i < config->projects_count; i++)
        for (size_t j = 0; j < config->projects[i].endpoints_count; j++)
            config->projects[i].endpoints[j].project = &config->projects[i];
}

static const struct config_project *project_named(const struct config *config, const char *name)
{
    for (size_t i = 0; i < config->projects_count; i++)
        if (strcmp(config->projects[i].name, name) == 0)
            return &config->projects[i];
    return NULL;
}

bool resolve_token(const struct token_draft *draft, const struct config *config,
                   struct arena *arena, struct config_token *token)
{
    bool known = true;
    *token = (struct config_token){
        .name = draft->name,
        .prefix = draft->prefix ? draft->prefix : "",
        .scopes = draft->scopes,
        .endpoints_count = draft->endpoints_count,
        .all_endpoints = !draft->endpoints_node,
        .active = draft->active,
        .caps = build_caps(draft->per_minute, draft->per_hour, draft->monthly_nano_usd),
        .expires_wall_ms = draft->expires_wall_ms};
    memcpy(token->hash, draft->hash.bytes, sizeof token->hash);
    if (!draft->project)
        return true;
    token->project = project_named(config, draft->project);
    if (!token->project)
        return false;
    token->endpoints = arena_alloc(arena, draft->endpoints_count * sizeof *token->endpoints);
    for (size_t i = 0; i < draft->endpoints_count; i++) {
        token->endpoints[i] = config_endpoint(token->project, str_of(draft->endpoints[i]));
        known = known && token->endpoints[i];
    }
    return known;
}

static void build_token(struct reading *reading, struct config *config,
                        const struct token_draft *draft)
{
    struct config_token *token = &config->tokens[config->tokens_count++];
    if (!resolve_token(draft, config, reading->lasting, token))
        abort(); /* resolve_check has found its names */
}

struct config *resolve_build(struct reading *reading, struct drafts *drafts)
{
    struct config *config = arena_alloc(reading->lasting, sizeof *config);
    *config = drafts->service.config;
    build_credentials(reading, drafts, config);
    build_projects(reading, drafts, config);
    config->tokens = arena_alloc(reading->lasting, drafts->tokens_count * sizeof *config->tokens);
    for (size_t i = 0; i < drafts->tokens_count; i++)
        build_token(reading, config, &drafts->tokens[i]);
    return config;
}
