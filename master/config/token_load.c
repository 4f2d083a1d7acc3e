#include "master/config/token_load.h"

#include "master/config/resolve.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

void token_source_fetch(struct token_source *source, const char *directory, const char *name)
{
    *source = (struct token_source){0};
    source->name = arena_strdup(&source->arena, name);
    source->path = arena_printf(&source->arena, "%s/tokens.d/%s.yaml", directory, name);
    if (access(source->path, F_OK) != 0 && errno == ENOENT) {
        source->missing = true;
        return;
    }
    struct config_file file = {.path = source->path, .name = source->name};
    config_file_fetch(&file, &source->arena);
    source->text = file.text;
    source->unreadable = file.unreadable;
}

void token_source_free(struct token_source *source)
{
    arena_free(&source->arena);
    *source = (struct token_source){0};
}

static int compare_hash(const void *hash, const void *token)
{
    return memcmp(hash, ((const struct config_token *)token)->hash, SHA256_BYTES);
}

static int compare_hashes(const void *a, const void *b)
{
    return compare_hash(((const struct config_token *)a)->hash, b);
}

bool token_source_has(const struct token_source *source, const uint8_t hash[SHA256_BYTES])
{
    return source->count > 0 &&
           bsearch(hash, source->tokens, source->count, sizeof *source->tokens, compare_hash);
}

bool token_is_of_file(struct str token, const char *file)
{
    struct str name = str_of(file);
    return str_starts(token, name) && (token.len == name.len || token.at[name.len] == ':');
}

/* --- parsing --- */

static void check_known(struct reading *reading, struct token_draft *draft,
                        const struct token_table *known)
{
    const struct token_entry *same = token_find(known, draft->hash.bytes);
    if (same && !token_is_of_file(token_name(same), draft->section.file->name))
        section_error(reading, &draft->section, TOKEN_hash,
                      "is the hash of the token %s already: remove one of them", same->texts);
}

static bool is_bounded(const struct config_endpoint *endpoint)
{
    return endpoint->target.max_output_tokens > 0 && endpoint->target.known.prices.known;
}

static void check_budget(struct reading *reading, struct token_draft *draft,
                         const struct config_token *token)
{
    const struct config_project *project = token->project;
    if (!project || token->caps.monthly_nano_usd == INT64_MAX)
        return;
    size_t count = token->all_endpoints ? project->endpoints_count : token->endpoints_count;
    for (size_t i = 0; i < count; i++) {
        const struct config_endpoint *endpoint =
            token->all_endpoints ? &project->endpoints[i] : token->endpoints[i];
        if (!is_bounded(endpoint))
            section_error(reading, &draft->section, TOKEN_monthly_usd,
                          "a budget needs a price and max_output_tokens on its endpoint %s",
                          endpoint->slug);
    }
}

static void take(struct reading *reading, struct token_source *source, struct token_draft *draft,
                 const struct config *config, const struct token_table *known)
{
    if (draft->section.bad[TOKEN_hash] || draft->section.bad[TOKEN_project])
        return;
    check_known(reading, draft, known);
    struct config_token *token = &source->tokens[source->count++];
    if (resolve_token(draft, config, &source->arena, token)) {
        check_budget(reading, draft, token);
        return;
    }
    if (token->project)
        section_error(reading, &draft->section, TOKEN_endpoints,
                      "the running gateway does not know all of these: reload it");
    else
        section_error(reading, &draft->section, TOKEN_project,
                      "the running gateway does not know the project %s: reload it",
                      draft->project);
}

static void parse(struct reading *reading, struct token_source *source, const struct config *config,
                  const struct token_table *known)
{
    struct config_file file = {.path = source->path,
                               .name = source->name,
                               .order = 1,
                               .text = source->text,
                               .unreadable = source->unreadable};
    struct config_files files = {.at = &file, .count = 1};
    struct drafts drafts = {0};
    config_folder_parse(&files, reading->scratch, reading->problems);
    token_drafts_read(reading, &files, &drafts);
    source->tokens = arena_alloc(&source->arena, drafts.tokens_count * sizeof *source->tokens);
    source->count = 0;
    for (size_t i = 0; i < drafts.tokens_count; i++)
        take(reading, source, &drafts.tokens[i], config, known);
    resolve_check_hashes(reading, &drafts);
    if (source->count > 1)
        qsort(source->tokens, source->count, sizeof *source->tokens, compare_hashes);
}

bool token_source_parse(struct token_source *source, const struct config *config,
                        const struct token_table *known, struct config_report *report)
{
    struct arena scratch = {0};
    struct problems problems = {.arena = &scratch};
    struct reading reading = {
        .lasting = &source->arena, .scratch = &scratch, .problems = &problems};
    if (!source->missing)
        parse(&reading, source, config, known);
    bool good = problems.errors == 0;
    problems_finish(&problems, report);
    problems_free(&problems);
    arena_free(&scratch);
    return good;
}
