#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/cli/view.h"
#include "master/config/file_write.h"
#include "master/config/runtime_dir.h"
#include "master/config/token_file.h"
#include "master/control_client.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <sodium.h>
#include <stdio.h>

enum { LIST_MAX = 256 };

/* The files that the command at hand looks at, and the tokens in them. */
struct token_view {
    struct cli_view files;
    struct drafts drafts;
};

static int usage(void)
{
    fputs("usage: promptgate token create --project NAME [--name NAME] [--scopes LIST]\n"
          "                               [--endpoints LIST] [--expires TIME] [--config DIR]\n"
          "       promptgate token list [--json] [--config DIR]\n"
          "       promptgate token revoke NAME|PREFIX [--config DIR]\n"
          "       promptgate token rotate NAME|PREFIX [--config DIR]\n",
          stderr);
    return 2;
}

static int fail(const char *message)
{
    fprintf(stderr, "promptgate token: %s\n", message);
    return 1;
}

static void view_open(struct token_view *view, const char *directory)
{
    view->drafts = (struct drafts){0};
    cli_view_open(&view->files, directory);
}

static void view_read_tokens(struct token_view *view)
{
    struct config_files files = cli_view_folder(&view->files, "tokens.d");
    token_drafts_read(&view->files.reading, &files, &view->drafts);
}

/* The file that `wanted` begins with, NAME or NAME:PREFIX, if there is such a one: one file is read
 * in no time, a hundred thousand are not. */
static bool view_read_named(struct token_view *view, const char *wanted)
{
    struct str rest = str_of(wanted), name = str_split(&rest, ':');
    if (!config_name_valid(name))
        return false;
    struct config_file *file = arena_alloc(&view->files.scratch, sizeof *file);
    *file = (struct config_file){.name = arena_copy(&view->files.scratch, name).at, .order = 1};
    file->path = arena_printf(&view->files.scratch, "%s/tokens.d/%s.yaml",
                              view->files.reading.directory, file->name);
    config_file_fetch(file, &view->files.scratch);
    if (!file->text.at)
        return false;
    struct config_files files = {.at = file, .count = 1};
    config_folder_parse(&files, &view->files.scratch, &view->files.problems);
    token_drafts_read(&view->files.reading, &files, &view->drafts);
    return true;
}

/* --- a gateway that runs --- */

/* It reads the file again. False when it runs and goes on with what it knew. */
static bool tell_gateway(const char *directory, const char *file)
{
    struct buf runtime_dir = {0}, request = {0}, answer = {0};
    struct error error;
    fflush(stdout); /* the token, while the answer may take its time */
    config_find_runtime_dir(directory, &runtime_dir);
    buf_printf(&request, "tokens %s", file);
    enum control_result result =
        control_ask(buf_cstr(&runtime_dir), buf_cstr(&request), false, &answer, &error);
    if (result == CONTROL_OK)
        fputs("The running gateway has taken it over.\n", stderr);
    else if (result == CONTROL_NO_MASTER)
        fputs("No gateway is running: the next one will know.\n", stderr);
    else
        fprintf(stderr,
                "promptgate token: the running gateway has not taken it over, it goes on as "
                "before:\n%s\n",
                result == CONTROL_REFUSED ? buf_cstr(&answer) : error.message);
    buf_free(&runtime_dir);
    buf_free(&request);
    buf_free(&answer);
    return result == CONTROL_OK || result == CONTROL_NO_MASTER;
}

/* --- create --- */

struct creation {
    const char *project, *name, *scopes, *endpoints, *expires;
    struct token_request request;
    const char *slugs[LIST_MAX];
};

static bool read_scopes(struct creation *creation)
{
    struct str rest = str_of(creation->scopes);
    while (rest.at) {
        struct str name = str_split(&rest, ',');
        unsigned scope = token_scope_named(str_trim(name));
        if (scope == 0) {
            fprintf(stderr,
                    "promptgate token: there is no scope \"%.*s\": a list of chat, models, usage, "
                    "admin is wanted\n",
                    STR_ARG(name));
            return false;
        }
        creation->request.scopes |= scope;
    }
    return true;
}

static bool read_slugs(struct creation *creation, struct arena *arena)
{
    struct str rest = str_of(creation->endpoints);
    while (rest.at) {
        if (creation->request.endpoints_count == LIST_MAX) {
            fail("too many endpoints");
            return false;
        }
        struct str slug = str_trim(str_split(&rest, ','));
        creation->slugs[creation->request.endpoints_count++] = arena_copy(arena, slug).at;
    }
    creation->request.endpoints = creation->slugs;
    return true;
}

static bool check_slugs(const struct creation *creation, const struct yaml_node *root)
{
    for (size_t i = 0; i < creation->request.endpoints_count; i++) {
        const char *slug = creation->slugs[i];
        if (slug_valid(str_of(slug)) && yaml_node_get(yaml_node_get(root, "endpoints"), slug))
            continue;
        fprintf(stderr, "promptgate token: project %s has no endpoint \"%s\"\n", creation->project,
                slug);
        return false;
    }
    return true;
}

/* The project's own mistakes don't matter here: only whether it is there, and its slugs. */
static bool check_project(const struct creation *creation, struct token_view *view)
{
    struct config_file file = {.path =
                                   arena_printf(&view->files.scratch, "%s/projects.d/%s.yaml",
                                                view->files.reading.directory, creation->project),
                               .name = creation->project};
    if (config_name_valid(str_of(creation->project)))
        config_file_fetch(&file, &view->files.scratch);
    if (!file.text.at) {
        fprintf(stderr, "promptgate token: there is no project %s (%s/projects.d/%s.yaml)\n",
                creation->project, view->files.reading.directory, creation->project);
        return false;
    }
    if (creation->request.endpoints_count == 0)
        return true;
    config_file_parse(&file, &view->files.scratch, &view->files.problems);
    return check_slugs(creation, file.root);
}

static bool check_request(struct creation *creation, struct token_view *view)
{
    int64_t expires;
    creation->request.project = creation->project;
    creation->request.expires = creation->expires;
    if (!read_scopes(creation) ||
        (creation->endpoints && !read_slugs(creation, &view->files.scratch)))
        return false;
    if (creation->expires && !value_parse_time(str_of(creation->expires), &expires)) {
        fail("--expires must be a time such as 2027-06-30T00:00:00Z");
        return false;
    }
    if (creation->expires && expires <= clock_wall_ms()) {
        fail("--expires is in the past");
        return false;
    }
    if (creation->name && !config_name_valid(str_of(creation->name))) {
        fail("--name must be lower-case letters, digits, - and _, and begin with a letter or "
             "digit");
        return false;
    }
    return !creation->project || check_project(creation, view);
}

/* Under the name asked for; else under the project's, with a number when that is taken. */
static const char *write_token(const struct creation *creation, struct token_view *view,
                               struct str text, struct error *error)
{
    const char *folder =
        arena_printf(&view->files.scratch, "%s/tokens.d", view->files.reading.directory);
    const char *base = creation->name      ? creation->name
                       : creation->project ? creation->project
                                           : "admin";
    if (!folder_make(view->files.reading.directory, "tokens.d", error))
        return NULL;
    for (unsigned number = 1; number < 10000; number++) {
        const char *name =
            number == 1 ? base : arena_printf(&view->files.scratch, "%s-%u", base, number);
        bool exists;
        if (!config_name_valid(str_of(name))) {
            error_set(error, "give the token a --name");
            return NULL;
        }
        if (file_create(arena_printf(&view->files.scratch, "%s/%s.yaml", folder, name), text,
                        FILE_OF_GROUP, &exists, error))
            return name;
        if (exists && creation->name)
            error_set(error, "there is a token %.64s already: choose another --name", name);
        if (!exists || creation->name)
            break;
    }
    return NULL;
}

static bool create(struct creation *creation, struct token_view *view)
{
    char token[TOKEN_TEXT_SIZE];
    struct buf text = {0};
    struct error error;
    if (!check_request(creation, view))
        return false;
    token_generate(token);
    token_file_text(&creation->request, token, &text);
    const char *name = write_token(creation, view, buf_view(&text), &error);
    buf_free(&text);
    if (name) {
        puts(token);
        fprintf(stderr,
                "Token %s (%.*s…) is in %s/tokens.d/%s.yaml, as a hash. The line above is the "
                "token: it cannot be shown again.\n",
                name, TOKEN_PREFIX_LEN, token, view->files.reading.directory, name);
    } else {
        fail(error.message);
    }
    sodium_memzero(token, sizeof token);
    return name && tell_gateway(view->files.reading.directory, name);
}

static int token_create(int argc, char **argv, const struct cli_options *options)
{
    struct creation creation = {.scopes = "chat,models"};
    if (!cli_take_value(&argc, argv, "--project", &creation.project) ||
        !cli_take_value(&argc, argv, "--name", &creation.name) ||
        !cli_take_value(&argc, argv, "--scopes", &creation.scopes) ||
        !cli_take_value(&argc, argv, "--endpoints", &creation.endpoints) ||
        !cli_take_value(&argc, argv, "--expires", &creation.expires) || argc > 1 || options->json)
        return usage();
    if (!creation.project && strcmp(creation.scopes, "admin") != 0) {
        fail("--project is needed, unless --scopes is admin alone");
        return usage();
    }
    if (!creation.project && creation.endpoints) {
        fail("a token without a project has no endpoints");
        return usage();
    }
    struct token_view view;
    view_open(&view, options->config);
    bool good = create(&creation, &view);
    cli_view_close(&view.files);
    return good ? 0 : 1;
}

/* --- list --- */

static void append_scopes(struct buf *out, unsigned scopes, const char *separator)
{
    const char *name, *before = "";
    for (unsigned i = 0; (name = token_scope_name(i)); i++)
        if (scopes & token_scope_named(str_of(name))) {
            buf_printf(out, "%s%s", before, name);
            before = separator;
        }
}

static const char *state_of(const struct token_draft *token)
{
    if (!token->active)
        return "revoked";
    return token->expires_wall_ms <= clock_wall_ms() ? "expired" : "active";
}

static void print_row(const struct token_draft *token)
{
    struct buf scopes = {0}, endpoints = {0};
    char expires[CLOCK_RFC3339_SIZE] = "never";
    append_scopes(&scopes, token->scopes, ",");
    for (size_t i = 0; i < token->endpoints_count; i++)
        buf_printf(&endpoints, "%s%s", i ? "," : "", token->endpoints[i]);
    if (!token->endpoints_node)
        buf_puts(&endpoints, token->project ? "all" : "-");
    if (token->expires_wall_ms != INT64_MAX)
        clock_rfc3339(token->expires_wall_ms, expires);
    printf("%-24s %-13s %-16s %-20s %-8s %-24s %s\n", token->name,
           token->prefix ? token->prefix : "-", token->project ? token->project : "-",
           buf_cstr(&scopes), state_of(token), expires, buf_cstr(&endpoints));
    buf_free(&scopes);
    buf_free(&endpoints);
}

static void append_text(struct buf *out, const char *name, const char *value)
{
    buf_printf(out, ",\"%s\":", name);
    json_write_string_or_null(out, str_of(value));
}

static void append_json(struct buf *out, const struct token_draft *token)
{
    char expires[CLOCK_RFC3339_SIZE];
    bool ends = token->expires_wall_ms != INT64_MAX;
    buf_puts(out, "{\"name\":");
    json_write_string(out, str_of(token->name));
    append_text(out, "prefix", token->prefix);
    append_text(out, "project", token->project);
    buf_puts(out, ",\"scopes\":[");
    if (token->scopes) {
        buf_putc(out, '"');
        append_scopes(out, token->scopes, "\",\"");
        buf_putc(out, '"');
    }
    buf_puts(out, token->endpoints_node ? "],\"endpoints\":[" : "],\"endpoints\":null");
    for (size_t i = 0; i < token->endpoints_count; i++) {
        buf_puts(out, i ? "," : "");
        json_write_string(out, str_of(token->endpoints[i]));
    }
    buf_puts(out, token->endpoints_node ? "]" : "");
    buf_printf(out, ",\"active\":%s", token->active ? "true" : "false");
    append_text(out, "state", state_of(token));
    append_text(out, "expires", ends ? clock_rfc3339(token->expires_wall_ms, expires) : NULL);
    buf_putc(out, '}');
}

static void print_json(const struct drafts *drafts)
{
    struct buf out = {0};
    const char *before = "[";
    for (size_t i = 0; i < drafts->tokens_count; i++) {
        if (drafts->tokens[i].section.bad[TOKEN_hash])
            continue;
        buf_puts(&out, before);
        append_json(&out, &drafts->tokens[i]);
        before = ",\n";
    }
    buf_puts(&out, *before == '[' ? "[]\n" : "]\n");
    fwrite(out.data, 1, out.len, stdout);
    buf_free(&out);
}

static int token_list(int argc, const struct cli_options *options)
{
    if (argc > 1)
        return usage();
    struct token_view view;
    view_open(&view, options->config);
    view_read_tokens(&view);
    if (options->json) {
        print_json(&view.drafts);
    } else {
        printf("%-24s %-13s %-16s %-20s %-8s %-24s %s\n", "NAME", "PREFIX", "PROJECT", "SCOPES",
               "STATE", "EXPIRES", "ENDPOINTS");
        for (size_t i = 0; i < view.drafts.tokens_count; i++)
            if (!view.drafts.tokens[i].section.bad[TOKEN_hash])
                print_row(&view.drafts.tokens[i]);
    }
    return cli_view_close(&view.files) ? 1 : 0;
}

/* --- revoke --- */

static bool is_named(const struct token_draft *token, const char *wanted)
{
    return strcmp(token->name, wanted) == 0 || strcmp(token->section.file->name, wanted) == 0 ||
           (token->prefix && strcmp(token->prefix, wanted) == 0);
}

static struct token_draft *find_token(struct token_view *view, const char *wanted)
{
    struct token_draft *found = NULL;
    size_t count = 0;
    for (size_t i = 0; i < view->drafts.tokens_count; i++)
        if (is_named(&view->drafts.tokens[i], wanted)) {
            found = &view->drafts.tokens[i];
            count++;
        }
    if (count == 1)
        return found;
    fprintf(stderr, "promptgate token: %s\n",
            count == 0 ? arena_printf(&view->files.scratch, "there is no token %s", wanted)
                       : arena_printf(&view->files.scratch,
                                      "%s names %zu tokens: give the prefix of one, or its name "
                                      "from `promptgate token list`",
                                      wanted, count));
    return NULL;
}

static bool can_be_edited(const struct token_draft *token)
{
    const struct section *section = &token->section;
    if (section->node && section->node->kind == NODE_MAP && !section->bad[TOKEN_hash])
        return true;
    fprintf(stderr, "promptgate token: %s cannot be read: mend it first\n", section->file->path);
    return false;
}

static bool revoke_one(struct token_draft *token)
{
    struct buf text = {0};
    struct error error;
    const char *path = token->section.file->path;
    if (!can_be_edited(token))
        return false;
    if (!token->active && !token->section.bad[TOKEN_active]) {
        fprintf(stderr, "Token %s is revoked already.\n", token->name);
        return true;
    }
    bool good =
        token_file_revoke(token, &text, &error) && file_replace(path, buf_view(&text), &error);
    buf_free(&text);
    if (!good) {
        fail(error.message);
        return false;
    }
    fprintf(stderr, "Token %s is revoked in %s.\n", token->name, path);
    return true;
}

/* --- rotate --- */

/* The name, and what hangs on it, stays: limits, counters, rows. */
static bool rotate_one(struct token_draft *token)
{
    char fresh[TOKEN_TEXT_SIZE];
    struct buf text = {0};
    struct error error;
    const char *path = token->section.file->path;
    if (!can_be_edited(token))
        return false;
    if (!token->active) {
        fprintf(stderr, "promptgate token: %s is revoked: make another one\n", token->name);
        return false;
    }
    token_generate(fresh);
    bool good = token_file_rotate(token, fresh, &text, &error) &&
                file_replace(path, buf_view(&text), &error);
    buf_free(&text);
    if (good) {
        puts(fresh);
        fprintf(stderr,
                "Token %s is another one now in %s. The line above is it: it cannot be shown "
                "again.\n",
                token->name, path);
    } else {
        fail(error.message);
    }
    sodium_memzero(fresh, sizeof fresh);
    return good;
}

/* --- both --- */

static int change(int argc, char **argv, const struct cli_options *options,
                  bool (*change_one)(struct token_draft *token))
{
    if (argc != 2 || options->json || argv[1][0] == '-')
        return usage();
    struct token_view view;
    view_open(&view, options->config);
    if (!view_read_named(&view, argv[1]))
        view_read_tokens(&view);
    struct token_draft *token = find_token(&view, argv[1]);
    bool good =
        token && change_one(token) && tell_gateway(options->config, token->section.file->name);
    cli_view_close(&view.files);
    return good ? 0 : 1;
}

int cmd_token(int argc, char **argv)
{
    struct cli_options options;
    if (sodium_init() < 0)
        return fail("the system has no source of random bytes");
    if (!cli_take_options(&argc, argv, &options) || argc < 2)
        return usage();
    if (strcmp(argv[1], "create") == 0)
        return token_create(argc - 1, argv + 1, &options);
    if (strcmp(argv[1], "list") == 0)
        return token_list(argc - 1, &options);
    if (strcmp(argv[1], "revoke") == 0)
        return change(argc - 1, argv + 1, &options, revoke_one);
    if (strcmp(argv[1], "rotate") == 0)
        return change(argc - 1, argv + 1, &options, rotate_one);
    return usage();
}
