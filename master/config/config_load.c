#include "master/config/config_load.h"

#include "master/config/resolve.h"
#include "master/config/sealed.h"
#include "shared/base/xalloc.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void wipe(const char *secret)
{
    if (secret)
        sodium_memzero((char *)(uintptr_t)secret, strlen(secret));
}

void drafts_wipe(struct drafts *drafts)
{
    wipe(drafts->service.config.store.dsn);
    for (size_t i = 0; i < drafts->credentials_count; i++)
        wipe(drafts->credentials[i].api_key);
}

static const char *const known_entries[] = {"promptgate.yaml", "models.yaml", "credentials.d",
                                            "templates.d",     "projects.d",  "tokens.d"};
enum { KNOWN_ENTRIES = sizeof known_entries / sizeof *known_entries };

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);
    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

/* What looks like configuration but is read by nobody. */
static int is_stray(const struct dirent *entry)
{
    for (size_t i = 0; i < KNOWN_ENTRIES; i++)
        if (strcmp(entry->d_name, known_entries[i]) == 0)
            return 0;
    return entry->d_name[0] != '.' &&
           (ends_with(entry->d_name, ".yaml") || ends_with(entry->d_name, ".d"));
}

struct config_source {
    struct arena arena;
    const char *directory;
    const char *unreadable; /* why the directory is; NULL when it isn't */
    struct config_file main, models;
    bool has_models;
    struct config_files schemas, credentials, templates, projects, tokens;
    const char **stray; /* names that nothing reads */
    size_t stray_count;
};

static void fetch_stray(struct config_source *source)
{
    struct dirent **found;
    int count = scandir(source->directory, &found, is_stray, alphasort);
    if (count < 0)
        return;
    source->stray = arena_alloc(&source->arena, (size_t)count * sizeof *source->stray);
    for (int i = 0; i < count; i++) {
        source->stray[source->stray_count++] = arena_strdup(&source->arena, found[i]->d_name);
        free(found[i]);
    }
    free(found);
}

/* It need not be there. */
static void fetch_models(struct config_source *source, unsigned order)
{
    struct arena *arena = &source->arena;
    source->models = (struct config_file){
        .path = arena_printf(arena, "%s/models.yaml", source->directory),
        .name = "models",
        .order = order,
    };
    source->has_models = access(source->models.path, F_OK) == 0 || errno != ENOENT;
    if (source->has_models)
        config_file_fetch(&source->models, arena);
}

struct config_source *config_source_fetch(const char *directory)
{
    unsigned order = 1;
    struct config_source *source = xcalloc(1, sizeof *source);
    struct arena *arena = &source->arena;
    source->directory = arena_strdup(arena, directory);
    DIR *stream = opendir(directory);
    if (!stream) {
        source->unreadable = arena_strdup(arena, strerror(errno));
        return source;
    }
    closedir(stream);
    source->main = (struct config_file){
        .path = arena_printf(arena, "%s/promptgate.yaml", directory),
        .name = "promptgate",
        .order = order++,
    };
    config_file_fetch(&source->main, arena);
    fetch_models(source, order++);
    source->schemas = config_folder_fetch(directory, "schemas", ".json", &order, arena);
    source->credentials = config_folder_fetch(directory, "credentials.d", ".yaml", &order, arena);
    source->templates = config_folder_fetch(directory, "templates.d", ".yaml", &order, arena);
    source->projects = config_folder_fetch(directory, "projects.d", ".yaml", &order, arena);
    source->tokens = config_folder_fetch(directory, "tokens.d", ".yaml", &order, arena);
    fetch_stray(source);
    return source;
}

void config_source_free(struct config_source **source)
{
    if (!*source)
        return;
    arena_free(&(*source)->arena);
    free(*source);
    *source = NULL;
}

static void warn_stray(struct reading *reading, const struct config_source *source)
{
    for (size_t i = 0; i < source->stray_count; i++) {
        const char *name = source->stray[i];
        struct config_file file = {
            .path = arena_printf(reading->scratch, "%s/%s", reading->directory, name),
            .order = UINT_MAX};
        const char *near = nearest_name(known_entries, KNOWN_ENTRIES, str_of(name));
        problem_warning(reading->problems, &file, (struct yaml_mark){0, 0}, "",
                        "nothing reads this%s%s%s", near ? "; did you mean " : "", near ? near : "",
                        near ? "?" : "");
    }
}

/* Whoever can read the key opens everything that is sealed. */
static void warn_open_key(struct reading *reading)
{
    struct config_file file = {
        .path = arena_printf(reading->scratch, "%s/" SEALING_KEY_FILE, reading->directory),
        .order = UINT_MAX};
    struct stat status;
    if (stat(file.path, &status) == 0 && (status.st_mode & 077) != 0)
        problem_warning(reading->problems, &file, (struct yaml_mark){0, 0}, "",
                        "others than its owner may read it (mode %04o): 0600 is wanted",
                        (unsigned)status.st_mode & 07777);
}

static bool check_directory(struct reading *reading, const struct config_source *source)
{
    struct config_file file = {.path = reading->directory};
    if (source->unreadable)
        problem_error(reading->problems, &file, (struct yaml_mark){0, 0}, "",
                      "the configuration directory cannot be read: %s", source->unreadable);
    return !source->unreadable;
}

static void parse_service(struct reading *reading, struct config_source *source,
                          struct drafts *drafts)
{
    config_file_parse(&source->main, reading->scratch, reading->problems);
    service_draft_read(reading, &source->main, &drafts->service);
}

static void parse_all(struct reading *reading, struct config_source *source, struct drafts *drafts)
{
    struct arena *scratch = reading->scratch;
    struct problems *problems = reading->problems;
    parse_service(reading, source, drafts);
    if (source->has_models) {
        config_file_parse(&source->models, scratch, problems);
        model_drafts_read(reading, &source->models, drafts);
    }
    config_folder_parse(&source->credentials, scratch, problems);
    credential_drafts_read(reading, &source->credentials, drafts);
    config_folder_parse(&source->templates, scratch, problems);
    template_drafts_read(reading, &source->templates, drafts);
    config_folder_parse(&source->projects, scratch, problems);
    project_drafts_read(reading, &source->projects, drafts);
    config_folder_parse(&source->tokens, scratch, problems);
    token_drafts_read(reading, &source->tokens, drafts);
    warn_stray(reading, source);
    warn_open_key(reading);
    resolve_check(reading, drafts);
}

typedef void parse_fn(struct reading *reading, struct config_source *source, struct drafts *drafts);

static struct config *parse_with(parse_fn *parse, struct config_source *source, bool only_looks,
                                 struct config_report *report)
{
    struct arena lasting = {0}, scratch = {0};
    struct problems problems = {.arena = &scratch};
    struct secret_memory *secrets = secret_memory_new(SECRETS_WORKER),
                         *store_secrets = secret_memory_new(SECRETS_STORE);
    struct reading reading = {.lasting = &lasting,
                              .scratch = &scratch,
                              .problems = &problems,
                              .directory = source->directory,
                              .only_looks = only_looks,
                              .secrets = secrets,
                              .store_secrets = store_secrets,
                              .schemas = &source->schemas};
    struct drafts drafts = {0};
    struct config *config = NULL;
    if (check_directory(&reading, source))
        parse(&reading, source, &drafts);
    if (problems.errors == 0) {
        config = resolve_build(&reading, &drafts);
        config->arena = lasting;
        config->schemas = reading.compiled;
        config->secrets = secrets;
        config->store_secrets = store_secrets;
        secret_memory_lock(secrets);
        secret_memory_lock(store_secrets);
    } else {
        drafts_wipe(&drafts);
        config_schemas_free(reading.compiled);
        arena_free(&lasting);
        secret_memory_free(&secrets);
        secret_memory_free(&store_secrets);
    }
    problems_finish(&problems, report);
    problems_free(&problems);
    arena_free(&scratch);
    return config;
}

struct config *config_parse(struct config_source *source, struct config_report *report)
{
    return parse_with(parse_all, source, false, report);
}

static struct config *load_with(parse_fn *parse, const char *directory, bool only_looks,
                                struct config_report *report)
{
    struct config_source *source = config_source_fetch(directory);
    struct config *config = parse_with(parse, source, only_looks, report);
    config_source_free(&source);
    return config;
}

struct config *config_load(const char *directory, struct config_report *report)
{
    return load_with(parse_all, directory, false, report);
}

struct config *config_load_look(const char *directory, struct config_report *report)
{
    return load_with(parse_all, directory, true, report);
}

struct config *config_load_service(const char *directory, struct config_report *report)
{
    return load_with(parse_service, directory, false, report);
}

void config_report_print(const struct config_report *report, FILE *out)
{
    for (const struct config_problem *problem = report->first; problem; problem = problem->next)
        fprintf(out, "%s\n", problem->text);
}

const char *config_report_first_error(const struct config_report *report)
{
    const struct config_problem *problem = report->first;
    while (problem && problem->warning)
        problem = problem->next;
    return problem ? problem->text : "the configuration cannot be read";
}

void config_report_free(struct config_report *report)
{
    arena_free(&report->arena);
    *report = (struct config_report){0};
}
