#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/config/config_load.h"
#include "master/supervisor.h"

#include <stdio.h>

int cmd_serve(int argc, char **argv)
{
    struct cli_options options;
    struct config_report report = {0};
    if (!cli_take_options(&argc, argv, &options) || argc > 1 || options.json) {
        fputs("usage: promptgate serve [--config DIR]\n", stderr);
        return 2;
    }
    struct config *config = config_load(options.config, &report);
    config_report_print(&report, stderr);
    config_report_free(&report);
    if (!config)
        return 1;
    log_setup(config->log_level, config->log_format);
    return supervisor_run(options.config, config);
}
