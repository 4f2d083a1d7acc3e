#include "master/cli/reader.h"

#include "master/config/config_load.h"
#include "master/store/store.h"

#include <stdio.h>

bool cli_open_reader(const char *command, const char *config_dir, struct config **config,
                     struct store **store)
{
    struct config_report report = {0};
    struct error error;
    *store = NULL;
    *config = config_load_service(config_dir, &report);
    if (!*config)
        config_report_print(&report, stderr);
    else if (!store_open_reader(&(*config)->store, store, &error))
        fprintf(stderr, "promptgate %s: %s\n", command, error.message);
    config_report_free(&report);
    if (!*store)
        config_free(config);
    return *store != NULL;
}

void cli_close_reader(struct config **config, struct store **store)
{
    store_close(store);
    config_free(config);
}
