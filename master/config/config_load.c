#include "master/config/config_load.h"

#include "master/config/resolve.h"

#include <dirent.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>

void drafts_wipe(struct drafts *drafts)
{
    for (size_t i = 0; i < drafts->credentials_count; i++) {
        char *key = (char *)(uintptr_t)drafts->credentials[i].api_key;
        if (key)
            sodium_memzero(key, strlen(key));
    }
}

static const char *const known_entries[] = {"promptgate.yaml", "credentials.d", "projects.d",
                                            "tokens.d"};
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

static void warn_stray(struct reading *reading, unsigned order)
{
    struct dirent **found;
    int count = scandir(reading->directory, &found, is_stray, alphasort);
    for (int i = 0; i < count; i++) {
        struct config_file file = {
            .path = arena_printf(reading->scratch, "%s/%s", reading->directory, found[i]->d_name),
            .order = order};
        const char *near = nearest_name(known_entries, KNOWN_ENTRIES, str_of(found[i]->d_name));
        problem_warning(reading->problems, &file, (struct yaml_mark){0, 0}, "",
                        "nothing reads this%s%s%s", near ? "; did you mean " : "", near ? near : "",
                        near ? "?" : "");
        free(found[i]);
    }
    if (count >= 0)
        free(found);
}

static bool check_directory(struct reading *reading)
{
    DIR *directory = opendir(reading->directory);
    if (directory) {
        closedir(directory);
        return true;
    }
    struct config_file file = {.path = reading->directory};
    problem_error(reading->problems, &file, (struct yaml_mark){0, 0}, "",
                  "the configuration directory cannot be read: %s", strerror(errno));
    return false;
}

static void read_service(struct reading *reading, struct drafts *drafts)
{
    struct config_file *main = arena_alloc(reading->scratch, sizeof *main);
    *main = (struct config_file){
        .path = arena_printf(reading->scratch, "%s/promptgate.yaml", reading->directory),
        .name = "promptgate",
        .order = 1,
    };
    config_file_read(main, reading->scratch, reading->problems);
    service_draft_read(reading, main, &drafts->service);
}

static void read_all(struct reading *reading, struct drafts *drafts)
{
    unsigned order = 2;
    struct arena *scratch = reading->scratch;
    read_service(reading, drafts);
    struct config_files files =
        config_folder_read(reading->directory, "credentials.d", &order, scratch, reading->problems);
    credential_drafts_read(reading, &files, drafts);
    files =
        config_folder_read(reading->directory, "projects.d", &order, scratch, reading->problems);
    project_drafts_read(reading, &files, drafts);
    files = config_folder_read(reading->directory, "tokens.d", &order, scratch, reading->problems);
    token_drafts_read(reading, &files, drafts);
    warn_stray(reading, order);
    resolve_check(reading, drafts);
}

static struct config *load(const char *directory, struct config_report *report,
                           void (*read)(struct reading *, struct drafts *))
{
    struct arena lasting = {0}, scratch = {0};
    struct problems problems = {.arena = &scratch};
    struct reading reading = {&lasting, &scratch, &problems, directory};
    struct drafts drafts = {0};
    struct config *config = NULL;
    if (check_directory(&reading))
        read(&reading, &drafts);
    if (problems.errors == 0) {
        config = resolve_build(&reading, &drafts);
        config->arena = lasting;
    } else {
        drafts_wipe(&drafts);
        arena_free(&lasting);
    }
    problems_finish(&problems, report);
    problems_free(&problems);
    arena_free(&scratch);
    return config;
}

struct config *config_load(const char *directory, struct config_report *report)
{
    return load(directory, report, read_all);
}

struct config *config_load_service(const char *directory, struct config_report *report)
{
    return load(directory, report, read_service);
}

void config_report_print(const struct config_report *report, FILE *out)
{
    for (const struct config_problem *problem = report->first; problem; problem = problem->next)
        fprintf(out, "%s\n", problem->text);
}

void config_report_free(struct config_report *report)
{
    arena_free(&report->arena);
    *report = (struct config_report){0};
}
