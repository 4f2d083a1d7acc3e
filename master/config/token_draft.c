#include "master/config/drafts.h"

static const struct {
    const char *name;
    enum token_scope scope;
} scopes[] = {
    {"chat", SCOPE_CHAT}, {"models", SCOPE_MODELS}, {"usage", SCOPE_USAGE}, {"admin", SCOPE_ADMIN}};

enum { SCOPES_COUNT = sizeof scopes / sizeof *scopes };

unsigned token_scope_named(struct str name)
{
    for (size_t i = 0; i < SCOPES_COUNT; i++)
        if (str_eq(name, str_of(scopes[i].name)))
            return scopes[i].scope;
    return 0;
}

const char *token_scope_name(unsigned index)
{
    return index < SCOPES_COUNT ? scopes[index].name : NULL;
}

static void report_item(struct reading *reading, struct section *section, enum key_id key,
                        const struct yaml_node *node, const char *what, const char *hint)
{
    problem_error(reading->problems, section->file, node->mark,
                  section_key_path(reading, section, config_keys[key].path), "%s, not %s%s", what,
                  yaml_node_shown(node, reading->scratch, false), hint);
    section->bad[key] = true;
}

static void read_scope(struct reading *reading, struct token_draft *token,
                       const struct yaml_node *node)
{
    static const char *const names[] = {"chat", "models", "usage", "admin"};
    unsigned scope = node->kind == NODE_SCALAR ? token_scope_named(node->text) : 0;
    if (scope != 0) {
        token->scopes |= scope;
        return;
    }
    const char *near =
        node->kind == NODE_SCALAR ? nearest_name(names, SCOPES_COUNT, node->text) : NULL;
    report_item(reading, &token->section, TOKEN_scopes, node,
                "a scope must be chat, models, usage or admin",
                near ? arena_printf(reading->scratch, "; did you mean %s?", near) : "");
}

static void read_scopes(struct reading *reading, struct token_draft *token)
{
    const struct yaml_node *list = token->scopes_node;
    if (list->count == 0)
        section_error(reading, &token->section, TOKEN_scopes,
                      "must name at least one of chat, models, usage, admin");
    for (size_t i = 0; i < list->count; i++)
        read_scope(reading, token, list->entries[i].value);
}

static void read_endpoints(struct reading *reading, struct token_draft *token)
{
    const struct yaml_node *list = token->endpoints_node;
    if (!list)
        return;
    if (list->count == 0)
        section_error(reading, &token->section, TOKEN_endpoints,
                      "must name at least one endpoint; leave the key out for all of the project");
    token->endpoints = arena_alloc(reading->lasting, list->count * sizeof *token->endpoints);
    token->endpoint_nodes =
        arena_alloc(reading->scratch, list->count * sizeof *token->endpoint_nodes);
    for (size_t i = 0; i < list->count; i++) {
        const struct yaml_node *node = list->entries[i].value;
        if (node->kind != NODE_SCALAR || yaml_node_class(node) != CLASS_STRING) {
            report_item(reading, &token->section, TOKEN_endpoints, node,
                        "an endpoint must be named by its slug", "");
            continue;
        }
        token->endpoints[token->endpoints_count] = arena_copy(reading->lasting, node->text).at;
        token->endpoint_nodes[token->endpoints_count++] = node;
    }
}

static void check_project(struct reading *reading, struct token_draft *token)
{
    struct section *section = &token->section;
    if (token->project || section->bad[TOKEN_project] || section->bad[TOKEN_scopes])
        return;
    if (token->scopes != SCOPE_ADMIN)
        section_error(reading, section, TOKEN_project,
                      "missing: a file of projects.d must be named, unless scopes is [admin]");
    else if (token->endpoints_node)
        section_error(reading, section, TOKEN_endpoints,
                      "a token without a project has no endpoints: leave the key out");
}

static void read_token(struct reading *reading, struct token_draft *token)
{
    if (!section_read(reading, &token->section))
        return;
    read_scopes(reading, token);
    read_endpoints(reading, token);
    check_project(reading, token);
}

/* A token of a list is named after its file and what tells it from its neighbours. */
static const char *list_name(struct reading *reading, const struct token_draft *token, size_t index)
{
    const char *file = token->section.file->name;
    if (token->prefix)
        return arena_printf(reading->lasting, "%s:%s", file, token->prefix);
    return arena_printf(reading->lasting, "%s:%zu", file, index + 1);
}

static void read_file(struct reading *reading, const struct config_file *file,
                      struct drafts *drafts)
{
    const struct yaml_node *root = file->root;
    bool list = root && root->kind == NODE_LIST;
    for (size_t i = 0; i < (list ? root->count : 1); i++) {
        struct token_draft *token = &drafts->tokens[drafts->tokens_count++];
        const struct yaml_node *node = list ? root->entries[i].value : root;
        token->section = (struct section){
            .id = SECTION_TOKEN,
            .file = file,
            .path = list ? arena_printf(reading->scratch, "[%zu]", i) : "",
            .mark = node ? node->mark : (struct yaml_mark){1, 1},
            .node = node,
        };
        read_token(reading, token);
        token->name =
            list ? list_name(reading, token, i) : arena_strdup(reading->lasting, file->name);
    }
}

void token_drafts_read(struct reading *reading, const struct config_files *files,
                       struct drafts *drafts)
{
    size_t count = 0;
    for (size_t i = 0; i < files->count; i++) {
        const struct yaml_node *root = files->at[i].root;
        count += root && root->kind == NODE_LIST ? root->count : 1;
    }
    drafts->tokens = arena_alloc(reading->scratch, count * sizeof *drafts->tokens);
    for (size_t i = 0; i < files->count; i++)
        read_file(reading, &files->at[i], drafts);
}
