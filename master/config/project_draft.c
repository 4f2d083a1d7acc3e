#include "master/config/drafts.h"

#include <stdio.h>

/* Where byte `offset` of a scalar's value stands in the file. Quoting, folding and indentation move
 * bytes but keep the braces, so count those. The scalar's own place when that leads nowhere. */
static struct yaml_mark mark_within(const struct config_file *file, const struct yaml_node *node,
                                    size_t offset)
{
    size_t braces = 0, at = node->begin;
    struct yaml_mark mark = node->mark;
    if (offset >= node->text.len || node->text.at[offset] != '{')
        return mark;
    for (size_t i = 0; i < offset; i++)
        braces += node->text.at[i] == '{';
    if (node->style == STYLE_BLOCK) /* behind the line of the | */
        while (at < file->text.len && file->text.at[at] != '\n')
            at++;
    for (; at < node->end && at < file->text.len; at++) {
        char c = file->text.at[at];
        if (c == '{' && braces-- == 0)
            return mark;
        if (c == '\n')
            mark = (struct yaml_mark){mark.line + 1, 1};
        else if (((unsigned char)c & 0xC0) != 0x80)
            mark.column++;
    }
    return node->mark;
}

/* Takes the braces from a placeholder that was refused, so that the next ones are looked at. */
static void blank_placeholder(char *source, size_t offset)
{
    char *end = strstr(source + offset, "}}");
    for (char *at = source + offset; *at && at != end; at++)
        if (*at == '{')
            *at = ' ';
}

static struct template_names names_of(struct reading *reading,
                                      const struct endpoint_draft *endpoint)
{
    const char **names =
        arena_alloc(reading->scratch, (endpoint->variables_count + 1) * sizeof *names);
    for (size_t i = 0; i < endpoint->variables_count; i++)
        names[i] = endpoint->variables[i].name;
    return (struct template_names){names, endpoint->variables_count};
}

/* NULL when there is no such prompt or it is wrong; every wrong placeholder is reported. */
static const struct template *compile(struct reading *reading, struct endpoint_draft *endpoint,
                                      enum key_id key, const char *text)
{
    struct section *section = &endpoint->section;
    struct template *template = NULL;
    struct error error;
    size_t offset;
    if (!text)
        return NULL;
    char *source = arena_strdup(reading->scratch, text);
    struct template_names names = names_of(reading, endpoint);
    while (
        !template_compile(str_of(source), &names, reading->lasting, &template, &offset, &error)) {
        problem_error(
            reading->problems, section->file, mark_within(section->file, section->at[key], offset),
            section_key_path(reading, section, config_keys[key].path), "%s", error.message);
        section->bad[key] = true;
        if (offset >= strlen(source) || source[offset] != '{')
            return NULL; /* not a placeholder's fault: nothing to go on from */
        blank_placeholder(source, offset);
    }
    return section->bad[key] ? NULL : template;
}

static void read_output_schema(struct reading *reading, struct endpoint_draft *endpoint)
{
    struct section *section = &endpoint->section;
    endpoint->output_schema = schema_read(reading, section, ENDPOINT_output_schema,
                                          endpoint->output_schema_node, endpoint->formats == 1);
    if (!endpoint->output_schema_node && section->at[ENDPOINT_output_repair] &&
        !section->bad[ENDPOINT_output_repair])
        section_warning(reading, section, ENDPOINT_output_repair,
                        "has no effect: the endpoint has no output_schema");
}

static void read_endpoint(struct reading *reading, const struct drafts *drafts,
                          struct project_draft *project, const struct yaml_entry *entry)
{
    struct endpoint_draft *endpoint = &project->endpoints[project->endpoints_count++];
    struct str slug = entry->key->text;
    bool valid = slug_valid(slug);
    const char *shown = valid ? slug.at : yaml_shown(slug, reading->scratch);
    endpoint->slug = arena_copy(reading->lasting, slug).at;
    endpoint->section =
        (struct section){.id = SECTION_ENDPOINT,
                         .file = project->section.file,
                         .path = arena_printf(reading->scratch, "endpoints.%s", shown),
                         .mark = entry->key->mark,
                         .node = entry->value};
    if (slug_reserved(slug))
        problem_error(reading->problems, endpoint->section.file, entry->key->mark,
                      endpoint->section.path, "is the name of a route: choose another slug");
    else if (!valid)
        problem_error(reading->problems, endpoint->section.file, entry->key->mark,
                      endpoint->section.path,
                      "a slug must be 1 to 63 lower-case letters, digits and -, and neither begin "
                      "nor end with -");
    if (!section_read(reading, &endpoint->section))
        return;
    prices_check_endpoint(reading, endpoint);
    parameters_read(reading, &endpoint->section, &endpoint->target);
    template_fill(reading, drafts, endpoint);
    endpoint->input_schema = schema_read(reading, &endpoint->section, ENDPOINT_input_schema,
                                         endpoint->input_schema_node, endpoint->formats == 1);
    read_output_schema(reading, endpoint);
    endpoint->session.on = yaml_node_get(endpoint->section.node, "session") != NULL;
    failover_read(reading, drafts, endpoint);
    rules_read(reading, drafts, endpoint);
    variables_read(reading, endpoint);
    endpoint->system_template =
        compile(reading, endpoint, ENDPOINT_system_prompt, endpoint->system_prompt);
    endpoint->user_template =
        compile(reading, endpoint, ENDPOINT_user_prompt, endpoint->user_prompt);
}

/* SCHEME://HOST[:PORT] as browsers send it (RFC 6454 6.2): lower case, nothing behind it. */
static bool is_origin(struct str text)
{
    static const char *const schemes[] = {"http://", "https://"};
    for (size_t i = 0; i < sizeof schemes / sizeof *schemes; i++) {
        struct str scheme = str_of(schemes[i]);
        if (!str_starts(text, scheme) || text.len == scheme.len)
            continue;
        for (size_t j = scheme.len; j < text.len; j++) {
            char c = text.at[j];
            if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || strchr("-._:[]", c)))
                return false;
        }
        return true;
    }
    return false;
}

static void read_origins(struct reading *reading, struct project_draft *project)
{
    const struct yaml_node *node = project->origins_node;
    size_t count = node ? node->count : 0;
    project->origins = arena_alloc(reading->lasting, (count + 1) * sizeof *project->origins);
    for (size_t i = 0; i < count; i++) {
        const struct yaml_node *one = node->entries[i].value;
        if (one->kind == NODE_SCALAR && is_origin(one->text))
            project->origins[project->origins_count++] = arena_copy(reading->lasting, one->text).at;
        else
            problem_error(reading->problems, project->section.file, one->mark,
                          section_key_path(reading, &project->section, "cors.origins"),
                          "must be origins such as https://app.example.com, in lower case and "
                          "without a path, not %s",
                          yaml_node_shown(one, reading->scratch, false));
    }
}

void project_drafts_read(struct reading *reading, const struct config_files *files,
                         struct drafts *drafts)
{
    drafts->projects = arena_alloc(reading->scratch, files->count * sizeof *drafts->projects);
    drafts->projects_count = files->count;
    for (size_t i = 0; i < files->count; i++) {
        struct project_draft *project = &drafts->projects[i];
        const struct config_file *file = &files->at[i];
        project->name = arena_strdup(reading->lasting, file->name);
        project->section = (struct section){
            .id = SECTION_PROJECT, .file = file, .path = "", .mark = {1, 1}, .node = file->root};
        if (!section_read(reading, &project->section))
            continue;
        if (!project->title)
            project->title = project->name;
        read_origins(reading, project);
        const struct yaml_node *endpoints = project->endpoints_node;
        size_t count = endpoints ? endpoints->count : 0;
        project->endpoints = arena_alloc(reading->scratch, count * sizeof *project->endpoints);
        for (size_t j = 0; j < count; j++)
            read_endpoint(reading, drafts, project, &endpoints->entries[j]);
    }
}
