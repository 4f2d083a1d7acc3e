#include "master/cli/commands.h"
#include "master/cli/options.h"
#include "master/config/config_load.h"
#include "master/supervisor.h"

#include <stdio.h>
#include <sys/resource.h>

/* Each client takes a descriptor, and each call to a provider; nothing here uses select(2), for
 * which alone the soft limit is low. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
        return;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int cmd_serve(int argc, char **argv)
{
    struct cli_options options;
    struct config_report report = {0};
    if (!cli_take_options(&argc, argv, &options) || argc > 1 || options.json) {
        fputs("usage: promptgate serve [--config DIR]\n", stderr);
        return 2;
    }
    struct takeover takeover;
    if (!takeover_find(&takeover))
        return 1;
    struct config *config = config_load(options.config, &report);
    config_report_print(&report, stderr);
    if (!config && takeover.state != TAKEOVER_NONE)
        takeover_fail(&takeover, config_report_first_error(&report));
    config_report_free(&report);
    if (!config) {
        takeover_deinit(&takeover);
        return 1;
    }
    raise_descriptor_limit();
    log_setup(config->log_level, config->log_format);
    return supervisor_run(options.config, config, &takeover);
}
