#include "master/cli/view.h"

void cli_view_open(struct cli_view *view, const char *directory)
{
    *view = (struct cli_view){.order = 1};
    view->problems.arena = &view->scratch;
    view->reading = (struct reading){.lasting = &view->lasting,
                                     .scratch = &view->scratch,
                                     .problems = &view->problems,
                                     .directory = directory};
}

struct config_files cli_view_folder(struct cli_view *view, const char *folder)
{
    struct config_files files =
        config_folder_fetch(view->reading.directory, folder, ".yaml", &view->order, &view->scratch);
    config_folder_parse(&files, &view->scratch, &view->problems);
    return files;
}

unsigned cli_view_close(struct cli_view *view)
{
    struct config_report report = {0};
    problems_finish(&view->problems, &report);
    config_report_print(&report, stderr);
    unsigned errors = report.errors;
    config_report_free(&report);
    problems_free(&view->problems);
    arena_free(&view->scratch);
    arena_free(&view->lasting);
    return errors;
}
