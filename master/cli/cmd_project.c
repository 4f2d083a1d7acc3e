#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/cli/view.h"
#include "master/config/file_write.h"
#include "shared/base/clock.h"
#include "shared/base/json.h"

#include <limits.h>
#include <stdio.h>

static int usage(void)
{
    fputs("usage: promptgate project create --name NAME [--title TEXT] [--config DIR]\n"
          "       promptgate project list [--json] [--config DIR]\n",
          stderr);
    return 2;
}

static int fail(const char *message)
{
    fprintf(stderr, "promptgate project: %s\n", message);
    return 1;
}

/* ---- create */

static void project_text(const char *id, const char *title, struct buf *text)
{
    buf_printf(text, "id: %s\n", id);
    if (title) {
        buf_puts(text, "name: ");
        json_write_string(text, str_of(title)); /* a JSON string is one of YAML, too */
        buf_putc(text, '\n');
    }
    buf_puts(text, "endpoints: {}\n");
}

static bool create(const char *directory, const char *name, const char *title)
{
    char path[PATH_MAX], id_text[UUID_TEXT_LEN + 1];
    struct uuid id = uuid_v7(clock_wall_ms());
    struct buf text = {0};
    struct error error;
    bool exists;
    snprintf(path, sizeof path, "%s/projects.d/%s.yaml", directory, name);
    if (!folder_make(directory, "projects.d", &error)) {
        fail(error.message);
        return false;
    }
    project_text(uuid_format(&id, id_text), title, &text);
    bool good = file_create(path, buf_view(&text), FILE_OF_GROUP, &exists, &error);
    buf_free(&text);
    if (!good && exists)
        fprintf(stderr, "promptgate project: there is %s already\n", path);
    else if (!good)
        fail(error.message);
    if (!good)
        return false;
    puts(id_text);
    fprintf(stderr,
            "Project %s is in %s, with the id above. Give it endpoints there, and a token with\n"
            "promptgate token create --project %s. A running gateway knows it after a reload.\n",
            name, path, name);
    return true;
}

static int project_create(int argc, char **argv, const struct cli_options *options)
{
    const char *name = NULL, *title = NULL;
    if (!cli_take_value(&argc, argv, "--name", &name) ||
        !cli_take_value(&argc, argv, "--title", &title) || argc > 1 || options->json || !name)
        return usage();
    if (!config_name_valid(str_of(name)))
        return fail("--name must be lower-case letters, digits, - and _, and begin with a letter "
                    "or digit");
    if (title && (!*title || strlen(title) > 200))
        return fail("--title must be 1 to 200 bytes long");
    return create(options->config, name, title) ? 0 : 1;
}

/* ---- list */

static void print_row(const struct project_draft *project)
{
    char id[UUID_TEXT_LEN + 1];
    printf("%-24s %-36s %-8s %9zu  %s\n", project->name, uuid_format(&project->id, id),
           project->active ? "active" : "inactive", project->endpoints_count, project->title);
}

static void append_json(struct buf *out, const struct project_draft *project)
{
    char id[UUID_TEXT_LEN + 1];
    buf_puts(out, "{\"name\":");
    json_write_string(out, str_of(project->name));
    buf_printf(out, ",\"id\":\"%s\",\"title\":", uuid_format(&project->id, id));
    json_write_string(out, str_of(project->title));
    buf_printf(out, ",\"active\":%s,\"endpoints\":[", project->active ? "true" : "false");
    for (size_t i = 0; i < project->endpoints_count; i++) {
        buf_puts(out, i ? "," : "");
        json_write_string(out, str_of(project->endpoints[i].slug));
    }
    buf_puts(out, "]}");
}

static void print(const struct drafts *drafts, bool json)
{
    struct buf out = {0};
    const char *before = "[";
    if (!json)
        printf("%-24s %-36s %-8s %9s  %s\n", "NAME", "ID", "STATE", "ENDPOINTS", "TITLE");
    for (size_t i = 0; i < drafts->projects_count; i++) {
        const struct project_draft *project = &drafts->projects[i];
        if (project->section.bad[PROJECT_id])
            continue;
        if (!json) {
            print_row(project);
            continue;
        }
        buf_puts(&out, before);
        append_json(&out, project);
        before = ",\n";
    }
    if (json) {
        buf_puts(&out, *before == '[' ? "[]\n" : "]\n");
        fwrite(out.data, 1, out.len, stdout);
    }
    buf_free(&out);
}

static int project_list(int argc, const struct cli_options *options)
{
    struct cli_view view;
    struct drafts drafts = {0};
    if (argc > 1)
        return usage();
    cli_view_open(&view, options->config);
    struct config_files files = cli_view_folder(&view, "projects.d");
    project_drafts_read(&view.reading, &files, &drafts);
    print(&drafts, options->json);
    return cli_view_close(&view) ? 1 : 0;
}

int cmd_project(int argc, char **argv)
{
    struct cli_options options;
    if (!cli_take_options(&argc, argv, &options) || argc < 2)
        return usage();
    if (strcmp(argv[1], "create") == 0)
        return project_create(argc - 1, argv + 1, &options);
    if (strcmp(argv[1], "list") == 0)
        return project_list(argc - 1, &options);
    return usage();
}
