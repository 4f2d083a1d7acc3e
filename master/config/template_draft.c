/* Provider Templates: what answers, shared by name. */
#include "master/config/drafts.h"

void template_drafts_read(struct reading *reading, const struct config_files *files,
                          struct drafts *drafts)
{
    drafts->templates = arena_alloc(reading->scratch, files->count * sizeof *drafts->templates);
    drafts->templates_count = files->count;
    for (size_t i = 0; i < files->count; i++) {
        struct template_draft *template = &drafts->templates[i];
        const struct config_file *file = &files->at[i];
        template->name = arena_strdup(reading->scratch, file->name);
        template->section = (struct section){
            .id = SECTION_TEMPLATE, .file = file, .path = "", .mark = {1, 1}, .node = file->root};
        if (!section_read(reading, &template->section))
            continue;
        prices_check_template(reading, template);
        parameters_read(reading, &template->section, &template->target);
    }
}

/* --- what an endpoint takes from one --- */

static const struct pair {
    enum key_id own, shared;
    bool of_price; /* these go together */
} pairs[] = {
    {ENDPOINT_provider, TEMPLATE_provider, false},
    {ENDPOINT_model, TEMPLATE_model, false},
    {ENDPOINT_credential, TEMPLATE_credential, false},
    {ENDPOINT_temperature, TEMPLATE_temperature, false},
    {ENDPOINT_top_p, TEMPLATE_top_p, false},
    {ENDPOINT_max_output_tokens, TEMPLATE_max_output_tokens, false},
    {ENDPOINT_price_input, TEMPLATE_price_input, true},
    {ENDPOINT_price_output, TEMPLATE_price_output, true},
    {ENDPOINT_price_cached_input, TEMPLATE_price_cached_input, true},
    {ENDPOINT_price_cache_write, TEMPLATE_price_cache_write, true},
    {ENDPOINT_timeout, TEMPLATE_timeout, false},
};
enum { PAIRS = sizeof pairs / sizeof *pairs };

static bool says_price(const struct section *section)
{
    for (size_t i = 0; i < PAIRS; i++)
        if (pairs[i].of_price && section->at[pairs[i].own])
            return true;
    return false;
}

static void take(struct endpoint_draft *endpoint, const struct template_draft *template,
                 const struct pair *pair)
{
    const struct config_key *own = &config_keys[pair->own], *shared = &config_keys[pair->shared];
    memcpy((char *)endpoint + own->offset, (const char *)template + shared->offset, own->size);
    endpoint->section.bad[pair->own] = template->section.bad[pair->shared];
}

/* The template's parameters were read with its own idea of what clients may set. */
static void take_parameters(struct reading *reading, struct endpoint_draft *endpoint,
                            const struct template_draft *template)
{
    struct section *section = &endpoint->section;
    struct target_draft *own = &endpoint->target;
    const struct target_draft *shared = &template->target;
    if (!section->at[ENDPOINT_client_parameters])
        own->client_parameters = shared->client_parameters;
    if (!section->at[ENDPOINT_parameters])
        own->parameters = shared->parameters;
    const char *name = parameters_clash(own);
    bool is_own = section->at[ENDPOINT_parameters];
    if (name)
        section_error(reading, section, is_own ? ENDPOINT_parameters : ENDPOINT_client_parameters,
                      "%s is set by the endpoint, and by clients, too: one of them is the "
                      "template's (%s)",
                      name, template->name);
}

const struct template_draft *template_named(struct reading *reading, const struct drafts *drafts,
                                            struct section *section, enum key_id key,
                                            const char *name)
{
    size_t count = drafts->templates_count;
    const char **names = arena_alloc(reading->scratch, count * sizeof *names);
    for (size_t i = 0; i < count; i++) {
        names[i] = drafts->templates[i].name;
        if (strcmp(names[i], name) == 0)
            return &drafts->templates[i];
    }
    const char *near = nearest_name(names, count, str_of(name));
    section_error(reading, section, key, "there is no templates.d/%s.yaml%s%s%s", name,
                  near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return NULL;
}

static void fill_from(struct reading *reading, struct endpoint_draft *endpoint,
                      const struct template_draft *template)
{
    const struct section *section = &endpoint->section;
    bool own_price = says_price(section);
    for (size_t i = 0; i < PAIRS; i++)
        if (!section->at[pairs[i].own] && !(pairs[i].of_price && own_price))
            take(endpoint, template, &pairs[i]);
    take_parameters(reading, endpoint, template);
}

void template_fill(struct reading *reading, const struct drafts *drafts,
                   struct endpoint_draft *endpoint)
{
    struct section *section = &endpoint->section;
    if (endpoint->template && !section->bad[ENDPOINT_template]) {
        const struct template_draft *template =
            template_named(reading, drafts, section, ENDPOINT_template, endpoint->template);
        if (template)
            fill_from(reading, endpoint, template);
    }
    if (section->bad[ENDPOINT_template]) {
        /* who knows what it would have said */
        section->bad[ENDPOINT_provider] = section->bad[ENDPOINT_model] =
            section->bad[ENDPOINT_credential] = true;
        return;
    }
    if (endpoint->template)
        return; /* its own file must say both */
    if (!section->at[ENDPOINT_provider])
        section_missing(reading, section, ENDPOINT_provider);
    if (!section->at[ENDPOINT_model])
        section_missing(reading, section, ENDPOINT_model);
}
